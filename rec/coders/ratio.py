"""The density ratio dQ/dP of two Gaussians, in the units of the prior: all that the coders here know of their target.

With P = N(0, 1) and Q = N(m, s^2) in each dimension, s < 1, the log ratio is ``top`` minus the energy
sum_d a_d (z_d - c_d)^2, with a = (1/s^2 - 1) / 2 and c = m / (1 - s^2): one peak, of height D_inf(Q || P).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError
from rec.gaussian import Gaussian, kl, standardised

Floats = NDArray[np.float64]
LN2 = math.log(2)


@dataclass(frozen=True, eq=False)
class Ratio:
    """ln dQ/dP at z, in the units of the prior: ``top - sum(curvature * (z - centre)**2)`` over (D,).

    ``top`` is D_inf and ``kl`` is KL(Q || P), both in nats.
    """

    curvature: Floats
    centre: Floats
    top: float
    kl: float
    loc: Floats  # of Q
    scale: Floats

    def energy(self, z: Floats) -> Floats:
        """How far the log ratio is below its top at z (..., D): float64 (...)."""
        below: Floats = np.einsum("...d,d->...", np.square(z - self.centre), self.curvature)
        return below


def ratio_of(target: Gaussian, prior: Gaussian) -> Ratio:
    """The ratio of two Gaussians (D,); ``TesseraError`` where it has no upper bound."""
    if target.loc.ndim != 1 or target.shape != prior.shape:
        raise TesseraError(f"target and prior of a block must be of one shape (D,), not {target.shape}, {prior.shape}.")
    m, s = standardised(target, prior)
    same = (s == 1) & (m == 0)
    if not ((s < 1) | same).all():
        raise TesseraError(
            "a target that is nowhere narrower than its prior has no bounded density ratio: this coder needs scales "
            "below the prior's in every dimension; use beam_search."
        )
    gap = np.where(same, 1.0, (1 - s) * (1 + s))
    curvature = np.where(same, 0.0, gap / (2 * s * s))
    centre = np.where(same, 0.0, m / gap)
    top = float(np.sum(m * centre / 2 - np.log(s)))
    return Ratio(curvature, centre, top, float(kl(target, prior).sum()), m, s)
