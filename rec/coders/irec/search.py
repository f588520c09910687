"""The search for good paths, many blocks at once, and the replay of a path that decoding is.

The candidates of a step are b + sqrt(v) s o g_j: one base g_1 ... g_n of normal numbers for each (block, step), with
the signs s of the path that leads to b. Signs make the candidates of different paths independent in all terms of the
score that are odd in a, which is what the search lives on; sharing g makes the scores of all paths one matrix product:

    score(b + a) = score(b) + sum w2 a + w1 a^2 + 2 w1 b a,   w1 = (1 - 1 / e) / (2 c),  w2 = m / e

with c and e of ``rec.coders.irec.auxiliary``, up to terms that are equal for all candidates. Scores are float32: they
only choose. The sample is made by ``replay`` in float64 with additions and multiplications in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rec.coders.irec.schedule import Schedule
from rec.gaussian import Floats
from rec.randomness import Key, coarse_normals, signs

MIN_INNER = 1e-12  # of e in scores, which float32 has to hold

Paths = NDArray[np.uint64]
Singles = NDArray[np.float32]
Indices = list[NDArray[np.int64]]
Noise = Callable[[int, NDArray[np.int64], tuple[int, ...]], Singles]


@dataclass(frozen=True, eq=False)
class Batch:
    """Blocks searched together: m and s^2 float64 (M, D), a schedule each, the most steps first, and their numbers."""

    loc: Floats
    variance: Floats
    schedules: Sequence[Schedule]
    seed: int
    layer: int
    blocks: NDArray[np.int64]


@dataclass(eq=False)
class _Beams:
    """The paths kept of the blocks that are still running: partial sums (M, B, D), path numbers and history."""

    sums: Singles
    paths: Paths
    history: list[tuple[NDArray[np.int64], NDArray[np.int64]]]  # (parent, index) of every step, (M, B)


def search(batch: Batch, samples: int, n_beams: int, noise: Noise | None = None) -> Indices:
    """The indices of the best path found for each block, of as many steps as its schedule has.

    Every step tries ``samples`` candidates for each of at most ``n_beams`` paths. ``noise(step, blocks, shape)`` gives
    float32 to add to the scores of a step.
    """
    m, dims = batch.loc.shape
    lengths = [len(s.step) for s in batch.schedules]
    beams = _Beams(np.zeros((m, 1, dims), np.float32), np.zeros((m, 1), np.uint64), [])
    found: Indices = [np.zeros(0, np.int64)] * m
    for t in range(lengths[0]):
        active = sum(length > t for length in lengths)
        beams.sums, beams.paths = beams.sums[:active], beams.paths[:active]
        best = _step(batch, beams, t, active, samples, n_beams, noise)
        for i in range(active):
            if lengths[i] == t + 1:
                found[i] = _trace(beams.history, i, int(best[i]))
    return found


def _step(
    batch: Batch, beams: _Beams, t: int, active: int, samples: int, n_beams: int, noise: Noise | None
) -> NDArray[np.int64]:
    """Extend the paths of the active blocks in place by one index; which of the kept ones is best, (active,)."""
    key, blocks = Key(batch.seed, batch.layer, 0, t), batch.blocks[:active]
    share, spent, left = (
        np.array([getattr(s, name)[t] for s in batch.schedules[:active]])[:, None] for name in ("step", "spent", "left")
    )
    inner = np.maximum(spent * batch.variance[:active] + left, MIN_INNER)
    w1 = ((1 - 1 / inner) / (2 * spent)).astype(np.float32)[:, None]
    w2 = (batch.loc[:active] / inner).astype(np.float32)[:, None]
    base = coarse_normals(key, blocks[:, None], np.arange(samples), batch.loc.shape[1])
    base *= np.sqrt(share)[..., None].astype(np.float32)
    flips = signs(key, blocks[:, None], beams.paths, batch.loc.shape[1])
    scores = _scores(beams.sums, base, flips, w1, w2)
    if noise is not None:
        scores += noise(t, blocks, scores.shape)
    top = _largest(scores, n_beams)
    parent, index = np.divmod(top, samples)
    row = np.arange(active)[:, None]
    flips = flips[row, parent]
    flips *= base[row, index]
    flips += beams.sums[row, parent]
    beams.sums, beams.paths = flips, _extend(beams.paths[row, parent], index)
    beams.history.append((parent, index))
    best: NDArray[np.int64] = np.take_along_axis(scores, top, 1).argmax(1)
    return best


def _scores(sums: Singles, base: Singles, flips: Singles, w1: Singles, w2: Singles) -> Singles:
    """Scores (M, B n) of all candidates: sums and flips (M, B, D), base (M, n, D), weights (M, 1, D)."""
    slope = sums * w1
    slope += w2
    own: Any = np.einsum("mbd,mbd->mb", slope, sums)  # w1 b^2 + w2 b
    slope *= 2
    slope -= w2
    slope *= flips
    made: Any = slope @ base.transpose(0, 2, 1)
    made += np.einsum("mnd,mnd->mn", base * w1, base)[:, None]
    made += own[..., None]
    scores: Singles = made.reshape(len(sums), -1)
    return scores


def _largest(scores: Singles, count: int) -> NDArray[np.int64]:
    """Columns of the ``count`` largest scores of each row, in any order."""
    if scores.shape[1] <= count:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    top: NDArray[np.int64] = np.argpartition(scores, -count, axis=1)[:, -count:]
    return top


def _trace(history: Sequence[tuple[Any, Any]], block: int, beam: int) -> NDArray[np.int64]:
    indices = []
    for parents, chosen in reversed(history):
        indices.append(chosen[block, beam])
        beam = parents[block, beam]
    return np.array(indices[::-1], dtype=np.int64)


def _extend(paths: Paths, index: NDArray[np.int64]) -> Paths:
    """The number of each path with one more index, modulo 2**64."""
    extended: Paths = paths * np.uint64(6364136223846793005) + index.astype(np.uint64) + np.uint64(1)
    return extended


def replay(
    indices: Indices, schedules: Sequence[Schedule], dims: int, seed: int, layer: int, blocks: NDArray[np.int64]
) -> Floats:
    """z in units of the prior, float64 (M, D): the sum of the steps of each path, the blocks with most steps first.

    A path without steps stands for a draw from the prior.
    """
    z = np.zeros((len(indices), dims))
    idle = np.array([not len(path) for path in indices], dtype=bool)
    z[idle] = coarse_normals(Key(seed, layer), blocks[idle], 0, dims)
    paths = np.zeros(len(indices), np.uint64)
    for t in range(len(indices[0]) if indices else 0):
        active = sum(len(path) > t for path in indices)
        key, part = Key(seed, layer, 0, t), blocks[:active]
        index = np.array([path[t] for path in indices[:active]])
        scale = np.sqrt([s.step[t] for s in schedules[:active]])[:, None]
        flips = signs(key, part, paths[:active], dims)
        z[:active] += scale * (flips * coarse_normals(key, part, index, dims))
        paths[:active] = _extend(paths[:active], index)
    return z
