"""Side information beside the indices: how many steps each block has, and its schedule.

Both are coded adaptively: the table of every number follows from the numbers before it, in whole-number arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from core.bitstream import BitstreamError
from core.entropy import Decoder, Encoder
from core.frequencies import Tables, categorical_table, gaussian_tables

LIMIT = 2**16  # numbers of steps are below it

_SCALES = 0.35 * 2.0 ** (np.arange(20) / 2)  # standard deviations of the tables for numbers of steps, up to 253
_FIRST = 8  # expected before anything is known


@cache
def _tables() -> Tables:
    return gaussian_tables(_SCALES, tail_mass=1e-4)


class _Steps:
    """Predicts the next number of steps: the mean so far, and a spread from the errors of the predictions so far."""

    def __init__(self) -> None:
        self._count, self._total, self._squares = 0, 0, _FIRST**2
        self.expected = _FIRST

    @property
    def table(self) -> int:
        """The index of the table for the next number less ``expected``."""
        spread = (self._squares / max(self._count, 1)) ** 0.5  # IEEE division and square root
        return min(int(np.searchsorted(_SCALES, spread)), _SCALES.size - 1)

    def update(self, number: int) -> None:
        """Learn the number that came; the first one sets the scale of what is expected."""
        error = number - self.expected if self._count else number // 4 + 1
        self._count, self._total = self._count + 1, self._total + number
        self._squares = error**2 + (self._squares if self._count > 1 else 0)
        self.expected = (2 * self._total + self._count) // (2 * self._count)


def coarse(steps: float) -> int:
    """The number of steps nearest to the wanted one among 0, 1, ..., 16, 18, ..., 32, 36, ..., 64, 72, ...

    The overhead is flat about its best number of steps, and one of 8 numbers per octave takes fewer bits to tell.
    """
    spacing = 2 ** max(math.floor(math.log2(max(steps, 1))) - 3, 0)
    nearest: int = spacing * round(steps / spacing)
    return min(nearest, steps_at(level(LIMIT - 1)))


def level(steps: int) -> int:
    """The place of a number of ``coarse`` among them, from 0."""
    octave = max(steps.bit_length() - 4, 0)
    return 8 * octave + (steps >> octave)


def steps_at(level: int) -> int:
    """The number of steps at a place; the inverse of ``level``."""
    octave = max(level // 8 - 1, 0)
    return level - 8 * octave << octave


def write_steps(numbers: Sequence[int], encoder: Encoder) -> None:
    """Append numbers of steps, or their levels, one per block."""
    model = _Steps()
    for number in numbers:
        encoder.encode([number - model.expected], [model.table], _tables())
        model.update(number)


def read_steps(count: int, decoder: Decoder, largest: int) -> list[int]:
    """The numbers of ``write_steps``; ``BitstreamError`` when one is above the largest there can be."""
    model, numbers = _Steps(), []
    for _ in range(count):
        number = model.expected + int(decoder.decode([model.table], _tables())[0])
        if not 0 <= number <= largest:
            raise BitstreamError(f"the stream is damaged: a block cannot be of step count {number}")
        numbers.append(number)
        model.update(number)
    return numbers


class _Codes:
    """Frequencies of codes: 2 n - 1 for one that came n times, and for a new one the number of different ones."""

    def __init__(self, size: int) -> None:
        self._counts = np.zeros(size + 1, dtype=np.int64)  # the last entry is that of a new code
        self._counts[size] = 1
        self.any = categorical_table(np.ones(size, dtype=np.int64))

    @property
    def table(self) -> Tables:
        """The frequencies of the next code."""
        return categorical_table(self._counts)

    def update(self, code: int) -> bool:
        """Learn the code that came; whether it is new."""
        new = self._counts[code] == 0
        self._counts[code] += 1 if new else 2
        self._counts[-1] += new and self._counts[:-1].sum() > 1
        return bool(new)


def write_codes(codes: Sequence[int], size: int, encoder: Encoder) -> None:
    """Append numbers below ``size``, few of which are different; a new one costs log2(size) bits more."""
    model = _Codes(size)
    for code in codes:
        table = model.table
        if model.update(code):
            encoder.encode([size], [0], table)
            encoder.encode([code], [0], model.any)
        else:
            encoder.encode([code], [0], table)


def read_codes(count: int, size: int, decoder: Decoder) -> list[int]:
    """The numbers of ``write_codes``."""
    model, codes = _Codes(size), []
    for _ in range(count):
        code = int(decoder.decode([0], model.table)[0])
        if code == size:
            code = int(decoder.decode([0], model.any)[0])
        model.update(code)
        codes.append(code)
    return codes
