"""Superlevel sets of a Gaussian density ratio: how much of the target lies above a level, and when GPRS reaches it.

With r = dQ/dP, h a level and w_P, w_Q the masses of {r >= h}, the survival S(h) = w_Q(h) - h w_P(h) = E_P (r - h)+ is
what greedy rejection has not accepted once it has filled Q up to level h. Because dS/dh = -w_P, S is an integral of
positive terms, so no difference of nearly equal numbers occurs. The energy of ``rec.coders.ratio`` is a sum of scaled
noncentral chi-squares under P, whose law is Ruben's series (1962).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError
from rec.coders.ratio import Ratio

Floats = NDArray[np.float64]
POINTS = 8193
LOWEST, BEYOND = 1e-12, 40.0  # energies of the grid, in nats: from LOWEST to top + BEYOND
TERMS = 4096  # of Ruben's series
LOST = 1e-9  # mass that may be missing from it


class Levels:
    """Survival and GPRS times as functions of the energy e, where the level is h = exp(top - e)."""

    def __init__(self, curvature: Floats, centre: Floats, top: float) -> None:
        from scipy.integrate import cumulative_simpson

        used = curvature > 0
        self.top = top
        self.energies = np.geomspace(LOWEST, top + BEYOND, POINTS)
        log_e, level = np.log(self.energies), np.exp(top - self.energies)
        below = prior_mass(self.energies, curvature[used], centre[used])
        start = below[0] * level[0] * LOWEST / (used.sum() / 2 + 1)  # of an integrand that begins as a power
        rising = cumulative_simpson(below * level * self.energies, x=log_e, initial=0.0)
        self.survival: Floats = start + rising
        if abs(self.survival[-1] - 1) > 1e-3:
            raise TesseraError(
                f"the law of the density ratio could not be computed (mass {self.survival[-1]:.4f} instead of 1): its "
                "dimensions differ too much; use pfr, or group dimensions of similar scale."
            )
        falling = (level / self.survival * self.energies)[::-1]
        time = cumulative_simpson(falling, x=-log_e[::-1], initial=0.0)[::-1] + level[-1]
        self.log_energies, self.log_survival, self.log_times = log_e, np.log(self.survival), np.log(time)
        self._lists = self.log_energies.tolist(), self.log_survival.tolist()

    def log_time(self, energy: Floats) -> Floats:
        """ln t(e): the time until which GPRS accepts a candidate of energy e, the integral of dh / S from 0 to h(e)."""
        found: Floats = np.interp(np.log(np.maximum(energy, LOWEST)), self.log_energies, self.log_times)
        return found

    def survival_at(self, level: float) -> float:
        """S(h) of a level h >= 0; 0 from the top on."""
        energy = self.top - math.log(level) if level > 0 else math.inf
        grid, values = self._lists
        if energy >= self.energies[-1]:
            return 1.0 - level
        if energy <= LOWEST:
            return 0.0
        x = math.log(energy)
        i = bisect_left(grid, x)
        share = (x - grid[i - 1]) / (grid[i] - grid[i - 1])
        return math.exp(values[i - 1] + share * (values[i] - values[i - 1]))


def levels_of(ratio: Ratio) -> Levels:
    """The superlevel sets of a ratio; those of the last few are kept."""
    return _levels(ratio.curvature.tobytes(), ratio.centre.tobytes(), ratio.top)


@lru_cache(maxsize=64)
def _levels(curvature: bytes, centre: bytes, top: float) -> Levels:
    return Levels(np.frombuffer(curvature), np.frombuffer(centre), top)


def prior_mass(energies: Floats, curvature: Floats, centre: Floats) -> Floats:
    """P(sum_d a_d (z_d - c_d)^2 <= e) for standard normal z (D,), a > 0: float64 in the shape of ``energies``."""
    if not len(curvature):
        return np.ones_like(energies)
    if len(curvature) == 1:
        return _interval_mass(np.sqrt(energies / curvature[0]), float(centre[0]))
    return _ruben(energies, curvature, centre)


def _interval_mass(half: Floats, centre: float) -> Floats:
    """Standard normal mass of centre -+ half; near the centre the density times the width, free of cancellation."""
    from scipy.special import ndtr

    low, high = abs(centre) - half, abs(centre) + half
    mass = ndtr(-low) - ndtr(-high)
    small = 2 * half * math.exp(-centre * centre / 2) / math.sqrt(2 * math.pi)
    narrow = half * (1 + abs(centre)) < 1e-4
    return np.where(narrow, small * (1 + (centre * centre - 1) * half * half / 6), mass)


def _ruben(energies: Floats, weights: Floats, centre: Floats) -> Floats:
    """The law as a mixture of central chi-squares of D, D + 2, ... degrees of freedom, scaled by the least weight."""
    from scipy.special import gammainc

    least, squares = weights.min(), np.square(centre)
    spare = 1 - least / weights
    shares = [math.exp(-squares.sum() / 2 + np.log(least / weights).sum() / 2)]
    turns: list[float] = []
    if shares[0] == 0.0:
        raise TesseraError("target and prior are too far apart for the law of their density ratio: use pfr.")
    power, total = np.ones_like(weights), shares[0]
    for k in range(1, TERMS):
        turns.append(float((power * (spare + k * squares * least / weights)).sum()) / 2)
        power = power * spare
        shares.append(float(np.dot(turns, shares[::-1])) / k)
        total += shares[-1]
        if total > 1 - LOST:
            break
    else:
        raise TesseraError(
            "the dimensions of a block differ too much for the law of its density ratio: use pfr, or group dimensions "
            "of similar scale."
        )
    law = np.zeros_like(energies)
    for k, share in enumerate(shares):
        if share > 1e-18:
            law += share * gammainc(len(weights) / 2 + k, energies / (2 * least))
    return law
