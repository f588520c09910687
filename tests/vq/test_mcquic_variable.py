"""McQuic of many rates: any number of codebooks of one set of weights, in training, streams and context model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core import checkpoint
from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.registry import METHODS, discover
from core.train import TrainConfig, fit
from vq.mcquic.variable import VariableMcQuic

discover()
SMALL = {"channel": 8, "m": 2, "k": (16, 16, 8), "free": 10, "books": 6}


def method(**options):
    return METHODS["mcquic_small_vr"](**{**SMALL, **options})


def pictures(step, share):
    draw = torch.Generator().manual_seed(step)
    coarse = torch.rand(len(share), 3, 4, 4, generator=draw)
    return torch.nn.functional.interpolate(coarse, 64, mode="bilinear")


def test_the_codebooks_in_use_are_the_coarser_levels_first():
    model = method().model()
    assert isinstance(model, VariableMcQuic) and model.range == (3, 6) and model.stride == 32
    assert model.kept(torch.tensor([3, 4, 5, 6])).tolist() == [[0, 1, 2], [0, 2, 2], [1, 2, 2], [2, 2, 2]]
    model.use(4)
    assert model.grids(64, 96) == [(0, 8, 12), (2, 4, 6), (2, 2, 3)]
    assert [tuple(c.shape) for c in model.encode(torch.zeros(1, 3, 64, 96))] == [(1, *g) for g in model.grids(64, 96)]
    for books in (2, 7):
        with pytest.raises(TesseraError, match="books="):
            method(books=books).codec(model)
    with pytest.raises(TesseraError, match="use tessera"):
        method(container="mcq")


def test_codewords_that_are_not_in_use_are_zero_and_cost_nothing():
    torch.manual_seed(0)
    model = method(free=0).model().eval()
    model.use(3)
    vectors = model._quantizer.lookup(model.encode(torch.rand(1, 3, 64, 64)))
    assert not vectors[0].any() and not vectors[1][:, 4:].any() and vectors[1][:, :4].any()
    model.requires_grad_(False)
    x = torch.rand(2, 3, 64, 64)
    rates = []
    for books in (3, 4, 5, 6):
        model.use(books)
        step = model(x)
        rates.append(float(step.bits))
        coded = model.decode(model.encode(2 * x - 1))
        assert float(step.distortion) == pytest.approx(float((coded - (2 * x - 1)).square().mean()), rel=1e-4)
    assert rates == sorted(rates) and rates[0] == pytest.approx((4 / 256 + 2 * 3 / 1024), rel=1e-4)


def test_training_gives_a_ladder_of_rates_and_streams(tmp_path):
    torch.manual_seed(0)
    config = TrainConfig(steps=150, batch=8, lr=3e-3, warmup=5, ema=0.9, log_every=150, save_every=150)
    losses = []
    model = fit(method().model(), pictures, config, tmp_path, lambda step, values: losses.append(values["loss"]))
    assert isinstance(model, VariableMcQuic)
    images = [(p.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for p in pictures(999, range(24))]
    model.calibrate(images)
    assert model.books == 6
    checkpoint.save(
        tmp_path / "w", model, {"method": "mcquic_small_vr", "params": dict(method().variant), "point": None}
    )
    sizes, errors, streams = [], [], []
    for books in (3, 4, 5, 6):
        here = method(books=books)
        weights = checkpoint.find(here, str(tmp_path / "w"))
        assert weights is not None
        codec = here.codec(checkpoint.load(here, weights))
        streams.append(codec.compress(images[0]))
        decoded = [codec.decompress(codec.compress(image)) for image in images[:8]]
        errors.append(np.mean([(a.astype(float) - b) ** 2 for a, b in zip(decoded, images, strict=False)]))
        sizes.append(np.mean([codec.bits(image) for image in images[:8]]))
        assert abs(8 * len(streams[-1]) - 8 * 24 - codec.bits(images[0])) < 100
    assert sizes == sorted(sizes) and errors[-1] < errors[0]
    with pytest.raises(BitstreamError):
        codec.decompress(streams[0])


def test_weights_of_one_target_are_a_start_for_the_other():
    torch.manual_seed(0)
    state = method().model().state_dict()
    adopted = method(target="ms_ssim").adopt(state)
    assert all(torch.equal(value, state[name]) for name, value in adopted.state_dict().items())
