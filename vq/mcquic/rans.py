"""The entropy coder of ``.mcq`` files: rANS with a 64-bit state, 32-bit words and 16-bit probabilities.

A payload is the final state's low word and high word, then the other words in the order they are decoded in. Section 4
of the published layout; the coder is Duda's (arXiv 1311.2540) in the arrangement of ryg_rans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.bitstream import BitstreamError

PRECISION = 16
START = 1 << 31  # the encoder's first state, and the decoder's last
Ints = NDArray[np.int64]


def cumulative(frequencies: NDArray[np.float32]) -> Ints:
    """The 16-bit cumulative table (K + 1,) of relative frequencies (K,), float32, as the published tool makes it.

    The sum of the row is exact, rounded once: no order of summation decides how a file is read.
    """
    total = np.float32(np.sum(frequencies, dtype=np.float64))
    if not (np.isfinite(total) and total > 0 and frequencies.min() >= 0):
        raise ValueError("frequencies are finite, not negative and not all zero")
    shares = (frequencies / total).astype(np.float64)
    whole = np.floor(shares * (1 << PRECISION) + 0.5).astype(np.int64)  # half away from zero
    whole = whole * (1 << PRECISION) // whole.sum()
    table = np.concatenate([[0], np.cumsum(whole)])
    table[-1] = 1 << PRECISION
    return _without_gaps(table)


def _without_gaps(table: Ints) -> Ints:
    """Give each symbol without a share one count of the first symbol with the fewest counts above one."""
    counts = np.diff(table)
    for i in np.flatnonzero(counts == 0):
        if counts[i]:
            continue
        rich = np.where(counts > 1, counts, 1 << PRECISION + 1)
        j = int(rich.argmin())
        counts[j] -= 1
        counts[i] += 1
    made: Ints = np.concatenate([[0], np.cumsum(counts)])
    return made


def encode(symbols: Sequence[int], rows: Sequence[int], tables: Sequence[Ints]) -> bytes:
    """Code symbols, each with the table that ``rows`` names; at least 8 bytes."""
    lists = [table.tolist() for table in tables]
    state, words = START, []
    for symbol, row in zip(reversed(symbols), reversed(rows), strict=True):
        start = lists[row][symbol]
        share = lists[row][symbol + 1] - start
        if state >= share << 47:  # (START >> PRECISION) << 32 times the share
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // share << PRECISION) + state % share + start
    words += [state >> 32, state & 0xFFFFFFFF]
    return np.array(words[::-1], dtype="<u4").tobytes()


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
