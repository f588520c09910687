"""The typed request: what a configuration asks for, and mistakes in it."""

from __future__ import annotations

import pytest

from core.codec import TesseraError
from experiments import family
from experiments.families import lattice, vq
from experiments.request import Asked, Evaluation
from experiments.wiring import default_params

CONFIG = {
    "method": "jpeg", "methods": None, "points": None, "dataset": "kodak", "limit": 2, "alpha": None, "depth": None,
    "rate": "file", "device": "cpu", "weights": "auto", "seed": 3, "search": 0, "params": default_params("jpeg"),
    "results": "results", "data_root": None, "keep_images": True,
}  # fmt: skip


def test_a_configuration_becomes_a_request():
    asked = Evaluation.of(CONFIG)
    assert asked == Evaluation((Asked("jpeg"),), dataset="kodak", limit=2, seed=3, keep_images=True)
    several = Evaluation.of({**CONFIG, "methods": "png,webp,png"})
    assert several.names == ["png", "webp"] and several.points is None
    listed = Evaluation.of({**CONFIG, "points": "20,50"})
    assert listed.points == ("20", "50") and Evaluation.of({**CONFIG, "points": [5, 9, 5]}).points == (5, 9)
    chosen = Evaluation.of({**CONFIG, "params": {**CONFIG["params"], "progressive": True}, "points": 7})
    assert chosen.methods == (Asked("jpeg", {"progressive": True}),) and chosen.points == (7,)


def test_a_default_counts_where_it_is_named():
    assert Evaluation.of(CONFIG).methods[0].params == {}
    assert Evaluation.of(CONFIG, {"quality"}).methods[0].params == {"quality": 50}


def test_options_that_a_command_does_not_have_are_as_by_default():
    few = {name: CONFIG[name] for name in ("method", "params", "weights", "results")}
    assert Evaluation.of(few) == Evaluation((Asked("jpeg"),))


@pytest.mark.parametrize("wrong", [{"points": [5]}, {"params": {"quality": 7}}])
def test_several_methods_go_with_neither_points_nor_parameters(wrong):
    with pytest.raises(TesseraError, match="run it by itself"):
        Evaluation.of({**CONFIG, **wrong, "methods": "png,jpeg"})


@pytest.mark.parametrize(
    ("data", "crop", "backbone"),
    [
        ("cifar10", 32, "celeba"),
        ("photos", 128, "celeba"),
        ("folder:mine", 128, "celeba"),
        ("celeba_train", 128, "celeba"),
    ],
)
def test_training_on_pictures_in_colour(data, crop, backbone):
    words = ["train", "with", f"dataset={data}"]
    named = family.given(vq.offer(["vq", *words, "method=vqvae"]).words)
    assert (named["crop"], named["params.channels"], named["turns"]) == (str(crop), "3", str(crop == 128))
    own = family.given(vq.offer(["vq", *words, "method=vqvae", "crop=16", "params.channels=1"]).words)
    assert (own["crop"], own["params.channels"]) == ("16", "1")
    named = family.given(lattice.translated(["lattice", *words, "method=llvq_vq"]))
    assert named["params.backbone"] == backbone and named["crop"] == ("148" if data.startswith("celeba") else str(crop))


def test_training_on_grey_pictures_keeps_the_defaults():
    words = ["train", "with", "dataset=fashion_mnist"]
    assert vq.offer(["vq", *words, "method=vqvae"]).words == ["vq", *words, "method=vqvae"]
    named = family.given(lattice.translated(["lattice", *words, "method=llvq_vq"]))
    assert (named["params.backbone"], named["crop"]) == ("fashion_mnist", "28")
