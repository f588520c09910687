"""Leech's lattice in 24 dimensions: the binary Golay code and exact decoding over its cosets.

In coordinates scaled by sqrt(8) a point is x = m + 2 c + 4 z with m in {0, 1} (the same for all 24), c a codeword of
the extended Golay code and z whole numbers whose sum has the parity of m (SPLAG, chapter 4, section 11). For every m
and c the best z is found coordinate by coordinate; where its parity is wrong, the coordinate that costs least takes
its second-best value. All 2 x 4,096 cosets are tried.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from core.golay import LENGTH, golay_code, golay_generators

ROWS = 256  # vectors decoded at once: 4 MB of costs


def _generators() -> list[list[int]]:
    """Whole-number rows that generate the scaled lattice: 2 c, 4 (e_i - e_j), and (-3, 1, ..., 1)."""
    pairs = 4 * (np.eye(LENGTH, dtype=int) - np.roll(np.eye(LENGTH, dtype=int), 1, axis=1))
    eight = np.eye(LENGTH, dtype=int)[:1] * 8
    odd = np.ones((1, LENGTH), dtype=int)
    odd[0, 0] = -3
    rows: list[list[int]] = np.concatenate([2 * golay_generators(), pairs, eight, odd]).tolist()
    return rows


LEECH_GENERATORS = _generators()


@cache
def _words(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The codewords as columns, (24, 4096)."""
    return torch.from_numpy(np.ascontiguousarray(golay_code().T)).to(device, dtype)


@cache
def _parities(device: torch.device) -> Tensor:
    """Row s, column a: whether the 12-bit numbers s and a share an odd number of ones; bool (4096, 4096)."""
    signs = torch.ones(1, 1, dtype=torch.bool)
    for _ in range(12):
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, ~signs], 1)])
    return (~signs).to(device)


@cache
def _generators_by_bit(device: torch.device, dtype: torch.dtype) -> Tensor:
    """(24, 12): the generators, transposed."""
    return torch.from_numpy(golay_generators().T.copy()).to(device, dtype)


def snap_leech(y: Tensor) -> Tensor:
    """Vectors (N, 24), scaled by sqrt(8), -> the nearest points, whole numbers in floats."""
    return torch.cat([_decode(part) for part in y.split(ROWS)]) if len(y) else y.clone()


class _Coset:
    """Vectors y (N, 24) against all codewords under one m: costs, parities, and the best codeword of right parity."""

    def __init__(self, y: Tensor, m: int) -> None:
        self.m, self.words = m, _words(y.device, y.dtype)  # (24, 4096)
        self.near = torch.stack([torch.round((y - m - 2 * bit) / 4) for bit in (0, 1)])  # z of either bit, (2, N, 24)
        self.error = y - m - 4 * self.near
        self.error[1] -= 2
        cost = self.error.square()
        self.total = torch.addmm(cost[0].sum(1, keepdim=True), cost[1] - cost[0], self.words)  # (N, 4096)
        self.odd = _odd(self.near, m)
        self.cost, self.word = self.total.masked_fill(self.odd, torch.inf).min(1)

    def repair(self, bound: Tensor) -> None:
        """Consider codewords of wrong parity, one z changed, where they could cost less than ``bound`` (N,)."""
        extra = 16 - 8 * self.error.abs()  # what the second-best z costs more, (2, N, 24)
        lowest = self.total + extra.amin((0, 2))[:, None]
        row, candidate = torch.nonzero(self.odd & (lowest < bound[:, None]), as_tuple=True)
        bits = self.words.T[candidate] > 0
        paid = self.total[row, candidate] + torch.where(bits, extra[1, row], extra[0, row]).amin(1)
        self.cost = self.cost.scatter_reduce(0, row, paid, "amin")
        wins = paid == self.cost[row]
        self.word = self.word.scatter(0, row[wins], candidate[wins])

    def points(self) -> Tensor:
        """The points of the chosen codewords, (N, 24)."""
        chosen = self.words.T[self.word]
        z = torch.where(chosen > 0, self.near[1], self.near[0])
        e = torch.where(chosen > 0, self.error[1], self.error[0])
        place = e.abs().argmax(1, keepdim=True)
        wrong = self.odd.gather(1, self.word[:, None])
        step = torch.where(e.gather(1, place) < 0, -1.0, 1.0).to(z.dtype) * wrong
        return self.m + 2 * chosen + 4 * z.scatter_add(1, place, step)


def _decode(y: Tensor) -> Tensor:
    whole, shifted = _Coset(y, 0), _Coset(y, 1)
    bound = torch.minimum(whole.cost, shifted.cost)
    for coset in (whole, shifted):
        coset.repair(bound)
    return torch.where((shifted.cost < whole.cost)[:, None], shifted.points(), whole.points())


def _odd(near: Tensor, m: int) -> Tensor:
    """Whether the sum of z under each codeword has the wrong parity, (N, 4096).

    Taking bit one in place of zero changes the parity of some coordinates; over a codeword that adds up to the inner
    product of its message with a 12-bit syndrome of those changes.
    """
    generators = _generators_by_bit(near.device, near.dtype)
    changes = (near[1] - near[0]).remainder(2)
    places = 2.0 ** torch.arange(12, device=near.device, dtype=near.dtype)
    syndrome = ((changes @ generators).remainder(2) @ places).long()
    start = (near[0].sum(1, keepdim=True) + m).remainder(2) != 0
    return _parities(near.device)[syndrome] ^ start
