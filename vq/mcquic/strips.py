"""Images in strips of rows that stay in the cache, with the frame a 3x3 convolution needs. Tensors are (h, w, C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vq.mcquic.winograd import TILE

STRIP = 2**21  # numbers in a strip of rows


def spans(height: int, row: int, ahead: int = 0) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of the strips of an image whose rows have ``row`` numbers each.

    Strips are multiples of 8 rows, all but the last one ends ``ahead`` rows early.
    """
    rows = max(8, STRIP // row // 8 * 8)
    ends = [*range(rows - ahead, height - ahead, rows), height]
    return zip([0, *ends[:-1]], ends, strict=True)


def _reflect(x: Tensor, top: bool, bottom: bool) -> None:
    """Fill the frame of x from what is inside; it has a row above and below only where the image ends."""
    inside = x[:, 1:-1]
    single = len(x) - top - bottom == 1
    if top:
        inside[0] = inside[1 if single else 2]
    if bottom:
        inside[-1] = inside[-2 if single else -3]
    single = x.shape[1] == 3
    x[:, 0], x[:, -1] = x[:, 1 if single else 2], x[:, -2 if single else -3]


def around(x: Tensor, a: int, b: int, silu: bool = False) -> Tensor:
    """Rows a to b of an image, or SiLU of them, with one more row and column on each side."""
    top, bottom, rows = a == 0, b == len(x), x[max(a - 1, 0) : b + 1]
    out = x.new_empty(len(rows) + top + bottom, x.shape[1] + 2, x.shape[2])
    inside = out[int(top) : len(out) - bottom, 1:-1]
    torch.ops.aten.silu.out(rows, out=inside) if silu else inside.copy_(rows)
    _reflect(out, top, bottom)
    return out


def add_last(
    out: Tensor, hidden: Callable[[int, int, Tensor], None], last: Callable[..., Any], stride: int = 1
) -> None:
    """Add to ``out`` (h, w, C) the convolution ``last`` of what ``hidden`` makes, while both are in the cache.

    ``hidden(p, q, rows)`` writes its rows p to q and is called from the top down. It is ahead of ``last`` by one tile
    of minimal filtering, so that both end where tiles do, and may use what ``out`` holds from row p - 1 on. What it is
    made of is ``stride`` times as wide, which a strip's height follows.
    """
    height, width, channels = out.shape
    kept, p = out.new_empty(0, width + 2, channels), 0
    for a, b in spans(height, stride * width * channels, ahead=TILE):
        q = min(b + TILE, height)
        frame = out.new_empty(q - a + 1 + (q == height), width + 2, channels)
        start = len(kept) or 1
        frame[: len(kept)] = kept
        hidden(p, q, frame[start : start + q - p, 1:-1])
        _reflect(frame, a == 0, b == height)
        last(frame[: b - a + 2], out[a:b], add=True)
        kept, p = frame[b - a :], q
