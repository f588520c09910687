"""Quantile functions that give the same bits on every machine: of the normal and the exponential distribution.

A word w of 32 bits stands for u = (2 w + 1) / 2**33. Each octave of the argument is cut into 16 segments; in each, the
function is its Taylor polynomial about the middle, evaluated by Horner's rule with one IEEE multiplication and one
addition at a time. The coefficients come from the ``decimal`` module, whose results are rounded correctly, so no
machine's ``log`` or ``exp`` has a say in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEGREE = 6
OCTAVES = 33
SEGMENTS = 16  # per octave
_SHIFT = np.int64(52 - 4)  # leaves exponent and four bits of a float64
_DIGITS = 36
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582")

Floats = NDArray[np.float64]


def normal_quantile(words: NDArray[np.uint32]) -> Floats:
    """The standard normal quantile at u = (2 w + 1) / 2**33: float64 in the shape of the words, odd in u - 1/2."""
    upper = words >= np.uint32(1 << 31)
    tail = np.where(upper, ~words, words)
    value = _evaluate(_normal_table(), (2.0 * tail + 1.0) * 2.0**-32)
    return np.where(upper, -value, value)


def exponential_quantile(words: NDArray[np.uint32]) -> Floats:
    """-ln u at u = (2 w + 1) / 2**33: float64 in the shape of the words."""
    return _evaluate(_logarithm_table(), (2.0 * words + 1.0) * 2.0**-33)


def normal_quantile_at(u: Floats) -> Floats:
    """The standard normal quantile at any float64 u, moved into 2**-33 to 1 - 2**-33 (at most 6.23 in size)."""
    tail = np.minimum(u, 1.0 - u)
    value = _evaluate(_normal_table(), np.clip(2.0 * tail, 2.0**-32, 1.0 - 2.0**-53))
    return np.where(u > 0.5, -value, value)


@cache
def coarse_normal_table() -> NDArray[np.float32]:
    """The normal quantiles at odd multiples of 2**-17 scaled to variance one: float32 (65536,), ascending."""
    low = _evaluate(_normal_table(), np.arange(1, 2**16, 2) * 2.0**-16)
    squares = math.fsum(np.square(low).tolist()) / len(low)  # correctly rounded sum: no order of addition matters
    levels = low / math.sqrt(squares)
    return np.concatenate([levels, -levels[::-1]]).astype(np.float32)


def _evaluate(table: Floats, argument: NDArray[Any]) -> Floats:
    """The piecewise polynomial at arguments from 2**-OCTAVES up to, but not including, 1."""
    segment = (argument.view(np.int64) >> _SHIFT) - ((1023 - OCTAVES) * SEGMENTS)
    offset = argument - _middles()[segment]
    value: Floats = table[0][segment]
    for row in table[1:]:
        value = value * offset + row[segment]
    return value


@cache
def _middles() -> Floats:
    octave, part = np.divmod(np.arange(OCTAVES * SEGMENTS), SEGMENTS)
    middles: Floats = np.ldexp(1 + (part + 0.5) / SEGMENTS, octave - OCTAVES)
    return middles


def _tabulate(taylor: Callable[[Decimal], list[Decimal]]) -> Floats:
    """Taylor coefficients about every middle, highest power first: float64 (DEGREE + 1, segments)."""
    with localcontext(Context(prec=_DIGITS)):
        rows = [taylor(Decimal(middle))[::-1] for middle in _middles().tolist()]
    return np.array(rows, dtype=np.float64).T.copy()


@cache
def _logarithm_table() -> Floats:
    """Of -ln x: the n-th coefficient is (-1/x)**n / n."""

    def taylor(x: Decimal) -> list[Decimal]:
        return [-x.ln(), *((-1 / x) ** n / n for n in range(1, DEGREE + 1))]

    return _tabulate(taylor)


@cache
def _normal_table() -> Floats:
    """Of the quantile z at x / 2, for the lower half: its n-th derivative is P_n(z) z'**n, z' = 1 / (2 phi(z)).

    P_1 = 1 and P_{n+1} = P_n' + n z P_n, because z'' = z z'**2.
    """
    polynomials = [[1]]
    for n in range(1, DEGREE):
        p = [0, *polynomials[-1], 0, 0]  # p[k + 1] is the coefficient of z**k
        polynomials.append([(k + 1) * p[k + 2] + n * p[k] for k in range(len(p) - 2)])

    def taylor(x: Decimal) -> list[Decimal]:
        z = _solve(x / 2)
        rate = 1 / (2 * _density(z))
        values = [sum(a * z**k for k, a in enumerate(p)) for p in polynomials]
        return [z, *(v * rate**n / math.factorial(n) for n, v in enumerate(values, 1))]

    return _tabulate(taylor)


def _density(z: Decimal) -> Decimal:
    return (-z * z / 2).exp() / (2 * _PI).sqrt()


def _solve(p: Decimal) -> Decimal:
    """The z below 0 with Phi(z) = p: one step of Newton's method takes the float solution from 15 digits to 29."""
    z = Decimal(NormalDist().inv_cdf(float(p)))
    return z - (_phi(z) - p) / _density(z)


def _phi(z: Decimal) -> Decimal:
    """Phi(z) = 1/2 + phi(z) (z + z^3/3 + z^5/(3 5) + ...)."""
    term = total = z
    k: Any = 1
    while abs(term) > Decimal(10) ** -(_DIGITS - 2):
        k += 2
        term = term * z * z / k
        total += term
    return Decimal("0.5") + _density(z) * total
