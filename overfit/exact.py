"""Context model, upsampling and synthesis with numbers that every machine computes alike.

They are float64, but multiples of small powers of two and bounded, so that each product and each sum is exact in any
order: what rounds is said, and rounds halves up. ``core/kernels/overfit_decode.cpp`` computes the same.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import kernels
from core.bitstream import BitstreamError
from overfit import layout
from overfit.coder import Decoder, place
from overfit.layout import CONTEXT, Floats, Side
from overfit.tables import FIRST, FRACTIONS, LIMIT, SCALES, Ints, laplace

EDGE, SLOPE = 4, 3  # zeros around a grid; columns that a line of latents falls back in a row
MOST, BRIGHT = 32768, 1024  # of hidden units, of what filters take
FINE, HALF, LIGHT, STEP = 256, 1024, 4096, 64  # parts of one that the numbers have
BAND = 1 << 16  # pixels of a product at once
Latents = NDArray[np.int32]


def rounded(x: Floats, parts: int) -> Floats:
    """To multiples of 1 / parts, halves up."""
    return np.floor(x * parts + 0.5) / parts


def predicted(seen: Floats, level: int, weights: dict[str, Floats]) -> tuple[Ints, Ints]:
    """Whole parts of the locations and tables of latents whose contexts are ``seen`` (n, 16)."""
    h1 = rounded(seen @ weights["context1"].T + weights["level_bias"][level], FINE).clip(0, MOST)
    h2 = rounded(h1 @ weights["context2"].T + weights["bias2"] + h1, FINE).clip(0, MOST)
    out = h2 @ weights["context3"].T + weights["bias3"]
    at = np.floor(out[:, 0].clip(-LIMIT, LIMIT) * FRACTIONS + 0.5).astype(np.int64)
    scale = np.floor(out[:, 1] * 8 + (FIRST + 0.5)).clip(0, SCALES - 1).astype(np.int64)
    return at >> 4, scale * FRACTIONS + (at & 15)


def predict(grid: Latents, level: int, vector: Floats) -> tuple[Ints, Ints]:
    """What the model says of every latent of a grid (h, w), in raster order."""
    library = kernels.library("overfit_decode")
    if library is not None:
        base, table = np.empty((2, grid.size), dtype=np.int32)
        grid = np.ascontiguousarray(grid)
        library.overfit_predict(place(grid), place(vector), level, *grid.shape, place(base), place(table))
        return base.astype(np.int64), table.astype(np.int64)
    h, w = grid.shape
    around = np.pad(grid.astype(np.float64), ((EDGE, 0), (EDGE, EDGE)))
    seen = np.stack([around[EDGE + y :, EDGE + x :][:h, :w] for y, x in CONTEXT], -1).reshape(-1, len(CONTEXT))
    return predicted(seen, level, layout.named(vector))


def order(side: Side) -> Ints:
    """Raster places of a grid's latents in coding order: along lines of equal x + 3 y, each from the top."""
    y, x = np.divmod(np.arange(side[0] * side[1]), side[1])
    return np.argsort(x + SLOPE * y, kind="stable")


def decode_grid(decoder: Decoder, side: Side, level: int, vector: Floats) -> Latents:
    """The latents of a grid (h, w); ``BitstreamError`` for one that no encoder writes."""
    library = kernels.library("overfit_decode")
    if library is None:
        return _decode_grid(decoder, side, level, layout.named(vector))
    tables, out = laplace(), np.empty(side, dtype=np.int32)
    state = np.array([decoder.range, decoder.code, decoder.at], dtype=np.int64)
    data = np.frombuffer(decoder.data, dtype=np.uint8)
    numbers = (tables.cumulative, tables.start, tables.low, tables.count, vector)
    wrong = library.overfit_latents(
        place(data), _long(data.size), place(state), *map(place, numbers), level, *side, place(out)
    )
    if wrong:
        raise _too_large()
    decoder.range, decoder.code, decoder.at = state.tolist()
    return out


