"""Exact coders that follow the arrivals of a Poisson process: the Poisson functional representation and global GPRS.

Candidates Z_1, Z_2, ... of the prior arrive at the times T_1 < T_2 < ... of a process of rate 1; the message is the
number of one of them. The times are the encoder's own, as only the candidate is needed to decode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError
from rec.coders.base import MOST_NUMBERS, Found, IndexCoder, candidates, private, too_many
from rec.coders.codes import Code, OctaveCode, checked
from rec.coders.contract import CODERS
from rec.coders.levels import levels_of
from rec.coders.ratio import Ratio
from rec.randomness import Key, exponentials

Floats = NDArray[np.float64]
FIRST, LARGEST = 32, 2**16  # numbers made at once: at first, and at most
MOST = 2**26  # of ``limit``


@dataclass(frozen=True)
class SequentialCoder(IndexCoder):
    """Looks at candidates in order until it may stop; after ``limit`` of them (2**28 / D at most) it is an error."""

    limit: int = 2**22

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.limit <= MOST:
            raise TesseraError(f"limit={self.limit} of {self.name} must be from 1 to 2**26.")

    def codes(self, budget: int) -> tuple[Code, ...]:
        """Octaves with the KL as their mean."""
        return (OctaveCode(float(budget)),)

    def place(self, numbers: Sequence[int], key: Key, budget: int, dims: int) -> Floats:
        sample: Floats = candidates(key, checked(numbers[0], self.limit) - 1, 1, dims)[0]
        return sample

    def most(self, dims: int) -> int:
        """Candidates of a block of so many dimensions."""
        return min(self.limit, max(1, MOST_NUMBERS // max(dims, 1)))

    def parts(self, ratio: Ratio, key: Key) -> Iterator[tuple[int, Floats, Floats]]:
        """The energies of candidates and an exponential number for each, part by part, up to the limit."""
        first, dims, size, last = 0, len(ratio.loc), FIRST, self.most(len(ratio.loc))
        while first < last:
            count = min(max(1, size // dims), last - first)
            yield (
                first,
                ratio.energy(candidates(key, first, count, dims)),
                exponentials(private(key), 0, count, first),
            )
            first, size = first + count, min(2 * size, LARGEST)

    def refuse(self, ratio: Ratio) -> None:
        """Refuse before the search what it could hardly ever end: an expected number of candidates beyond the limit."""
        if ratio.top > math.log(self.most(len(ratio.loc))):
            raise self.failed(ratio)

    def failed(self, ratio: Ratio) -> TesseraError:
        """The error of a search that may not go on."""
        return too_many(self.name, self.most(len(ratio.loc)), ratio)


@CODERS.register("pfr")
@dataclass(frozen=True)
class PoissonFunctional(SequentialCoder):
    """The candidate of least T_i / r(Z_i) (Li and El Gamal, 2018); also known as global-bound A* coding.

    The search ends when T_i / sup r exceeds the least so far (Maddison, 2016). ``truncated`` ends it after 2^(KL +
    extra_bits) candidates with the best of them, which is nearly a sample of the target, in bounded time.
    """

    name = "pfr"
    truncated: bool = False
    extra_bits: float = 2.0

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The least of ln T + energy, which is ln(T / r) + top."""
        last = self.most(len(ratio.loc))
        if not self.truncated:
            self.refuse(ratio)
        elif budget + self.extra_bits > math.log2(last):
            raise self.failed(ratio)
        else:
            last = math.ceil(2.0 ** (budget + self.extra_bits))
        found, least, now = 0, math.inf, 0.0
        for first, energies, gaps in self.parts(ratio, key):
            log_times = np.log(now + np.cumsum(gaps))
            costs = (log_times + energies)[: max(0, last - first)]
            if len(costs) and costs.min() < least:
                best = int(costs.argmin())
                found, least = first + best, float(costs[best])
            now = math.exp(log_times[-1])
            if log_times[-1] >= least or first + len(energies) >= last:
                ended = int(np.searchsorted(log_times, least)) + 1
                if log_times[-1] < least and not self.truncated:
                    break
                return Found((found + 1,), min(first + ended, last))
        raise self.failed(ratio)


@CODERS.register("gprs")
@dataclass(frozen=True)
class GreedyPoisson(SequentialCoder):
    """Greedy Poisson rejection sampling (Flamich, NeurIPS 2023): the first arrival below a rising graph.

    A candidate is accepted when r(Z_i) >= h(T_i), with h' = w_Q(h) - h w_P(h) and h(0) = 0. It looks at 2^D_inf
    candidates on average.
    """

    name = "gprs"

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The first candidate whose time is not later than that of its level."""
        self.refuse(ratio)
        levels, now = levels_of(ratio), 0.0
        for first, energies, gaps in self.parts(ratio, key):
            times = now + np.cumsum(gaps)
            accepted = np.flatnonzero(np.log(times) <= levels.log_time(energies))
            if accepted.size:
                number = first + int(accepted[0]) + 1
                return Found((number,), number)
            now = float(times[-1])
        raise self.failed(ratio)
