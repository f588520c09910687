"""Schedules: shares of the prior's variance for the steps of iREC.

The published schedule is a power law. It spends too many nats in some steps: the first ones of wide blocks, the last
ones where few dimensions carry the KL. For D equal dimensions equal KL per step needs shares in proportion to
exp(-rho k), rho = 2 Omega / D, because KL(c) = -D/2 ln(1 - c (1 - s^2)). Where dimensions differ, those with little KL
are done early and the rest goes faster and faster. The schedules here have two numbers for it,

    share_k ~ exp(-(r_1 + ... + r_{k-1})),   r_i = rho 2**(j / 2) ((K - i + 1/2) / K)**(-bend),

where j is the effective dimension D 2**(-j / 2). The encoder names j and bend, or the power law, for each block.
What the decoder needs comes from the ``decimal`` module, whose ln and exp are rounded correctly: the same float64 on
every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from rec.coders.irec.auxiliary import kl_until
from rec.gaussian import Floats

EXPONENT = Decimal("-0.7864636765648174")  # of the power law, from the authors' code
POWER_LAW = 0  # the schedule's code; 1 + bend * HALVES + j is that of the others
HALVES = 16  # effective dimensions: D 2**(-j / 2), j = 0..15
BENDS = 7  # exponents 0, 1/4, ..., 3/2
CODES = 1 + BENDS * HALVES

_GRID = np.concatenate([-np.expm1(-np.linspace(0, 16, 65)), [1.0]])
_ENOUGH, _SPARE = 1.25, 0.5  # a schedule whose loss is below _ENOUGH * the least one + _SPARE will do


@dataclass(frozen=True, eq=False)
class Schedule:
    """Shares of the prior's variance, float64 (K,): of each step, spent after it, and left after it (0 at the end)."""

    step: Floats
    spent: Floats
    left: Floats


@lru_cache(maxsize=1024)
def make_schedule(code: int, steps: int, dims: int, kl_per_partition: float) -> Schedule:
    """The schedule of a code for a block of ``dims`` dimensions and any number of steps."""
    if not steps:
        return Schedule(np.zeros(0), np.zeros(0), np.zeros(0))
    with localcontext(Context(prec=40)):
        shares = _power_law(steps) if code == POWER_LAW else _equal_kl(code - 1, steps, dims, kl_per_partition)
        spent = [*accumulate(shares[:-1]), Decimal(1)]
        columns = shares, spent, [1 - x for x in spent]
    made = Schedule(*(np.array(column, dtype=np.float64) for column in columns))
    for array in (made.step, made.spent, made.left):
        array.setflags(write=False)
    return made


def _power_law(steps: int) -> list[Decimal]:
    """Step i from K - 1 down to 0 takes (i + 1)**EXPONENT of what is left, the last one all of it."""
    shares, left = [], Decimal(1)
    for i in range(steps, 0, -1):
        shares.append(left * (EXPONENT * Decimal(i).ln()).exp())
        left -= shares[-1]
    return shares


def _equal_kl(code: int, steps: int, dims: int, kl_per_partition: float) -> list[Decimal]:
    bend, halves = Decimal(code // HALVES) / 4, Decimal(code % HALVES)
    rate = 2 * Decimal(kl_per_partition) / dims * (halves / 2 * Decimal(2).ln()).exp()
    ln = [((Decimal(steps - i) - Decimal("0.5")) / steps).ln() for i in range(steps - 1)]
    sums = accumulate((rate * (-bend * x).exp() for x in ln), initial=Decimal(0))
    weights = [(-x).exp() for x in sums]
    total = sum(weights, Decimal(0))
    return [w / total for w in weights]


def losses(loc: Floats, variance: Floats, steps: int, kl_per_partition: float, spare: float) -> Floats:
    """How ill each schedule suits a target of m and s^2 (D,), float64 (CODES,): cubes of nats beyond the mean step.

    The last step may take ``spare`` nats more, which a search with several paths has in hand.
    """
    reached = kl_until(loc, variance, _GRID)
    allowed = np.full(steps, reached[-1] / steps)
    allowed[-1] += spare
    spent = _all_spent(steps, len(loc), kl_per_partition)
    used = np.diff(np.interp(spent, _GRID, reached), axis=1, prepend=0.0)
    total: Floats = (np.maximum(used - allowed, 0) ** 3).sum(1)
    return total


@lru_cache(maxsize=16)
def _all_spent(steps: int, dims: int, kl_per_partition: float) -> Floats:
    """``Schedule.spent`` of every code in plain float64, (CODES, K), good enough to choose by."""
    power = make_schedule(POWER_LAW, steps, dims, kl_per_partition).spent
    bend, halves = np.divmod(np.arange(CODES - 1), HALVES)
    base = (steps - np.arange(steps - 1) - 0.5) / steps
    rates = 2 * kl_per_partition / dims * 2.0 ** (halves[:, None] / 2) * base ** (-bend[:, None] / 4)
    weights = np.exp(-np.cumsum(np.pad(rates, ((0, 0), (1, 0))), axis=1))
    left = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1] / weights.sum(1, keepdims=True)
    return np.vstack([power, np.pad(1 - left[:, 1:], ((0, 0), (0, 1)), constant_values=1.0)])


def choose(loss: Sequence[Floats]) -> NDArray[np.int64]:
    """A code for each block from its losses (CODES,): few different ones, since each new one has to be described.

    Repeatedly the code that will do for most of the blocks without one; of equals, that of the smallest total loss.
    """
    table = np.array(loss)
    suits = table <= _ENOUGH * table.min(1, keepdims=True) + _SPARE
    codes = np.full(len(table), -1)
    while (open_ := codes < 0).any():
        votes = suits[open_].sum(0)
        most = np.flatnonzero(votes == votes.max())
        totals = np.where(suits[open_], table[open_], 0)[:, most].sum(0)
        best = int(most[totals.argmin()])
        codes[open_ & suits[:, best]] = best
    return codes.astype(np.int64)
