"""The entropy coder of ``.mcq`` files: symbols under tables of relative frequencies, by ``core.official_rans``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core import official_rans
from core.bitstream import BitstreamError
from core.official_rans import PRECISION, START, Ints


def cumulative(frequencies: NDArray[np.float32]) -> Ints:
    """The 16-bit cumulative table (K + 1,) of relative frequencies (K,), float32, as the published tool makes it.

    The sum of the row is exact, rounded once: no order of summation decides how a file is read.
    """
    total = np.float32(np.sum(frequencies, dtype=np.float64))
    if not (np.isfinite(total) and total > 0 and frequencies.min() >= 0):
        raise ValueError("frequencies are finite, not negative and not all zero")
    shares = (frequencies / total).astype(np.float64)
    whole = np.floor(shares * (1 << PRECISION) + 0.5).astype(np.int64)  # half away from zero
    return official_rans.cumulative(whole)


def encode(symbols: Sequence[int], rows: Sequence[int], tables: Sequence[Ints]) -> bytes:
    """Code symbols, each with the table that ``rows`` names; at least 8 bytes."""
    lists = [table.tolist() for table in tables]
    pairs = ((lists[row][symbol], lists[row][symbol + 1]) for symbol, row in zip(symbols, rows, strict=True))
    return official_rans.encode([(start, end - start, PRECISION) for start, end in pairs])


def decode(payload: bytes, rows: Sequence[int], tables: Sequence[Ints]) -> list[int]:
    """Mirror of ``encode``; ``BitstreamError`` unless every word is used and the state ends where encoding began."""
    if len(payload) % 4 or len(payload) < 8:
        raise BitstreamError(f"a payload of {len(payload)} bytes is cut off: it has 8 at least, in words of 4")
    words = np.frombuffer(payload, "<u4").tolist()
    lists = [table.tolist() for table in tables]
    symbol_at = [np.repeat(np.arange(len(table) - 1), np.diff(table)).tolist() for table in tables]
    state, at, found = words[0] | words[1] << 32, 2, []
    for row in rows:
        low = state & 0xFFFF
        symbol = symbol_at[row][low]
        start = lists[row][symbol]
        state = (lists[row][symbol + 1] - start) * (state >> PRECISION) + low - start
        if state < START:
            if at == len(words):
                raise BitstreamError("the payload ends before its last symbol: it is truncated or damaged")
            state, at = state << 32 | words[at], at + 1
        found.append(symbol)
    if state != START or at != len(words):
        raise BitstreamError("the payload does not end where its symbols do: it is damaged or of other weights")
    return found
