"""Greedy rejection coding on one path of the tree of intervals (Flamich, Markou, Hernandez-Lobato, NeurIPS 2023).

At a node with interval B, L is the level up to which the target has been given there and M = E_P[(r - L)+; B] the mass
that is left. Its candidate is accepted with probability (r - L) P(B) / M clipped to [0, 1], which raises the level to
L + M / P(B); otherwise one of the two parts is entered with probability proportional to what is left in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from rec.coders.base import Found, private
from rec.coders.contract import CODERS
from rec.coders.ratio import Ratio
from rec.coders.tree import Node, Tree, TreeCoder, energy, one_dimension
from rec.randomness import Key, uniforms

NOTHING = 1e-9  # share of the target's mass in a node below which rounding errors rule and the node is accepted


@CODERS.register("grcs")
@dataclass(frozen=True)
class GrcOnSample(TreeCoder):
    """GRCS: intervals are cut at their samples; at most 4.82 KL + O(1) candidates on average."""

    name = "grcs"

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The first candidate on the path that is accepted."""
        one_dimension(self.name, len(ratio.loc))
        tree, level, steps = Tree(key, self.split), 0.0, 0
        node, left = tree.root(), 1.0
        draws: list[list[float]] = []
        while True:
            if steps == len(draws):
                draws += uniforms(private(key), 0, 32, 2 * steps).reshape(16, 2).tolist()
            accept, turn = draws[steps]
            steps += 1
            above = math.exp(ratio.top - energy(ratio, node)) - level
            if left <= NOTHING * _target_mass(ratio, node.ends) or accept * left <= above * node.mass:
                return Found((node.number,), steps)
            level += left / node.mass
            parts = tree.children(node)
            shares = [_left(ratio, part, level) for part in parts]
            side = int(turn * sum(shares) > shares[0])
            node, left = parts[side], shares[side]


@CODERS.register("grcd")
@dataclass(frozen=True)
class GrcDyadic(GrcOnSample):
    """GRCD: intervals are cut into halves of equal prior mass; KL + O(1) candidates, by conjecture."""

    name = "grcd"
    split: ClassVar[str] = "middle"


def _left(ratio: Ratio, node: Node, level: float) -> float:
    """E_P[(r - level)+; B], the interval of the superlevel set cut with the node's; never below 0."""
    spare = ratio.top - math.log(level)
    if spare <= 0:
        return 0.0
    half, centre = math.sqrt(spare / float(ratio.curvature[0])), float(ratio.centre[0])
    low, high = max(node.ends[0], centre - half), min(node.ends[1], centre + half)
    if low >= high:
        return 0.0
    return max(0.0, _target_mass(ratio, (low, high)) - level * _mass(low, high))


def _target_mass(ratio: Ratio, ends: tuple[float, float]) -> float:
    loc, scale = float(ratio.loc[0]), float(ratio.scale[0])
    return _mass((ends[0] - loc) / scale, (ends[1] - loc) / scale)


def _mass(low: float, high: float) -> float:
    """Standard normal mass of an interval, from the nearer tail."""
    if low + high > 0:
        low, high = -high, -low
    return (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2))) / 2
