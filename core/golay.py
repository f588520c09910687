"""The extended binary Golay code: 4,096 words of 24 bits, of weights 0, 8, 12, 16 and 24 (SPLAG, chapter 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LENGTH = 24
POLYNOMIAL = 0b110001110101  # x^11 + x^10 + x^6 + x^5 + x^4 + x^2 + 1 generates the cyclic code of length 23


def golay_generators() -> NDArray[np.int64]:
    """Generators (12, 24) of the extended Golay code: shifts of the polynomial and an overall parity bit in front."""
    rows = np.array([[POLYNOMIAL << shift >> bit & 1 for bit in range(LENGTH - 1)] for shift in range(12)])
    return np.concatenate([rows.sum(1, keepdims=True) % 2, rows], axis=1).astype(np.int64)


def golay_code() -> NDArray[np.int64]:
    """All 4,096 codewords, (4096, 24)."""
    messages = np.arange(4096)[:, None] >> np.arange(12) & 1
    words: NDArray[np.int64] = messages @ golay_generators() % 2
    return words
