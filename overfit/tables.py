"""Frequencies of Laplace distributions, as integers made of integers: the same on every machine.

Scale ``i`` is exp((i - 29) / 8); a location lies ``f`` sixteenths above a whole number, and symbols count from that. A
table has the symbols of ten scales to either side, and one entry for all others, whose excess follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SCALES, FRACTIONS = 64, 16
FIRST = 29  # log scale 0, in eighths
TOTAL = 1 << 16
LIMIT = 8191  # of symbols, in magnitude
_ONE = 1 << 60

Ints = NDArray[np.int64]
Uints = NDArray[np.uint32]
Intervals = tuple[Uints, Uints, NDArray[np.uint8]]  # (n,): start, frequency, bits of the total


@dataclass(frozen=True, eq=False)
class Laplace:
    """Table 16 i + f begins at ``start`` in ``cumulative``, for symbols from ``low[i]``, ``count[i]`` of them."""

    cumulative: Uints
    start: NDArray[np.int32]  # (SCALES * FRACTIONS,)
    low: NDArray[np.int32]  # (SCALES,)
    count: NDArray[np.int32]

    def intervals(self, tables: Ints, symbols: Ints) -> Intervals:
        """(start, frequency, bits) of what the coder writes for symbols (n,) above their locations' whole parts."""
        scale = tables // FRACTIONS
        entry, count = symbols - self.low[scale], self.count[scale].astype(np.int64)
        outside = (entry < 0) | (entry >= count)
        at = self.start[tables] + np.where(outside, count, entry)
        starts, ends = self.cumulative[at], self.cumulative[at + 1]
        if not outside.any():
            return starts, ends - starts, np.full(len(at), 16, dtype=np.uint8)
        places = np.flatnonzero(outside)
        away, wide = entry[places], count[places]
        excess = np.where(away < 0, -2 * away - 1, 2 * (away - wide)) + 1
        length = np.frexp(excess.astype(np.float64))[1] - 1
        after = np.repeat(places + 1, 2)
        more = np.stack((length, excess - (1 << length)), -1).ravel()
        bits = np.insert(np.full(len(at), 16), after, np.stack((np.full(len(places), 4), length), -1).ravel())
        sizes = np.insert((ends - starts).astype(np.int64), after, 1)
        starts = np.insert(starts.astype(np.int64), after, more)
        kept = bits > 0
        return starts[kept].astype(np.uint32), sizes[kept].astype(np.uint32), bits[kept].astype(np.uint8)

    def cost(self, tables: Ints, symbols: Ints) -> float:
        """Bits of symbols (n,), escapes included."""
        _, sizes, bits = self.intervals(tables, symbols)
        return float(bits.sum() - np.log2(sizes).sum())


@lru_cache
def laplace() -> Laplace:
    """The tables, made on first use."""
    rows, start, low, count, at = [], [], [], [], 0
    exact = Context(prec=40)
    for i in range(SCALES):
        scale = exact.exp(Decimal(i - FIRST) / 8)
        reach = int(exact.multiply(scale, Decimal(10))) + 2
        step = exact.divide(Decimal(-1), exact.multiply(scale, Decimal(FRACTIONS)))
        ratio = int(exact.multiply(exact.exp(step), Decimal(_ONE)))
        tail = [_ONE]
        for _ in range(FRACTIONS * (reach + 3)):
            tail.append(tail[-1] * ratio >> 60)
        half = np.array(tail, dtype=np.int64) >> 31  # half the mass beyond n sixteenths, of 2**30
        low.append(-reach)
        count.append(2 * reach + 2)
        for f in range(FRACTIONS):
            edges = FRACTIONS * np.arange(-reach, reach + 3) - FRACTIONS // 2 - f  # of symbols, from the location
            below = np.where(edges < 0, half[np.abs(edges)], (1 << 30) - half[np.abs(edges)])
            mass = np.diff(below)
            spare = TOTAL - len(mass) - 1
            sizes = 1 + (mass * spare >> 30)
            sizes[mass.argmax()] += (
                spare - int((mass * spare >> 30).sum()) - int(((1 << 30) - mass.sum()) * spare >> 30)
            )
            rows.append(np.concatenate(([0], np.cumsum(sizes), [TOTAL])))
            start.append(at)
            at += len(rows[-1])
    joined = np.concatenate(rows).astype(np.uint32)
    return Laplace(joined, *(np.array(v, dtype=np.int32) for v in (start, low, count)))
