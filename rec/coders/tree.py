"""A binary tree of intervals of the line, each holding one candidate of the prior: what the tree coders walk.

Intervals are of the prior's own quantiles, so an interval's length is its mass. The root is (0, 1); a node holds a
candidate that is uniform in its interval, and is cut there (``split="sample"``) or in the middle (``"middle"``). The
number of a node is its place in a heap: the root is 1, the children of n are 2 n and 2 n + 1. Randomness is keyed by
that number, so the decoder walks the path to a node alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError
from rec.coders.base import IndexCoder
from rec.coders.codes import Code, OctaveCode, checked
from rec.coders.ratio import Ratio
from rec.quantiles import normal_quantile_at
from rec.randomness import Key, uniforms

Floats = NDArray[np.float64]
DEPTH = 52  # a node of the middle tree at this depth is as narrow as the numbers in it
AHEAD = 3  # generations below a node whose random numbers are made with its own


@dataclass(frozen=True)
class Node:
    """A node: its number, its interval of quantiles, its candidate as a quantile and the chance of its waiting time."""

    number: int
    low: float
    high: float
    at: float
    chance: float

    @property
    def mass(self) -> float:
        """Prior mass of the interval."""
        return self.high - self.low

    @cached_property
    def z(self) -> float:
        """The candidate in the units of the prior."""
        return float(normal_quantile_at(np.array([self.at]))[0])

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The interval in the units of the prior, for the encoder's bounds only."""
        return _quantile(self.low), _quantile(self.high)


class Tree:
    """The nodes of one key."""

    def __init__(self, key: Key, split: str) -> None:
        self._key, self._split = key, split
        self._known: dict[int, tuple[float, float]] = {}

    def root(self) -> Node:
        """The whole line."""
        return self._node(1, 0.0, 1.0)

    def children(self, node: Node) -> tuple[Node, Node]:
        """The two halves of a node; ``TesseraError`` below the deepest."""
        return self.child(node, 0), self.child(node, 1)

    def child(self, node: Node, side: int) -> Node:
        """The lower (0) or upper (1) half."""
        if node.number >= 1 << DEPTH:
            raise TesseraError(
                f"the tree coder found no sample within {DEPTH} generations: target and prior are too far apart for it."
            )
        cut = node.at if self._split == "sample" else (node.low + node.high) / 2
        low, high = (node.low, cut) if side == 0 else (cut, node.high)
        return self._node(2 * node.number + side, low, high)

    def walk(self, number: int) -> Node:
        """The node of a number."""
        node = self.root()
        for shift in range(number.bit_length() - 2, -1, -1):
            node = self.child(node, number >> shift & 1)
        return node

    def _node(self, number: int, low: float, high: float) -> Node:
        if number not in self._known:
            wanted = np.concatenate([(number << k) + np.arange(1 << k) for k in range(AHEAD + 1)])
            made = uniforms(self._key, wanted, 2)
            self._known.update(zip(wanted.tolist(), map(tuple, made.tolist()), strict=True))
        place, chance = self._known[number]
        return Node(number, low, high, low + place * (high - low), chance)


@dataclass(frozen=True)
class TreeCoder(IndexCoder):
    """A coder of one dimension whose message is the number of a node."""

    split: ClassVar[str] = "sample"

    def codes(self, budget: int) -> tuple[Code, ...]:
        """The depth with the KL as its mean, then a bit per turn."""
        return (OctaveCode(float(budget)),)

    def place(self, numbers: Sequence[int], key: Key, budget: int, dims: int) -> Floats:
        """The candidate of the node."""
        one_dimension(self.name, dims)
        return np.array([Tree(key, self.split).walk(checked(numbers[0], (1 << DEPTH + 1) - 1)).z])


def one_dimension(name: str, dims: int) -> None:
    """Refuse blocks of several dimensions."""
    if dims != 1:
        raise TesseraError(f"{name} codes one dimension at a time, not a block of {dims}: use beam_search or pfr.")


def least_energy(ratio: Ratio, node: Node) -> float:
    """The least energy in the node's interval: 0 where the centre is inside."""
    low, high = node.ends
    centre = float(ratio.centre[0])
    beyond = max(low - centre, centre - high, 0.0)
    return float(ratio.curvature[0]) * beyond * beyond


def energy(ratio: Ratio, node: Node) -> float:
    """The energy of the node's candidate."""
    return float(ratio.curvature[0]) * (node.z - float(ratio.centre[0])) ** 2


def _quantile(u: float) -> float:
    if u <= 0.0 or u >= 1.0:
        return -math.inf if u <= 0.0 else math.inf
    return float(normal_quantile_at(np.array([u]))[0])
