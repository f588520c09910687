"""Capabilities: protocols that methods, models and codecs keep, and a page that lists every one."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from core import codec, trainable
from core.codec import Adopts, HasBatches, HasFingerprint, HasPortable
from core.registry import discover, make_method
from core.trainable import ChangesInTime, CountsCodes, Freezes, HasLambda, HasTrainingOptions, Strided

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
MODELS = {
    "qres3m_vr": {Strided, ChangesInTime, Freezes, HasTrainingOptions, HasLambda},
    "mcquic_small": {Strided, ChangesInTime, CountsCodes},
    "irec2_small": {Strided, ChangesInTime},
    "rvae_small": {Strided},
    "vqvae": {Strided, CountsCodes},
    "lattice_e8": {Strided, CountsCodes, ChangesInTime, HasTrainingOptions},
}
PROTOCOLS = (Strided, ChangesInTime, Freezes, HasTrainingOptions, HasLambda, CountsCodes)


@pytest.mark.parametrize("name", MODELS)
def test_models_have_what_training_asks_for(name: str) -> None:
    discover()
    method = make_method(name)
    model: Any = method.model()
    assert {p for p in PROTOCOLS if isinstance(model, p)} == MODELS[name]
    assert isinstance(method, Adopts) == (name in ("mcquic_small", "irec2_small"))
    assert isinstance(method.codec(model.eval()), HasFingerprint)
    if isinstance(model, HasTrainingOptions):
        assert all(hasattr(model, option) for option in model.training_options)


def test_facts_of_methods_and_codecs() -> None:
    discover()
    assert make_method("vqvae").channels == 1 and make_method("vqvae", {"channels": 3}).channels == 3
    assert make_method("lattice_e8", {"backbone": "celeba"}).channels == make_method("qres17m").channels == 3
    assert make_method("mcquic", {"container": "mcq"}).suffix == ".mcq"
    assert make_method("mcquic").suffix == make_method("jpeg").suffix == ".tsr"
    small = make_method("qres17m")
    made: Any = small.codec(small.model().eval())
    assert isinstance(made, HasBatches) and isinstance(made, HasPortable) and made.portable
    model = small.model()
    assert not model.freezes and not model.conditional and make_method("qres3m_vr").model().conditional
    model.hard_tail = 0.5
    assert model.freezes


def test_the_page_lists_every_protocol() -> None:
    text = PAGE.read_text()
    for module in (codec, trainable):
        for name, item in vars(module).items():
            if inspect.isclass(item) and item.__module__ == module.__name__ and getattr(item, "_is_protocol", False):
                assert name == "Codec" or f"{name}`" in text, name
