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

import sys

from experiments.family import Command, main

MCQUIC = dict.fromkeys(("dataset", "sizes"), Command("experiments.families.mcquic"))
# Published: learning rate 1e-3 sqrt(8) / 8 for a batch of 8, two cycles of 1000 epochs, warm-up of two epochs; here an
# epoch is 250 steps.
PAPER = {"scales": (1.0,), "crop": 512, "batch": 8, "steps": 500_000, "optimizer": "lamb", "lr": 3.5e-4, "cycles": 2,
         "warmup": 500, "clip": 1e9, "ema": 0.0, "amp": False, "save_every": 2500}  # fmt: skip
IMAGES = {
    "method": "vqvae_ema",
    "dataset": "fashion_mnist",
    "crop": 28,
    "turns": False,
    "scales": (1.0,),
    "steps": 1000,
    "batch": 32,
    "lr": 2e-3,
    "warmup": 50,
    "ema": 0.99,
    "save_every": 250,
}  # what replaces the defaults of commands on images


PHOTOGRAPHS = {"method": "mcquic_small", "crop": 128, "batch": 8, "lr": 1e-3, "warmup": 100, "clip": 1.0, "ema": 0.995}


def _for_images(words: list[str]) -> bool:
    """Whether the command line names a method and it is not one for toy sources."""
    named = [word.removeprefix("method=") for word in words if word.startswith("method=")]
    options = {word.partition("=")[0] for word in words}
    if not named or options & {"source", "regime", "gif"}:
        return False
    from vq.toy.methods import TOY

    return named[-1] not in TOY


if __name__ == "__main__":
    other = sys.argv[1:2] != ["train"]
    photographs = any(word.startswith("method=mcquic") for word in sys.argv) or sys.argv[1:2] in [[c] for c in MCQUIC]
    toy = not (other or photographs or _for_images(sys.argv))
    if toy:
        from experiments.studies.toy import refuse_unknown

        refuse_unknown(sys.argv)
        main("vq", {}, MCQUIC | {"train": Command("experiments.studies.toy_train")})
    train = {"train": Command("experiments.train", {"paper": PAPER})} if photographs else {}
    main("vq", PHOTOGRAPHS if photographs else IMAGES, MCQUIC | train)
