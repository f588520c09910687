"""The lattices of the literature with exact, vectorised nearest-point search: Z, A2, D4, E8 and Leech's.

    lattice = LATTICES["e8"]
    k = lattice.nearest(x)                  # x: float (..., dim) -> whole numbers (..., dim), basis coordinates
    lattice.vectors(k)                      # the lattice points, at unit volume per cell

Each lattice lives in an integer frame: its points are whole-number vectors times ``frame``, and ``basis`` generates
those vectors (columns; upper triangular, Hermite normal form). Algorithms: Conway and Sloane, "Fast quantizing and
decoding algorithms for lattice quantizers and codes", IEEE Trans. IT 28, 1982; Leech's lattice by its cosets under the
Golay code ("Soft decoding techniques for codes and lattices", 1986), every codeword tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.codec import TesseraError
from core.registry import Registry
from lattice.leech import LEECH_GENERATORS, snap_leech

Snap = Callable[[Tensor], Tensor]  # (N, dim) in the integer frame -> the nearest points there, whole numbers in floats


class LatticeError(TesseraError):
    """A lattice that cannot be used as asked, or vectors of a wrong shape."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice of unit volume. ``moment`` is its known normalised second moment per dimension (SPLAG, table 2.3)."""

    name: str
    basis: NDArray[np.int64]  # (dim, dim)
    frame: NDArray[np.float64]  # (dim,)
    moment: float
    snap: Snap

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return len(self.frame)

    def nearest(self, x: Tensor) -> Tensor:
        """Vectors (..., dim) -> int64 basis coordinates (..., dim) of the nearest points (one of them, at ties)."""
        if x.shape[-1] != self.dim:
            raise LatticeError(f"the lattice {self.name} takes vectors of {self.dim} dimensions, not {x.shape[-1]}.")
        rows = x.detach().reshape(-1, self.dim) / torch.from_numpy(self.frame).to(x)
        return self._coordinates(self.snap(rows).long()).view(x.shape)

    def vectors(self, k: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Basis coordinates (..., dim) -> points (..., dim)."""
        whole = (k.unsqueeze(-2) * torch.from_numpy(self.basis).to(k.device)).sum(-1)
        return whole.to(dtype) * torch.from_numpy(self.frame).to(k.device, dtype)

    def quantize(self, x: Tensor) -> Tensor:
        """Vectors (..., dim) -> their nearest points."""
        return self.vectors(self.nearest(x), x.dtype)

    def dither(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Vectors (*shape, dim) uniform over the cell around the origin, from torch's generator."""
        sides = torch.from_numpy(np.diag(self.basis) * self.frame).to(like)  # a box that tiles space like the cell
        x = torch.rand(*shape, self.dim, device=like.device, dtype=like.dtype) * sides
        return x - self.quantize(x)

    def dithered(self, x: Tensor) -> Tensor:
        """Subtractive dither: the error is uniform over the cell, independent of x (..., dim) (Zamir, Feder 1992)."""
        u = self.dither(x.shape[:-1], x)
        return self.quantize(x + u) - u

    def _coordinates(self, points: Tensor) -> Tensor:
        """Whole-number points (N, dim) -> basis coordinates, by back substitution."""
        k = torch.zeros_like(points)
        for i in reversed(range(self.dim)):
            later = torch.from_numpy(self.basis[i, i + 1 :]).to(points.device)
            k[:, i] = (points[:, i] - (k[:, i + 1 :] * later).sum(1)) // int(self.basis[i, i])
        return k


def hermite(generators: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The upper triangular basis (columns, positive diagonal, entries reduced) of what whole-number rows generate."""
    rows = [list(map(int, row)) for row in generators]
    dim = len(rows[0])
    basis: list[list[int]] = []
    for i in reversed(range(dim)):  # Euclid on coordinate i: one row keeps it, the others get a zero there
        while len(left := [r for r in rows if r[i]]) > 1:
            least = min(left, key=lambda r: abs(r[i]))
            rows = [r if r is least or not r[i] else _minus(r, least, r[i] // least[i]) for r in rows]
        if not left:
            raise LatticeError(f"the generators of a lattice do not span its {dim} dimensions.")
        chosen = left[0] if left[0][i] > 0 else [-v for v in left[0]]
        rows = [r for r in rows if r is not left[0]]
        basis.insert(0, chosen)
    for i in range(dim):
        for j in range(i - 1, -1, -1):
            basis[i] = _minus(basis[i], basis[j], basis[i][j] // basis[j][j])
    return np.array(basis, dtype=np.int64).T


def _minus(row: list[int], other: list[int], times: int) -> list[int]:
    return [a - times * b for a, b in zip(row, other, strict=True)]


def snap_a2(y: Tensor) -> Tensor:
    """The hexagonal lattice: pairs (p, q) of equal parity, at p and sqrt(3) q: the nearer of two rectangular cosets."""
    even, odd = 2 * torch.round(y / 2), 2 * torch.round((y - 1) / 2) + 1
    weights = y.new_tensor([1.0, 3.0])
    closer = ((y - odd).square() * weights).sum(1) < ((y - even).square() * weights).sum(1)
    return torch.where(closer[:, None], odd, even)


def snap_checkerboard(y: Tensor) -> Tensor:
    """D_n, whole numbers of even sum: round, and where the sum is odd round the worst coordinate the other way."""
    near = torch.round(y)
    error = y - near
    odd = near.sum(1).remainder(2) != 0
    worst = error.abs().argmax(1, keepdim=True)
    step = torch.where(error.gather(1, worst) < 0, -1.0, 1.0) * odd[:, None]
    return near.scatter_add(1, worst, step.to(y.dtype))


def snap_e8(y: Tensor) -> Tensor:
    """E8 in doubled coordinates: twice the nearer of D8 and D8 + 1/2."""
    half = y / 2
    whole, shifted = snap_checkerboard(half), snap_checkerboard(half - 0.5) + 0.5
    closer = (half - shifted).square().sum(1) < (half - whole).square().sum(1)
    return 2 * torch.where(closer[:, None], shifted, whole)


def checkerboard(dim: int) -> list[list[int]]:
    """Generators of D_n."""
    rows = np.eye(dim, dtype=int) - np.roll(np.eye(dim, dtype=int), 1, axis=1)
    return [*rows[:-1].tolist(), [1, 1] + [0] * (dim - 2)]


LATTICES: Registry[Lattice] = Registry("lattice")


def _register(name: str, generators: Sequence[Sequence[int]], moment: float, snap: Snap, ratio: float = 1.0) -> None:
    """Add a lattice whose integer frame has axes of length 1 but for the last, of length ``ratio``."""
    basis = hermite(generators)
    frame = np.ones(len(basis))
    frame[-1] = ratio
    frame /= (np.diag(basis) * frame).prod() ** (1 / len(basis))
    LATTICES.register(name)(Lattice(name, basis, frame, moment, snap))


_register("z", [[1]], 1 / 12, torch.round)
_register("a2", [[2, 0], [1, 1]], 0.0801875, snap_a2, ratio=3**0.5)
_register("d4", checkerboard(4), 0.0766032, snap_checkerboard)
_register("e8", [*(2 * np.array(checkerboard(8))).tolist(), [1] * 8], 0.0716821, snap_e8)
_register("leech", LEECH_GENERATORS, 0.0657706, snap_leech)
