"""Convolutions with normalised weights and a start from data (Salimans and Kingma, NIPS 2016).

The weight is exp(g) v / ||v||, with a norm for each output channel. On the first batch in training, g and the bias are
set so that each output channel has mean 0 and standard deviation ``SPREAD``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from core import parallel

SPREAD = 0.1


class WeightNormConv(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride), or with ``up`` times the stride; kernels are odd.

    ``started`` says whether the start from data has been made; fresh weights work without it.
    """

    started: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, up: bool = False) -> None:
        super().__init__()
        self.stride, self.up = stride, up
        shape = (inputs, outputs) if up else (outputs, inputs)
        self.v = nn.Parameter(torch.randn(*shape, kernel, kernel) * 0.05)
        self.g = nn.Parameter(torch.full((outputs,), math.log(SPREAD)))  # logarithm of the norm
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """The convolution; in training, the first call starts the parameters from its input."""
        if self.training and not self.started:
            self._start(x.detach())
        return self._convolve(x, self.weight(), self.bias)

    def weight(self) -> Tensor:
        """The kernel, in the shape of ``v``."""
        return self._direction() * self._spread(torch.exp(self.g))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        margin = weight.shape[-1] // 2
        if self.up:
            return conv_transpose2d(x, weight, bias, self.stride, margin, output_padding=self.stride - 1)
        return conv2d(x, weight, bias, self.stride, margin)

    def _direction(self) -> Tensor:
        axes = [0, 2, 3] if self.up else [1, 2, 3]
        return self.v / torch.linalg.vector_norm(self.v, dim=axes, keepdim=True)

    def _spread(self, values: Tensor) -> Tensor:
        return values.view((1, -1, 1, 1) if self.up else (-1, 1, 1, 1))

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        """Set g and bias from the outputs' moments over the batch of all processes."""
        y = self._convolve(x, self._direction(), None).float()
        moments = torch.stack([y.mean((0, 2, 3)), y.square().mean((0, 2, 3))])
        mean, square = parallel.all_sum(moments) / parallel.world_size()
        variance = square - mean**2
        varies = variance > 1e-8  # above a constant, as at the top of a hierarchy, there is nothing to normalise
        scale = torch.where(varies, SPREAD * variance.clamp_min(1e-8).rsqrt(), SPREAD)
        self.g.copy_(torch.log(scale))
        self.bias.copy_(-mean * scale)
        self.started.fill_(True)
