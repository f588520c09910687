"""Convolutions of signals: reflected borders, kernels learned as their real discrete Fourier coefficients.

Down-sampling correlates, as convolutions of networks do; up-sampling inserts zeros and convolves, so that the two are
transposed to each other away from the borders. Gradient steps on Fourier coefficients are what tensorflow-compression's
``SignalConv2D`` takes (Ballé, 2018, arXiv 1802.00847).
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad


class SignalConv(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, ...): sides divided by ``down``, rounded up, or multiplied by ``up``.

    ``up`` of 1 or more (None: ``down`` is used) also stands for convolving instead of correlating. Kernels are odd.
    ``rdft=False`` stores the kernel itself.
    """

    basis: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        down: int = 1,
        up: int | None = None,
        bias: bool = True,
        rdft: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.down, self.up = kernel, down, up
        shape = (inputs, outputs) if up else (outputs, inputs)
        taps = inputs * kernel**2 / (up or 1) ** 2  # that meet a sample
        weight = torch.randn(*shape, kernel**2) / math.sqrt(taps)
        self.coefficients = nn.Parameter(weight)  # the basis is orthonormal: its coefficients are as normal as taps
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("basis", real_dft(kernel) if rdft else torch.eye(kernel**2), persistent=False)

    def weight(self) -> Tensor:
        """The kernel in torch's layout of ``conv2d``, or with ``up`` of ``conv_transpose2d``."""
        taps = self.coefficients @ self.basis.T
        return taps.unflatten(-1, (self.kernel, self.kernel))

    def forward(self, x: Tensor) -> Tensor:
        """The signal, filtered."""
        half = self.kernel // 2
        if self.up is None:
            return conv2d(reflect(x, half), self.weight(), self.bias, self.down)
        around = -(-half // self.up)
        cut = half + around * self.up
        return conv_transpose2d(reflect(x, around), self.weight(), self.bias, self.up, cut, self.up - 1)


def reflect(x: Tensor, margin: int) -> Tensor:
    """Continue (..., H, W) by ``margin`` samples on each side, mirrored at the border samples, as often as it takes."""
    if min(x.shape[-2:]) > margin:
        return pad(x, (margin,) * 4, mode="reflect")
    for axis in (-2, -1):
        size = x.shape[axis]
        places = torch.arange(-margin, size + margin, device=x.device)
        period = max(2 * (size - 1), 1)
        folded = places.remainder(period)
        x = x.index_select(axis, torch.minimum(folded, period - folded) if size > 1 else torch.zeros_like(places))
    return x


@cache
def real_dft(size: int) -> Tensor:
    """The orthonormal real basis of size x size kernels, (taps, coefficients): cosines and negative sines, in turn."""
    with torch.device("cpu"):  # kept for all models, also when the first is made elsewhere, or on no device
        position = torch.arange(size, dtype=torch.float64)
        rows = [torch.full((size,), size**-0.5, dtype=torch.float64)]
        for frequency in range(1, size // 2 + 1):
            angle = 2 * math.pi * frequency * position / size
            rows += [math.sqrt(2 / size) * torch.cos(angle), -math.sqrt(2 / size) * torch.sin(angle)]
        line = torch.stack(rows, 1)
        return torch.kron(line, line).float()
