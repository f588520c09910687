"""Diagonal Gaussians, the targets and the coding distributions of relative entropy coding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.codec import TesseraError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent normal distributions: ``loc`` and ``scale`` float64 (..., D), which broadcast to one shape.

    Raises ``TesseraError`` unless every loc is finite and every scale finite and positive.
    """

    loc: Floats
    scale: Floats

    def __post_init__(self) -> None:
        try:
            loc, scale = np.broadcast_arrays(np.asarray(self.loc, np.float64), np.asarray(self.scale, np.float64))
        except ValueError as error:
            raise TesseraError("the loc and scale of a Gaussian must have shapes that broadcast.") from error
        if not np.isfinite(loc).all():
            raise TesseraError(
                "the loc of a Gaussian holds NaN or infinity: check the network's weights and its input."
            )
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise TesseraError(
                "the scale of a Gaussian must be finite and above 0 everywhere: check the network's weights and input."
            )
        object.__setattr__(self, "loc", loc)
        object.__setattr__(self, "scale", scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of loc and scale."""
        return self.loc.shape

    def take(self, index: NDArray[np.int64]) -> Gaussian:
        """The dimensions ``index`` of the last axis, in that order."""
        return Gaussian(self.loc[..., index], self.scale[..., index])

    def rows(self, index: int | NDArray[np.int64]) -> Gaussian:
        """The blocks ``index`` of the first axis: one without that axis for a number, several for an array."""
        return Gaussian(self.loc[index], self.scale[index])


def standardised(q: Gaussian, p: Gaussian) -> tuple[Floats, Floats]:
    """Loc and scale of q in units where p is N(0, 1): two float64 arrays; ``TesseraError`` when they overflow."""
    with np.errstate(over="ignore", divide="ignore"):
        loc, scale = (q.loc - p.loc) / p.scale, q.scale / p.scale
        finite = np.isfinite(loc * loc).all() and np.isfinite(scale * scale).all() and (scale > 0).all()
    if not finite:
        raise TesseraError(
            "target and prior are too far apart to code: the ratio of their scales or locs overflows; "
            "check the network's weights and input."
        )
    return loc, scale


def kl(q: Gaussian, p: Gaussian) -> Floats:
    """KL(q || p) of each dimension in nats, never negative: float64 (..., D)."""
    loc, scale = standardised(q, p)
    return np.maximum(0.5 * ((scale - 1) * (scale + 1) + loc * loc) - np.log(scale), 0.0)


def log_ratio(z: ArrayLike, q: Gaussian, p: Gaussian) -> Floats:
    """ln q(z) / p(z), the dimensions of the last axis summed: float64 (...)."""
    z = np.asarray(z, dtype=np.float64)
    each = (np.square((z - p.loc) / p.scale) - np.square((z - q.loc) / q.scale)) / 2 - np.log(q.scale / p.scale)
    total: Floats = each.sum(-1)
    return total


def max_log_ratio(q: Gaussian, p: Gaussian) -> Floats:
    """D_inf, the largest ln q(z) / p(z) over all z, dimensions summed: float64 (...), inf where none is largest."""
    loc, scale = standardised(q, p)
    narrower = scale < 1
    gap = np.where(narrower, (1 - scale) * (1 + scale), 1.0)
    each = np.where(narrower, loc * loc / (2 * gap) - np.log(scale), np.inf)
    total: Floats = np.where((scale == 1) & (loc == 0), 0.0, each).sum(-1)
    return total
