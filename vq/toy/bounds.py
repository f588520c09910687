"""Bounds that no code beats, and what the best of a kind reach at high rate; bits per vector, squared error per vector.

Reverse water-filling is exact for Gaussians, the Shannon lower bound holds for every density, and Blahut's and
Arimoto's iteration on a grid closes the gap between that bound and R(D) at low rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from vq.toy.sources import LN2, Source, SourceError, make_source

HEXAGONAL_MOMENT = 5 / (36 * math.sqrt(3))  # normalised second moment per dimension of the hexagon
HEXAGONAL = math.log2(2 * math.pi * math.e * HEXAGONAL_MOMENT)  # 0.4537 bits per 2-D vector above Shannon's bound
SQUARE = math.log2(2 * math.pi * math.e / 12)  # 0.5092 bits per 2-D vector
SCALAR = SQUARE / 2  # 0.2546 bits per sample

HIGH_RATE: dict[int, dict[str, float]] = {  # by dimension of the source: limits above Shannon's bound, and their names
    1: {"scalar limit": SCALAR},
    2: {"hexagonal limit": HEXAGONAL, "square limit": SQUARE},
}

_BA_LAMBDAS = tuple(float(x) for x in np.geomspace(0.15, 6.0, 10))
_STEPS = {1: 0.05, 2: 0.2}  # of the grid, per dimension of the source
_ROUNDS, _GAP = {1: 3000, 2: 800}, 4e-4  # of the iteration; bits between its upper and lower bound at which it stops
_RELAX = 1.7  # exponent of the update: 1 is Blahut's and Arimoto's own, which creeps in the tails


def reverse_waterfilling(variances: Sequence[float], distortion: float) -> tuple[float, float]:
    """R(D) of independent Gaussians in bits, and the water level: D = sum_i min(level, variance_i)."""
    if not distortion > 0:
        raise SourceError(f"a distortion of {distortion} needs infinite rate: it must be positive.")
    ordered = sorted(variances)
    level, spent = ordered[-1], 0.0
    for i, variance in enumerate(ordered):
        level = (distortion - spent) / (len(ordered) - i)
        if level <= variance:
            break
        spent += variance
    level = min(level, ordered[-1])
    return sum(max(0.0, math.log2(v / level) / 2) for v in ordered), level


def gaussian_point(variances: Sequence[float], lmb: float) -> tuple[float, float]:
    """(R, D) at which R(D) + lmb D of independent Gaussians is least: the level is 1 / (2 lmb ln 2)."""
    level = 1 / (2 * lmb * LN2)
    rate = sum(max(0.0, math.log2(v / level) / 2) for v in variances)
    return rate, sum(min(v, level) for v in variances)


def shannon_lower_bound(entropy_bits: float, distortion: float, dim: int) -> float:
    """h - (d/2) log2(2 pi e D / d), bits: below R(D) for every source of differential entropy h."""
    if not distortion > 0:
        raise SourceError(f"a distortion of {distortion} needs infinite rate: it must be positive.")
    return entropy_bits - dim / 2 * math.log2(2 * math.pi * math.e * distortion / dim)


def lattice_volume(lmb: float, dim: int) -> float:
    """The cell volume at which a fine lattice (hexagonal for dim 2) minimises R + lmb D: 1 / (2 G lmb ln 2) in 2-D."""
    moment = {1: 1 / 12, 2: HEXAGONAL_MOMENT}[dim]
    return float((1 / (2 * moment * lmb * LN2)) ** (dim / 2))


@dataclass(frozen=True)
class Bound:
    """A lower bound on the rate of every code of a source. ``kind`` says in words where it comes from.

    Between ``knots`` (distortion, rate, lambda), from Blahut and Arimoto, R(D) is interpolated by Hermite cubics with
    its known slopes; elsewhere Shannon's bound holds (for Gaussians water-filling, everywhere).
    """

    kind: str
    dim: int
    entropy_bits: float
    variances: tuple[float, ...] = ()
    knots: tuple[tuple[float, float, float], ...] = ()

    def rate(self, distortion: float) -> float:
        """Bits per vector that any code needs at a distortion."""
        if self.variances:
            return reverse_waterfilling(self.variances, distortion)[0]
        low = max(0.0, shannon_lower_bound(self.entropy_bits, distortion, self.dim))
        if not self.knots or distortion < self.knots[0][0]:
            return low
        if distortion > self.knots[-1][0]:
            last = self.knots[-1]
            return max(low, last[1] - last[2] * (distortion - last[0]))
        return max(low, float(_spline(self.knots)(distortion)))

    def shannon(self, distortion: float) -> float:
        """Shannon's lower bound alone, bits; negative where it says nothing."""
        return shannon_lower_bound(self.entropy_bits, distortion, self.dim)

    def lagrangian(self, lmb: float) -> float:
        """The least R + lmb D that any code can have."""
        if self.variances:
            rate, distortion = gaussian_point(self.variances, lmb)
            return rate + lmb * distortion
        shannon = self.dim / 2 / LN2  # lmb D at the optimum
        low = shannon_lower_bound(self.entropy_bits, shannon / lmb, self.dim) + shannon
        if self.knots and self.knots[-1][2] <= lmb <= self.knots[0][2]:
            return max(low, float(_dual(self.knots)(lmb)))
        return max(low, 0.0)


