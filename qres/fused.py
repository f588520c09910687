"""The CNX block as one autograd function under bfloat16 autocast on a CPU: products by torch, the rest by kernels.

Against the plain block it makes fewer passes over memory, keeps the normalised features' gradient sums in float32 and
never forms the layer-scaled output: the layer scale is part of the second matrix, whose gradient gives the scale's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from core import depthwise, pointwise

BF16 = torch.bfloat16


def serves(x: Tensor, convolution: nn.Conv2d) -> bool:
    """Whether a block with this depthwise convolution is trained this way: bfloat16 autocast, on a CPU."""
    if not pointwise.trains(x) or convolution.weight.dtype != torch.float32:
        return False
    one = convolution.kernel_size == (1, 1) and x.shape[1] % pointwise.LANES == 0
    return one or (depthwise.serves(x, convolution) and depthwise.usable())


def block(x: Tensor, convolution: nn.Conv2d, scale: Tensor, shift: Tensor, eps: float, mlp: Any) -> Tensor:
    """x + gamma * MLP(scale * LayerNorm(depthwise(x)) + shift): (B, C, h, w) -> (B, C, h, w), float32.

    ``scale`` and ``shift`` are (1, C) or (B, C); ``mlp`` is (first matrix, its bias, second matrix, its bias, gamma).
    """
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    if scale.shape[0] > 1 and pixels % scale.shape[0]:
        raise ValueError("scale and shift are of one image or of each")
    parts = (x, convolution.weight, convolution.bias, scale.float(), shift.float(), eps, *mlp)
    out: Tensor = _Block.apply(*parts)
    return out


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, eps: float,
        w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, gamma: Tensor,
    ) -> Tensor:  # fmt: skip
        """The block; rows of the matrices are pixels."""
        narrow = x.to(BF16, memory_format=torch.channels_last)
        taps = kernel.to(BF16)
        y = _rows(_convolved(narrow, taps, bias))
        scale, shift = scale.contiguous(), shift.contiguous()
        u, mean, inverse = pointwise.normalise(y, scale, shift, eps)
        first = w1.to(BF16)
        h = F.linear(u, first, b1.to(BF16))
        second = pointwise.rows_scaled(w2.contiguous(), gamma)
        g, slope = pointwise.gelu_slope(h, inplace=True)
        v = F.linear(g, second)
        out = pointwise.added(_rows(x.float()), v, b2 * gamma)
        ctx.save_for_backward(narrow, taps, y, scale, mean, inverse, u, first, g, slope, second, w2, b2, gamma)
        return _image(out, x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The forward pass in reverse, from the gradient of the sum."""
        x, taps, y, scale, mean, inverse, u, first, g, slope, second, w2, b2, gamma = ctx.saved_tensors
        whole = _rows(grad.float())
        d, total = pointwise.narrowed(whole)
        d_h, d_b1 = pointwise.product_sums(d @ second, slope)
        if not any(ctx.needs_input_grad[1:]):  # frozen weights, as in a search: half of the work
            d_y, _, _ = pointwise.normalise_backward(y, d_h @ first, scale, mean, inverse)
            d_x = _input_gradient(x, taps, _image(d_y, x.shape))
            return _image(pointwise.added(whole, _rows(d_x), torch.zeros_like(total)), x.shape), *(None,) * 10
        d_w2, d_gamma = pointwise.rows_scaled_backward(w2.contiguous(), gamma, d.t() @ g)
        d_w1 = (d_h.t() @ u).float()
        d_y, d_scale, d_shift = pointwise.normalise_backward(y, d_h @ first, scale, mean, inverse)
        d_x, d_kernel, d_bias = _convolved_backward(x, taps, _image(d_y, x.shape))
        own = pointwise.added(whole, _rows(d_x), torch.zeros_like(total))
        mlp = (d_w1, d_b1, d_w2, total * gamma, d_gamma + total * b2)
        return _image(own, x.shape), d_kernel, d_bias, d_scale, d_shift, None, *mlp


def _convolved(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """The depthwise convolution, same size; with one tap an affine map, for which torch's convolution is very slow."""
    if taps.shape[2] == 1:
        return torch.addcmul(bias.to(BF16).view(1, -1, 1, 1), x, taps.view(1, -1, 1, 1))
    return F.conv2d(x, taps, bias.to(BF16), padding=taps.shape[2] // 2, groups=len(taps))


def _convolved_backward(x: Tensor, taps: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input (bfloat16), taps and bias (float32)."""
    d_x = _input_gradient(x, taps, grad)
    if taps.shape[2] > 1:
        return d_x, *depthwise.weight_gradient(x, grad, taps.shape[2])
    wide = grad.float()
    return d_x, (wide * x).sum((0, 2, 3)).view(-1, 1, 1, 1), wide.sum((0, 2, 3))


def _input_gradient(x: Tensor, taps: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the convolution's input, bfloat16."""
    return depthwise.input_gradient(x, taps, grad) if taps.shape[2] > 1 else grad * taps.view(1, -1, 1, 1)


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C), contiguous: no copy where channels are last."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _image(rows: Tensor, shape: torch.Size) -> Tensor:
    """(B h w, C) -> (B, C, h, w) with channels last in memory."""
    return rows.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
