"""The golden target of ``shared/golden/irec.md`` and the sparse ones of the tests (no files needed)."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from rec.gaussian import Gaussian


def family(dims: int, nats: float) -> Gaussian:
    """The golden target: scale exp(-KL / D) everywhere, locs at the quantiles of a normal law, KL exactly as named."""
    scale = math.exp(-nats / dims)
    loc = np.array([NormalDist().inv_cdf((d + 0.5) / dims) for d in range(dims)])
    rest = nats - dims * ((scale**2 - 1) / 2 - math.log(scale))
    return Gaussian(loc * math.sqrt(2 * rest / np.square(loc).sum()), np.full(dims, scale))


def sparse(dims: int, share: float, nats: float, spread: float) -> Gaussian:
    """All of the KL in a share of the dimensions, where it is log-normal with the given spread."""
    count = round(share * dims)
    z = np.array([NormalDist().inv_cdf((d + 0.5) / count) for d in range(count)])
    each = np.exp(spread * z)
    scale = np.exp(-each * nats / each.sum())
    loc = np.sqrt(1 - scale**2) * z[np.argsort(np.arange(count) * 0.6180339887 % 1)]
    rest = nats - ((scale**2 - 1) / 2 - np.log(scale)).sum()
    still = np.zeros(dims - count)
    return Gaussian(
        np.concatenate([loc * math.sqrt(2 * rest / np.square(loc).sum()), still]), np.concatenate([scale, still + 1])
    )


def standard(dims: int) -> Gaussian:
    return Gaussian(np.zeros(dims), np.ones(dims))
