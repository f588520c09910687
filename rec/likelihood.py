"""The discretised logistic of a pixel: its log-mass for training, integer tables of the same masses for coding.

Grey levels 0 to 255 are bins of width 1 with what lies beyond the ends folded into the first and the last, so that the
masses sum to 1. Means and scales are in grey levels here; the model's own units are 1 / 256 of them.

For coding, the mean is rounded to half a level and the scale to one of ``SCALES``; a table is a difference of
cumulative masses at multiples of half a level, which one row for each scale holds. ``core.portable`` lets encoder and
decoder find the same cells although their floats differ in the last digits.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from core.frequencies import Tables
from core.portable import Grid

LEVELS = 256
HALVES = 2  # cells of the mean in a level
PRECISION = 24

Ints = NDArray[np.int64]


def _log_grid(low: float, high: float, cells: int) -> Grid:
    width = math.log(high / low) / (cells - 1)
    return Grid(math.log(low), width, cells, steps=round(width / 1e-4), parts=4)


MEANS = Grid(0.0, 1 / HALVES, HALVES * (LEVELS - 1) + 1, steps=128, parts=2)
LOG_SCALES = _log_grid(0.08, 100.0, 72)
SCALES = np.exp(LOG_SCALES.start + LOG_SCALES.width * np.arange(LOG_SCALES.cells))


def logistic_log_mass(pixels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """ln of the mass of grey levels (whole numbers, 0 to 255) under logistics with folded tails, all in levels.

    Shapes broadcast. Exact also where a mass is far below the smallest float: all work is on logarithms.
    """
    inverse = torch.exp(-log_scale)
    above = (pixels + 0.5 - mean) * inverse
    below = (pixels - 0.5 - mean) * inverse
    # ln(F(a) - F(b)) = ln F(a) + ln(1 - F(b)) + ln(1 - exp(b - a)), as F(a) - F(b) = F(a) (1 - F(b)) (1 - e^(b - a)).
    inside = logsigmoid(above) + logsigmoid(-below) + torch.log(-torch.expm1(-inverse))
    return torch.where(pixels < 0.5, logsigmoid(above), torch.where(pixels > 254.5, logsigmoid(-below), inside))


def pixel_tables(mean_cells: Ints, scale_cells: Ints) -> tuple[Ints, Tables]:
    """The tables of pixels whose mean and scale lie in the given cells, (n,) each: the table of each pixel, the tables.

    Only tables that occur are made. The same integers come out on every machine that rounds a logistic to 1e-9 alike.
    """
    codes, index = np.unique(scale_cells * MEANS.cells + mean_cells, return_inverse=True)
    rows = tuple(_row(int(code) // MEANS.cells, int(code) % MEANS.cells) for code in codes)
    return index.astype(np.int64), Tables(rows, np.zeros(len(rows), dtype=np.int64), PRECISION)


def scale_cell(log_scale: float) -> int:
    """The cell of a scale (its logarithm, in levels) that both sides know to the last digit."""
    return int(np.clip(np.rint((log_scale - LOG_SCALES.start) / LOG_SCALES.width), 0, LOG_SCALES.cells - 1))


@cache
def _cumulative(cell: int) -> Ints:
    """Cumulative masses below -255.5, -255, ..., 255.5 levels from the mean, as whole numbers that leave one for each
    of 256 symbols."""
    steps = np.arange(-HALVES * LEVELS + 1, HALVES * LEVELS) / HALVES / SCALES[cell]
    share = (1 << PRECISION) - LEVELS
    return np.array([round(share / (1 + math.exp(-min(max(x, -700.0), 700.0)))) for x in steps.tolist()], np.int64)


@cache
def _row(scale: int, mean: int) -> Ints:
    """Frequencies of the 256 levels, at least 1 each: int64, summing to 2**24."""
    first = HALVES * LEVELS - 1 + HALVES // 2 - mean  # of the edge 1/2
    inner = _cumulative(scale)[first : first + HALVES * (LEVELS - 1) : HALVES]
    edges = np.concatenate([[0], inner + np.arange(1, LEVELS), [1 << PRECISION]])
    row: Ints = np.diff(edges)
    row.setflags(write=False)
    return row
