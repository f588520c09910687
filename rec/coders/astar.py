"""A* coding on the line: AS*, AD* and depth-limited AD* (Flamich, Markou, Hernandez-Lobato, ICML 2022).

The first arrival in a node comes a waiting time Exp(1) / mass after its parent's. The sample is the arrival of least
T / r(Z); whole subtrees are left out, as no arrival in one can be below T / sup r of its interval. Exact for any
bounded ratio whose supremum over an interval is known.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from core.codec import TesseraError
from rec.coders.base import Found
from rec.coders.codes import Code, FlatCode
from rec.coders.contract import CODERS
from rec.coders.ratio import Ratio
from rec.coders.tree import DEPTH, Node, Tree, TreeCoder, energy, least_energy, one_dimension
from rec.randomness import Key


def arrivals(ratio: Ratio, tree: Tree, depth: int, bound: bool) -> Iterator[tuple[float, Node, float]]:
    """(T, node, lower bound of ln T + energy in its subtree), best first: by that bound, or by T alone.

    Send a true value to leave the children of the node just given out of the search; nodes at ``depth`` have none.
    """
    root = tree.root()
    queue = [_entry(ratio, root, -math.log(root.chance), bound)]
    while queue:
        least, _, time, node = heapq.heappop(queue)
        if (yield time, node, least):
            continue
        if node.number < 1 << depth:
            for child in tree.children(node):
                if child.mass > 0:
                    heapq.heappush(queue, _entry(ratio, child, time - math.log(child.chance) / child.mass, bound))


def _entry(ratio: Ratio, node: Node, time: float, bound: bool) -> tuple[float, int, float, Node]:
    return (math.log(time) + (least_energy(ratio, node) if bound else 0.0), node.number, time, node)


@CODERS.register("as_star")
@dataclass(frozen=True)
class SplitOnSample(TreeCoder):
    """AS*: intervals are cut at their samples. Looks at O(D_inf) candidates."""

    name = "as_star"

    def depth(self, budget: int) -> int:
        """The generations below the root."""
        return DEPTH

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The arrival of least ln T + energy."""
        one_dimension(self.name, len(ratio.loc))
        number, least, steps = 1, math.inf, 0
        for time, node, bound in arrivals(ratio, Tree(key, self.split), self.depth(budget), True):
            if bound >= least:
                break
            steps += 1
            cost = math.log(time) + energy(ratio, node)
            if cost < least:
                number, least = node.number, cost
        return Found((number,), steps)


@CODERS.register("ad_star")
@dataclass(frozen=True)
class Dyadic(SplitOnSample):
    """AD*: intervals are cut into halves of equal prior mass. About as many candidates as AS*, without a proof."""

    name = "ad_star"
    split: ClassVar[str] = "middle"


@CODERS.register("dad_star")
@dataclass(frozen=True)
class DepthLimited(Dyadic):
    """DAD*: AD* over the first KL + extra_bits generations, each node at the same number of bits.

    Nearly a sample of the target; made for posteriors that all have the same KL (IsoKL VAEs).
    """

    name = "dad_star"
    extra_bits: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.extra_bits <= DEPTH:
            raise TesseraError(f"extra_bits={self.extra_bits} of {self.name} must be from 0 to {DEPTH}.")

    def depth(self, budget: int) -> int:
        """The generations below the root: numbers of depth d take d + 1 bits."""
        depth = max(0, math.ceil(budget + self.extra_bits) - 1)
        if depth > DEPTH:
            raise TesseraError(f"{self.name} has at most {DEPTH} generations, and {depth} are asked for.")
        return depth

    def codes(self, budget: int) -> tuple[Code, ...]:
        """Each node at the same number of bits."""
        return (FlatCode(self.depth(budget) + 1),)
