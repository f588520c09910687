"""rANS as the authors' files of QRes-VAE and McQuic have it: a 64-bit state, 32-bit words and 16-bit tables.

A string is the final state's low word and high word, then the other words in the order they are decoded in. The coder
is Duda's (arXiv 1311.2540) in the arrangement of ryg_rans. Our own streams are coded by ``core.entropy``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PRECISION = 16  # bits of a table
START = 1 << 31  # the encoder's first state, and the decoder's last

Ints = NDArray[np.int64]
Operation = tuple[int, int, int]  # first count of a symbol, its counts, bits of the table


def cumulative(counts: Ints) -> Ints:
    """Whole shares (K,), about 65,536 in all, -> the cumulative table (K + 1,) from 0 to 65,536 without empty symbols.

    What is missing at the end goes to the last symbol; then each symbol without a share takes one count of the first
    symbol with the fewest counts above one.
    """
    table = np.concatenate([[0], np.cumsum((counts << PRECISION) // counts.sum())])
    table[-1] = 1 << PRECISION
    shares = np.diff(table)
    for i in np.flatnonzero(shares == 0):
        giver = int(np.where(shares > 1, shares, 1 << PRECISION + 1).argmin())
        shares[giver] -= 1
        shares[i] += 1
    made: Ints = np.concatenate([[0], np.cumsum(shares)])
    return made


def encode(operations: Sequence[Operation]) -> bytes:
    """The string of operations in the order they will be decoded; at least 8 bytes."""
    state, words = START, []
    for start, share, bits in reversed(operations):
        if state >= (START >> bits << 32) * share:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // share << bits) + state % share + start
    words += [state >> 32, state & 0xFFFFFFFF]
    return np.array(words[::-1], dtype="<u4").tobytes()
