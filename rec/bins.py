"""Bins of latents for bits back: of equal mass under a base that both sides know, or of equal width around it.

Bins of equal mass are those of Bit-Swap and HiLLoC: pushing a latent under its base costs whole ``bits``, any other
normal needs a table of 2^bits masses for each latent. On a grid of equal width, every normal is a quantised Gaussian of
constriction, which computes two values of its distribution function for a symbol: a hundred times less work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from rec.gaussian import Gaussian, standardised
from rec.quantiles import normal_quantile_at

if TYPE_CHECKING:
    from rec.bitsback import Stack

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHUNK = 2**21  # masses held at once
REACH = 8.0  # standard deviations of the base from the middle of a grid to its ends; the last bin has what is beyond


class Bins(Protocol):
    """How a latent becomes a whole number from 0 to 2^bits - 1; ``base`` has the shape (n,) of the latents."""

    def values(self, bins: Ints, base: Gaussian) -> Floats:
        """What bins stand for, float64 (n,)."""

    def pop(self, stack: Stack, normals: Gaussian, base: Gaussian) -> Ints:
        """Take bins off a stack under normals (n,)."""

    def push(self, stack: Stack, bins: Ints, normals: Gaussian, base: Gaussian) -> None:
        """Mirror of ``pop``."""

    def pop_base(self, stack: Stack, base: Gaussian) -> Ints:
        """Take bins off under the base itself."""

    def push_base(self, stack: Stack, bins: Ints, base: Gaussian) -> None:
        """Mirror of ``pop_base``."""


@dataclass(frozen=True)
class EqualMass:
    """Bins of equal mass; the value of a bin is its median."""

    bits: int

    def values(self, bins: Ints, base: Gaussian) -> Floats:
        """See ``Bins``."""
        values: Floats = base.loc + base.scale * normal_quantile_at((bins + 0.5) / (1 << self.bits))
        return values

    def pop(self, stack: Stack, normals: Gaussian, base: Gaussian) -> Ints:
        """See ``Bins``."""
        return stack.pop_bins(normals, base, self.bits)

    def push(self, stack: Stack, bins: Ints, normals: Gaussian, base: Gaussian) -> None:
        """See ``Bins``."""
        stack.push_bins(bins, normals, base, self.bits)

    def pop_base(self, stack: Stack, base: Gaussian) -> Ints:
        """See ``Bins``."""
        return stack.pop_uniform(base.shape[-1], self.bits)

    def push_base(self, stack: Stack, bins: Ints, base: Gaussian) -> None:
        """See ``Bins``."""
        stack.push_uniform(bins, self.bits)


@dataclass(frozen=True)
class Grid:
    """Bins of equal width, 2 ``REACH`` 2^-bits standard deviations of the base; the value of a bin is its middle."""

    bits: int

    @property
    def _half(self) -> int:
        return 1 << (self.bits - 1)

    def values(self, bins: Ints, base: Gaussian) -> Floats:
        """See ``Bins``."""
        values: Floats = base.loc + base.scale * ((bins - self._half) * (REACH / self._half))
        return values

    def pop(self, stack: Stack, normals: Gaussian, base: Gaussian) -> Ints:
        """See ``Bins``."""
        return stack.pop_normals(*self._placed(normals, base), -self._half, self._half - 1) + self._half

    def push(self, stack: Stack, bins: Ints, normals: Gaussian, base: Gaussian) -> None:
        """See ``Bins``."""
        stack.push_normals(bins - self._half, *self._placed(normals, base), -self._half, self._half - 1)

    def pop_base(self, stack: Stack, base: Gaussian) -> Ints:
        """See ``Bins``."""
        return self.pop(stack, base, base)

    def push_base(self, stack: Stack, bins: Ints, base: Gaussian) -> None:
        """See ``Bins``."""
        self.push(stack, bins, base, base)

    def _placed(self, normals: Gaussian, base: Gaussian) -> tuple[Floats, Floats]:
        """Locations and scales in bins from the middle one."""
        loc, scale = standardised(normals, base)
        return loc * (self._half / REACH), scale * (self._half / REACH)


def masses(loc: Floats, scale: Floats, bits: int) -> Floats:
    """Masses of N(loc, scale^2), (n,) in units of the base, in its bins of equal mass: float64 (n, 2^bits)."""
    from scipy.special import ndtr

    edges = _edges(bits)
    below = np.ones((len(loc), (1 << bits) + 1))
    below[:, 0] = 0.0
    below[:, 1:-1] = ndtr((edges - loc[:, None]) / scale[:, None])
    return np.diff(below, axis=1)


def parts(count: int, bits: int) -> list[slice]:
    """So many latents at a time that their masses are at most ``CHUNK``."""
    step = max(1, CHUNK >> bits)
    return [slice(start, start + step) for start in range(0, count, step)]


@cache
def _edges(bits: int) -> Floats:
    """Where 2^bits bins of equal mass of the standard normal meet."""
    return normal_quantile_at(np.arange(1, 1 << bits) / (1 << bits))