def _decode_grid(decoder: Decoder, side: Side, level: int, weights: dict[str, Floats]) -> Latents:
    h, w = side
    stride, rows = w + 2 * EDGE, table_rows()
    flat = np.zeros((h + EDGE) * stride)
    away = np.array([y * stride + x for y, x in CONTEXT])
    for line in range(w + SLOPE * (h - 1)):
        y = np.arange(max(0, -(-(line - w + 1) // SLOPE)), min(h - 1, line // SLOPE) + 1)
        if not y.size:  # of a grid narrower than a line falls back
            continue
        places = (y + EDGE) * stride + EDGE + line - SLOPE * y
        base, tables = predicted(flat[places[:, None] + away], level, weights)
        found = base + decoder.symbols(tables.tolist(), laplace(), rows)
        if np.abs(found).max() > LIMIT:
            raise _too_large()
        flat[places] = found
    return flat.reshape(h + EDGE, stride)[EDGE:, EDGE : EDGE + w].astype(np.int32)


@lru_cache
def table_rows() -> list[list[int]]:
    """The cumulative frequencies of every table."""
    tables = laplace()
    ends = [*tables.start.tolist()[1:], len(tables.cumulative)]
    return [tables.cumulative[a:b].tolist() for a, b in zip(tables.start.tolist(), ends, strict=True)]


def picture(grids: list[Latents], vector: Floats) -> NDArray[np.uint8]:
    """The picture (3, H, W) made of grids, the finest first."""
    library = kernels.library("overfit_decode")
    if library is None:
        return _picture(grids, layout.named(vector))
    sides = np.array([grid.shape for grid in grids], dtype=np.int32)
    latents = np.concatenate([grid.ravel() for grid in grids]).astype(np.int32)
    out = np.empty((3, *grids[0].shape), dtype=np.uint8)
    library.overfit_picture(*map(place, (sides, latents, vector, out)))
    return out


def _picture(grids: list[Latents], weights: dict[str, Floats]) -> NDArray[np.uint8]:
    stack = grids[-1][None].astype(np.float64)
    for grid in grids[-2::-1]:
        h, w = grid.shape
        stack = np.concatenate((grid[None], _doubled(_doubled(stack, 2)[..., :w], 1)[:, :h]))
    flat, (h, w) = stack.reshape(len(stack), -1), grids[0].shape
    planes = np.concatenate([_mixed(flat[:, i : i + BAND], weights) for i in range(0, h * w, BAND)], 1)
    planes = _filtered(planes.reshape(3, h, w), weights["filter1"], weights["filter_bias1"])
    planes = _filtered(rounded(planes, LIGHT).clip(0, BRIGHT), weights["filter2"], weights["filter_bias2"])
    return np.floor(planes * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _doubled(x: Floats, axis: int) -> Floats:
    """Planes with twice as many samples along an axis; sample 2 i lies a quarter before sample i."""
    x = np.moveaxis(x, axis, -1)
    p, n = np.pad(x, ((0, 0), (0, 0), (2, 2)), mode="edge"), x.shape[-1]
    a, b, c, d, e = (p[..., i : i + n] for i in range(5))
    both = np.stack((-3 * a + 29 * b + 111 * c - 9 * d, -9 * b + 111 * c + 29 * d - 3 * e), -1)
    return np.moveaxis(rounded(both.reshape(*x.shape[:-1], 2 * n) / 128, STEP), -1, axis)


def _mixed(x: Floats, weights: dict[str, Floats]) -> Floats:
    """Stacked grids (7, n) -> planes (3, n)."""
    x = rounded(weights["mix1"] @ x + weights["mix_bias1"][:, None], HALF).clip(0, MOST)
    return rounded(weights["mix2"] @ x + weights["mix_bias2"][:, None], LIGHT).clip(-BRIGHT, BRIGHT)


def _filtered(x: Floats, kernel: Floats, bias: Floats) -> Floats:
    """Planes plus their convolution, edges repeated."""
    h, w = x.shape[1:]
    p, out = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge"), x + bias[:, None, None]
    for i, j in np.ndindex(3, 3):
        out += np.tensordot(kernel[:, :, i, j], p[:, i : i + h, j : j + w], 1)
    return out


def _long(number: int) -> Any:
    return ctypes.c_int64(number)


def _too_large() -> BitstreamError:
    return BitstreamError(f"the stream is damaged: it holds a latent of more than {LIMIT} in magnitude")
