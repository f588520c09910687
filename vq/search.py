"""Nearest-code search: exhaustive, exact, and in a few megabytes however many vectors and codes there are.

A chunk of rows at a time: the scores of all codes by one matrix product, the smallest score of each block of codes,
then the smallest in the best block, which is faster than a plain ``argmin``. Scores in float32 are rounded, so a row
whose two best scores are closer than rounding can explain is searched again in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from core import onednn

SCORES = 2**20  # scores of one chunk: 4 MB of floats, which stay in the cache
BLOCK = 64  # codes whose smallest score is found first


@torch.no_grad()
def nearest(rows: Tensor, codebook: Tensor, bias: Tensor | None = None) -> Tensor:
    """For each row (N, d) the code, int64 (N,), that minimises ``|row - codebook[k]|**2 + bias[k]``; ties: the lowest.

    The codes are those that exact arithmetic on the given numbers finds, up to the rounding of float64.
    """
    search = _Search(codebook, 0.0 if bias is None else bias)
    step = max(1, SCORES // search.width)
    product = search.product(min(step, len(rows)))
    found = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    doubtful = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    for start in range(0, len(rows), step):
        part = rows[start : start + step].contiguous()
        found[start : start + step], gap = _two_best(product(part), search.block)
        torch.le(gap, search.slack(part), out=doubtful[start : start + step])
    for few in doubtful.nonzero()[:, 0].split(step):
        found[few] = search.settle(rows[few])
    return found


class _Search:
    """What one codebook (K, d) needs: a row's score of a code is its distance without the row's own square."""

    def __init__(self, codebook: Tensor, bias: Tensor | float) -> None:
        size = len(codebook)
        self.codebook, self.block = codebook, BLOCK if size > 2 * BLOCK else size
        self.exact = codebook.double()
        self.offsets = self.exact.square().sum(1) + bias  # (K,)
        self.largest, self.longest = self.offsets.abs().max(), codebook.norm(dim=1).max()
        self.padding = -size % self.block
        self.width = size + self.padding

    def product(self, rows: int) -> Callable[[Tensor], Tensor]:
        """A function from at most ``rows`` rows (n, d) to their scores (n, width), by oneDNN where torch has it."""
        offsets = F.pad(self.offsets, (0, self.padding), value=torch.inf).to(self.codebook.dtype)
        weight = F.pad(self.codebook, (0, 0, 0, self.padding)).mul(-2)  # (width, d)
        if packs(weight):
            return onednn.Linear(weight, offsets, rows)
        matrix, scores = weight.t().contiguous(), weight.new_empty(rows, self.width)
        return lambda part: torch.addmm(offsets, part, matrix, out=scores[: len(part)])

    def slack(self, rows: Tensor) -> Tensor:
        """How far rounding can move the difference of two scores of each row (n, d)."""
        if rows.dtype == torch.float64:
            return rows.new_full((), -1.0)  # nothing more exact is at hand
        terms: Tensor = self.largest.to(rows.dtype) + 2 * rows.norm(dim=1) * self.longest
        return (rows.shape[1] + 4) * torch.finfo(rows.dtype).eps * terms

    def settle(self, rows: Tensor) -> Tensor:
        """The best codes of a few rows, in float64."""
        best: Tensor = torch.addmm(self.offsets, rows.double(), self.exact.t(), alpha=-2).argmin(1)
        return best


def packs(weight: Tensor) -> bool:
    """Whether oneDNN can multiply by this matrix here: its packed product is twice as fast as torch's default one."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and onednn.available()


def _two_best(scores: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """The place of the smallest of each row of scores (n, K), int64 (n,), and how much larger the second one is."""
    n, size = scores.shape
    lows = scores.view(n, -1, block).amin(2)
    low, best = lows.min(1)
    first = torch.arange(0, n * (size // block), size // block, device=scores.device)
    picked = scores.view(-1, block).index_select(0, first + best)
    inside = picked.argmin(1)
    others = picked.scatter_(1, inside[:, None], torch.inf).amin(1)
    second = torch.minimum(others, lows.scatter_(1, best[:, None], torch.inf).amin(1))
    return inside.add_(best, alpha=block), second - low
