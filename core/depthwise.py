"""Depthwise convolution whose weight gradient comes from a compiled kernel: on CPUs, oneDNN takes ten times as long.

The forward pass and the gradient of the input are torch's. The kernel multiplies and sums in float32, so its weight
gradient of bfloat16 tensors is closer to the exact one than torch's, which is rounded to bfloat16.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import kernels

KERNELS = (3, 5, 7)
LANES = 16  # channels that the kernel takes at a time
_NAMES = {torch.float32: "depthwise_gradient_float", torch.bfloat16: "depthwise_gradient_bfloat16"}


def depthwise(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """``layer(x)`` for a depthwise convolution of stride 1 that keeps the size: (B, C, H, W) -> (B, C, H, W)."""
    if torch.is_grad_enabled() and layer.weight.requires_grad and _serves(x, layer):
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if kind in _NAMES and usable():
            y: Tensor = _Depthwise.apply(x.to(kind), layer.weight, layer.bias)  # type: ignore[no-untyped-call]
            return y
    out: Tensor = layer(x)
    return out


@lru_cache
def usable() -> bool:
    """Whether the kernel is there and agrees, on a first small check, with torch's gradient in float64."""
    if kernels.library("depthwise") is None:
        return False
    draw = torch.Generator().manual_seed(0)
    for kind, bound in ((torch.float32, 1e-4), (torch.bfloat16, 1e-4)):
        for size in KERNELS:
            x, g = (torch.randn(2, LANES, 9, 6, generator=draw).to(kind) for _ in range(2))
            found, _ = weight_gradient(x, g, size)
            wanted = nn.grad.conv2d_weight(
                x.double(), (LANES, 1, size, size), g.double(), padding=size // 2, groups=LANES
            )
            if not torch.allclose(found.double(), wanted, rtol=bound, atol=bound):
                print(
                    f"note: the fast depthwise kernel is not used: its {size}x{size} gradient in {kind} is off by "
                    f"{float((found - wanted).abs().max()):.1e}; plain torch computes it instead."
                )
                return False
    return True


def weight_gradient(x: Tensor, grad: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Gradients of weight (C, 1, size, size) and bias (C,), float32, of a depthwise convolution.

    ``x`` and ``grad`` are its input and the gradient of its output, both (B, C, H, W) and float32 or both bfloat16; C
    is a multiple of 16, ``size`` 3, 5 or 7. Needs ``kernels.library("depthwise")``.
    """
    library = kernels.library("depthwise")
    assert library is not None
    x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    b, c, h, w = x.shape
    weight, bias = torch.empty(c, 1, size, size), torch.empty(c)
    places = [ctypes.c_void_p(t.data_ptr()) for t in (x, grad, weight, bias)]
    if library[_NAMES[x.dtype]](*places[:2], ctypes.c_int64(b), h, w, c, size, *places[2:]):
        raise ValueError(f"the depthwise kernel does not take {c} channels and size {size}")
    return weight, bias


def _serves(x: Tensor, layer: nn.Conv2d) -> bool:
    size = layer.kernel_size[0]
    same = layer.kernel_size == (size, size) and layer.padding == (size // 2, size // 2) and layer.stride == (1, 1)
    return x.device.type == "cpu" and same and size in KERNELS and x.shape[1] % LANES == 0 and layer.bias is not None


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """torch's convolution, in the type of ``x``."""
        narrow = weight.to(x.dtype)
        ctx.save_for_backward(x, narrow)
        return F.conv2d(x, narrow, bias.to(x.dtype), padding=weight.shape[2] // 2, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """The input's gradient from torch, the others from the kernel."""
        x, weight = ctx.saved_tensors
        c, size = weight.shape[0], weight.shape[2]
        arguments = ([c], [1, 1], [size // 2] * 2, [1, 1], False, [0, 0], c, [True, False, False])
        own = torch.ops.aten.convolution_backward(grad, x, weight, *arguments)[0]
        return own, *weight_gradient(x, grad, size)
