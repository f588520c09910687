"""Minimal filtering is the convolution: any size, into any view, with SiLU or a sum; and where the network uses it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core import onednn
from vq.mcquic import inference, winograd
from vq.mcquic.blocks import Conv3

torch.set_num_threads(1)
SIZES = [(1, 1), (1, 7), (2, 3), (3, 1), (4, 4), (5, 9), (6, 2), (7, 6), (8, 5), (13, 10)]
pytestmark = pytest.mark.skipif(not onednn.available(), reason="needs oneDNN")


def layer(channels: int, out: int, seed: int = 0) -> tuple[Tensor, Tensor, winograd.Convolution]:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, channels, 3, 3, generator=draw) / (9 * channels) ** 0.5
    bias = torch.randn(out, generator=draw)
    return weight, bias, winograd.Convolution(weight, bias)


def direct(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(h + 2, w + 2, C) -> (h, w, C') in float64."""
    out = F.conv2d(x.double().permute(2, 0, 1)[None], weight.double(), bias.double())
    return out[0].permute(1, 2, 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [(1, 1), (5, 8), (24, 3)])
@pytest.mark.parametrize("band", [1, winograd.BAND])
def test_it_is_the_convolution(
    size: tuple[int, int], channels: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "BAND", band)
    (height, width), (inner, outer) = size, channels
    weight, bias, conv = layer(inner, outer)
    x = torch.randn(height + 2, width + 2, inner, generator=torch.Generator().manual_seed(1))
    before, expected = x.clone(), direct(x, weight, bias)
    with torch.inference_mode():
        out = torch.full((height, width, outer), torch.nan)
        conv(x, out)
        assert (out - expected).abs().max() < 2e-5
        conv(x, out, silu=True)
        assert (out - F.silu(expected)).abs().max() < 2e-5
        total = torch.full((height, width, outer), 2.0)
        conv(x, total, add=True)
        assert (total - expected - 2).abs().max() < 2e-5
    assert torch.equal(x, before)


@pytest.mark.parametrize("size", SIZES)
def test_it_writes_into_a_frame_and_into_shuffled_pixels(size: tuple[int, int]) -> None:
    height, width = size
    weight, bias, conv = layer(6, 8)
    x = torch.randn(height + 2, width + 2, 6, generator=torch.Generator().manual_seed(2))
    expected = direct(x, weight, bias)
    with torch.inference_mode():
        frame = torch.full((height + 2, width + 2, 8), 7.0)
        conv(x, frame[1:-1, 1:-1])
        assert (frame[1:-1, 1:-1] - expected).abs().max() < 2e-5
        frame[1:-1, 1:-1] = 7
        assert bool((frame == 7).all())
        pixels = torch.empty(2 * height, 2 * width, 2)
        conv(x, pixels.view(height, 2, width, 2, 2).transpose(1, 2))
        channels = expected.view(height, width, 2, 2, 2).transpose(1, 2).reshape(2 * height, 2 * width, 2)
        assert (pixels - channels).abs().max() < 2e-5


def test_the_error_is_a_few_roundings() -> None:
    weight, bias, conv = layer(128, 128)
    x = torch.randn(42, 34, 128, generator=torch.Generator().manual_seed(3))
    expected = direct(x, weight, bias)
    with torch.inference_mode():
        out = torch.empty(40, 32, 128)
        conv(x, out)
    error = (out - expected).square().mean().sqrt() / expected.std()
    assert 0 < error < 2e-6


def test_a_row_outside_does_not_matter() -> None:
    """Heights that are no multiple of a tile are not made of what happens to lie behind the input."""
    weight, bias, conv = layer(4, 4)
    whole = torch.full((40, 8, 4), torch.nan)
    whole[:9] = torch.randn(9, 8, 4, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        out = torch.empty(7, 6, 4)
        conv(whole[:9], out)
    assert (out - direct(whole[:9], weight, bias)).abs().max() < 2e-5


def test_where_the_network_uses_it() -> None:
    wide, narrow = inference.WIDE, inference.WIDE // 2

    def kind(channels: int, out: int, stride: int = 1, dtype: torch.dtype = torch.float32, **how: bool) -> type:
        return type(inference._convolution(Conv3(channels, out, stride), inference._Maker(dtype, **how)))

    assert kind(wide, wide) is kind(wide, 4 * wide) is winograd.Convolution
    others = [kind(wide, wide, stride=2), kind(wide, wide, packed=False), kind(wide, wide, large=False),
              kind(wide, narrow), kind(narrow, wide)]  # fmt: skip
    if onednn.takes(torch.bfloat16):
        others.append(kind(wide, wide, dtype=torch.bfloat16))
    assert set(others) == {inference._Direct}
