"""Closest points of an arbitrary lattice in low dimension: LLL reduction, Babai's plane, exact search around it.

    reduced, transform = lll(basis)         # columns; reduced = basis @ transform
    search = Search.of(reduced)
    k = search.nearest(x)                   # exact; search.babai(x) is the start of it

Exact search in three steps. Babai's nearest plane leaves an error inside the box of the Gram-Schmidt vectors. A lattice
vector s can improve on an error e of that box only if |s|^2 < 2 s.e, so the few s that satisfy this for some e are
enumerated once per basis (Fincke and Pohst's recursion on the triangular factor), and each vector tries all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.codec import TesseraError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MAX_DIM = 8  # of exact search
MAX_OFFSETS = 2**17
SCORES = 2**21  # held at once


class BasisError(TesseraError):
    """A basis that spans no lattice, or one that is too far from orthogonal to be searched."""


def lll(basis: Floats, delta: float = 0.99) -> tuple[Floats, Ints]:
    """Lenstra, Lenstra and Lovasz's reduction of a basis (n, n), in columns: reduced basis and unimodular transform."""
    work = np.array(basis, dtype=np.float64)
    n = work.shape[1]
    if not np.isfinite(work).all() or abs(np.linalg.det(work)) < 1e-12:
        raise BasisError("the basis of a lattice must be finite and have full rank: training diverged; use a lower lr.")
    transform, k = np.eye(n, dtype=np.int64), 1
    while k < n:
        for j in range(k - 1, -1, -1):
            r = _triangle(work)
            times = int(np.rint(r[j, k] / r[j, j]))
            if times:
                work[:, k] -= times * work[:, j]
                transform[:, k] -= times * transform[:, j]
        r = _triangle(work)
        if r[k, k] ** 2 + r[k - 1, k] ** 2 >= delta * r[k - 1, k - 1] ** 2:
            k += 1
            continue
        work[:, [k - 1, k]] = work[:, [k, k - 1]]
        transform[:, [k - 1, k]] = transform[:, [k, k - 1]]
        k = max(1, k - 1)
    return np.asarray(basis, dtype=np.float64) @ transform, transform


def _triangle(basis: Floats) -> Floats:
    r: Floats = np.linalg.qr(basis)[1]
    return r


@dataclass(frozen=True, eq=False)
class Search:
    """A basis = ``rotation @ triangle`` with positive diagonal, and the ``offsets`` (M, n) exact search tries."""

    rotation: Floats
    triangle: Floats
    offsets: Ints

    @classmethod
    def of(cls, basis: Floats) -> Search:
        """For a basis (n, n) in columns, reduced beforehand; ``BasisError`` above 8 dimensions."""
        if len(basis) > MAX_DIM:
            raise BasisError(f"exact search is for at most {MAX_DIM} dimensions, not {len(basis)}: use smaller blocks.")
        q, r = np.linalg.qr(basis)
        signs = np.where(np.diag(r) < 0, -1.0, 1.0)
        triangle = r * signs[:, None]
        return cls(q * signs, triangle, improving(triangle))

    def babai(self, x: Tensor) -> Tensor:
        """Vectors (N, n) -> int64 coordinates (N, n) by the nearest plane, last coordinate first (Babai, 1986)."""
        return self._plane(x @ self._to(self.rotation, x))[0]

    def nearest(self, x: Tensor) -> Tensor:
        """Vectors (N, n) -> int64 coordinates (N, n) of a nearest point."""
        k, error = self._plane(x @ self._to(self.rotation, x))
        offsets = torch.from_numpy(self.offsets).to(x.device)
        shifts = self._to(self.offsets @ self.triangle.T, x)  # (M, n)
        bias, step = shifts.square().sum(1), max(1, SCORES // len(shifts))
        best = torch.cat([torch.addmm(bias, part, shifts.T, alpha=-2).argmin(1) for part in error.split(step)])
        return k + offsets[best]

    def _plane(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates and the error left, in the frame of the triangle."""
        left, triangle = y.clone(), self._to(self.triangle, y)
        k = torch.zeros(y.shape, dtype=torch.int64, device=y.device)
        for i in reversed(range(y.shape[1])):
            whole = torch.round(left[:, i] / triangle[i, i])
            left -= whole[:, None] * triangle[:, i]
            k[:, i] = whole.long()
        return k, left

    @staticmethod
    def _to(array: Floats, like: Tensor) -> Tensor:
        return torch.from_numpy(array).to(like)


def improving(triangle: Floats) -> Ints:
    """Coordinates (M, n) of the lattice vectors s with |s|^2 <= sum_i |s_i| r_ii, zero among them.

    Those are the s with |s|^2 <= 2 s.e for some e with |e_i| <= r_ii / 2. In the sum over i of s_i^2 - |s_i| r_ii no
    term is below -r_ii^2 / 4, which bounds the rest while the last coordinates are being chosen.
    """
    n, sides = len(triangle), np.diag(triangle)
    room = np.concatenate([[0.0], np.cumsum(sides**2 / 4)])  # what the first i coordinates can still win
    found: list[list[int]] = []

    def extend(i: int, k: list[int], spent: float) -> None:
        if len(found) > MAX_OFFSETS:
            raise BasisError("the learned basis is too far from orthogonal to be searched: use smaller blocks.")
        if i < 0:
            found.append(list(k))
            return
        side, centre = sides[i], -float(triangle[i, i + 1 :] @ np.array(k[i + 1 :], dtype=np.float64))
        reach = side / 2 + (side**2 / 4 + max(0.0, room[i] - spent)) ** 0.5  # s^2 - s side <= room - spent
        low, high = int(np.ceil((centre - reach) / side - 1e-9)), int(np.floor((centre + reach) / side + 1e-9))
        for value in range(low, high + 1):
            s = abs(value * side - centre)
            if spent + s * s - s * side <= room[i] + 1e-9:
                extend(i - 1, [*k[:i], value, *k[i + 1 :]], spent + s * s - s * side)

    extend(n - 1, [0] * n, 0.0)
    return np.array(found, dtype=np.int64)
