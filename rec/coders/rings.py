"""Rejection sampling that names its candidate by ring and rank, after the ring toss code (arXiv 2604.23076).

A ring is a Poisson process of candidates of the prior with heights h = h_1 < h_2 < ... of rate ln 2, and a candidate
is hit when its height is below its density ratio, which happens Poisson(ln 2) times in a ring: half the rings are
missed. Of the first ring that is hit one hit is chosen at random, so that the sample follows the target exactly. The
message is the number of rings (a bit for each) and the rank of the candidate by height; decoding needs no height.

The rank of a hit at height h is about 1 + h ln 2, and h is uniform below the density ratio, so that E log2 h is KL -
log2 e. With the two bits for the rings, that leaves less than the paper's KL + log2(KL + 1) + 2.45 bits from a KL of
one bit on, as tests measure. The text of the paper was not at hand: the construction is ours, the bound is the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rec.coders.base import Found, candidates, private, too_many
from rec.coders.codes import Code, OctaveCode, UnaryCode, checked
from rec.coders.contract import CODERS, Floats
from rec.coders.poisson import SequentialCoder
from rec.coders.ratio import LN2, Ratio
from rec.randomness import Key, uniforms

RINGS = 256  # misses of all of them have a probability of 2**-256


@CODERS.register("ring_toss")
@dataclass(frozen=True)
class RingToss(SequentialCoder):
    """Exact; looks at 2 ln 2 times 2^D_inf candidates on average, for KL + log2(KL + 1) + 2.45 bits at most."""

    name = "ring_toss"

    def codes(self, budget: int) -> tuple[Code, ...]:
        """A bit for each ring; octaves of the rank, with a mean 1.5 below the KL, since heights are below the ratio."""
        return UnaryCode(RINGS), OctaveCode(max(budget - 1.5, 0.5))

    def place(self, numbers: Sequence[int], key: Key, budget: int, dims: int) -> Floats:
        ring = _ring(key, checked(numbers[0], RINGS))
        sample: Floats = candidates(ring, checked(numbers[1], self.limit) - 1, 1, dims)[0]
        return sample

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The first ring with a hit, and one of its hits."""
        self.refuse(ratio)
        steps = 0
        for number in range(1, RINGS + 1):
            ring = _ring(key, number)
            hits, seen = self._hits(ratio, ring)
            steps += seen
            if hits:
                chosen = hits[int(uniforms(private(ring), 1, 1)[0] * len(hits))]
                return Found((number, chosen + 1), steps)
        raise self.failed(ratio)

    def _hits(self, ratio: Ratio, ring: Key) -> tuple[list[int], int]:
        """The places (from 0) of the hits in a ring, and how many candidates are below the largest ratio."""
        hits: list[int] = []
        height, top = 0.0, math.exp(ratio.top)
        for first, energies, gaps in self.parts(ratio, ring):
            heights = height + np.cumsum(gaps) / LN2
            hits += (first + np.flatnonzero(np.log(heights) <= ratio.top - energies)).tolist()
            if heights[-1] > top:
                return hits, first + int(np.searchsorted(heights, top))
            height = float(heights[-1])
        raise too_many(self.name, self.most(len(ratio.loc)), ratio)


def _ring(key: Key, number: int) -> Key:
    """The key of a ring's candidates; the one after it is the encoder's own."""
    return Key(key.seed, key.layer, key.block, key.step + 2 * (number - 1))
