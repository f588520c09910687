"""Lattices trained for rate: what the decoder learns from, and when the rate begins to count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.registry import discover, make_method
from core.train import TrainConfig, fit
from tests.conftest import Command

discover()


def greys(step: int, share: range) -> torch.Tensor:
    """Plain pictures of any grey level."""
    draw = torch.Generator().manual_seed(step)
    return torch.rand(len(share), 1, 1, 1, generator=draw).expand(-1, 1, 8, 8).contiguous()


def coded_error(net: torch.nn.Module) -> float:
    x = greys(10**6, range(64))
    return float((net.decode(net.encode(x)) - x).square().mean())


@pytest.mark.parametrize("name", ["lattice_e8", "lattice_leech"])
def test_low_rates_leave_the_mean_picture(name: str, tmp_path: Path) -> None:
    """Through dither the decoder hears what rounding silences; from points it learns what is sent."""
    errors = {}
    for straight in (False, True):
        torch.manual_seed(0)
        net = make_method(name, {"lmb": 0.01}).model()
        net.straight_through, net.rate_warmup = straight, 0.3 * straight
        config = TrainConfig(steps=200, batch=16, lr=3e-3, warmup=10, ema=0.9, log_every=200, save_every=200)
        errors[straight] = coded_error(fit(net, greys, config, tmp_path / str(straight)))
    mean = float(greys(10**6, range(64)).var())
    assert errors[True] < 0.6 * mean, errors
    assert errors[True] < 0.7 * errors[False], errors


def test_straight_through_decodes_points_at_the_rate_of_dither() -> None:
    quantizer = make_method("lattice_d4").quantizer()
    rows = torch.randn(5, 64, requires_grad=True)
    torch.manual_seed(1)
    noisy = quantizer(3 * rows)
    quantizer.straight_through = True
    torch.manual_seed(1)
    straight = quantizer(3 * rows)
    assert torch.equal(straight.bits, noisy.bits) and not torch.allclose(straight.vectors, noisy.vectors)
    points = quantizer.decode(quantizer.encode(3 * rows))
    assert torch.allclose(straight.vectors, points, atol=1e-5)
    straight.vectors.sum().backward()
    assert rows.grad is not None and rows.grad.abs().sum() > 0


def test_the_rate_gets_its_weight_during_the_warm_up() -> None:
    net = make_method("lattice_z").model()
    net.rate_warmup = 0.5
    found = []
    for step in (0, 25, 50, 99):
        net.begin_step(step, 100)
        torch.manual_seed(0)
        made = net(greys(0, range(4)))
        found.append(float((made.loss - net.weight * made.distortion) / made.bits))
    assert found == pytest.approx([0, 0.5, 1, 1], abs=1e-4)


def test_options_are_those_of_models_that_have_them(command: Command, tmp_path: Path) -> None:
    where = ("smoke", "dataset=fashion_mnist_train", "folder=run")
    for method, option in (
        ("llvq_sparse", "rate_warmup=0.5"),
        ("llvq_sparse", "straight_through=True"),
        ("lattice_full", "straight_through=True"),
    ):
        ended = command("lattice", "train", "with", f"method={method}", option, *where)
        assert ended.code == 2 and f"{option} is no option of {method}" in ended.sentence
    ended = command("lattice", "train", "with", "method=lattice_e8", "rate_warmup=1", *where)
    assert ended.code == 2 and "rate_warmup=1 must be at least 0 and less than 1" in ended.sentence
