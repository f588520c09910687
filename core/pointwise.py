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
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from core import kernels

LANES = 16
BF16 = torch.bfloat16
_GELU = {BF16: "gelu_bfloat16", torch.float32: "gelu_float"}
_PRODUCT = {BF16: "product_bfloat16", torch.float32: "product_float"}
_int = ctypes.c_int


def gelu(x: Tensor) -> Tensor:
    """GELU for training: under bfloat16 autocast on a CPU a kernel that keeps the derivative; otherwise torch's.

    The result has the shape of x, and there, of any number of dimensions, bfloat16.
    """
    if trains(x) and x.dtype in _GELU:
        y: Tensor = _Gelu.apply(x)
        return y
    return F.gelu(x)


class Gelu(nn.Module):
    """``gelu`` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return gelu(x)


def trains(x: Tensor) -> bool:
    """Whether x is on its way through a training step that the kernels serve: bfloat16 autocast on a CPU."""
    on = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == BF16
    return on and x.device.type == "cpu" and usable()


def gelu_slope(h: Tensor, inplace: bool = False) -> tuple[Tensor, Tensor]:
    """GELU and its derivative (in h itself if ``inplace``), bfloat16, of a dense tensor, which may be float32."""
    g = torch.empty_like(h, dtype=BF16)
    slope = h if inplace else torch.empty_like(g)
    _call(_GELU[h.dtype], h, h.numel(), g, slope)
    return g, slope


def product_sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a * b of two matrices (N, C), and its sum over rows, float32 (C,)."""
    out, sums = torch.empty_like(a), torch.empty(a.shape[1])
    _call("product_and_sums", a, b, len(a), _int(a.shape[1]), out, sums)
    return out, sums


def normalise(y: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm of rows y (N, C), then times ``scale`` plus ``shift``, both float32 (images, C); images divides N.

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
    out, sums = torch.empty(x.shape, dtype=BF16), torch.empty(x.shape[1])
    _call("narrowed", x, len(x), _int(x.shape[1]), out, sums)
    return out, sums


def added(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
    """a + b + bias as float32, of a float32 (N, C), b bfloat16 (N, C), bias float32 (C,)."""
    out = torch.empty_like(a)
    _call("added", a, b, bias, len(a), _int(a.shape[1]), out)
    return out


def rows_scaled(matrix: Tensor, scale: Tensor) -> Tensor:
    """A float32 matrix (N, C) times ``scale`` (N,) of its rows, bfloat16."""
    out = torch.empty(matrix.shape, dtype=BF16)
    _call("rows_scaled", matrix, scale, len(matrix), _int(matrix.shape[1]), out)
    return out


def rows_scaled_backward(matrix: Tensor, scale: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients, float32, of matrix and scale from that of ``rows_scaled``'s result."""
    own, scales = torch.empty_like(matrix), torch.empty_like(scale)
    _call("rows_scaled_backward", matrix, scale, grad, len(matrix), _int(matrix.shape[1]), own, scales)
    return own, scales


@lru_cache
def usable() -> bool:
    """Whether the kernels are there and agree with torch's functions in float64 on a first small check."""
    if kernels.library("block") is None:
        return False
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        errors = _errors()
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
    (made_g, slope), (again, same) = gelu_slope(h), gelu_slope(h.float()[:, :7].contiguous())
    own, sums = product_sums(slope, grad)
    made, mean, inverse = normalise(y, scale, shift, 1e-6)
    own_y, own_scale, own_shift = normalise_backward(y, grad, scale, mean, inverse)
    short, column = narrowed(scale)
    columns = scale[:, :1].flatten().contiguous()
    turned, own_rows = rows_scaled_backward(shift, columns, short)
    pairs: dict[str, list[tuple[Tensor, Any]]] = {
        "GELU": [(made_g, g), (again, g[:, :7]), (same, slope[:, :7])],
        "the gradient of GELU": [(own, a.grad), (sums / 24, own.double().mean(0))],
        "LayerNorm": [(made, u)],
        "the gradient of LayerNorm": [(own_y, b.grad), (own_scale, c.grad), (own_shift, d.grad)],
        "a sum": [(short, scale), (column, scale.sum(0)), (added(scale, short, shift[0]), 2 * scale + shift[0])],
        "a scaled matrix": [
            (rows_scaled(shift, columns), shift * columns[:, None]),
            (turned, short.float() * columns[:, None]),
            (own_rows, (short.float() * shift).sum(1)),
        ],
    }
    return {name: max(_off(x, y) for x, y in found) for name, found in pairs.items()}


def _off(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.detach().double(), wanted.detach().double()
    return float(((found - wanted).abs() / (1 + wanted.abs())).nan_to_num(nan=torch.inf).max())


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """GELU in bfloat16; the derivative is kept."""
        g, slope = gelu_slope(x if _dense(x) else x.contiguous())
        ctx.save_for_backward(slope)
        ctx.kind = x.dtype
        return g

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """The product with the derivative, in the type of x."""
        (slope,) = ctx.saved_tensors
        if grad.stride() != slope.stride() or grad.dtype != BF16:
            grad = torch.empty_like(slope).copy_(grad)
        own = torch.empty_like(slope, dtype=ctx.kind)
        _call(_PRODUCT[ctx.kind], slope, grad, grad.numel(), own)
        return own


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def _call(name: str, *arguments: Any) -> None:
    """Run a kernel: tensors are passed by address, plain integers as int64."""
    library = kernels.library("block")
    assert library is not None
    getattr(library, name)(*(_passed(argument) for argument in arguments))


def _passed(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
