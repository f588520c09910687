"""oneDNN's products and convolutions with what follows them, which torch keeps private: the one place that calls them.

Weights are laid out for oneDNN once, which about doubles the speed of torch's default products, and are those at
construction. Float32 or bfloat16, on a CPU; ask ``available`` first. Results differ from torch's in the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

_OPS = torch.ops.mkldnn
_AFTER: dict[str, tuple[str, list[float], str]] = {
    "": ("none", [], ""),
    "gelu": ("gelu", [], "none"),
    "silu": ("swish", [], ""),
}


def available() -> bool:
    """Whether torch has oneDNN here, with these operations, and it is switched on."""
    on = torch.backends.mkldnn.is_available() and bool(torch._C._get_mkldnn_enabled())
    return on and hasattr(_OPS, "_linear_pointwise") and hasattr(_OPS, "_convolution_pointwise")


@cache
def takes(dtype: torch.dtype) -> bool:
    """Whether oneDNN, where ``available``, computes in a type on this processor: bfloat16 needs AVX-512 or the like."""
    weight = torch.zeros(1, 1, 1, 1, dtype=dtype)
    try:
        Convolution(weight, None)(weight)
    except RuntimeError:
        return False
    return True


class Linear:
    """A matrix (out, in) and a bias (out,), if any, on rows (n, in); fastest for ``rows`` of them at a time."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        self.weight = _OPS._reorder_linear_weight(weight.detach().contiguous(), rows)
        self.bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor, after: str = "", add: Tensor | None = None) -> Tensor:
        """(n, in) -> (n, out), then '' (nothing) or gelu, or the sum with ``add``."""
        if add is not None:
            total: Tensor = _OPS._linear_pointwise.binary(x, add, self.weight, self.bias, "add")
            return total
        made: Tensor = _OPS._linear_pointwise(x, self.weight, self.bias, *_AFTER[after])
        return made


class Convolution:
    """A convolution with a weight (out, in / groups, kh, kw) and a bias (out,), if any.

    ``packed=False`` leaves the weight in torch's layout, for one that is read too rarely to keep it twice.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: Sequence[int] = (0, 0),
        stride: Sequence[int] = (1, 1),
        groups: int = 1,
        packed: bool = True,
    ) -> None:
        places = list(padding), list(stride), [1, 1], groups
        weight = weight.detach()
        weight = _OPS._reorder_convolution_weight(weight, *places) if packed else weight
        self._options = weight, None if bias is None else bias.detach(), *places

    def __call__(self, x: Tensor, after: str = "", add: Tensor | None = None) -> Tensor:
        """(B, in, H, W), channel-last in memory, -> (B, out, H', W'), then gelu or silu, or the sum with ``add``."""
        if add is not None:
            total: Tensor = _OPS._convolution_pointwise.binary(x, add, *self._options, "add", 1.0, None, [], None)
            return total
        made: Tensor = _OPS._convolution_pointwise(x, *self._options, *_AFTER[after])
        return made
