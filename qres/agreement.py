"""Tables that encoder and decoder agree on although their floats differ in the last digits.

The table of a symbol is the cell of a uniform grid that a predicted number (a log-scale, a grey level) falls into. Two
machines compute that number with differences of some 1e-5, so one that lies next to a border gets two answers, and
everything after it is lost. The encoder therefore moves the borders: for each group of numbers it sends the smallest
count of small steps up, the *nudge*, that leaves no number of the group within half a step of any border. As long as
the difference stays below half a step, the decoder finds the same cells. A nudge costs about 3 bits per group and has
no other effect on the rate, because a step is a small part of a cell. A group without such a nudge falls back to one
middle cell for all its numbers, so every image has a stream.

``Writer`` and ``Reader`` mirror each other, call by call; mode ``PORTABLE`` is the one described, ``PLAIN`` sends no
nudges (and then needs the encoder's own machine to decode).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bitstream import BitstreamError, SymbolCheck
from core.codec import TesseraError
from core.entropy import Decoder, Encoder, Tables, categorical_table, finite_symbols

PORTABLE, PLAIN = 0, 1
NUDGES = 256  # 0 to 254 steps, and the last value for a group that falls back
BAND = 2**20  # symbols of one call of the coder, which bounds its memory

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

_MODES = categorical_table(np.array([2**24 - 255, 255]))  # practically no bits for the default
# How far a nudge goes depends on how many numbers of the group are inside the grid: all, some, or nearly none.
_NUDGE_TABLES = categorical_table(
    np.stack([np.append((1 - q) * q ** np.arange(NUDGES - 1.0), 0) + 1e-7 for q in (0.01, 0.1, 0.4, 0.7, 0.87, 0.95)])
)


@dataclass(frozen=True)
class Grid:
    """``cells`` cells of equal ``width``, the middle of the first at ``start``; numbers beyond the ends belong to them.

    ``steps`` nudges make one cell width; ``group`` numbers share a nudge.
    """

    start: float
    width: float
    cells: int
    steps: int
    group: int

    @property
    def tolerance(self) -> float:
        """The largest difference between two machines' numbers that changes no cell."""
        return self.width / self.steps / 2

    def nudges(self, numbers: Floats) -> Ints:
        """The smallest free nudge of each group of numbers (n,), (ceil(n / group),); the last value if none is free."""
        border, nudge = np.divmod(np.rint(self._phase(numbers) * self.steps).astype(np.int64), self.steps)
        inside = np.flatnonzero((border >= 0) & (border <= self.cells - 2) & (nudge < NUDGES - 1))
        taken = np.zeros((-(-len(numbers) // self.group), NUDGES), dtype=bool)
        taken[inside // self.group, nudge[inside]] = True
        taken[:, self.steps :] = True  # a whole cell width is no move at all
        taken[:, -1] = False
        return taken.argmin(axis=1)

    def index(self, numbers: Floats, nudges: Ints) -> Ints:
        """The cell of each number (n,) when the borders of its group are nudged, 0 to cells - 1."""
        moved = np.repeat(nudges, self.group)[: len(numbers)]
        cell = np.floor(self._phase(numbers) - moved / self.steps).astype(np.int64) + 1
        return np.where(moved == NUDGES - 1, self.cells // 2, cell.clip(0, self.cells - 1))

    def _phase(self, numbers: Floats) -> NDArray[np.float64]:
        """Numbers in cell widths above the first border, far ones cut off."""
        if not np.isfinite(numbers).all():
            raise TesseraError(
                "the model predicts numbers that are not finite for this image: its weights are unusable."
            )
        phase = (numbers.astype(np.float64) - self.start) / self.width - 0.5
        return np.clip(phase, -2.0, self.cells + 1.0)


class Writer:
    """Writes symbols whose tables are cells of grids, and keeps the check of what the decoder must find."""

    def __init__(self, mode: int = PORTABLE) -> None:
        self.mode, self._encoder, self._check = mode, Encoder(), SymbolCheck()
        self._encoder.encode(np.array([mode]), np.array([0]), _MODES)

    def cells(self, numbers: Floats, grid: Grid) -> Ints:
        """The cells of numbers (n,), after writing what the decoder needs to find the same."""
        nudges = np.zeros(-(-len(numbers) // grid.group), dtype=np.int64)
        if self.mode == PORTABLE:
            nudges = grid.nudges(numbers)
            costs = [np.log2(row[nudges]).sum() for row in _NUDGE_TABLES.frequencies]
            table = int(np.argmax(costs))
            self._encoder.encode_uniform(np.array([table]), 3)
            self._encoder.encode(nudges, np.full(len(nudges), table), _NUDGE_TABLES)
        return grid.index(numbers, nudges)

    def symbols(self, symbols: NDArray[Any], numbers: Floats, grid: Grid, tables: Tables) -> None:
        """Write symbols (n,), whole numbers, each with the table of its number's cell."""
        values = finite_symbols(symbols)
        self._encoder.encode(values, self.cells(numbers, grid), tables)
        self._check.update(values)

    def finish(self) -> tuple[bytes, int]:
        """The payload and the check."""
        return self._encoder.finish(), self._check.digest()

    def note(self, values: NDArray[Any]) -> None:
        """Let the check cover integers that are not written but that the decoder must find too."""
        self._check.update(values)


class Reader:
    """Mirror of ``Writer``; ``BitstreamError`` when the payload cannot be right."""

    def __init__(self, payload: bytes) -> None:
        self._decoder, self._check = Decoder(payload), SymbolCheck()
        self.mode = int(self._decoder.decode(np.array([0]), _MODES)[0])

    def cells(self, numbers: Floats, grid: Grid) -> Ints:
        """The encoder's cells of numbers (n,)."""
        nudges = np.zeros(-(-len(numbers) // grid.group), dtype=np.int64)
        if self.mode == PORTABLE:
            table = int(self._decoder.decode_uniform(1, 3)[0])
            if table >= _NUDGE_TABLES.size:
                raise BitstreamError("the stream is damaged: it names a table that does not exist")
            nudges = self._decoder.decode(np.full(len(nudges), table), _NUDGE_TABLES).astype(np.int64)
        return grid.index(numbers, nudges)

    def symbols(self, numbers: Floats, grid: Grid, tables: Tables) -> NDArray[np.int32]:
        """The symbols (n,) of numbers."""
        values = self._decoder.decode(self.cells(numbers, grid), tables)
        self._check.update(values)
        return values

    def finish(self, check: int) -> None:
        """Raise ``DecodeMismatch`` unless the decoder found what the encoder wrote and noted."""
        self._check.verify(check)

    def note(self, values: NDArray[Any]) -> None:
        """Mirror of ``Writer.note``."""
        self._check.update(values)


def bands(count: int) -> Iterator[slice]:
    """Slices of at most ``BAND`` of ``count`` symbols."""
    return (slice(a, min(a + BAND, count)) for a in range(0, count, BAND))