Knots = tuple[tuple[float, float, float], ...]
NUMERICAL = {"laplace": "laplace", "banana": "banana", "banana_tfc": "banana"}  # the two bananas are isometric


def bound(source: Source, knots: Knots | None = None) -> Bound | None:
    """The best bound known for a source, or None for one without a density.

    ``knots`` are those of an earlier call (``Bound.knots``): they take seconds to compute where there are any.
    """
    if source.entropy_bits is None:
        return None
    if source.variances:
        kind = "R(D), reverse water-filling"
        return Bound(kind, source.dim, source.entropy_bits, source.variances)
    if source.name not in NUMERICAL:
        return Bound("Shannon lower bound", source.dim, source.entropy_bits)
    if knots is None:
        found = [blahut_arimoto(NUMERICAL[source.name], lmb) for lmb in _BA_LAMBDAS]
        knots = tuple(sorted((p.distortion, p.lower - p.lmb * p.distortion, p.lmb) for p in found))
    kind = "R(D), numerical, and Shannon's bound"
    return Bound(kind, source.dim, source.entropy_bits, (), knots)


@lru_cache(maxsize=8)
def _spline(knots: tuple[tuple[float, float, float], ...]) -> CubicHermiteSpline:
    d, r, slope = np.array(knots).T
    return CubicHermiteSpline(d, r, -slope)


@lru_cache(maxsize=8)
def _dual(knots: tuple[tuple[float, float, float], ...]) -> CubicHermiteSpline:
    """min R + lmb D as a function of lmb, whose derivative is D."""
    d, r, slope = np.array(knots[::-1]).T
    return CubicHermiteSpline(slope, r + slope * d, d)


@dataclass(frozen=True)
class Point:
    """A point of a numerical R(D): min R + lmb D is between ``lower`` and ``upper``, up to the grid (about 3e-4)."""

    lmb: float
    rate: float
    distortion: float
    upper: float
    lower: float


@lru_cache(maxsize=256)
def blahut_arimoto(name: str, lmb: float) -> Point:
    """R(D) of a 1-D or 2-D source where its slope is -lmb, with the dual bound (Blahut 1972, theorem 6) beside it.

    The kernel 2**(-lmb |x - y|^2) is separable, so on a grid of both axes each step is a few small matrix products.
    """
    source = make_source(name)
    step = _STEPS[source.dim] / max(1.0, math.sqrt(lmb) / 2)
    axes = [torch.arange(low + step / 2, high, step, dtype=torch.float64) for low, high in source.reach]
    mass = _masses(source, axes)
    kernels = [torch.exp2(-lmb * (axis[:, None] - axis).square()) for axis in axes]
    q = mass.clone()
    upper = lower = math.inf
    inverse = q
    for turn in range(_ROUNDS[source.dim]):
        partition = _apply(kernels, q).clamp_min(1e-300)
        inverse = mass / partition
        gain = _apply(kernels, inverse)  # of each reproduction point: 1 on the support of the optimum, less off it
        if turn % 20 == 19:
            upper = -float((mass * partition.log2()).sum())
            lower = upper - math.log2(float(gain.max()))
            if upper - lower < _GAP:
                break
        q = q * gain**_RELAX
        q /= q.sum()
    return _point(lmb, kernels, axes, q, inverse, upper, lower)


def _point(
    lmb: float, kernels: list[Tensor], axes: list[Tensor], q: Tensor, inverse: Tensor, upper: float, lower: float
) -> Point:
    """Distortion of the channel q(y) 2**(-lmb |x - y|^2) / Z(x): axis by axis with the kernel times its exponent."""
    distortion = 0.0
    for i, axis in enumerate(axes):
        weighted = [k * (axis[:, None] - axis).square() if i == j else k for j, k in enumerate(kernels)]
        distortion += float((inverse * _apply(weighted, q)).sum())
    return Point(lmb, upper - lmb * distortion, distortion, upper, lower)


def _masses(source: Source, axes: list[Tensor]) -> Tensor:
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    mass = source.log_prob(grid.reshape(-1, source.dim)).exp().reshape(grid.shape[:-1])
    mass[mass < 1e-14 * mass.max()] = 0  # what the kernel could not reach would divide by nothing
    return mass / mass.sum()


def _apply(kernels: list[Tensor], field: Tensor) -> Tensor:
    """The separable symmetric kernel applied to a field over the grid."""
    return kernels[0] @ field if len(kernels) == 1 else kernels[0] @ field @ kernels[1]


def curve(found: Bound, distortions: NDArray[np.float64]) -> NDArray[np.float64]:
    """``found.rate`` at each distortion."""
    return np.array([found.rate(float(d)) for d in distortions])
