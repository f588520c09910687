"""Tables that encoder and decoder agree on although their floats differ in the last digits.

The table of a symbol is the cell of a uniform grid that a predicted number (a log-scale, a grey level) falls into. Two
machines compute that number with differences of some 1e-5, so one that lies next to a border gets two answers, and
everything after it is lost. The encoder therefore moves the borders: for each group of numbers it sends the smallest
count of small steps up, the *nudge*, that leaves no number of the group within half a step of any border. As long as
the difference stays below half a step, the decoder finds the same cells. A nudge costs up to 7 bits per group and has
no other effect on the rate, because a step is a small part of a cell. In a group without such a nudge each part gets
its own; parts have fewer numbers than there are nudges, and each number rules out one, so there is always one.

``Writer`` and ``Reader`` mirror each other, call by call; mode ``PORTABLE`` is the one described, ``PLAIN`` sends no
nudges (and then needs the encoder's own machine to decode). What else goes into the payload is written with their
``encoder`` and read with their ``decoder``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import Decoder, Encoder, finite_symbols
from core.frequencies import Tables, categorical_table
from core.stream import StreamReader, StreamWriter

PORTABLE, PLAIN = 0, 1
CROWDED = 1023  # in place of a nudge of 0 to 1022 steps: the parts of the group have their own
BAND = 2**18  # symbols of one call of the coder, which bounds its memory

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
AnyInts = NDArray[np.signedinteger[Any]]

_MODES = categorical_table(np.array([2**24 - 255, 255]))  # practically no bits for the default
# Geometric distributions: how far a nudge goes depends on how many numbers of the group are inside the grid.
_OWN = 6  # the one for crowded groups
_RATIOS = np.array([[0.01], [0.05], [0.2], [0.5], [0.8], [0.93], [0.975], [0.99]])
_NUDGE_TABLES = categorical_table((1 - _RATIOS) * _RATIOS ** np.arange(CROWDED + 1) + 1e-6)


@dataclass(frozen=True)
class Grid:
    """``cells`` cells of equal ``width``, the middle of the first at ``start``; numbers beyond the ends belong to them.

    ``steps`` nudges make one cell width; ``parts`` parts of numbers are a group and share a nudge if they can.
    """

    start: float
    width: float
    cells: int
    steps: int
    parts: int

    @property
    def tolerance(self) -> float:
        """The largest difference between two machines' numbers that changes no cell."""
        return self.width / self.steps / 2

    @property
    def part(self) -> int:
        """Numbers of a part: one less than there are nudges that differ."""
        return min(self.steps, CROWDED) - 1

    def groups(self, count: int) -> int:
        """How many groups ``count`` numbers are."""
        return -(-count // (self.part * self.parts))

    def nudges(self, numbers: Floats) -> tuple[Ints, Ints]:
        """The nudge of each group of numbers (n,), (groups,), and those of the parts of crowded ones, (k, parts)."""
        nudges = self._free(numbers, self.part * self.parts)
        crowded = np.flatnonzero(nudges == CROWDED)
        own = np.zeros((len(crowded), self.parts), dtype=np.int64)
        for row, group in zip(own, crowded, strict=True):
            found = self._free(numbers[self.part * self.parts * group :][: self.part * self.parts], self.part)
            row[: len(found)] = found
        return nudges, own

    def index(self, numbers: Floats, nudges: AnyInts, own: AnyInts) -> Ints:
        """The cell of each number (n,) when borders are nudged, 0 to cells - 1."""
        moves = np.repeat(nudges[:, None], self.parts, axis=1)
        moves[nudges == CROWDED] = own
        moved = np.repeat(moves.reshape(-1), self.part)[: len(numbers)]
        cells = np.floor(self._phase(numbers) - moved / self.steps).astype(np.int64) + 1
        return cells.clip(0, self.cells - 1)

    def nearest(self, numbers: Floats) -> Ints:
        """The cell of each number (n,) where no border is nudged."""
        return self.index(numbers, *_unmoved(numbers, self))

    def _free(self, numbers: Floats, size: int) -> Ints:
        """The smallest free nudge of each run of ``size`` numbers, ``CROWDED`` if there is none."""
        border, nudge = np.divmod(np.rint(self._phase(numbers) * self.steps).astype(np.int64), self.steps)
        inside = np.flatnonzero((border >= 0) & (border <= self.cells - 2) & (nudge < CROWDED))
        taken = np.zeros((-(-len(numbers) // size), CROWDED + 1), dtype=bool)
        taken[inside // size, nudge[inside]] = True
        taken[:, self.steps :] = True  # a whole cell width is no move at all
        taken[:, CROWDED] = False
        free: Ints = taken.argmin(axis=1)
        return free

    def _phase(self, numbers: Floats) -> NDArray[np.float64]:
        """Numbers in cell widths above the first border, far ones cut off."""
        if not np.isfinite(numbers).all():
            raise TesseraError(
                "the model predicts numbers that are not finite for this image: its weights are unusable."
            )
        phase = (numbers.astype(np.float64) - self.start) / self.width - 0.5
        return np.clip(phase, -2.0, self.cells + 1.0)


class Correction(Protocol):
    """Codes symbols (n,) of channels of ``size`` with tables that it chooses for each channel near given cells."""

    def write(self, encoder: Encoder, symbols: NDArray[Any], cells: Ints, size: int) -> None:
        """Write symbols."""

    def read(self, decoder: Decoder, cells: Ints, size: int) -> NDArray[np.int32]:
        """Mirror of ``write``."""


class Writer(StreamWriter):
    """Writes a stream of symbols whose tables are cells of grids."""

    def __init__(self, fingerprint: bytes, shape: tuple[int, ...], mode: int = PORTABLE, head: bytes = b"") -> None:
        super().__init__(fingerprint, shape, head)
        self.mode = mode
        self.encoder.encode(np.array([mode]), np.array([0]), _MODES)

    def cells(self, numbers: Floats, grid: Grid) -> Ints:
        """The cells of numbers (n,), after writing what the decoder needs to find the same."""
        if self.mode == PLAIN:
            return grid.nearest(numbers)
        nudges, own = grid.nudges(numbers)
        table = int(np.argmax([np.log2(row[nudges]).sum() for row in _NUDGE_TABLES.frequencies]))
        self.encoder.encode_uniform(np.array([table]), 3)
        self.encoder.encode(nudges, np.full(nudges.shape, table), _NUDGE_TABLES)
        self.encoder.encode(own, np.full(own.shape, _OWN), _NUDGE_TABLES)
        return grid.index(numbers, nudges, own)

    def symbols(self, symbols: NDArray[Any], numbers: Floats, grid: Grid, tables: Tables) -> None:
        """Write symbols (n,), whole numbers, each with the table of its number's cell."""
        self.write(finite_symbols(symbols), self.cells(numbers, grid), tables)

    def channels(self, symbols: NDArray[Any], numbers: Floats, grid: Grid, correction: Correction, size: int) -> None:
        """Write the symbols of channels of ``size`` each, with corrected tables."""
        values = finite_symbols(symbols)
        correction.write(self.encoder, values, self.cells(numbers, grid), size)
        self.note(values)


class Reader(StreamReader):
    """Mirror of ``Writer``; ``BitstreamError`` when the payload cannot be right."""

    def __init__(self, stream: bytes, fingerprint: bytes, head: int = 0) -> None:
        super().__init__(stream, fingerprint, head)
        self.mode = int(self.decoder.decode(np.array([0]), _MODES)[0])

    def cells(self, numbers: Floats, grid: Grid) -> Ints:
        """The encoder's cells of numbers (n,)."""
        if not np.isfinite(numbers).all():
            raise BitstreamError("the stream is damaged: what it holds leads the model to numbers that are not finite")
        if self.mode == PLAIN:
            return grid.nearest(numbers)
        table = int(self.decoder.decode_uniform(1, 3)[0])
        nudges = self.decoder.decode(np.full(grid.groups(len(numbers)), table), _NUDGE_TABLES)
        shape = int((nudges == CROWDED).sum()), grid.parts
        own = self.decoder.decode(np.full(shape, _OWN), _NUDGE_TABLES)
        return grid.index(numbers, nudges, own)

    def symbols(self, numbers: Floats, grid: Grid, tables: Tables) -> NDArray[np.int32]:
        """The symbols (n,) of numbers."""
        return self.read(self.cells(numbers, grid), tables)

    def channels(self, numbers: Floats, grid: Grid, correction: Correction, size: int) -> NDArray[np.int32]:
        """The symbols (n,) of channels of ``size`` each."""
        values = correction.read(self.decoder, self.cells(numbers, grid), size)
        self.note(values)
        return values


def _unmoved(numbers: Floats, grid: Grid) -> tuple[Ints, Ints]:
    """No nudges."""
    return np.zeros(grid.groups(len(numbers)), dtype=np.int64), np.zeros((0, grid.parts), dtype=np.int64)


def bands(count: int, size: int = 1) -> Iterator[slice]:
    """Slices of ``count`` symbols in channels of ``size``: as many channels as ``BAND`` holds, or parts of one."""
    step = BAND // size * size
    starts = range(0, count, step) if step else (a + b for a in range(0, count, size) for b in range(0, size, BAND))
    return (slice(a, min(a + step, count) if step else min(a + BAND, a // size * size + size)) for a in starts)
