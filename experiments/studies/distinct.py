"""Count of distinct vectors of whole numbers, and their entropy, over streams of any length.

    counter = DistinctCounter()                    # or DistinctCounter(sketch=True)
    for rows in batches: counter.add(rows)         # whole numbers (N, d) below 2**31 in magnitude
    counter.result()                               # vectors, distinct, entropy_bits

Each row is reduced to 128 bits by four strongly universal hash functions of 32 bits each (multilinear hashing: Lemire
and Kaser, "Strongly universal string hashing is fast", 2014). Fingerprints and their counts go to 256 files by their
first byte, which are sorted one at a time in the end. Two of n distinct rows share a fingerprint with a probability
below n^2 2^-129: 3e-20 for the 4.6e9 vectors of FFHQ. The sketch (HyperLogLog, Flajolet et al. 2007) needs 16 kB
instead, has a standard error of 0.81 % and no entropy.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError

PARTS = 256
HELD = 2**20  # records in memory before they are written
CHUNK = 2**12  # rows hashed at once, which stay in the cache
RECORD = np.dtype([("part", np.uint64), ("rest", np.uint64), ("count", np.uint64)])
REGISTERS = 14  # bits: 2**14 registers
SKETCH_ERROR = 1.04 / 2 ** (REGISTERS / 2)  # relative standard error

Words = NDArray[np.uint64]


class CountError(TesseraError):
    """Rows that cannot be counted, or a disk that cannot hold the partitions."""


@dataclass(frozen=True)
class Distinct:
    """What was counted; ``entropy_bits`` per vector is None for a sketch, whose ``error`` is relative (0: exact)."""

    vectors: int
    distinct: int
    entropy_bits: float | None
    error: float = 0.0


class DistinctCounter:
    """Rows in, counts out; ``folder`` is where partitions are kept meanwhile (default: a temporary folder)."""

    def __init__(self, folder: Path | None = None, sketch: bool = False, seed: int = 0) -> None:
        self._seed, self._vectors = seed, 0
        self._keys: Words = np.empty((0, 4), np.uint64)
        self._registers = np.zeros(1 << REGISTERS, np.uint8) if sketch else None
        self._held: list[NDArray[Any]] = []
        self._folder = None if sketch else tempfile.TemporaryDirectory(prefix="distinct-", dir=folder)

    def add(self, rows: NDArray[Any]) -> None:
        """Count whole numbers (N, d); all calls must have the same d."""
        if (
            rows.ndim != 2
            or rows.dtype.kind not in "iu"
            or (rows.size and not -(2**31) < rows.min() <= rows.max() < 2**31)
        ):
            raise CountError("rows to count are whole numbers (N, d) below 2**31 in magnitude.")
        if not len(rows):
            return
        part, rest = self._fingerprints(rows)
        self._vectors += len(rows)
        if self._registers is not None:
            _sketch(self._registers, _mixed(part ^ rest))
            return
        records = np.empty(len(rows), RECORD)
        records["part"], records["rest"], records["count"] = part, rest, 1
        self._held.append(_merged(records))
        if sum(map(len, self._held)) > HELD:
            self._merge_held()

    def result(self) -> Distinct:
        """The counts of all rows so far; the partitions are removed, so call it once."""
        if self._registers is not None:
            return Distinct(self._vectors, round(_estimate(self._registers)), None, SKETCH_ERROR)
        assert self._folder is not None
        with self._folder as name:
            held = np.concatenate([np.empty(0, RECORD), *self._held])
            distinct, total = 0, 0.0
            for number in range(PARTS):
                mine = held[held["part"] >> np.uint64(56) == number]
                path = Path(name) / f"{number:03d}"
                stored = np.fromfile(path, RECORD) if path.exists() else np.empty(0, RECORD)
                counts = _merged(np.concatenate([stored, mine]))["count"].astype(np.float64)
                distinct += len(counts)
                total += float((counts * np.log2(counts)).sum())
        self._held = []
        entropy = math.log2(self._vectors) - total / self._vectors if self._vectors else 0.0
        return Distinct(self._vectors, distinct, entropy)

    def _fingerprints(self, rows: NDArray[Any]) -> tuple[Words, Words]:
        """128 bits of each row: four sums of 64-bit keys times 32-bit values, of which the upper halves are kept."""
        width = rows.shape[1]
        if not len(self._keys):
            draw = np.random.default_rng([self._seed, width])
            self._keys = draw.integers(0, 2**64, (width + 1, 4), dtype=np.uint64)
        if len(self._keys) != width + 1:
            raise CountError(f"rows of {width} numbers cannot be counted with rows of {len(self._keys) - 1}.")
        upper = np.empty((4, len(rows)), np.uint64)
        for start in range(0, len(rows), CHUNK):
            columns = rows[start : start + CHUNK].T.astype(np.int32, order="C").view(np.uint32).astype(np.uint64)
            part = upper[:, start : start + CHUNK]
            part[:] = self._keys[0][:, None]
            for column, keys in zip(columns, self._keys[1:], strict=True):
                part += column * keys[:, None]
        upper >>= np.uint64(32)
        low = np.uint64(32)
        return upper[0] << low | upper[1], upper[2] << low | upper[3]

    def _merge_held(self) -> None:
        """Merge what is in memory; where that does not make it small, write it to the partitions."""
        records = _merged(np.concatenate(self._held))
        if len(records) < HELD // 2:
            self._held = [records]
            return
        assert self._folder is not None
        bounds = np.searchsorted(records["part"], np.arange(1, PARTS, dtype=np.uint64) << np.uint64(56))
        try:
            for number, piece in enumerate(np.split(records, bounds)):
                with (Path(self._folder.name) / f"{number:03d}").open("ab") as file:
                    piece.tofile(file)
        except OSError as error:
            raise CountError(f"{self._folder.name} cannot hold the counts ({error.strerror}): free the disk.") from None
        self._held = []


def _merged(records: NDArray[Any]) -> NDArray[Any]:
    """Records sorted by fingerprint, equal ones as one with the sum of their counts."""
    if not len(records):
        return records
    order = np.lexsort((records["rest"], records["part"]))
    sorted_ = records[order]
    new = np.ones(len(sorted_), bool)
    new[1:] = (sorted_["part"][1:] != sorted_["part"][:-1]) | (sorted_["rest"][1:] != sorted_["rest"][:-1])
    starts = np.flatnonzero(new)
    merged = sorted_[starts]
    merged["count"] = np.add.reduceat(sorted_["count"], starts)
    return merged


def _mixed(words: Words) -> Words:
    """Steele, Lea and Flood's finaliser: a sketch needs bits that look random, not only rare collisions."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _sketch(registers: NDArray[np.uint8], hashes: Words) -> None:
    """Each register keeps the longest run of leading zeros, plus one, of the hashes that begin with its number."""
    place = (hashes >> np.uint64(64 - REGISTERS)).astype(np.int64)
    rest = (hashes << np.uint64(REGISTERS)) >> np.uint64(12)  # 52 bits, exact as a float
    rank = np.where(rest == 0, 53, 53 - np.frexp(rest.astype(np.float64))[1])  # leading zeros of 52 bits, plus one
    np.maximum.at(registers, place, rank.astype(np.uint8))


def _estimate(registers: NDArray[np.uint8]) -> float:
    """HyperLogLog's estimate, with linear counting where many registers are empty."""
    m = len(registers)
    raw = 0.7213 / (1 + 1.079 / m) * m * m / float((2.0 ** -registers.astype(np.float64)).sum())
    empty = int((registers == 0).sum())
    return m * math.log(m / empty) if raw <= 2.5 * m and empty else raw
