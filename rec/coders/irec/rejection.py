"""Greedy rejection sampling of the auxiliary variables (Harsha, Jain, McAllester, Radhakrishnan, 2007).

Candidate i of a step is accepted with probability (r - R_i) / S_i clipped to [0, 1], where r = dQ/dP, R_0 = 0, S_0 = 1,
R_{i+1} = R_i + S_i and S_i = Q(r > R_i) - R_i P(r > R_i) is the mass not yet given. The law of ln r, a quadratic form
in normal numbers, comes from its saddlepoints (Lugannani and Rice, 1980), which costs no draws; the sample follows the
target to within the error of that approximation, and the number of candidates has no bound.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from rec.coders.codes import OctaveCode
from rec.coders.contract import CODERS, Coded, Symbols
from rec.coders.irec.auxiliary import condition, marginal
from rec.coders.irec.stepwise import Stepwise, check_symbols
from rec.gaussian import Floats, Gaussian, kl, standardised
from rec.randomness import Key, coarse_normals, uniforms

MAX_STEP_KL = 20.0  # nats, as in the authors' code
_NOISE = 1 << 62  # the path of the uniform numbers, which only the encoder uses
_FIRST, _MOST = 64, 1024  # candidates looked at together
_POINTS = 161  # of the law of ln r


@CODERS.register("irec_rejection")
@dataclass(frozen=True)
class Rejection(Stepwise):
    """Steps coded by greedy rejection: unbiased, with a code about twice as long as the KL.

    After ``r_buffer_size`` candidates of a step the one with the largest ratio is taken.
    """

    r_buffer_size: int = 1_000_000

    name: ClassVar[str] = "irec_rejection"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.r_buffer_size, bool) or not 1 <= self.r_buffer_size <= 2**30:
            raise TesseraError(f"r_buffer_size={self.r_buffer_size} of irec_rejection must be from 1 to 2**30.")

    def encode(self, target: Gaussian, prior: Gaussian, key: Key) -> Coded:
        """Code one block, Gaussian (D,)."""
        loc, scale = standardised(target, prior)
        steps = self.steps(float(kl(target, prior).sum()))
        code = self.codes(loc[None], np.square(scale)[None], [steps])[0]
        unit, base = Gaussian(loc, scale), Gaussian(np.zeros_like(loc), np.ones_like(scale))
        schedule, total, indices = self.shares(code, steps, len(loc)), np.zeros_like(loc), []
        q, p = unit, base
        for t, (share, spent, left) in enumerate(zip(schedule.step, schedule.spent, schedule.left, strict=True)):
            index = self._draw(*standardised(*marginal(q, p, share, left)), key, t)
            total += math.sqrt(share) * _candidates(key, t, index, 1, len(loc))[0].astype(np.float64)
            indices.append(index)
            if left:
                q, p = condition(unit, base, spent, total, left)
        symbols = (code, *indices)
        nats = sum(self._code.bits(i + 1) for i in indices) * math.log(2)
        return Coded(self.decode(symbols, prior, key), symbols, nats)

    def decode(self, symbols: Symbols, prior: Gaussian, key: Key) -> Floats:
        """The sample of one block, float64 (D,)."""
        check_symbols(symbols, self.r_buffer_size)
        dims, steps = prior.shape[-1], len(symbols) - 1
        schedule = self.shares(symbols[0], steps, dims)
        total = np.zeros(dims) if steps else _candidates(key, 0, 0, 1, dims)[0].astype(np.float64)
        for t, index in enumerate(symbols[1:]):
            total += math.sqrt(schedule.step[t]) * _candidates(key, t, index, 1, dims)[0].astype(np.float64)
        sample: Floats = prior.loc + prior.scale * total
        return sample

    def write_indices(self, indices: Sequence[int], encoder: Encoder) -> None:
        """Append indices with Zipf's law."""
        for index in indices:
            self._code.write(index + 1, encoder)

    def read_indices(self, count: int, decoder: Decoder) -> list[int]:
        """The next ``count`` indices; ``BitstreamError`` for one beyond the buffer, before more are read."""
        return list(self._read(count, decoder))

    def _read(self, count: int, decoder: Decoder) -> Iterator[int]:
        for _ in range(count):
            index = self._code.read(decoder) - 1
            if index >= self.r_buffer_size:
                raise BitstreamError(f"a step has no candidate {index}: the stream is damaged")
            yield index

    @cached_property
    def _code(self) -> OctaveCode:
        return OctaveCode(self.kl_per_partition / math.log(2) + 1)

    def _draw(self, loc: Floats, scale: Floats, key: Key, step: int) -> int:
        """The index of the accepted candidate of N(0, 1) for a target of loc and scale (D,)."""
        nats = float((scale**2 - 1 + loc**2).sum() / 2 - np.log(scale).sum())
        if nats > MAX_STEP_KL:
            raise TesseraError(
                f"a step of irec_rejection has a KL of {nats:.1f} nats, more than the {MAX_STEP_KL:.0f} that can be "
                "searched: lower kl_per_partition, or use beam_search."
            )
        law, (w1, w2, constant) = _Law(loc, scale), _quadratic(loc, scale)
        weights = w1.astype(np.float32), w2.astype(np.float32)
        best, first, count = (-math.inf, 0), 0, _FIRST
        while first < self.r_buffer_size:
            count = min(count, self.r_buffer_size - first)
            z = _candidates(key, step, first, count, len(loc))
            ratio = constant + (z @ weights[1] + np.square(z) @ weights[0]).astype(np.float64)
            chance = uniforms(Key(key.seed, key.layer, key.block, step), _NOISE, count, first)
            level, spare = law.thresholds(first, count)
            accepted = np.flatnonzero(chance * spare < np.exp(np.minimum(ratio, 700)) - level)
            if accepted.size:
                return first + int(accepted[0])
            best = max(best, (float(ratio.max()), -first - int(ratio.argmax())))
            first, count = first + count, min(2 * count, _MOST)
        return -best[1]


