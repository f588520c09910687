"""Commands of vector quantisation.

On toy sources (methods ecvq, ecvq_random, vecvq, ntc, ecsq, vq; see also benchmarks/toy_sources.py):

python -m vq train with method=vecvq source=banana regime=low gif=true      # regime: low, medium or high rate
python -m vq train with method=vecvq source=normal2d params.lmb=10 params.distortion=mse params.k=7
python -m vq train with method=vecvq source=laplace params.recipe=tfc params.k=128 params.codebook=uniform-40
python -m vq train with method=ecvq source=normal2d params.lmb=16

McQuic (``docs/methods/mcquic.md``):

python -m vq train with method=mcquic_small params.m=4       # on one CPU thread; the same command resumes
python -m vq train with paper method=mcquic dataset=lmdb:PATH device=cuda
python -m vq dataset with input=PHOTOGRAPHS output=PATH      # the LMDB of the published tool
python -m vq sizes with method=mcquic_small params.m=4 input=photo.png
python -m vq compress with method=mcquic params.container=mcq input=photo.png output=photo.mcq

On images: ``python -m vq train|evaluate|... with method=NAME dataset=...``, as for every family.
"""

from experiments.family import main

if __name__ == "__main__":
    main("vq")
