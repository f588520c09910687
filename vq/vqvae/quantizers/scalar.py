"""Quantisers without a stored codebook: finite scalar levels (FSQ) and signs (LFQ), and the map to few dimensions.

The implicit codebook is never made: codes are computed digit by digit. Dimensions are grouped into books of at most
``BOOK`` codes, which is what gets counted and entropy coded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vq.vqvae.quantizer import Quantizer, QuantizerError, straight_through

BOOK = 4096  # codes; a larger product of levels is split into several books


class Digits(Quantizer):
    """Base of FSQ and LFQ: dimension i has ``levels[i]`` values, numbered from 0; the first digit counts least."""

    def __init__(self, levels: Sequence[int]) -> None:
        if not levels or min(levels) < 2:
            raise QuantizerError(f"levels {tuple(levels)} must each be at least 2, for one or more dimensions.")
        self.groups = _groups(levels)
        super().__init__(len(levels), tuple(math.prod(levels[i] for i in group) for group in self.groups))
        self.levels = tuple(levels)

    def pack(self, digits: Tensor) -> Tensor:
        """Digits (..., dim) -> codes (..., books)."""
        return torch.stack([self._joined(digits, group) for group in self.groups], dim=-1)

    def unpack(self, codes: Tensor) -> Tensor:
        """Codes (..., books) -> digits (..., dim)."""
        codes, digits = self.check_codes(codes), []
        for book, group in enumerate(self.groups):
            rest = codes[..., book]
            for i in group:
                digits.append(rest % self.levels[i])
                rest = rest // self.levels[i]
        return torch.stack(digits, dim=-1)

    def index(self, codes: Tensor) -> Tensor:
        """The one number, int64 (...), of codes (..., books) in the whole implicit codebook of fewer than 2**63."""
        if math.prod(self.levels) >= 2**63:
            raise QuantizerError(f"the codes of {len(self.levels)} dimensions have no 64-bit index: use them per book.")
        return self._joined(self.unpack(codes), range(self.dim))

    def _joined(self, digits: Tensor, group: Sequence[int]) -> Tensor:
        bases = itertools.accumulate((self.levels[i] for i in group), int.__mul__, initial=1)
        total = torch.zeros_like(digits[..., 0])
        for i, base in zip(group, bases, strict=False):
            total += digits[..., i] * base
        return total


class FSQ(Digits):
    """Finite scalar quantisation (Mentzer et al., arXiv 2309.15505): bounded, rounded to levels, no auxiliary loss.

    ``slope`` 0.8 is iFSQ (arXiv 2601.17124), whose bound 2 sigmoid(1.6 z) - 1 = tanh(0.8 z) spreads normal latents
    evenly over [-1, 1].
    """

    def __init__(self, levels: Sequence[int], *, slope: float = 1.0) -> None:
        super().__init__(levels)
        if not 0 < slope < math.inf:
            raise QuantizerError(f"slope={slope} of the bound must be above 0.")
        self.slope = slope

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (N, dim) -> values in [-1, 1]."""
        levels = torch.tensor(self.levels, dtype=rows.dtype, device=rows.device)
        half, even = (levels - 1) * 1.001 / 2, (levels % 2 == 0) * 0.5  # a little room, so that tanh reaches the ends
        bounded = torch.tanh(self.slope * rows + torch.atanh(even / half)) * half - even
        whole = straight_through(bounded, bounded.round())
        width = torch.div(levels, 2, rounding_mode="floor")
        return whole / width, self.pack((whole.detach().round() + width).long()), rows.new_zeros(())

    def lookup(self, codes: Tensor) -> Tensor:
        width = torch.tensor(self.levels, device=codes.device) // 2
        return (self.unpack(codes) - width) / width


class LFQ(Digits):
    """Lookup-free quantisation (Yu et al., arXiv 2310.05737): the sign of each of ``bits`` dimensions.

    The entropy loss wants each vector's bits decided and each bit balanced over the batch. It is taken per bit: the
    first term then is exact, the second an upper bound of the published one, which runs over the whole codebook.
    """

    def __init__(self, bits: int, *, commitment: float = 0.25, entropy: float = 0.1, temperature: float = 1.0) -> None:
        if bits < 1:
            raise QuantizerError(f"lookup-free quantisation needs at least 1 bit, not {bits}.")
        super().__init__((2,) * bits)
        self.commitment, self.entropy, self.temperature = commitment, entropy, temperature

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (N, bits) -> values -1 and 1."""
        positive = rows > 0
        signs = positive.to(rows.dtype) * 2 - 1
        loss = self.commitment * F.mse_loss(rows, signs)
        if self.training:
            logits = 4 * rows / self.temperature  # of a softmax over -|z - c|**2 / temperature, one bit of it
            loss = loss + self.entropy * entropy_loss(logits)
        return straight_through(rows, signs), self.pack(positive.long()), loss

    def lookup(self, codes: Tensor) -> Tensor:
        return self.unpack(codes).float() * 2 - 1


class Projected(Quantizer):
    """Any quantiser seen through two linear maps: from ``dim`` to its own dimensions and back."""

    def __init__(self, dim: int, inner: Quantizer) -> None:
        super().__init__(dim, inner.codebook_sizes)
        self.down, self.inner, self.up = nn.Linear(dim, inner.dim), inner, nn.Linear(inner.dim, dim)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Those of the inner quantiser."""
        return self.inner.codebook_sizes

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vectors, codes, loss = self.inner.quantize(self.down(rows))
        return self.up(vectors), codes, loss

    def lookup(self, codes: Tensor) -> Tensor:
        vectors: Tensor = self.up(self.inner.lookup(codes)).detach()
        return vectors


def entropy_loss(logits: Tensor) -> Tensor:
    """Entropy in nats of a bit of one row, minus that of the mean over rows: logits (N, bits), the mean over bits."""
    ones = torch.sigmoid(logits)
    decided = F.binary_cross_entropy_with_logits(logits, ones)  # their own entropy, the mean over all bits
    return decided - _bit_entropy(ones.mean(0)).mean()


def _bit_entropy(p: Tensor) -> Tensor:
    """Entropy in nats of bits that are one with probability p; its gradient is finite at 0 and 1 too."""
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def _groups(levels: Sequence[int]) -> list[list[int]]:
    """Runs of dimensions whose levels multiply to at most ``BOOK`` (a single dimension may exceed it)."""
    groups: list[list[int]] = [[]]
    for i, level in enumerate(levels):
        if groups[-1] and math.prod(levels[j] for j in groups[-1]) * level > BOOK:
            groups.append([])
        groups[-1].append(i)
    return groups