class _Law:
    """P(r > R) and Q(r > R) of the ratio of a target N(loc, scale^2) (D,) and N(0, 1)."""

    def __init__(self, loc: Floats, scale: Floats) -> None:
        w1, w2, constant = _quadratic(loc, scale)
        low = 0.98 / (2 * w1.min()) if w1.min() < 0 else -math.inf
        high = 1 + 0.98 * (1 / (2 * w1.max()) - 1) if w1.max() > 0 else math.inf
        tilt = np.linspace(max(low, -4.0), min(high, 6.0), _POINTS) + 1e-3
        inner = 1 - 2 * tilt[:, None] * w1
        cumulant = tilt * constant + (np.square(tilt[:, None] * w2) / inner - np.log(inner)).sum(1) / 2
        slope = constant + (w1 / inner + tilt[:, None] * w2**2 * (1 - tilt[:, None] * w1) / inner**2).sum(1)
        curve = (2 * w1**2 / inner**2 + w2**2 / inner**3).sum(1)
        self._above = [
            tuple(column.tolist() for column in _survival(tilt - shift, cumulant, slope, curve)) for shift in (0, 1)
        ]
        self._level, self._spare = [0.0], [1.0]

    def thresholds(self, first: int, count: int) -> tuple[Floats, Floats]:
        """R_i and S_i of candidates ``first`` to ``first + count - 1``."""
        while len(self._level) < first + count:
            level = self._level[-1] + self._spare[-1]
            self._level.append(level)
            self._spare.append(min(self._spare[-1], self._spare_at(level)))
        return np.array(self._level[first : first + count]), np.array(self._spare[first : first + count])

    def _spare_at(self, level: float) -> float:
        """The mass not yet given at a level above 0; never nothing, so that a ratio above all levels is accepted."""
        x = math.log(level)
        p, q = (_interpolate(x, *above) for above in self._above)
        return max(q - level * p, 1e-12)


def _interpolate(x: float, grid: list[float], values: list[float]) -> float:
    if not grid:  # a step without KL: r is 1 everywhere
        return float(x < 0)
    i = bisect_left(grid, x)
    if i == 0 or i == len(grid):
        return values[min(i, len(grid) - 1)]
    return values[i - 1] + (x - grid[i - 1]) / (grid[i] - grid[i - 1]) * (values[i] - values[i - 1])


def _survival(tilt: Floats, cumulant: Floats, slope: Floats, curve: Floats) -> tuple[Floats, Floats]:
    """Values of ln r, ascending, and the mass above each: the formula of Lugannani and Rice at the saddlepoints.

    ``tilt`` is the saddlepoint of the law itself, which Q has at one less than P, since E_Q r^t = E_P r^(t + 1).
    """
    from scipy.special import ndtr

    w = np.sign(tilt) * np.sqrt(np.maximum(2 * (tilt * slope - cumulant), 0))
    clear = np.abs(w) > 0.02  # next to the mean the formula is a difference of large numbers
    w, u = w[clear], (tilt * np.sqrt(curve))[clear]
    above = ndtr(-w) + np.exp(-w * w / 2) / math.sqrt(2 * math.pi) * (1 / u - 1 / w)
    return slope[clear], np.clip(above, 0, 1)


def _quadratic(loc: Floats, scale: Floats) -> tuple[Floats, Floats, float]:
    """ln r = constant + sum w1 z^2 + w2 z for a target N(loc, scale^2) and N(0, 1)."""
    return (1 - scale**-2) / 2, loc / scale**2, -float((np.log(scale) + (loc / scale) ** 2 / 2).sum())


def _candidates(key: Key, step: int, first: int, count: int, dims: int) -> NDArray[np.float32]:
    return coarse_normals(Key(key.seed, key.layer, 0, step), key.block, np.arange(first, first + count), dims)
