"""Lattices trained for rate and distortion: a fixed one per block of a few latent dimensions, or one learned basis.

    rows (N, dim) -> linear -> (N, blocks, rank) -> lattice of unit volume -> linear -> rows

Training adds dither, uniform over the cell, in place of rounding (Zamir and Feder, 1992; Balle et al., 2017), and
pays -log2 of the mass that a learned density per coordinate gives to a cube of the cell's volume. At high rate that is
the rate of any lattice of this volume; at low rate it is a stand-in, and the coder's tables are counted afterwards.

At low rate dither also lets through what rounding does not: latents well inside of one cell, which all become its
centre, so that the decoder shows the mean picture. The more dimensions a cell has, the sooner that happens. With
``straight_through`` the decoder learns from the nearest points, and latents have to leave the cell to be heard.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lattice.points import LATTICES, LatticeError
from lattice.quantizers import LARGEST, Quantized, RowQuantizer
from lattice.reduction import Search, lll

FINE = 4096  # steps per unit of the integer triangle that orders a learned lattice's coordinates
PACE = 10.0  # of the density's parameters: they move this much faster than the network's
FLOOR = 2.0**-40  # of a probability


class Density(nn.Module):
    """Mixtures of logistic densities, one per coordinate; ``bits`` of unit intervals."""

    def __init__(self, size: int, parts: int = 3) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(size, parts))
        self.places = nn.Parameter(torch.linspace(-1.0, 1.0, parts).repeat(size, 1) / PACE)
        self.scales = nn.Parameter(torch.zeros(size, parts))  # logarithms

    def bits(self, v: Tensor) -> Tensor:
        """-log2 of the mass of [v - 1/2, v + 1/2], elementwise for v (..., size)."""
        distance = -(v.unsqueeze(-1) - PACE * self.places).abs()  # in the lower half sigmoids keep their precision
        scale = (PACE * self.scales).clamp(-6, 8).exp()
        mass = torch.sigmoid((distance + 0.5) / scale) - torch.sigmoid((distance - 0.5) / scale)
        likely = (mass * (PACE * self.weights).softmax(-1)).sum(-1)
        return -torch.log2(likely.clamp(min=FLOOR))


class BlockLattice(RowQuantizer):
    """A lattice by name in every block of ``width`` dimensions, a multiple of its own, after a linear map."""

    straight_through = (
        False  # the decoder sees points in training, not dithered latents; the rate is that of the latter
    )

    def __init__(self, dim: int, width: int, lattice: str) -> None:
        self.lattice = LATTICES[lattice]
        rank = self.lattice.dim
        if width % rank or width < rank:
            raise LatticeError(f"width={width} must be a multiple of {rank}, the dimensions of {lattice}.")
        super().__init__(dim, width // rank, rank)
        self._maps(dim, width)

    def _maps(self, dim: int, width: int) -> None:
        self.down, self.up = nn.Linear(dim, width), nn.Linear(width, dim)
        self.density = Density(width)

    @property
    def chain(self) -> NDArray[np.int64]:
        """The lattice's own integer basis."""
        return self.lattice.basis

    def forward(self, rows: Tensor) -> Quantized:
        """Dithered rows, no loss but the rate."""
        latent = self.down(rows).view(-1, self.blocks, self.rank)
        noisy = latent + self.dither(latent)
        bits = self.density.bits(noisy.flatten(1)).sum()
        if self.straight_through:
            with torch.no_grad():
                points = self.vectors(self.nearest(latent.float().clamp(-LARGEST / 64, LARGEST / 64)))
            noisy = latent + (points - latent).detach()
        return Quantized(self.up(noisy.flatten(1)), bits.new_zeros(()), bits)

    def dither(self, latent: Tensor) -> Tensor:
        """Noise like latents (N, blocks, rank), uniform over the cell."""
        return self.lattice.dither(latent.shape[:2], latent)

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """Basis coordinates of the nearest points."""
        latent = self.down(rows).nan_to_num(0.0).clamp(-LARGEST / 64, LARGEST / 64)
        return self.nearest(latent.view(-1, self.blocks, self.rank))

    @torch.no_grad()
    def decode(self, k: Tensor) -> Tensor:
        """The points, mapped back."""
        rows: Tensor = self.up(self.vectors(k).flatten(1))
        return rows

    def nearest(self, latent: Tensor) -> Tensor:
        """(N, blocks, rank) -> int64 coordinates."""
        return self.lattice.nearest(latent)

    def vectors(self, k: Tensor) -> Tensor:
        """Coordinates -> points (N, blocks, rank)."""
        return self.lattice.vectors(k)


