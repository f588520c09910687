"""The pointwise parts of a ConvNeXt block as compiled kernels: LayerNorm, GELU, sums, with their gradients.

Tensors are matrices whose rows are pixels, contiguous; bfloat16 unless float32 is said. Channels are a multiple of 16.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core import kernels

LANES = 16


def gelu(h: Tensor) -> Tensor:
    """GELU of any contiguous tensor whose size is a multiple of 16."""
    g = torch.empty_like(h)
    _call("gelu", h, h.numel(), g)
    return g


def gelu_backward(h: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From h (N, C) and the gradient of its GELU: the gradient of h, GELU(h), and (C,) that gradient's float32 sum."""
    own, g, sums = torch.empty_like(h), torch.empty_like(h), torch.empty(h.shape[1])
    _call("gelu_backward", h, grad, len(h), _int(h.shape[1]), own, g, sums)
    return own, g, sums


def normalise(y: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm of rows y (N, C), then times ``scale`` plus ``shift``, both float32 (images, C), N a multiple of images.

    Also returns mean and inverse deviation of each row, float32 (N,), for ``normalise_backward``.
    """
    u, mean, inverse = torch.empty_like(y), torch.empty(len(y)), torch.empty(len(y))
    images, columns = scale.shape
    _call("normalise", y, scale, shift, images, len(y) // images, _int(columns), ctypes.c_float(eps), u, mean, inverse)
    return u, mean, inverse


def normalise_backward(
    y: Tensor, grad: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of y (N, C) and, float32, of scale and shift (images, C), from that of ``normalise``'s result."""
    own, scales, shifts = torch.empty_like(y), torch.empty_like(scale), torch.empty_like(scale)
    images, columns = scale.shape
    where = (images, len(y) // images, _int(columns))
    _call("normalise_backward", y, grad, scale, mean, inverse, *where, own, scales, shifts)
    return own, scales, shifts


def narrowed(x: Tensor) -> tuple[Tensor, Tensor]:
    """A float32 matrix (N, C) as bfloat16, and its sum over rows, float32 (C,)."""
    out, sums = torch.empty(x.shape, dtype=torch.bfloat16), torch.empty(x.shape[1])
    _call("narrowed", x, len(x), _int(x.shape[1]), out, sums)
    return out, sums


def added(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
    """a + b + bias as float32, of a float32 (N, C), b bfloat16 (N, C), bias float32 (C,)."""
    out = torch.empty_like(a)
    _call("added", a, b, bias, len(a), _int(a.shape[1]), out)
    return out


@lru_cache
def usable() -> bool:
    """Whether the kernels are there and agree with torch's functions in float64 on a first small check."""
    if kernels.library("block") is None:
        return False
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        errors = {name: error for name, error in _errors().items()}
    wrong = {name: error for name, error in errors.items() if not error < 1 / 128}
    for name, error in wrong.items():
        print(
            f"note: the fast block kernels are not used: {name} is off by {error:.1e}; plain torch computes the same.",
            file=sys.stderr,
        )
    return not wrong


def _errors() -> dict[str, float]:
    """The largest error of each kernel's results, relative to 1 and the number itself (bfloat16: 1 / 256)."""
    draw = torch.Generator().manual_seed(0)
    h, grad, y = (torch.randn(24, 2 * LANES, generator=draw).mul(2).bfloat16() for _ in range(3))
    scale, shift = (torch.randn(3, 2 * LANES, generator=draw) for _ in range(2))
    a, b, c, d = (t.double().requires_grad_() for t in (h, y, scale, shift))
    g, u = F.gelu(a), F.layer_norm(b, (2 * LANES,), eps=1e-6).view(3, 8, -1)
    u = (u * c[:, None] + d[:, None]).view(24, -1)
    torch.autograd.backward([g, u], [grad.double()] * 2)
    own, again, sums = gelu_backward(h, grad)
    made, mean, inverse = normalise(y, scale, shift, 1e-6)
    own_y, own_scale, own_shift = normalise_backward(y, grad, scale, mean, inverse)
    short, column = narrowed(scale)
    pairs: dict[str, list[tuple[Tensor, Any]]] = {
        "GELU": [(gelu(h), g), (again, g)],
        "the gradient of GELU": [(own, a.grad), (sums / 24, a.grad.mean(0) if a.grad is not None else None)],
        "LayerNorm": [(made, u)],
        "the gradient of LayerNorm": [(own_y, b.grad), (own_scale, c.grad), (own_shift, d.grad)],
        "a sum": [(short, scale), (column, scale.sum(0)), (added(scale, short, shift[0]), 2 * scale + shift[0])],
    }
    return {name: max(_off(x, y) for x, y in found) for name, found in pairs.items()}


def _off(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.detach().double(), wanted.detach().double()
    return float(((found - wanted).abs() / (1 + wanted.abs())).nan_to_num(nan=torch.inf).max())


_int = ctypes.c_int


def _call(name: str, *arguments: Any) -> None:
    """Run a kernel: tensors are passed by address, plain integers as int64."""
    library = kernels.library("block")
    assert library is not None
    library[name](*(_passed(argument) for argument in arguments))


def _passed(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
