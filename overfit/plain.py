"""Loss of an overfitted picture in plain PyTorch: what ``core/kernels/overfit_train.cpp`` computes, slower.

The rate of a latent is that of a Laplace distribution, whose location and log scale a small network of the latents
before it gives; the picture is made of the grids, upsampled and stacked, by another one (COOL-CHIC, arXiv 2212.05458).
While they are fitted, latents are rounded softly, with noise (C3, arXiv 2312.02753, section 3.1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from overfit import layout

LOW, HIGH = -3.625, 4.25  # of the log scale
TAPS = (-3 / 128, 29 / 128, 111 / 128, -9 / 128)  # of the cubic filter, at -1.75, -0.75, 0.25 and 1.25 samples


def tensors(weights: Tensor) -> dict[str, Tensor]:
    """The tensors of a vector (WEIGHTS,), by name."""
    parts = weights.split(layout.SIZES)
    return {t.name: part.reshape(t.shape) for t, part in zip(layout.TENSORS, parts, strict=True)}


def soft_round(x: Tensor, temperature: float) -> Tensor:
    """Rounding made smooth: the identity at high temperature, rounding at 0 (Agustsson and Theis, 2020)."""
    r = x - x.floor() - 0.5
    half = torch.tanh(torch.tensor(0.5 / temperature))
    return x.floor() + 0.5 + 0.5 * torch.tanh(r / temperature) / half


def quantised(y: Tensor, temperature: float, noise: Tensor) -> Tensor:
    """Latents as the loss sees them: rounded softly before and after noise; at temperature 0 rounded, slope one."""
    if temperature == 0:
        return y + (y.detach().round() - y.detach())
    return soft_round(soft_round(y, temperature) + noise, temperature)


def bits(grid: Tensor, level: int, weights: dict[str, Tensor]) -> Tensor:
    """Bits of the latents (h, w) of a level, differentiable in them and in the weights."""
    h, w = grid.shape
    around = F.pad(grid, (3, 2, 3, 0))
    seen = torch.stack([around[3 + y : 3 + y + h, 3 + x : 3 + x + w] for y, x in layout.CONTEXT], -1)
    h1 = F.relu(seen @ weights["context1"].T + weights["level_bias"][level])
    h2 = F.relu(h1 + h1 @ weights["context2"].T + weights["bias2"])
    location, scale = (h2 @ weights["context3"].T + weights["bias3"]).unbind(-1)
    over = torch.exp(-scale.clamp(LOW, HIGH))
    a = (grid - location).abs()
    near, far = torch.exp(-(a - 0.5).abs() * over), torch.exp(-(a + 0.5) * over)
    mass = torch.where(a > 0.5, 0.5 * (near - far), 1 - 0.5 * (near + far))
    return -torch.log2(mass + 1e-6).sum()


def doubled(x: Tensor, side: tuple[int, int]) -> Tensor:
    """Planes (C, h, w) upsampled twice and cut to (C, H, W)."""
    for axis in (2, 1):
        x = x.transpose(axis, 2)
        padded = F.pad(x, (2, 2), mode="replicate")
        n = x.shape[2]
        even = sum(t * padded[..., i : i + n] for i, t in enumerate(TAPS))
        odd = sum(t * padded[..., 1 + i : 1 + i + n] for i, t in enumerate(TAPS[::-1]))
        x = torch.stack((even, odd), -1).flatten(2).transpose(axis, 2)  # type: ignore[arg-type]
    return x[:, : side[0], : side[1]]


def picture(grids: list[Tensor], weights: dict[str, Tensor]) -> Tensor:
    """The picture (3, H, W) made of grids, the finest first."""
    stack = grids[-1][None]
    for grid in grids[-2::-1]:
        h, w = grid.shape
        stack = torch.cat((grid[None], doubled(stack, (h, w))))
    x = F.relu(torch.tensordot(weights["mix1"], stack, 1) + weights["mix_bias1"][:, None, None])
    x = torch.tensordot(weights["mix2"], x, 1) + weights["mix_bias2"][:, None, None]
    for i in (1, 2):
        padded = F.pad(x[None], (1, 1, 1, 1), mode="replicate")
        x = x + F.conv2d(padded, weights[f"filter{i}"], weights[f"filter_bias{i}"])[0]
        x = F.relu(x) if i == 1 else x
    return x
