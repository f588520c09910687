"""Range coder of the overfitted codec, with 32-bit numbers and bytes: what ``overfit_decode.cpp`` does, in Python.

An interval is (start, frequency) of a total of 2**bits, at most 16 bits. The end of the stream is cut to the fewest
bytes, and past it zeros are read.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import kernels
from overfit.tables import FRACTIONS, Laplace, Uints

_FULL, _LEAST, _WORD = 0xFFFFFFFF, 1 << 24, 1 << 32


def place(array: Any) -> ctypes.c_void_p:
    """Where the numbers of an array lie, for a kernel."""
    return ctypes.c_void_p(array.ctypes.data)


def encoded(starts: Uints, sizes: Uints, bits: NDArray[np.uint8]) -> bytes:
    """The bytes of intervals (n,), uint32, uint32 and uint8."""
    library = kernels.library("overfit_decode")
    if library is None:
        return _encoded(starts, sizes, bits)
    out = np.empty(4 * len(starts) + 8, dtype=np.uint8)
    library.overfit_encode.restype = ctypes.c_int64
    count = library.overfit_encode(ctypes.c_int64(len(starts)), *map(place, (starts, sizes, bits, out)))
    return out[:count].tobytes()


def _carried(out: bytearray, low: int) -> int:
    """``low`` below 2**32, after what is above has gone into the bytes before."""
    if low >= _WORD:
        i = len(out) - 1
        while out[i] == 255:
            out[i] = 0
            i -= 1
        out[i] += 1
    return low & _FULL


def _encoded(starts: Uints, sizes: Uints, bits: NDArray[np.uint8]) -> bytes:
    out, low, span = bytearray(), 0, _FULL
    for start, size, shift in zip(starts.tolist(), sizes.tolist(), bits.tolist(), strict=True):
        span >>= shift
        low = _carried(out, low + span * start)
        span *= size
        while span < _LEAST:
            out.append(low >> 24)
            low = low << 8 & _FULL
            span <<= 8
    for zeros in (24, 16, 8, 0):
        point = (low + (1 << zeros) - 1) >> zeros << zeros
        if point < low + span:
            point = _carried(out, point)
            out += point.to_bytes(4, "big")
            break
    return bytes(out).rstrip(b"\0")


class Decoder:
    """Reads the symbols of intervals back, in order; it does not notice damage by itself."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4
        self.range, self.code = _FULL, int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def _grow(self) -> None:
        while self.range < _LEAST:
            following = self.data[self.at] if self.at < len(self.data) else 0
            self.code = (self.code << 8 | following) & _FULL
            self.at += 1
            self.range <<= 8

    def uniform(self, bits: int) -> int:
        """A number of ``bits`` bits, at most 16."""
        self.range >>= bits
        value = min(self.code // self.range, (1 << bits) - 1)
        self.code -= self.range * value
        self._grow()
        return value

    def symbols(self, tables: list[int], laplace: Laplace, rows: list[list[int]]) -> list[int]:
        """A symbol of each table; ``rows`` are the tables' cumulative frequencies."""
        found, lows = [], laplace.low.tolist()
        for table in tables:
            row = rows[table]
            self.range >>= 16
            i = bisect_right(row, min(self.code // self.range, 65535)) - 1
            self.code -= self.range * row[i]
            self.range *= row[i + 1] - row[i]
            if self.range < _LEAST:
                self._grow()
            low, count = lows[table // FRACTIONS], len(row) - 2
            found.append(low + i if i < count else self._escaped(low, count))
        return found

    def _escaped(self, low: int, count: int) -> int:
        length = self.uniform(4)
        excess = ((1 << length) | (self.uniform(length) if length else 0)) - 1
        return low - 1 - excess // 2 if excess % 2 else low + count + excess // 2