class LearnedLattice(BlockLattice):
    """A basis learned with the network, full rank within a block, scaled to unit volume and shared by the blocks.

    Points are found exactly: LLL reduction, Babai's plane, and a search around it. The dither is uniform over the cell
    of the basis as it is, and depends on it, so the decoder's distortion is what shapes the lattice. ``transform`` and
    ``triangle`` are settled when training ends: they decide how streams are read, so they are stored, not recomputed.
    """

    transform: Tensor
    triangle: Tensor

    def __init__(self, dim: int, width: int, rank: int) -> None:
        RowQuantizer.__init__(self, dim, width // max(rank, 1), rank)
        if width % rank or width < rank:
            raise LatticeError(f"width={width} must be a multiple of block={rank}.")
        self._maps(dim, width)
        self.basis = nn.Parameter(torch.eye(rank) + 0.1 * torch.randn(rank, rank))
        self.register_buffer("transform", torch.eye(rank, dtype=torch.int64))
        self.register_buffer("triangle", torch.eye(rank, dtype=torch.int64) * FINE)
        self._search: tuple[bytes, Search] | None = None

    @property
    def chain(self) -> NDArray[np.int64]:
        """The reduced triangle in steps of 1 / 4096 of its diagonal, as it was when training ended."""
        triangle: NDArray[np.int64] = self.triangle.cpu().numpy()
        return triangle

    def unit(self) -> Tensor:
        """The basis (columns) at unit volume."""
        volume: Tensor = torch.linalg.det(self.basis).abs().clamp(min=1e-12)
        return self.basis / volume ** (1 / self.rank)

    def dither(self, latent: Tensor) -> Tensor:
        """Uniform over the cell, with a gradient to the basis."""
        basis = self.unit()
        reduced, transform = lll(basis.detach().double().cpu().numpy())
        self.transform.copy_(torch.from_numpy(transform))
        start = torch.rand_like(latent).detach()
        box = (start.flatten(0, 1) @ basis.detach().T).view_as(start)
        k = Search.of(reduced).nearest(box.flatten(0, 1)).view_as(start) @ self.transform.T
        return (start - k.to(start)) @ basis.T

    @torch.no_grad()
    def settle(self) -> None:
        """Reduce the final basis, which float16 files then hold well, and store the integer triangle that orders it."""
        reduced, _ = lll(self.unit().double().cpu().numpy())
        r = np.linalg.qr(reduced, mode="r")
        self.basis.copy_(torch.from_numpy(reduced))
        self.transform.copy_(torch.eye(self.rank, dtype=torch.int64))
        self.triangle.copy_(torch.from_numpy(np.rint(r / np.diag(r)[:, None] * FINE).astype(np.int64)))

    def nearest(self, latent: Tensor) -> Tensor:
        """Exact, in the reduced basis."""
        return self._exact().nearest(latent.flatten(0, 1)).view(latent.shape)

    def vectors(self, k: Tensor) -> Tensor:
        """Points of coordinates in the reduced basis."""
        return k.float() @ (self.unit() @ self.transform.float()).T

    def _exact(self) -> Search:
        """The search of the basis as it is now, made once per basis."""
        reduced = (self.unit().double() @ self.transform.double()).detach().cpu().numpy()
        key = reduced.tobytes()
        if self._search is None or self._search[0] != key:
            self._search = key, Search.of(reduced)
        return self._search[1]

    @torch.no_grad()
    def moment(self, samples: int = 20_000) -> tuple[float, float]:
        """Normalised second moment per dimension of the cell, by Monte Carlo, and its standard error."""
        u = self.dither(self.basis.new_zeros(samples, 1, self.rank)).square().mean((1, 2))
        return float(u.mean()), float(u.std() / math.sqrt(samples))
