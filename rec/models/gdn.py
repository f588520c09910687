"""Generalised divisive normalisation (Ballé, Laparra, Simoncelli, ICLR 2016, arXiv 1511.06281) and its inverse.

y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2); the inverse, as usual in decoders, multiplies instead. Both parameters
are kept as square roots of shifted values (Ballé, 2018, arXiv 1802.00847), so that steps near zero are small.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

PEDESTAL = 2.0**-36
BETA_MIN = 1e-6


class _AtLeast(torch.autograd.Function):
    """max(x, bound) whose gradient passes below the bound when it points up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x >= bound)
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (inside,) = ctx.saved_tensors
        return gradient * (inside | (gradient < 0)), None


class GDN(nn.Module):
    """(B, C, H, W) -> the same shape, divided, or with ``inverse`` multiplied, by the pooled norm."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(0.1 * torch.eye(channels) + PEDESTAL))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x."""
        beta = _value(self.beta, BETA_MIN)
        gamma = _value(self.gamma, 0.0)
        norm = conv2d(x * x, gamma[..., None, None].to(x.dtype), beta.to(x.dtype))
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))


def _value(stored: Tensor, least: float) -> Tensor:
    """A parameter, at least ``least``, from its stored root."""
    found: Tensor = _AtLeast.apply(stored, (least + PEDESTAL) ** 0.5)
    return found**2 - PEDESTAL
