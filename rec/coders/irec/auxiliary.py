"""The auxiliary variables of iREC (Flamich, Havasi, Hernández-Lobato, NeurIPS 2020, section 3.2).

Under the coding distribution P = N(p, r^2), z - p = a_1 + ... + a_K with a_k ~ N(0, v_k r^2) and sum v_k = 1. With
b_k = a_1 + ... + a_k and c_k = v_1 + ... + v_k, a target Q = N(p + r m, r^2 s^2) makes b_1, b_2, ... a Markov bridge:

    under P   b_k / r ~ N(0, c_k)            under Q   b_k / r ~ N(c_k m, c_k e_k),   e_k = c_k s^2 + 1 - c_k
"""

from __future__ import annotations

import numpy as np

from rec.gaussian import Floats, Gaussian


def marginal(
    target: Gaussian, prior: Gaussian, variance: Floats | float, rest: Floats | float | None = None
) -> tuple[Gaussian, Gaussian]:
    """Laws of the first auxiliary variable, of a given variance up to r^2, under target and prior.

    ``rest`` is r^2 less the variance, where it is known better than that difference is.
    """
    share = variance / np.square(prior.scale)
    inner = np.square(target.scale) * share + (np.square(prior.scale) - variance if rest is None else rest)
    zero = np.zeros_like(prior.loc)
    return (
        Gaussian(share * (target.loc - prior.loc), np.sqrt(share * inner)),
        Gaussian(zero, np.sqrt(zero + variance)),
    )


def condition(
    target: Gaussian,
    prior: Gaussian,
    variance: Floats | float,
    value: Floats | float,
    rest: Floats | float | None = None,
) -> tuple[Gaussian, Gaussian]:
    """Target and prior of z once an auxiliary variable of a given variance below r^2 has taken a value."""
    r2, s2, gap = np.square(prior.scale), np.square(target.scale), target.loc - prior.loc
    rest = r2 - variance if rest is None else rest
    total = s2 * variance + r2 * rest
    loc = prior.loc + (value * s2 * r2 + gap * rest * r2) / total
    return Gaussian(loc, np.sqrt(s2 * r2 * rest / total)), Gaussian(prior.loc + value, np.sqrt(rest + 0 * r2))


def kl_until(loc: Floats, variance: Floats, spent: Floats) -> Floats:
    """KL(Q || P) of b where the share ``spent`` (T,) of the prior variance is spent: nats, float64 (T,).

    ``loc`` and ``variance`` (D,) are m and s^2. The share 1 gives the KL of z itself; differences are the KL of steps.
    """
    inner = spent[:, None] * variance + (1 - spent)[:, None]
    each = inner - 1 - np.log(inner) + spent[:, None] * np.square(loc)
    total: Floats = each.sum(-1) / 2
    return total
