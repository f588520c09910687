"""GPRS on the tree of intervals (Flamich, NeurIPS 2023): the first arrival below the graph, by branches.

Arrivals are met in the order of their times, and a branch is left when all of its interval is above the graph from
then on. Where the ratio has one peak, what is below the graph at a time is one interval, so that of the two parts of
an interval cut at a rejected sample only one is followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from core.codec import TesseraError
from rec.coders.astar import arrivals
from rec.coders.base import Found
from rec.coders.contract import CODERS
from rec.coders.levels import levels_of
from rec.coders.ratio import Ratio
from rec.coders.tree import DEPTH, Tree, TreeCoder, energy, least_energy, one_dimension
from rec.randomness import Key


@CODERS.register("gprs_sample")
@dataclass(frozen=True)
class GprsOnSample(TreeCoder):
    """Intervals are cut at their samples: O(KL) candidates."""

    name = "gprs_sample"

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The first arrival whose time is not later than that of its level."""
        one_dimension(self.name, len(ratio.loc))
        levels, steps = levels_of(ratio), 0
        nodes = arrivals(ratio, Tree(key, self.split), DEPTH, False)
        leave = None
        while True:
            try:
                time, node, _ = nodes.send(leave)  # type: ignore[attr-defined]
            except StopIteration:
                raise TesseraError(f"{self.name} found no sample: target and prior are too far apart for it.") from None
            steps += 1
            here, best = levels.log_time(np.array([energy(ratio, node), least_energy(ratio, node)]))
            if math.log(time) <= here:
                return Found((node.number,), steps)
            leave = math.log(time) > best


@CODERS.register("gprs_dyadic")
@dataclass(frozen=True)
class GprsDyadic(GprsOnSample):
    """Intervals are cut into halves of equal prior mass."""

    name = "gprs_dyadic"
    split: ClassVar[str] = "middle"
