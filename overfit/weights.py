"""Weights in the stream: their differences from ``start.txt``, in whole numbers of a step that each group has.

The step of a group is a power of two, the one with the least bits, rate and error in sum (COOL-CHIC, 2307.12706).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from core.bitstream import BitstreamError
from overfit import layout
from overfit.coder import Decoder
from overfit.exact import table_rows
from overfit.layout import Floats
from overfit.tables import FRACTIONS, LIMIT, SCALES, Intervals, Ints, Laplace, laplace

FINEST = 10  # steps are 1 to 2**-10
LARGEST = 64  # of weights, in magnitude: what keeps sums exact
TRIED = (9, 8, 7, 6, 5, 4, 3)
UNIT = 256  # parts of one in start.txt
START = Path(__file__).with_name("start.txt")


@lru_cache
def start() -> Floats:
    """The weights that fitting starts from, (WEIGHTS,), multiples of 1 / 256."""
    return np.loadtxt(START, dtype=np.int64) / UNIT


@dataclass(frozen=True)
class Coded:
    """Whole numbers (n,) of a group, the exponent of its step, and the scale of their distribution."""

    numbers: Ints
    exponent: int
    scale: int

    @property
    def values(self) -> Floats:
        """Differences from the start."""
        return self.numbers / (1 << self.exponent)

    @property
    def bits(self) -> float:
        """What they cost, with exponent and scale."""
        return 10 + laplace().cost(_tables(self.scale, len(self.numbers)), self.numbers)


def coded(differences: Floats, exponent: int) -> Coded:
    """The cheapest way to code differences (n,) with a step of 2**-exponent."""
    numbers = np.rint(differences * (1 << exponent)).clip(-LIMIT, LIMIT).astype(np.int64)
    wanted = np.log(max(np.abs(numbers).mean(), 1e-3)) * 8 + 29
    near = range(max(0, int(wanted) - 4), min(SCALES, max(0, int(wanted) - 4) + 9))
    return min((Coded(numbers, exponent, scale) for scale in near), key=lambda c: c.bits)


def chosen(weights: Floats, cost: Callable[[Floats, int], float], price: float) -> list[Coded]:
    """Each group, one after another, in the step that minimises ``cost(weights, group)`` + price x bits."""
    now, found = weights.clip(-LARGEST, LARGEST).copy(), []
    for group in range(layout.GROUPS):
        mine, best = group == layout.GROUP_OF, None
        for exponent in TRIED:
            candidate = coded(now[mine] - start()[mine], exponent)
            trial = now.copy()
            trial[mine] = start()[mine] + candidate.values
            total = cost(trial, group) + price * candidate.bits
            if best is None or total < best[0]:
                best = total, candidate, trial
        assert best is not None
        found.append(best[1])
        now = best[2]
    return found


def vector(groups: list[Coded]) -> Floats:
    """The weights (WEIGHTS,) of coded groups; ``BitstreamError`` for larger ones than any encoder writes."""
    weights = start().copy()
    for group, part in enumerate(groups):
        weights[group == layout.GROUP_OF] += part.values
    if np.abs(weights).max() > LARGEST:
        raise BitstreamError(f"the stream is damaged: it holds a weight of more than {LARGEST} in magnitude")
    return weights


def intervals(groups: list[Coded]) -> list[Intervals]:
    """What the coder writes for the groups."""
    out: list[Intervals] = []
    for part in groups:
        head = np.array([part.exponent, part.scale], dtype=np.uint32)
        out.append((head, np.ones(2, dtype=np.uint32), np.array([4, 6], dtype=np.uint8)))
        out.append(laplace().intervals(_tables(part.scale, len(part.numbers)), part.numbers))
    return out


def decode(decoder: Decoder) -> list[Coded]:
    """The groups at the beginning of a payload."""
    tables: Laplace = laplace()
    groups, rows = [], table_rows()
    for group in range(layout.GROUPS):
        exponent, scale = decoder.uniform(4), decoder.uniform(6)
        if exponent > FINEST:
            raise BitstreamError(f"the stream is damaged: it holds a step finer than 2**-{FINEST}")
        wanted = [scale * FRACTIONS] * np.count_nonzero(np.equal(layout.GROUP_OF, group))
        groups.append(Coded(np.array(decoder.symbols(wanted, tables, rows), dtype=np.int64), exponent, scale))
    return groups


def _tables(scale: int, count: int) -> Ints:
    return np.full(count, scale * FRACTIONS)
