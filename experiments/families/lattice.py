"""Short options of the lattice family, ``quantizer`` and ``reproduce``, and the defaults of its commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.codec import TesseraError
from core.registry import unknown
from experiments.family import Command, Offer, colour_crop, given

METHODS = {
    "vq": "llvq_vq",
    "vq-ema": "llvq_vq_ema",
    "vq_ema": "llvq_vq_ema",
    "sparse_lattice": "llvq_sparse",
    "dense_lattice": "llvq_dense",
    **{name: f"lattice_{name}" for name in ("z", "a2", "d4", "e8", "leech", "full")},
}
# The published runs: steps of one epoch, batch, and the side of a crop.
PUBLISHED = {"fashion_mnist": (860, 64, 28), "celeba": (2544, 64, 148), "ffhq": (1875, 32, 1024)}
EPOCHS = 5
DEFAULTS = {
    "method": "llvq_sparse",
    "dataset": "fashion_mnist",
    "turns": False,
    "scales": (1.0,),
    "steps": 1000,
    "batch": 32,
    "amp": False,
    "lr": 2e-3,
    "warmup": 50,
    "ema": 0.99,
    "save_every": 250,
}  # those of the vq family, so that methods of both are trained alike


def offer(words: Sequence[str]) -> Offer:
    """The command line of ``python -m lattice``."""
    return Offer(translated(words), DEFAULTS, {"calibrate": Command("experiments.calibrate")})


def translated(words: Sequence[str]) -> list[str]:
    """The command line with ``quantizer`` and ``reproduce`` replaced by options that every family has."""
    named = given(words)
    quantizer, flag = named.pop("quantizer", None), named.pop("reproduce", "False").capitalize()
    if quantizer is not None and quantizer not in METHODS:
        raise unknown("quantizer", quantizer, METHODS)
    if quantizer is not None and "method" in named:
        raise TesseraError("quantizer=... and method=... name the same thing: give one of them.")
    if flag not in ("True", "False"):
        raise TesseraError(f"reproduce={flag} must be True or False.")
    method = METHODS.get(quantizer or "", named.get("method", str(DEFAULTS["method"])))
    options = {"method": method} | _data(named, method, "train" in words[1:2], flag == "True")
    left = [word for word in words if not word.startswith(("quantizer=", "reproduce="))]
    return [*left, *(f"{k}={v}" for k, v in options.items() if k not in named)] if "with" in left else left


def _data(options_given: Mapping[str, str], method: str, training: bool, published: bool) -> dict[str, object]:
    """What follows from the data set: the backbone, and for training the crop or the whole published recipe."""
    named = options_given.get("dataset", str(DEFAULTS["dataset"]))
    data = next((known for known in PUBLISHED if named.startswith(known)), None)
    colour = colour_crop(named) if training and data is None else None  # with the backbone for faces
    options: dict[str, object] = {}
    if (data or colour) and method.startswith(("llvq_", "lattice_")):
        options["params.backbone"] = data or "celeba"
    if not training:
        return options
    if published and not (data and method.startswith("llvq_")):
        raise TesseraError(f"reproduce=True is for the paper's quantisers and data sets, not {method} on {named}.")
    epoch, batch, crop = PUBLISHED[data or "fashion_mnist"]
    options["crop"] = colour or crop
    if published:
        options |= {"steps": EPOCHS * epoch, "batch": batch, "lr": 1e-3, "schedule": f"constant:{epoch}"}
        options |= {"warmup": 0, "ema": 0.0, "clip": 1e9}
    return options
