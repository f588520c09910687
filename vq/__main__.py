"""Commands of vector quantisation.

On toy sources (methods ecvq, ecvq_random, vecvq, ntc, ecsq, vq; see also benchmarks/toy_sources.py):

python -m vq train with method=vecvq source=banana regime=low gif=true      # regime: low, medium or high rate
python -m vq train with method=vecvq source=normal2d params.lmb=10 params.distortion=mse params.k=7
python -m vq train with method=vecvq source=laplace params.recipe=tfc params.k=128 params.codebook=uniform-40
python -m vq train with method=ecvq source=normal2d params.lmb=16

On images: ``python -m vq train|evaluate|... with method=NAME dataset=...``, as for every family.
"""

import sys

from experiments.family import main
from experiments.toy import refuse_unknown
from experiments.toy_train import toy_train_config, train
from vq.toy import TOY

IMAGES = {
    "method": "vqvae_ema",
    "dataset": "fashion_mnist",
    "crop": 28,
    "turns": False,
    "scales": (1.0,),
    "batch": 64,
    "amp": False,
    "lr": 1e-3,
    "warmup": 50,
    "ema": 0.99,
}  # what replaces the defaults of commands on images


def _for_images(words: list[str]) -> bool:
    """Whether the command line names a method and it is not one for toy sources."""
    named = [word.removeprefix("method=") for word in words if word.startswith("method=")]
    options = {word.partition("=")[0] for word in words}
    return bool(named) and named[-1] not in TOY and not options & {"source", "regime", "gif"}


if __name__ == "__main__":
    toy = {} if _for_images(sys.argv) else {"train": (toy_train_config, train, {"smoke": {"vectors": 10_000}})}
    if toy:
        refuse_unknown(sys.argv)
    main("vq", {} if toy else IMAGES, toy)
