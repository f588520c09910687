"""Code of whole numbers from 1 on: an octave, then the place in it.

A number n >= 1 is its octave k = floor(log2 n), coded with a geometric law of a stated mean, and its k lower bits as
they are. The octave masses of Zipf's law n^-s are geometric, and within an octave the law is nearly flat (0.03 bits at
s = 1), so this is the Zipf code of Li and El Gamal (2018) in a form of two integers. A mean of E octaves
costs E + log2(E + 1) + log2 e bits or less, the largest entropy that any law of that mean has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from core.bitstream import BitstreamError
from core.entropy import Decoder, Encoder, ideal_bits
from core.frequencies import Tables, categorical_table

OCTAVES = 63  # numbers are below 2**62
_LEAST_MEAN = 0.25


@dataclass(frozen=True)
class OctaveCode:
    """Numbers from 1 on, of ``mean`` octaves in expectation."""

    mean: float

    @property
    def tables(self) -> Tables:
        """The table of octaves."""
        return _octave_table(max(self.mean, _LEAST_MEAN))

    def bits(self, number: int) -> float:
        """What a number costs."""
        octave = number.bit_length() - 1
        return octave + ideal_bits([octave], [0], self.tables)

    def write(self, number: int, encoder: Encoder) -> None:
        """Append a number from 1 to 2**62 - 1."""
        octave = number.bit_length() - 1
        encoder.encode([octave], [0], self.tables)
        for shift, width in _parts(octave):
            encoder.encode_uniform([number >> shift & (1 << width) - 1], width)

    def read(self, decoder: Decoder) -> int:
        """The next number."""
        octave = int(decoder.decode([0], self.tables)[0])
        number = 1
        for _, width in _parts(octave):
            number = number << width | int(decoder.decode_uniform(1, width)[0])
        return number


@dataclass(frozen=True)
class FlatCode:
    """Numbers from 1 to 2**width, each at ``width`` bits."""

    width: int

    def bits(self, number: int) -> float:
        """What a number costs."""
        return float(self.width)

    def write(self, number: int, encoder: Encoder) -> None:
        """Append a number."""
        for shift, width in _parts(self.width):
            encoder.encode_uniform([number - 1 >> shift & (1 << width) - 1], width)

    def read(self, decoder: Decoder) -> int:
        """The next number."""
        number = 0
        for _, width in _parts(self.width):
            number = number << width | int(decoder.decode_uniform(1, width)[0])
        return number + 1


Code = OctaveCode | FlatCode


def checked(number: int, limit: int) -> int:
    """A decoded number, refused when no encoder gives it."""
    if not 1 <= number <= limit:
        raise BitstreamError(f"the stream is damaged: an index of {number} is beyond the {limit} that a coder may give")
    return number


def _parts(bits: int) -> list[tuple[int, int]]:
    """(shift, width) of the parts, high part first, in which a number of so many bits is written."""
    if bits > 32:
        return [(32, bits - 32), (0, 32)]
    return [(0, bits)] if bits else []


@lru_cache(maxsize=256)
def _octave_table(mean: float) -> Tables:
    """Masses (1 - r) r^k with r = mean / (mean + 1), by multiplication alone: the same integers on every machine."""
    ratio, masses = mean / (mean + 1.0), [1.0]
    for _ in range(OCTAVES - 2):
        masses.append(masses[-1] * ratio)
    return categorical_table(np.array(masses) / math.fsum(masses))
