"""Masses of latents (and pixels) under their predicted normals, in nats: in training, and as the coder has them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def train_log_likelihood(offset: Tensor, scale: Tensor, width: float) -> Tensor:
    """ln of the mass of N(0, scale) in a bin of ``width`` around ``offset``; the density stands in below 1e-6."""
    with torch.autocast(offset.device.type, enabled=False):
        mass = _below(offset + width / 2, scale) - _below(offset - width / 2, scale)
        density = -0.5 * (offset / scale) ** 2 - torch.log(scale) - 0.5 * math.log(2 * math.pi) + math.log(width)
        return torch.where(mass > 1e-6, torch.log(mass.clamp_min(1e-8)), density)


def code_log_likelihood(symbols: Tensor, scale: Tensor) -> Tensor:
    """ln of the mass the coder gives to integer symbols: scale at least 0.11, mass at least 1e-9."""
    scale, v = scale.clamp_min(0.11), symbols.abs()

    def cdf(t: Tensor) -> Tensor:
        return 0.5 * torch.erfc(-t / math.sqrt(2))

    return torch.log((cdf((0.5 - v) / scale) - cdf((-0.5 - v) / scale)).clamp_min(1e-9))


def coarse_log_likelihood(symbols: Tensor, scale: Tensor) -> Tensor:
    """``code_log_likelihood`` with the other tail, as the published QARV counts it: in float32, masses are whole
    multiples of 3e-8 there, so what is below 1.5e-8 costs 20.7 nats."""
    scale, v = scale.clamp_min(0.11), symbols.abs()
    return torch.log((_below(0.5 - v, scale) - _below(-0.5 - v, scale)).clamp_min(1e-9))


def _below(x: Tensor, scale: Tensor) -> Tensor:
    """The mass of N(0, scale) below x, from erf."""
    return 0.5 * (1 + torch.erf(x / scale / math.sqrt(2)))
