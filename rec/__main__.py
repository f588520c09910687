"""Commands of relative entropy coding; the option names of the published scripts are short for ours.

python -m rec train with model=resnet_vae num_res_blocks=24 dataset=cifar10 lamb=0.1
python -m rec train with method=rvae_small                       # on one CPU thread; the same command resumes
python -m rec train with model=large_level_2_vae beta=0.01 loss_fn=mse dataset=folder:PATH
python -m rec train with paper method=rvae dataset=cifar10 device=cuda
python -m rec evaluate with method=rvae_small dataset=cifar10 limit=20 mode=compress sampler=beam_search n_beams=20 \
    extra_samples=1.2 kl_per_partition=3
python -m rec compress with method=irec2_small params.beta=0.01 input=photo.png output=photo.tsr
python -m rec decompress with method=irec2_small params.beta=0.01 input=photo.tsr output=photo.png

Everything else is as for every family: ``python -m rec COMMAND with method=NAME ...``.
"""

from experiments.family import main

if __name__ == "__main__":
    main("rec")
