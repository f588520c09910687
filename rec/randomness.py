"""Random numbers that streams are made of: the same bits on every machine, at any place, in any order.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a counter of
128 bits and a key of 64 bits into 128 random bits with integer arithmetic alone. Seed, layer and step fill the key;
block, path and the position in the sequence fill the counter, so that every combination has a sequence of its own.

Numbers other than integers are made by inversion, with nothing but IEEE additions and multiplications in a fixed
order: a Taylor polynomial per segment of ``rec.quantiles``, whose coefficients are computed in decimal arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.codec import TesseraError
from rec import randomness_fast
from rec.quantiles import coarse_normal_table, exponential_quantile, normal_quantile

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after each round
LAYER_BITS, STEP_BITS = 12, 20

_MASK, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
_HIGHEST = np.uint64(1 << 63)
_CHUNK = 1 << 13  # counters worked on at once: six uint64 arrays of this size stay in the second-level cache

Words = NDArray[np.uint32]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Key:
    """Names one sequence of random numbers: seed and block below 2**32, layer below 2**12, step below 2**20."""

    seed: int
    layer: int = 0
    block: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        limits = {"seed": 32, "layer": LAYER_BITS, "block": 32, "step": STEP_BITS}
        for name, bits in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 1 << bits:
                raise TesseraError(f"the {name} of a random key must be a whole number from 0 to 2**{bits} - 1.")

    @property
    def words(self) -> tuple[int, int]:
        """The two words of the Philox key."""
        return int(self.seed), int(self.layer) << STEP_BITS | int(self.step)


def philox(counter: Any, key: tuple[int, int]) -> Words:
    """Philox4x32-10 of counters under one key: four words or arrays of words that broadcast -> uint32 (4, ...)."""
    rows = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) for c in counter))
    flat = [row.reshape(-1) for row in rows]
    out = np.empty((4, flat[0].size), dtype=np.uint32)
    for start in range(0, flat[0].size, _CHUNK):
        part = slice(start, start + _CHUNK)
        out[:, part] = _rounds(np.stack([row[part] for row in flat]), *key)
    return out.reshape(4, *rows[0].shape)


def uniforms(key: Key, path: int | ArrayLike, count: int, first: int = 0) -> Floats:
    """``count`` numbers from position ``first`` on for each path: float64 (P, count), or (count,) for an int path.

    Values are odd multiples of 2**-33, so strictly between 0 and 1. Paths are whole numbers from 0 below 2**63.
    """
    return (words(key, path, count, first).astype(np.float64) * 2 + 1) * 2.0**-33


def normals(key: Key, path: int | ArrayLike, count: int, first: int = 0) -> Floats:
    """Standard normal numbers at the places of ``uniforms``, by inversion to within 1e-11; at most 6.34 in size."""
    return normal_quantile(words(key, path, count, first))


def exponentials(key: Key, path: int | ArrayLike, count: int, first: int = 0) -> Floats:
    """Exponential numbers of mean 1, -ln of ``uniforms`` to within 1e-12; always positive."""
    return exponential_quantile(words(key, path, count, first))


def coarse_normals(key: Key, blocks: ArrayLike, paths: ArrayLike, count: int) -> Singles:
    """Standard normal numbers of 16 bits each, float32, in the broadcast shape of blocks and paths, then ``count``.

    The levels are the quantiles at odd multiples of 2**-17 (at most 4.33 in size, variance 0.99994), scaled to variance
    one and rounded to float32. ``blocks`` takes the place of ``key.block``.
    """
    blocks, paths = np.broadcast_arrays(np.asarray(blocks), np.asarray(paths))
    if _many(blocks, count):
        return randomness_fast.levels(key.words, blocks.astype(np.uint64), paths.astype(np.uint64), count)
    groups = np.arange(-(-count // 8), dtype=np.uint64)
    counter = _counter(groups, blocks[..., None], paths[..., None])
    halves = np.moveaxis(philox(counter, key.words), 0, -1)  # (..., groups, 4)
    pairs = np.ascontiguousarray(halves, dtype="<u4").view("<u2")  # the low half of a word first
    levels: Singles = coarse_normal_table()[pairs.reshape(*blocks.shape, 8 * len(groups))[..., :count]]
    return levels


def signs(key: Key, blocks: ArrayLike, paths: ArrayLike, count: int) -> Singles:
    """Fair signs of one bit each, float32 +1 or -1, in the broadcast shape of blocks and paths, then ``count``.

    Paths are uint64 whose highest bit is taken as set, so that no sequence of the functions above is touched.
    """
    blocks, paths = np.broadcast_arrays(np.asarray(blocks), np.asarray(paths, dtype=np.uint64) | _HIGHEST)
    if _many(blocks, count):
        return randomness_fast.signs(key.words, blocks.astype(np.uint64), paths, count)
    groups = np.arange(-(-count // 128), dtype=np.uint64)
    made = np.moveaxis(philox(_counter(groups, blocks[..., None], paths[..., None]), key.words), 0, -1)
    octets = np.ascontiguousarray(made, dtype="<u4").view(np.uint8).reshape(*blocks.shape, 16 * len(groups))
    bits = np.unpackbits(octets, axis=-1, count=count, bitorder="little")
    return bits.astype(np.float32) * np.float32(2) - np.float32(1)


def words(key: Key, path: int | ArrayLike, count: int, first: int = 0) -> Words:
    """The 32-bit words behind ``uniforms``, uint32 in the same shape; position i is word i % 4 of counter i // 4."""
    paths = np.asarray(path)
    if paths.dtype.kind not in "iu" or (paths.size and paths.min() < 0):
        raise TesseraError("the paths of random numbers must be whole numbers from 0 on.")
    if not (count >= 0 and first >= 0 and first + count <= 1 << 34):
        raise TesseraError("positions of random numbers go from 0 to 2**34 - 1.")
    groups = np.arange(first // 4, -(-(first + count) // 4), dtype=np.uint64)
    made = np.moveaxis(philox(_counter(groups, key.block, paths[..., None]), key.words), 0, -1)
    return made.reshape(*paths.shape, 4 * len(groups))[..., first % 4 : first % 4 + count]


def permutation(key: Key, count: int) -> NDArray[np.int64]:
    """A random order of ``count`` things: the argument sort of ``count`` words (ties, if any, in order)."""
    return np.argsort(words(key, 0, count), kind="stable").astype(np.int64)


def _many(blocks: NDArray[Any], count: int) -> bool:
    """Whether the compiled generator is there, and worth a call."""
    return blocks.size * count >= randomness_fast.LEAST and randomness_fast.usable()


def _counter(groups: Any, block: Any, paths: Any) -> tuple[Any, Any, Any, Any]:
    paths = np.asarray(paths).astype(np.uint64)
    return groups, block, paths & _MASK, paths >> _WORD


def _rounds(c: NDArray[np.uint64], k0: int, k1: int) -> NDArray[np.uint64]:
    """The ten rounds, in place: each word of c (4, n) holds 32 bits in its low half."""
    m0, m1 = (np.uint64(m) for m in MULTIPLIERS)
    c0, c1, c2, c3 = c
    p0, p1 = np.empty((2, c.shape[1]), dtype=np.uint64)
    for r in range(ROUNDS):
        np.multiply(c0, m0, out=p0)
        np.multiply(c2, m1, out=p1)
        np.right_shift(p1, _WORD, out=c0)
        c0 ^= c1
        c0 ^= np.uint64((k0 + r * WEYL[0]) & 0xFFFFFFFF)
        np.bitwise_and(p1, _MASK, out=c1)
        np.right_shift(p0, _WORD, out=c2)
        c2 ^= c3
        c2 ^= np.uint64((k1 + r * WEYL[1]) & 0xFFFFFFFF)
        np.bitwise_and(p0, _MASK, out=c3)
    return c
