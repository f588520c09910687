"""Commands of the families of vector quantisation: toy sources, photographs (McQuic), small images (VQ-VAEs)."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.family import Command, Offer, colour_crop, given

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


def offer(words: Sequence[str]) -> Offer:
    """The command line of ``python -m vq``: training is another command for toy sources."""
    photographs = any(word.startswith("method=mcquic") for word in words) or words[1:2] in [[c] for c in MCQUIC]
    if photographs:
        return Offer(words, PHOTOGRAPHS, MCQUIC | {"train": Command("experiments.train", {"paper": PAPER})})
    if words[1:2] != ["train"] or _for_images(words):
        return Offer(_suited(words) if words[1:2] == ["train"] else words, IMAGES, MCQUIC)
    from experiments.studies.toy import refuse_unknown

    refuse_unknown(words)
    return Offer(words, {}, MCQUIC | {"train": Command("experiments.studies.toy_train")})


def _suited(words: Sequence[str]) -> list[str]:
    """A command line of training with what suits its data set where it says nothing: the defaults are for grey images.

    Pictures in colour are learned as such: whole where they are of one small size, else in crops of 128 pixels.
    """
    named = given(words)
    crop = colour_crop(named.get("dataset", str(IMAGES["dataset"])))
    if crop is None:
        return list(words)
    options = {"crop": crop, "turns": crop == 128, "params.channels": 3}
    return [*words, *(f"{name}={value}" for name, value in options.items() if name not in named)]


def _for_images(words: Sequence[str]) -> bool:
    """Whether the command line names a method and it is not one for toy sources."""
    named = [word.removeprefix("method=") for word in words if word.startswith("method=")]
    options = {word.partition("=")[0] for word in words}
    if not named or options & {"source", "regime", "gif"}:
        return False
    from vq.toy.methods import TOY

    return named[-1] not in TOY
