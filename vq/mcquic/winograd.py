"""3x3 convolutions with half the multiplications: minimal filtering F(4, 3) across the rows, oneDNN along each.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv 1509.09308, section 4. Four rows of
the output are made of six sums of input rows, each convolved with a 1x3 filter: 18 products where the definition has
36. The sums run over whole rows, so they are cheap, and weights take twice their memory. In two dimensions it would be
9 products, with four times the weights, sums over short pieces, and larger rounding errors.

The points are 0, 1, -1, p, -p and infinity. In float32 the rounding error is about six times that of the definition,
1e-6 of the output's standard deviation at 192 channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from core import onednn

POINT = 1.5  # of those with short binary fractions the one with the smallest largest error
BAND = 2**20  # numbers in the rows of the input that are transformed at once: they stay in the cache
TILE = 4  # rows of the output that are made together


class Convolution:
    """What ``F.conv2d`` with a weight (C', C, 3, 3) and a bias (C',) does, with pixels contiguous in their channels."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        above, here, below = (weight[:, :, k : k + 1] for k in range(3))
        filters = (above * a + here * b + below * c for a, b, c in _filter_sums())
        biases = [None, bias, None, None, None, None]  # point 1 goes into all four rows with factor 1
        self.products = [onednn.Convolution(f.contiguous(), b) for f, b in zip(filters, biases, strict=True)]

    def __call__(self, x: Tensor, out: Tensor, silu: bool = False, add: bool = False) -> None:
        """(h + 2, w + 2, C) to ``out`` (h, w, C') with any strides, C' in several axes if wanted.

        SiLU follows if asked; ``add`` adds to what is in ``out`` instead.
        """
        whole = len(out) // TILE * TILE
        band = max(1, BAND // (x[0].numel() * TILE)) * TILE
        for a in range(0, whole, band):
            b = min(a + band, whole)
            self._tiles(x[a : b + 2], out[a:b], add)
        if rest := len(out) - whole:
            rows = x.new_zeros(TILE + 2, *x.shape[1:])
            rows[: rest + 2] = x[whole:]
            made = out.new_zeros(TILE, *out.shape[1:])
            self._tiles(rows, made, add=False)
            out[whole:] = out[whole:] + made[:rest] if add else made[:rest]
        if silu:
            F.silu(out, inplace=True)

    def _tiles(self, x: Tensor, out: Tensor, add: bool) -> None:
        """Whole tiles: the rows of B^T x one or two at a time, their products at once, and the sums A^T of these."""
        square, end = POINT**2, len(out) - TILE + 1
        d0, d1, d2, d3, d4, d5 = (x[k : k + end : TILE] for k in range(6))
        odd, even = d3 - d1, d4 - d2
        m3 = self._product(3, torch.add(even, odd, alpha=POINT))
        m4 = self._product(4, torch.sub(even, odd, alpha=POINT))
        m5 = self._product(5, (d5 - d3).sub_(odd, alpha=square))
        m0 = self._product(0, even.sub_(d2, alpha=square).add_(d0, alpha=square))
        torch.sub(d4, d2, alpha=square, out=even)
        torch.sub(d3, d1, alpha=square, out=odd)
        m1, m2 = self._product(1, even + odd), self._product(2, even.sub_(odd))
        one, one_odd = m1 + m2, m1.sub_(m2)
        power, power_odd = m3 + m4, m3.sub_(m4)
        rows = [(m0.add_(one), power), (one_odd, power_odd), (one, power), (m5.add_(one_odd), power_odd)]
        for k, pair in enumerate(rows):
            first, second = (m.view(-1, *out.shape[1:]) for m in pair)
            if add:
                out[k::TILE].add_(first).add_(second, alpha=POINT**k)
            else:
                torch.add(first, second, alpha=POINT**k, out=out[k::TILE])

    def _product(self, point: int, rows: Tensor) -> Tensor:
        """Rows (t, w + 2, C) convolved along themselves with the filter at a point: (t, w, C')."""
        return self.products[point](rows.permute(2, 0, 1)[None])[0].permute(1, 2, 0).contiguous()


def _filter_sums() -> list[tuple[float, float, float]]:
    """The matrix G: a filter's values at the points, each divided by the product of its differences to the others."""
    points = (0.0, 1.0, -1.0, POINT, -POINT)
    scales = [math.prod(p - other for other in points if other != p) for p in points]
    return [(1 / s, p / s, p * p / s) for p, s in zip(points, scales, strict=True)] + [(0.0, 0.0, 1.0)]
