"""Exact coders by rejection, candidate by candidate: plain, and greedy as Harsha et al. have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rec.coders.base import Found, private
from rec.coders.contract import CODERS
from rec.coders.levels import Levels, levels_of
from rec.coders.poisson import SequentialCoder
from rec.coders.ratio import Ratio
from rec.randomness import Key, uniforms

Floats = NDArray[np.float64]


@CODERS.register("plain_rejection")
@dataclass(frozen=True)
class PlainRejection(SequentialCoder):
    """Rejection sampling (von Neumann): accept with probability r / sup r, so the index is geometric, mean 2^D_inf.

    The control: it costs about D_inf bits, not KL.
    """

    name = "plain_rejection"

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The first candidate that is accepted: an exponential number above its energy has that probability."""
        self.refuse(ratio)
        for first, energies, noise in self.parts(ratio, key):
            accepted = np.flatnonzero(noise >= energies)
            if accepted.size:
                number = first + int(accepted[0]) + 1
                return Found((number,), number)
        raise self.failed(ratio)


@CODERS.register("grs")
@dataclass(frozen=True)
class GreedyRejection(SequentialCoder):
    """Greedy rejection sampling (Harsha, Jain, McAllester, Radhakrishnan, 2007; any density: Flamich, Theis, 2023).

    Candidate i is accepted with probability (r - L_i) / S_i clipped to [0, 1], where L_1 = 0, S_1 = 1, L_{i+1} = L_i +
    S_i, and S_i = E_P (r - L_i)+ is the mass not yet given. It looks at 2^D_inf candidates on average, exactly.
    """

    name = "grs"

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The first candidate that is accepted."""
        self.refuse(ratio)
        steps = _steps(levels_of(ratio))
        for first, energies, _ in self.parts(ratio, key):
            levels, spare = steps.upto(first + len(energies))
            above = np.exp(ratio.top - energies) - levels[first : first + len(energies)]
            chance = uniforms(private(key), 1, len(energies), first)
            accepted = np.flatnonzero(chance * spare[first : first + len(energies)] <= above)
            if accepted.size:
                number = first + int(accepted[0]) + 1
                return Found((number,), number)
        raise self.failed(ratio)


class Steps:
    """The levels L_i and the masses S_i of one ratio, as far as they were needed."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self._level, self._spare = [0.0], [1.0]
        self._arrays: tuple[Floats, Floats] = np.zeros(0), np.zeros(0)

    def upto(self, count: int) -> tuple[Floats, Floats]:
        """At least the first ``count`` of both."""
        if len(self._arrays[0]) < count:
            while len(self._level) < count:
                self._level.append(self._level[-1] + self._spare[-1])
                self._spare.append(self._levels.survival_at(self._level[-1]))
            self._arrays = np.array(self._level), np.array(self._spare)
        return self._arrays


def _steps(levels: Levels) -> Steps:
    """The steps kept with their levels."""
    if not hasattr(levels, "steps"):
        levels.steps = Steps(levels)  # type: ignore[attr-defined]
    found: Steps = levels.steps  # type: ignore[attr-defined]
    return found
