"""Integer frequency tables for the entropy coder, the same bits on every machine.

A table is a row of integers that sum to a power of two; floats are only where the integers come from, rounded once
and far from the last bit, so that no float ever decides how a stream is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.codec import TesseraError

PRECISION = 24  # bits; the most that the coders take
MAX_OFFSET = 2**24
_MAX_TABLE = 2**20  # entries

Ints = NDArray[np.int64]


class TableError(TesseraError, ValueError):
    """Numbers that no table of frequencies can be made of."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Integer frequency tables: table i gives symbol ``offsets[i] + j`` the probability ``frequencies[i][j] / 2**p``.

    Every frequency is at least 1 and each table sums to ``2**precision``. With ``escape``, the last entry of each
    table stands for every other symbol.
    """

    frequencies: tuple[Ints, ...]
    offsets: Ints  # (K,)
    precision: int = PRECISION
    escape: bool = False
    models: dict[Any, Any] = field(default_factory=dict, repr=False)  # what coders built of the tables, on first use

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= PRECISION or not 0 < len(self.frequencies) == len(self.offsets):
            raise ValueError(f"tables need one offset each and a precision of 1 to {PRECISION} bits")
        for i, row in enumerate(self.frequencies):
            whole = row.dtype == np.int64 and len(row) > self.escape
            if not whole or row.min() < 1 or row.sum() != 1 << self.precision:
                raise ValueError(f"table {i} does not hold frequencies of at least 1 that sum to 2**{self.precision}")
        if np.abs(self.offsets).max() > MAX_OFFSET:
            raise ValueError(f"table offsets are at most {MAX_OFFSET} in magnitude")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"models": {}}  # coder models can be neither copied nor pickled

    @property
    def size(self) -> int:
        """The number of tables, K; indices are 0 to K - 1."""
        return len(self.frequencies)

    @cached_property
    def widths(self) -> Ints:
        """How many symbols each table holds, the escape not counted: int64 (K,)."""
        return np.array([len(row) - self.escape for row in self.frequencies], dtype=np.int64)

    @cached_property
    def costs(self) -> tuple[Ints, NDArray[np.float64]]:
        """Where each table starts in the list of all entries, (K,), and what each entry costs in bits."""
        starts = np.cumsum([0, *map(len, self.frequencies[:-1])])
        return starts, self.precision - np.log2(np.concatenate(self.frequencies))


def entropy_bits(counts: ArrayLike) -> float:
    """Zero-order entropy in bits of symbols that were counted, in any shape; 0 where nothing is counted."""
    array = np.asarray(counts)
    shares = array[array > 0] / max(array.sum(), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def gaussian_tables(
    scales: ArrayLike, tail_mass: float = 1e-9, precision: int = PRECISION, means: ArrayLike = 0.0
) -> Tables:
    """Tables of a Gaussian integrated over unit bins, one per scale, with an escape symbol.

    ``scales`` are standard deviations, (K,), positive; ``means`` are one number or (K,). Table i holds -c..c with
    c = ceil(scale * q + |mean|), where q leaves ``tail_mass`` outside -q..q of the unit Gaussian. The same integers
    come out on every machine; results are shared.
    """
    array = np.ascontiguousarray(scales, dtype=np.float64).reshape(-1)
    centres = np.broadcast_to(np.asarray(means, dtype=np.float64), array.shape)
    if not (np.isfinite(array).all() and (array > 0).all() and array.size and 0 < tail_mass < 1):
        raise ValueError("Gaussian tables need finite positive scales and a tail mass between 0 and 1")
    if not (np.abs(centres) < _MAX_TABLE // 4).all():
        raise ValueError("the means of Gaussian tables are finite and small")
    return _gaussian_tables(tuple(zip(array.tolist(), centres.tolist(), strict=True)), tail_mass, precision)


@lru_cache(maxsize=32)
def _gaussian_tables(normals: tuple[tuple[float, float], ...], tail_mass: float, precision: int) -> Tables:
    quantile = -NormalDist().inv_cdf(tail_mass / 2)
    reach = [math.ceil(scale * quantile + abs(mean)) for scale, mean in normals]
    if max(reach) > _MAX_TABLE // 2:
        raise ValueError(f"a scale of {max(normals)[0]} needs a table of more than {_MAX_TABLE} entries")
    rows = tuple(_gaussian_row(*normal, c, precision) for normal, c in zip(normals, reach, strict=True))
    offsets = -np.array(reach, dtype=np.int64)
    for array in (*rows, offsets):
        array.setflags(write=False)  # the result is shared by everyone who asks for it
    return Tables(rows, offsets, precision, escape=True)


def _gaussian_row(scale: float, mean: float, c: int, precision: int) -> Ints:
    """Frequencies of -c..c and the escape; rounding is settled on the mode, where it is relatively smallest."""
    width = scale * math.sqrt(2)
    above = np.array([math.erfc((j + 0.5 - mean) / width) for j in range(c + 1)]) / 2  # P(x > j + 1/2)
    below = np.array([math.erfc((j + 0.5 + mean) / width) for j in range(c + 1)]) / 2  # P(x < -j - 1/2)
    masses = np.concatenate([np.diff(below[::-1]), [1 - above[0] - below[0]], -np.diff(above), above[-1:] + below[-1:]])
    row: Ints = np.maximum(np.rint(masses * 2.0**precision), 1).astype(np.int64)
    mode = int(row[:-1].argmax())
    row[mode] += (1 << precision) - row.sum()
    if row[mode] < 1:
        raise ValueError(f"a precision of {precision} bits is too low for a table of {len(row)} entries")
    return row


def categorical_table(frequencies: ArrayLike, precision: int = PRECISION) -> Tables:
    """Tables of symbols 0..n-1 from counts or probabilities, (n,) for one table or (K, n) for K of them, no escape.

    Every symbol stays codable, a count of zero too. Integers that already are frequencies (at least 1, sum
    ``2**precision``) are kept; others are scaled in integer arithmetic, so the same table comes out on every machine.
    """
    rows = np.atleast_2d(np.asarray(frequencies))
    if rows.ndim != 2 or not 1 <= rows.shape[1] <= 1 << (precision - 1) or not rows.size:
        raise ValueError(f"a categorical table is (n,) or (K, n) with n from 1 to 2**{precision - 1}")
    made = tuple(_categorical_row(row, precision) for row in rows)
    return Tables(made, np.zeros(len(made), dtype=np.int64), precision)


def _categorical_row(row: NDArray[Any], precision: int) -> Ints:
    total = math.fsum(row.tolist())  # exact, whatever the order of summation
    if not (math.isfinite(total) and total > 0 and row.min() >= 0):
        raise TableError("frequencies must be finite, not negative and not all zero: check the counts in the weights.")
    exact = row.dtype.kind in "iu" and total <= 2**38
    weights: Ints = row.astype(np.int64) if exact else np.rint(row / total * 2.0**38).astype(np.int64)
    if exact and total == 1 << precision and weights.min() >= 1:
        return weights
    cumulative = np.concatenate([[0], np.cumsum(weights)])
    shared = cumulative * ((1 << precision) - len(row)) // cumulative[-1]  # below 2**63
    frequencies: Ints = np.diff(shared) + 1
    return frequencies
