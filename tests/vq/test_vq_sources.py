"""Toy sources and bounds: unit vectors and tables made independently, densities that integrate to one, exact laws."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from core.codec import TesseraError
from tests.support.shared import shared
from vq.toy import bounds
from vq.toy.sources import BANANA, BANANA_TFC, SOURCES, bend, make_source, unbend

torch.set_num_threads(1)
DENSE = ("laplace", "normal", "normal2d", "normal2d_rho09", "banana", "banana_tfc")


@cache
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared("golden/vecvq.json").read_text())
    return found


@pytest.mark.parametrize(("shape", "key"), [(BANANA, "x_seed"), (BANANA_TFC, "x_tfc")])
def test_banana_unit_vectors(shape, key):
    vectors = golden()["banana_unit_vectors"]
    z = torch.tensor(vectors["z"], dtype=torch.float64)
    x = bend(z, *shape)
    assert torch.allclose(x, torch.tensor(vectors[key], dtype=torch.float64), rtol=0, atol=2e-7)
    assert torch.allclose(unbend(x, *shape), z, rtol=0, atol=1e-12)
    source = make_source("banana" if key == "x_seed" else "banana_tfc")
    assert torch.allclose(source.log_prob(x), torch.tensor(vectors["log_prob_nats"]).double(), rtol=0, atol=1e-6)


def test_the_bananas_are_isometric():
    z = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mirrored = z * torch.tensor([1.0, -1.0])  # one bends up, the other down
    assert torch.allclose(torch.pdist(bend(z, *BANANA)), torch.pdist(bend(mirrored, *BANANA_TFC)), atol=1e-10)


@pytest.mark.parametrize("name", DENSE)
def test_density_integrates_to_one_and_gives_the_entropy(name):
    source = make_source(name)
    axes = [
        torch.linspace(low, high, 900 if source.dim == 2 else 20001, dtype=torch.float64) for low, high in source.reach
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, source.dim)
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    log_p = source.log_prob(grid)
    assert float(log_p.exp().sum()) * cell == pytest.approx(1, abs=2e-4)
    entropy = -float((log_p.exp() * log_p).sum()) * cell / math.log(2)
    assert entropy == pytest.approx(source.entropy_bits, abs=2e-3)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_sampling_is_seeded_and_finite(name):
    options = {"points": 16} if name in ("sawbridge", "ramp", "sinusoid") else {}
    source = make_source(name, options)
    x = source.sample(500, 3)
    assert x.shape == (500, source.dim) and x.dtype == torch.float32 and torch.isfinite(x).all()
    assert torch.equal(x, source.sample(500, 3)) and not torch.equal(x, source.sample(500, 4))
    rng = np.random.default_rng(3)
    assert torch.equal(x, torch.cat([source.sample(200, rng), source.sample(300, rng)]))
    assert source.spread(256, 1).shape == (256, source.dim)
    assert torch.equal(source.spread(64, 5), source.spread(64, 5))


def test_moments():
    assert float(make_source("laplace").spread(2**16).double().var()) == pytest.approx(2, rel=0.01)
    covariance = torch.cov(make_source("banana").spread(2**16).double().T)
    assert torch.linalg.eigvalsh(covariance).tolist() == pytest.approx([1.87, 9.0], rel=0.01)
    correlated = torch.cov(make_source("normal2d_rho09").spread(2**16).double().T)
    assert float(correlated[0, 1]) == pytest.approx(0.9, abs=0.01)


def test_entropies():
    for name, bits in golden()["entropy_bits"].items():
        assert make_source(name).entropy_bits == pytest.approx(bits, abs=1e-9)


def test_processes():
    steps = make_source("sawbridge", {"points": 11}).sample(200, 0)
    assert (steps[:, 0] == 0).all() and (steps[:, -1] == 0).all()  # t = 0 before every Z, t = 1 after
    assert ((steps.diff(dim=1) < 0).sum(1) == 1).all()
    higher = make_source("sawbridge", {"points": 11, "order": 4}).sample(50, 0)
    assert torch.allclose(higher[:, -1], torch.full((50,), (1 - 4) / 2))
    phase = make_source("ramp", {"points": 5}).sample(50, 0)
    assert phase.min() >= -0.5 and phase.max() < 0.5
    wave = make_source("sinusoid", {"points": 9}).sample(50, 0)
    assert torch.allclose(wave[:, 0], wave[:, -1], atol=1e-5) and wave.abs().max() <= 1
    on = make_source("sphere", {"order": 3}).sample(50, 0)
    assert torch.allclose(on.norm(dim=1), torch.ones(50), atol=1e-6)


def test_sphere_with_width():
    source = make_source("sphere", {"width": 0.5})
    radius = source.sample(4000, 0).norm(dim=1)
    assert radius.min() > 0.749 and radius.max() < 1.251 and float(radius.mean()) == pytest.approx(1, abs=0.01)
    x = source.sample(4000, 0)
    assert -float(source.log_prob(x).mean()) / math.log(2) == pytest.approx(source.entropy_bits, abs=0.02)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("bananna", {}, "did you mean banana"),
        ("sphere", {"widht": 1}, "did you mean width"),
        ("banana", {"width": 1}, "banana has no options"),
        ("sphere", {"width": 2}, "from 0 to below 2"),
        ("sphere", {"order": 1}, "whole number from 2"),
        ("ramp", {"points": 1.5}, "whole number"),
    ],
)
def test_mistakes(name, options, sentence):
    with pytest.raises(TesseraError, match=sentence):
        make_source(name, options)


def test_no_density_is_said():
    with pytest.raises(TesseraError, match="has no density"):
        make_source("ramp", {"points": 4}).log_prob(torch.zeros(1, 4))
    with pytest.raises(TesseraError, match="at least 1"):
        make_source("normal").sample(0)


# Bounds


def test_reverse_waterfilling():
    for name, rows in golden()["gaussian_rate_distortion"].items():
        for row in rows:
            rate, level = bounds.reverse_waterfilling(make_source(name).variances, row["D"])
            assert (rate, level) == pytest.approx((row["R"], row["theta"]), abs=1e-6)
    assert bounds.reverse_waterfilling((1.0, 2.0), 5.0) == (0.0, 2.0)
    with pytest.raises(TesseraError):
        bounds.reverse_waterfilling((1.0,), 0)


def test_gaussian_lagrangian():
    for name in ("normal2d", "normal2d_rho09"):
        found = bounds.bound(make_source(name))
        assert found is not None
        for row in golden()["lagrangian_lower_bounds"][name]:
            assert found.lagrangian(row["lmbda_sse"]) == pytest.approx(row["L"], abs=1e-9)


def test_shannon_and_lattice_limits():
    for row in golden()["shannon_lower_bound_banana"]:
        low = bounds.shannon_lower_bound(make_source("banana").entropy_bits, row["D"], 2)
        assert low == pytest.approx(row["R_SLB"], abs=1e-9)
        assert low + bounds.HEXAGONAL == pytest.approx(row["R_hex_high_rate"], abs=1e-9)
    assert pytest.approx(0.5092286696401259) == bounds.SQUARE and pytest.approx(0.25461433482006296) == bounds.SCALAR
    side = math.sqrt(2 * bounds.lattice_volume(5, 2) / math.sqrt(3))
    assert side == pytest.approx(1.44, abs=0.005)


@pytest.mark.parametrize(("name", "lmb"), [("laplace", 4), ("banana", 1)])
def test_blahut_arimoto(name, lmb):
    row = next(r for r in golden()["lagrangian_lower_bounds"][name] if r["lmbda_sse"] == lmb)
    point = bounds.blahut_arimoto(name, float(lmb))
    assert row["L_lower"] - 1e-3 <= point.lower <= point.upper <= row["L_upper"] + 2e-3
    assert point.lower > bounds.bound(make_source("normal2d")).lagrangian(lmb) - 10
    assert (point.rate, point.distortion) == pytest.approx((row["R"], row["D"]), abs=3e-3)


def test_interpolation_keeps_the_knots():
    source = make_source("banana")
    knots = ((0.2, 3.9, 8.0), (0.9, 2.04, 1.0), (2.0, 1.4, 0.3))
    found = bounds.bound(source, knots)
    assert found is not None
    for distortion, rate, lmb in knots[1:]:
        assert found.rate(distortion) == pytest.approx(rate) and found.lagrangian(lmb) == pytest.approx(
            rate + lmb * distortion
        )
    assert found.rate(0.01) == pytest.approx(bounds.shannon_lower_bound(source.entropy_bits, 0.01, 2))
    assert found.rate(50.0) == 0
    assert bounds.bound(make_source("ramp", {"points": 4})) is None
