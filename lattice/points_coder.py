"""Entropy coding of lattice points with integer tables: common points by number, the others coordinate by coordinate.

A model's most common points have numbers, coded with a table of their own; where vectors repeat, as in pictures with a
plain background, this is what a codebook would pay. The rest go the last coordinate of each block first: with an upper
triangular whole-number basis H, coordinate i sits at o_i + h_ii k_i, where o_i = sum_j>i h_ij k_j is known by then.
Coded is t_i = k_i + floor(o_i / h_ii), the place on a grid of spacing h_ii, with a table chosen by the residue o_i mod
h_ii, which says where that grid begins. So cosets, parities and code bits of E8 or Leech's lattice cost what they
should, and a skewed basis costs no more than an orthogonal one. No float decides how a stream is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.bitstream import BitstreamError
from core.entropy import Decoder, Encoder, ideal_bits
from core.finite import NumbersError, checked_counts
from core.frequencies import Tables, categorical_table

CLASSES = 8  # tables of a coordinate at most
WINDOW = 256  # symbols of a table; what is outside is an escape
COMMON = 1024  # points with a number, at most
OFTEN = 8  # times that a point must occur for one
RARE = 8  # weight of the other points in the coordinates' counts, against 1 of those with a number
REACH = 2**30  # of coordinates
SHIFT = 31  # low bits of a coordinate, at most

Ints = NDArray[np.int64]
Points = Sequence[NDArray[np.integer[Any]]]  # arrays (N, blocks, rank)


class Coder(nn.Module):
    """The statistics of a model's points, which travel with its weights (all zero before ``count``).

    Points are int64 (N, blocks, rank). A coordinate that spans more than ``window`` values sends its low ``shift`` bits
    as they are.
    """

    common: Tensor  # int16 (size, blocks, rank)
    common_counts: Tensor  # int32 (size + 1,), the last for all other points
    counts: Tensor  # int32 (tables, window)
    offset: Tensor  # int64 (rank, blocks), of the windows
    shift: Tensor  # int64 (rank, blocks)

    def __init__(self, blocks: int, triangle: Ints, window: int = WINDOW) -> None:
        super().__init__()
        self.blocks, self.rank, self.window = blocks, len(triangle), window
        self.settle(triangle)
        tables, size = blocks * int(self.classes.sum()), COMMON if blocks * self.rank > 1 else 0
        self.register_buffer("common", torch.zeros(size, blocks, self.rank, dtype=torch.int16))
        self.register_buffer("common_counts", torch.zeros(size + 1, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(tables, window, dtype=torch.int32))
        self.register_buffer("offset", torch.full((self.rank, blocks), -(window // 2), dtype=torch.int64))
        self.register_buffer("shift", torch.zeros(self.rank, blocks, dtype=torch.int64))

    def settle(self, triangle: Ints) -> None:
        """Use another triangle with the same diagonal."""
        self.triangle = np.asarray(triangle, dtype=np.int64)
        self.sides = np.diag(self.triangle).copy()
        self.classes = np.minimum(self.sides, CLASSES)
        starts = np.concatenate([[0], np.cumsum(self.classes)[:-1]])
        self.bases: Ints = starts[:, None] * self.blocks + np.arange(self.blocks) * self.classes[:, None]

    def count(self, points: Points) -> None:
        """Find the common points, fit windows to the others and count them, each from scratch."""
        if len(self.common):
            self._count_common(points)
        book = Book(self)
        others = [part[book.find(part) == book.size] for part in points]
        self._fit(others)
        shift, offset = self.shift.cpu().numpy(), self.offset.cpu().numpy()
        counts = np.zeros(self.counts.numel(), dtype=np.int64)
        for group, weight in ((points, 1), (others, RARE - 1)):
            for part in group:
                for i, index, t in self.symbols(part):
                    column = (t >> shift[i]) - offset[i]
                    inside = (column >= 0) & (column < self.window)
                    places = (index * self.window + column)[inside]
                    counts += weight * np.bincount(places, minlength=counts.size)
        self.counts.copy_(torch.from_numpy(counts).view_as(self.counts))

    def _count_common(self, points: Points) -> None:
        """The most frequent points, from tallies that are cut back as they grow, then exact counts of them."""
        tally: dict[bytes, int] = {}
        for part in points:
            _, first, times = np.unique(_keys(part), return_index=True, return_counts=True)
            small = (np.abs(part[first]) < 2**15).all((1, 2))
            for row, n in zip(part[first[small]].astype(np.int16), times[small].tolist(), strict=True):
                tally[row.tobytes()] = tally.get(row.tobytes(), 0) + n
            if len(tally) > 64 * COMMON:
                tally = dict(sorted(tally.items(), key=lambda item: -item[1])[: 16 * COMMON])
        often = [key for key, n in tally.items() if n >= OFTEN]
        best = sorted(often, key=lambda key: (-tally[key], key))[: len(self.common)]
        rows = np.frombuffer(b"".join(best), np.int16).reshape(-1, self.blocks, self.rank)
        self.common.zero_()[: len(rows)] = torch.from_numpy(rows.copy())
        self.common_counts.zero_()[: len(rows)] = 1  # in use; counted now
        book = Book(self)
        numbers = np.zeros(book.size + 1, np.int64)
        for part in points:
            numbers += np.bincount(book.find(part), minlength=book.size + 1)
        self.common_counts[: book.size], self.common_counts[-1] = torch.from_numpy(numbers[:-1]), int(numbers[-1])

    def _fit(self, points: Points) -> None:
        """Windows around the symbols, as coarse as it takes."""
        low = np.full((self.rank, self.blocks), REACH)
        high = -low
        for part in points:
            for i, _, t in self.symbols(part) if len(part) else ():
                low[i], high[i] = np.minimum(low[i], t.min(0)), np.maximum(high[i], t.max(0))
        low, high = np.where(low > high, 0, low), np.where(low > high, 0, high)
        shift = np.frexp((high - low) // self.window)[1].astype(np.int64)
        shift += (high >> shift) - (low >> shift) >= self.window
        used = (high >> shift) - (low >> shift) + 1
        self.shift.copy_(torch.from_numpy(shift))
        self.offset.copy_(torch.from_numpy((low >> shift) - (self.window - used) // 2))

    def fixed(self) -> PointCoder:
        """The form that codes streams, from the counts as they are now."""
        return PointCoder(self)

    def symbols(self, points: NDArray[np.integer[Any]]) -> Iterator[tuple[int, Ints, Ints]]:
        """(coordinate, tables (N, blocks), symbols (N, blocks)), in coding order."""
        whole = points.astype(np.int64, copy=False)
        for i in reversed(range(self.rank)):
            index, carry = self.context(whole, i)
            yield i, index, whole[:, :, i] + carry

    def context(self, points: Ints, i: int) -> tuple[Ints, Ints]:
        """Tables and floor(o_i / h_ii) of coordinate i, (N, blocks) each, from the later coordinates of points."""
        carry, residue = np.divmod(points[:, :, i + 1 :] @ self.triangle[i, i + 1 :], self.sides[i])
        index: Ints = self.bases[i] + residue * self.classes[i] // self.sides[i]
        return index, carry


class Book:
    """The numbered points of a coder."""

    def __init__(self, coder: Coder) -> None:
        self.size = int(torch.count_nonzero(coder.common_counts[:-1]))
        self.rows: Ints = coder.common[: self.size].cpu().numpy().astype(np.int64)  # (size, blocks, rank)
        keys = _keys(self.rows)
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def find(self, points: NDArray[np.integer[Any]]) -> Ints:
        """The number of each point (N, blocks, rank), ``size`` for those without one."""
        if not self.size:
            return np.zeros(len(points), np.int64)
        number = self._order[np.searchsorted(self._keys, _keys(points)).clip(max=self.size - 1)]
        same = (self.rows[number] == points).all((1, 2))
        return np.where(same, number, self.size)


class PointCoder:
    """Points in, bits out, and back."""

    def __init__(self, coder: Coder) -> None:
        self.coder, self.book = coder, Book(coder)
        self.shift = coder.shift.cpu().numpy()
        if self.shift.min() < 0 or self.shift.max() > SHIFT or np.abs(coder.offset.cpu().numpy()).max() > REACH:
            raise NumbersError("the windows of the coder in the weights are impossible: make its counts again.")
        counts = checked_counts(coder.counts, "counts of coordinates").astype(np.int64)
        weights = np.concatenate([2 * counts + 1, np.ones((len(counts), 1), np.int64)], axis=1)  # the last: escape
        offsets = np.concatenate([
            np.repeat(row, n) for row, n in zip(coder.offset.cpu().numpy(), coder.classes, strict=True)
        ])  # fmt: skip
        self.tables = Tables(categorical_table(weights).frequencies, offsets, escape=True)
        numbers = 64 * checked_counts(coder.common_counts, "counts of points").astype(np.int64) + 1
        numbers = np.append(numbers[: self.book.size], numbers[-1] + 64)  # what was never seen will be
        self.numbers = categorical_table(numbers) if self.book.size else None

    def encode(self, points: Ints, encoder: Encoder) -> None:
        """Append points (N, blocks, rank)."""
        if self.numbers is not None:
            number = self.book.find(points)
            encoder.encode(number, np.zeros_like(number), self.numbers)
            points = points[number == self.book.size]
        for i, index, t in self.coder.symbols(points):
            encoder.encode(t >> self.shift[i], index, self.tables)
            for bits, columns in self._low(i):
                encoder.encode_uniform(t[:, columns] & ((1 << bits) - 1), bits)

    def decode(self, count: int, decoder: Decoder) -> Ints:
        """The next ``count`` points; ``BitstreamError`` for coordinates that no encoder writes."""
        if self.numbers is None:
            return self._coordinates(count, decoder)
        number = decoder.decode(np.zeros(count, np.int64), self.numbers)
        rare = number == self.book.size
        points = self.book.rows[np.where(rare, 0, number)]
        points[rare] = self._coordinates(int(rare.sum()), decoder)
        return points

    def _coordinates(self, count: int, decoder: Decoder) -> Ints:
        points = np.zeros((count, self.coder.blocks, self.coder.rank), dtype=np.int64)
        for i in reversed(range(self.coder.rank)):
            index, carry = self.coder.context(points, i)
            t = decoder.decode(index, self.tables).astype(np.int64) << self.shift[i]
            for bits, columns in self._low(i):
                t[:, columns] |= decoder.decode_uniform((count, len(columns)), bits)
            points[:, :, i] = t - carry
            if count and np.abs(points[:, :, i]).max() > REACH:
                raise BitstreamError("the stream is damaged: it holds a lattice point that no encoder writes")
        return points

    def bits(self, points: Ints) -> float:
        """What points cost under the integer tables, low bits included."""
        total = 0.0
        if self.numbers is not None:
            number = self.book.find(points)
            total += ideal_bits(number, np.zeros_like(number), self.numbers)
            points = points[number == self.book.size]
        for i, index, t in self.coder.symbols(points):
            total += ideal_bits(t >> self.shift[i], index, self.tables) + float(self.shift[i].sum()) * len(t)
        return total

    def _low(self, i: int) -> list[tuple[int, Ints]]:
        """(bits, blocks) of coordinate i whose low bits are sent as they are."""
        return [(int(bits), np.flatnonzero(self.shift[i] == bits)) for bits in np.unique(self.shift[i]) if bits]


def _keys(points: NDArray[np.integer[Any]]) -> Ints:
    """A number per point (N, blocks, rank) that differs between points but for rare accidents, which do no harm."""
    flat = points.reshape(len(points), int(np.prod(points.shape[1:])))
    draw = np.random.default_rng(0).integers(-(2**62), 2**62, flat.shape[1])
    keys = np.zeros(len(flat), np.int64)
    for column, factor in zip(flat.T, draw, strict=True):
        keys += column * factor  # modulo 2**64
    return keys
