"""Corrections of the model's priors that a stream carries, one for each channel of a latent block.

On images unlike those of the training, and at rates where few latents differ from zero, the normal that the model
predicts is off by the same amount over much of a channel. The encoder therefore may name, for each channel, a bias of
the mean (in tenths of the step between symbols) and a shift of the scale (in cells of the scale grid, 15 % each). Both
change integers only: the row of the table that a cell stands for.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.entropy import Decoder, Encoder
from core.frequencies import Tables, categorical_table, gaussian_tables

Ints = NDArray[np.int64]

_SHIFTS = sorted(range(-4, 12), key=abs)
_TENTHS = sorted(range(-7, 8), key=abs)  # of the mean
CHOICES = np.array(list(itertools.product(_TENTHS, _SHIFTS)))  # (bias, shift); the first corrects nothing
_CHOICE_TABLE = categorical_table(np.concatenate([[0.8], np.full(len(CHOICES) - 1, 0.2 / (len(CHOICES) - 1))]))
_NEAR = 15  # symbols to -15..15 are told apart when the encoder chooses


class Correction:
    """The tables of normals with the given ``scales`` (K,) and all biases, and the choice among them."""

    def __init__(self, scales: NDArray[np.float64]) -> None:
        self.cells = len(scales)
        biases = np.sort(_TENTHS)
        self._first = int(biases[0])
        self.tables: Tables = gaussian_tables(np.tile(scales, len(biases)), means=np.repeat(biases / 10, self.cells))

    def write(self, encoder: Encoder, symbols: NDArray[Any], cells: Ints, size: int) -> None:
        """Write symbols (n,), whole numbers, whose tables are ``cells``; each run of ``size`` is a channel."""
        choices = self._choose(symbols, cells, size)
        encoder.encode(choices, np.zeros_like(choices), _CHOICE_TABLE)
        encoder.encode(symbols, self._rows(cells, choices, size), self.tables)

    def read(self, decoder: Decoder, cells: Ints, size: int) -> NDArray[np.int32]:
        """Mirror of ``write``."""
        choices = decoder.decode(np.zeros(-(-len(cells) // size), dtype=np.int64), _CHOICE_TABLE)
        return decoder.decode(self._rows(cells, choices, size), self.tables)

    def _rows(self, cells: Ints, choices: NDArray[np.integer[Any]], size: int) -> Ints:
        """The table of each symbol, (n,)."""
        bias, shift = np.repeat(CHOICES[choices], size, axis=0)[: len(cells)].T
        rows: Ints = (bias - self._first) * self.cells + (cells + shift).clip(0, self.cells - 1)
        return rows

    def _choose(self, symbols: NDArray[Any], cells: Ints, size: int) -> Ints:
        """The cheapest choice for each channel, what naming it costs included."""
        channels, span = -(-len(symbols) // size), 2 * _NEAR + 1
        place = np.arange(len(symbols)) // size * self.cells + cells
        near = symbols.astype(np.int64).clip(-_NEAR, _NEAR) + _NEAR
        counts = np.bincount(place * span + near, minlength=channels * self.cells * span)
        cost = counts.reshape(channels, -1) @ self._costs + _CHOICE_TABLE.costs[1]
        chosen: Ints = cost.argmin(axis=1)
        return chosen

    @cached_property
    def _costs(self) -> NDArray[np.float64]:
        """Bits of (cell, symbol) under every choice, (K * 31, choices)."""
        starts, bits = self.tables.costs
        symbol = np.arange(-_NEAR, _NEAR + 1)
        entry = symbol - self.tables.offsets[:, None]
        outside = (entry < 0) | (entry >= self.tables.widths[:, None])
        digits = 2 * np.log2(np.abs(symbol).clip(1)) + 1  # of the Elias-gamma code after an escape
        entry = np.where(outside, self.tables.widths[:, None], entry)
        table = bits[starts[:, None] + entry] + outside * digits
        cells = np.arange(self.cells)[:, None]
        rows = (CHOICES[:, 0] - self._first) * self.cells + (cells + CHOICES[:, 1]).clip(0, self.cells - 1)
        return np.moveaxis(table[rows], 1, 2).reshape(-1, len(CHOICES))
