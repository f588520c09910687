"""The VQ-VAE family on one data set: every shipped model with static tables and with its prior, and several seeds.

    python benchmarks/vqvae_table.py with                  # the first 1000 images of the test set
    python benchmarks/vqvae_table.py with limit=None
    python benchmarks/vqvae_table.py with parts=family dataset=cifar10 channels=3 weights=runs/colour
    python benchmarks/vqvae_table.py with parts=priors                  # static tables, autoregressive, hyperprior

Cells that exist are not computed again. Written to <results>/tables and <results>/figures: what each model spends with
and without the prior beside its use of codes and its quality, the spread over seeds, usage per book, rate against
distortion, use over training, histograms and reconstructions; rate and seconds of the priors of one model, and one
codebook for all sizes (RAQ) beside a model for each.
"""

from __future__ import annotations

from experiments.studies.vqvae_family import NAMED, vq_family, vq_family_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "codebook_usage_vqvae", vq_family_config, NAMED)
ex.main(guarded(vq_family))

if __name__ == "__main__":
    run(ex)
