"""Codebooks by Lloyd's iteration: with a rate term (ECVQ), without one (VQ), and one coordinate at a time (ECSQ).

ECVQ is Chou, Lookabaugh and Gray, "Entropy-constrained vector quantization", IEEE Trans. ASSP 37 (1989): choose the
codeword of least lambda |x - c|^2 - log2 p, move it to the mean of its cell, set p to the cell's frequency.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.frequencies import Tables, categorical_table
from vq.toy.bounds import lattice_volume
from vq.toy.codes import Codebook, CodeError, Codes, nearest
from vq.toy.sources import Source

Watch = Callable[[int, Codebook], None]  # called with the iteration and the code so far
Floats = NDArray[np.float64]

STARTS = ("lattice", "random", "merged")


def lloyd(
    x: Tensor, start: Codebook, rounds: int = 200, tolerance: float = 1e-5, watch: Watch | None = None
) -> tuple[Codebook, float]:
    """Iterate on vectors x (n, d) until the Lagrangian changes by less than ``tolerance`` of itself.

    Returns the codebook and its R + lambda D on x. Codewords whose cells are empty are dropped. With an infinite
    lambda the codewords alone move (k-means), the distortion is what falls, and an empty cell takes the vector that is
    worst off.
    """
    plain = math.isinf(start.lmb)
    points, p, lmb = start.points, start.probabilities, 1.0 if plain else start.lmb
    before = math.inf
    for turn in range(rounds):
        costs = torch.zeros(len(points)) if plain else -p.log2().float().clamp(min=-1e9)
        index, value = nearest(x, points, costs, lmb)
        loss = float(value.double().mean())
        counts = torch.bincount(index, minlength=len(points))
        sums = torch.zeros(points.shape, dtype=torch.float64).index_add_(0, index, x.double())
        if plain and int(counts.min()) == 0:
            lost = torch.nonzero(counts == 0)[:, 0]
            sums[lost], counts[lost] = x[value.topk(len(lost)).indices].double(), 1
        kept = counts > 0
        points = (sums[kept] / counts[kept, None]).float()
        p = counts[kept].double() / counts[kept].sum()
        if watch is not None:
            watch(turn + 1, Codebook(points, p, start.lmb))
        if before - loss < tolerance * abs(loss):
            break
        before = loss
    return Codebook(points, p, start.lmb), loss


def lattice_start(x: Tensor, lmb: float, rng: np.random.Generator, scale: float = 1.0) -> Tensor:
    """A hexagonal lattice (equally spaced points for dim 1) that covers x, turned and shifted at random.

    The cell is the best one at high rate, times ``scale``; points without a vector nearby are left out.
    """
    dim = x.shape[1]
    if dim > 2:
        raise CodeError(f"a lattice start exists for 1 and 2 dimensions, not {dim}: use start=random.")
    volume = lattice_volume(lmb, dim) * scale
    if dim == 1:
        start = rng.random() * volume
        cells: Tensor = torch.floor((x[:, 0] - start) / volume + 0.5).unique()
        return (cells * volume + start)[:, None]
    side = math.sqrt(2 * volume / math.sqrt(3))
    angle = rng.random() * math.pi / 3
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    offset = torch.from_numpy(rng.random(2) * 2 * side)
    flat = (x.double() - offset) @ turn.double().T
    tall = side * math.sqrt(3)  # the hexagonal lattice is two rectangular ones, half a cell apart
    cell = torch.tensor([side, tall], dtype=torch.float64)
    first = torch.round(flat / cell) * cell
    second = (torch.round(flat / cell - 0.5) + 0.5) * cell
    closer = (flat - first).square().sum(1) <= (flat - second).square().sum(1)
    places = torch.where(closer[:, None], first, second)
    keys: Tensor = torch.round(places / cell * 2).long().unique(dim=0).double() * cell / 2
    return (keys @ turn.double() + offset).float()


def random_start(x: Tensor, k: int, rng: np.random.Generator) -> Tensor:
    """k of the vectors, drawn without replacement."""
    if not 1 <= k <= len(x):
        raise CodeError(f"k={k} codewords cannot be drawn from {len(x)} vectors.")
    return x[torch.from_numpy(rng.choice(len(x), k, replace=False))].clone()


def with_frequencies(x: Tensor, points: Tensor, lmb: float) -> Codebook:
    """Codewords with the frequencies of their Voronoi cells in x, empty ones dropped."""
    index, _ = nearest(x, points, torch.zeros(len(points)), 1.0)
    counts = torch.bincount(index, minlength=len(points))
    kept = counts > 0
    return Codebook(points[kept], counts[kept].double() / counts.sum(), lmb)


def merged(code: Codebook) -> Codebook:
    """Merge pairs of cells, the best first, while that lowers R + lambda D; two codewords are left at least.

    Pairwise nearest neighbours (Equitz, IEEE Trans. ASSP 37, 1989) with the rate in the cost. Lloyd's iteration alone
    keeps too many codewords in many dimensions: on the sawbridge one for every vector.
    """
    points, p = code.points.double().numpy().copy(), code.probabilities.numpy().copy()
    cost = np.stack([_cost_of_merging(points, p, i, code.lmb) for i in range(len(p))])
    for _ in range(len(p) - 2):
        i, j = np.unravel_index(cost.argmin(), cost.shape)
        if not cost[i, j] < 0:
            break
        points[i] = (p[i] * points[i] + p[j] * points[j]) / (p[i] + p[j])
        p[i], p[j] = p[i] + p[j], 0
        cost[j], cost[:, j] = math.inf, math.inf
        cost[i] = cost[:, i] = _cost_of_merging(points, p, int(i), code.lmb)
    return Codebook(torch.from_numpy(points[p > 0]).float(), torch.from_numpy(p[p > 0]), code.lmb)


def _cost_of_merging(points: Floats, p: Floats, i: int, lmb: float) -> Floats:
    """What R + lambda D gains when cell i takes in each other cell, (K,); infinite for itself and those of no mass."""
    both = p[i] + p
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = lmb * p[i] * p / both * np.square(points - points[i]).sum(1)
        cost: Floats = spread + p[i] * np.log2(p[i]) + p * np.log2(p) - both * np.log2(both)
    cost[(p == 0) | (np.arange(len(p)) == i)] = math.inf
    return cost


def start_size(lmb: float, dim: int) -> int:
    """Codewords a random start has unless told: well above what will live."""
    if dim > 2:
        return max(16, round(20 * math.sqrt(lmb * dim)))
    return max(8, round(20 * math.sqrt(lmb)) + 1) if dim == 1 else max(16, round(80 * math.sqrt(lmb)))


def train_ecvq(
    source: Source, lmb: float, seed: int, start: str = "lattice", vectors: int = 2**18, restarts: int = 4,
    k: int = 0, watch: Watch | None = None,
) -> Codebook:  # fmt: skip
    """ECVQ of a source: ``restarts`` short runs on an eighth of the vectors, the best of them finished on all.

    Training vectors come from a scrambled Sobol sequence, which leaves far less to over-fit than random ones.
    """
    if start not in STARTS:
        raise CodeError(f"start={start} is not one of {', '.join(STARTS)}.")
    if k == 1:
        raise CodeError("k=1 codewords are too few: at least 2.")
    rng = np.random.default_rng(seed)
    x = source.spread(_fitting(vectors, source.dim), seed)
    few = x[: max(len(x) // 8, 1)]
    found: list[tuple[float, int, Codebook]] = []
    for turn in range(restarts):
        if start == "lattice":
            points = lattice_start(few, lmb, rng, (1.0, 0.85, 1.2, 1.0)[turn % 4])
        else:
            points = random_start(few, min(k or start_size(lmb, source.dim), len(few)), rng)
        code, loss = lloyd(few, with_frequencies(few, points, lmb), 60, 2e-5, watch if turn == 0 else None)
        if start == "merged":
            code, loss = lloyd(few, merged(code), 60, 2e-5)
        found.append((loss, turn, code))
    best = min(found, key=lambda entry: entry[:2])[2]
    if start == "lattice":  # the points beyond the vectors of the short run
        best = _extended(best, x)
    return lloyd(x, best, 80, 3e-6, watch)[0]


def _extended(code: Codebook, x: Tensor) -> Codebook:
    """The code with codewords for outliers: vectors that cost more than a new codeword of frequency 1/n would."""
    index, value = nearest(x, code.points, code.costs.float(), code.lmb)
    price = math.log2(len(x)) + 2
    far = torch.nonzero(value > price)[:, 0]
    if not len(far):
        return code
    side = math.sqrt(price / code.lmb)
    places = torch.unique(torch.round(x[far] / side), dim=0) * side
    counts = torch.bincount(index, minlength=len(code.points)).double()
    p = torch.cat((counts, torch.ones(len(places), dtype=torch.float64)))
    return Codebook(torch.cat((code.points, places)), p / p.sum(), code.lmb)


def _fitting(vectors: int, dim: int) -> int:
    """The number of training vectors, less for sources of many dimensions (2**24 values in all)."""
    return int(max(256, min(vectors, 2**24 // dim)))


def train_vq(source: Source, k: int, seed: int, vectors: int = 2**17, watch: Watch | None = None) -> Codebook:
    """k-means: codewords for distortion alone; their frequencies serve the entropy coder only."""
    if k < 2:
        raise CodeError(f"k={k} codewords are too few: at least 2.")
    x = source.spread(_fitting(vectors, source.dim), seed)
    few = x[: max(min(len(x), 64 * k), len(x) // 8)]
    points = random_start(few, k, np.random.default_rng(seed))
    rough, _ = lloyd(few, with_frequencies(few, points, math.inf), 60, 1e-4, watch)
    return lloyd(x, rough, 60, 1e-5, watch)[0]


# One dimension: cells are intervals between sorted codewords, so prefix sums make an iteration cost O(K log n).


def intervals(points: Floats, costs: Floats, lmb: float) -> tuple[NDArray[np.int64], Floats]:
    """The codewords that win somewhere, in ascending order, and the boundaries between their cells."""
    kept: list[int] = []
    edges: list[float] = []
    for i in np.argsort(points):
        while kept:
            j = kept[-1]
            edge = _edge(points[j], points[i], costs[j], costs[i], lmb)
            if edge <= (edges[-1] if edges else -math.inf):  # j wins nowhere
                kept.pop()
                edges = edges[:-1]
                continue
            if edge < math.inf:
                edges.append(edge)
                kept.append(int(i))
            break
        else:
            kept.append(int(i))
    return np.array(kept, dtype=np.int64), np.array(edges)


def _edge(low: float, high: float, cost_low: float, cost_high: float, lmb: float) -> float:
    """Where the upper of two scalar codewords begins to win; infinite when one of two equal ones always does."""
    if low == high:
        return math.inf if cost_high >= cost_low else -math.inf
    return (low + high) / 2 + (cost_high - cost_low) / (2 * lmb * (high - low))


def lloyd_1d(x: Floats, points: Floats, lmb: float, rounds: int = 3000, tolerance: float = 1e-9) -> Codebook:
    """``lloyd`` for scalars x (n,), sorted ascending, from given points (K,)."""
    sums = np.concatenate([[0.0], np.cumsum(x)])
    costs, before = np.zeros(len(points)), math.inf
    squares = float(np.square(x).mean())
    for _ in range(rounds):
        kept, edges = intervals(points, costs, lmb)
        at = np.concatenate([[0], np.searchsorted(x, edges), [len(x)]])
        counts, totals = np.diff(at), np.diff(sums[at])
        kept, counts, totals = kept[counts > 0], counts[counts > 0], totals[counts > 0]
        p, points = counts / len(x), totals / counts
        costs = -np.log2(p)
        loss = float((p * costs).sum()) + lmb * (squares - float((p * points**2).sum()))
        if before - loss < tolerance:
            break
        before = loss
    return Codebook(torch.from_numpy(points[:, None]).float(), torch.from_numpy(p), lmb)


@dataclass(frozen=True, eq=False)
class ScalarCode:
    """One scalar codebook per coordinate, coded coordinate by coordinate."""

    books: tuple[Codebook, ...]

    @property
    def tables(self) -> Tables:
        """A table per coordinate."""
        rows = tuple(categorical_table(book.probabilities.numpy()).frequencies[0] for book in self.books)
        return Tables(rows, np.zeros(len(rows), dtype=np.int64))

    def quantize(self, x: Tensor) -> Codes:
        """Indices (n, d)."""
        return np.concatenate([book.quantize(x[:, i : i + 1]) for i, book in enumerate(self.books)], 1)

    def dequantize(self, codes: Codes) -> Tensor:
        """Reconstructions (n, d)."""
        return torch.cat([book.dequantize(codes[:, i : i + 1]) for i, book in enumerate(self.books)], 1)

    def bits(self, codes: Codes) -> Tensor:
        """Bits (n,), the coordinates summed."""
        return torch.stack([book.bits(codes[:, i : i + 1]) for i, book in enumerate(self.books)]).sum(0)


def train_ecsq(source: Source, lmb: float, seed: int, vectors: int = 2**20) -> ScalarCode:
    """Entropy-constrained scalar quantisers, each optimal for its coordinate's marginal: the best of several starts."""
    x = source.spread(_fitting(vectors, source.dim), seed).double().numpy()
    books = []
    step = lattice_volume(lmb, 1)
    for column in x.T:
        ordered = np.sort(column)
        starts = [np.arange(ordered[0] - step, ordered[-1] + step, step * scale) for scale in (1.0, 0.9, 1.1)]
        starts += [start + step / 2 for start in starts[:1]]
        books.append(min((lloyd_1d(ordered, start, lmb) for start in starts), key=lambda b: _loss_1d(ordered, b)))
    return ScalarCode(tuple(books))


def _loss_1d(x: Floats, book: Codebook) -> float:
    points, costs = book.points[:, 0].double().numpy(), book.costs.numpy()
    kept, edges = intervals(points, costs, book.lmb)
    at = [0, *np.searchsorted(x, edges), len(x)]
    pairs = zip(kept, pairwise(at), strict=True)
    return sum(float(costs[i] * (b - a) + book.lmb * np.square(x[a:b] - points[i]).sum()) for i, (a, b) in pairs)
