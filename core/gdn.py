"""Generalised divisive normalisation (Ballé, Laparra, Simoncelli, ICLR 2016, arXiv 1511.06281), what every GDN shares.

y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2); the inverse, as usual in decoders, multiplies instead. Both parameters
are kept as square roots of shifted values (Ballé, 2018, arXiv 1802.00847), so that steps near zero are small. Modules
differ in the shift and in what else a published state holds, so they are the families' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

BETA_MIN = 1e-6


class _AtLeast(torch.autograd.Function):
    """max(x, bound) whose gradient passes below the bound where it would raise x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Tensor | float) -> Tensor:
        ctx.save_for_backward(x >= bound)
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (inside,) = ctx.saved_tensors
        return gradient * (inside | (gradient < 0)), None


def at_least(x: Tensor, bound: Tensor | float) -> Tensor:
    """max(x, bound), elementwise, with a gradient that can lift x over the bound."""
    raised: Tensor = _AtLeast.apply(x, bound)
    return raised


def roots(channels: int, pedestal: float) -> tuple[nn.Parameter, nn.Parameter]:
    """The stored roots of beta = 1, (C,), and gamma = 0.1 I, (C, C), shifted by ``pedestal``: how a GDN starts."""
    beta, gamma = torch.ones(channels), 0.1 * torch.eye(channels)
    return nn.Parameter(torch.sqrt(beta + pedestal)), nn.Parameter(torch.sqrt(gamma + pedestal))


def normalise(x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool) -> Tensor:
    """(B, C, H, W) divided, or with ``inverse`` multiplied, by the pooled norm; a row of gamma for each output."""
    norm = conv2d(x * x, gamma[:, :, None, None].to(x.dtype), beta.to(x.dtype))
    return x * (torch.sqrt(norm) if inverse else torch.rsqrt(norm))
