"""Names beside the lines and dots they belong to, where there is room: no name covers a line, a dot or another name.

Everything is in pixels of the drawing; what finds no place is left to a legend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, bottom, right, top
STEP, TRIES = 3.0, 24  # pixels between points of a line that must stay free; places along a line that are tried
DOT = 3.0  # pixels of a dot beside those of a line
NEAR, APART, FREE = 7.0, 11.0, 2.5  # of a name: from its own line at most, from others and from everything at least


def places(
    lines: Sequence[Floats], sizes: Sequence[tuple[float, float] | None], box: Box, dots: bool = False
) -> list[tuple[float, float] | None]:
    """Where the left lower corner of each name goes, None for one that has no room.

    ``lines`` are points (n, 2) that are drawn, ``sizes`` widths and heights of the names (None: no name is wanted),
    ``box`` is the panel; ``dots`` need more air than lines. Short lines, which have the fewest places, come first.
    """
    dense = [_inside(_dense(line), box) for line in lines]
    taken: list[Box] = []
    found: list[tuple[float, float] | None] = [None] * len(lines)
    for i in sorted(range(len(lines)), key=lambda i: len(dense[i])):
        if (size := sizes[i]) is None:
            continue
        others = [points for j, points in enumerate(dense) if j != i and len(points)]
        for place in _candidates(dense[i], size, DOT if dots else 0.0):
            mine = (*place, place[0] + size[0], place[1] + size[1])
            if _within(mine, box) and _free(mine, dense[i], others, taken, DOT if dots else 0.0):
                found[i] = place
                taken.append(mine)
                break
    return found


def _dense(line: Floats) -> Floats:
    """Points of a line every few pixels."""
    parts = [line[:1]]
    for a, b in pairwise(line):
        count = max(1, int(np.hypot(*(b - a)) / STEP))
        parts.append(a + (b - a) * np.linspace(0, 1, count + 1)[1:, None])
    return np.concatenate(parts)


def _inside(points: Floats, box: Box) -> Floats:
    x, y = points.T
    kept: Floats = points[(x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])]
    return kept


def _candidates(points: Floats, size: tuple[float, float], more: float) -> Iterator[tuple[float, float]]:
    """Corners to try: at the end of the line first, then along it, above, below and to the sides."""
    if not len(points):
        return
    width, height = size
    x, y = points[-1]
    near = NEAR + more
    yield x + near, y - height / 2
    for x, y in points[np.linspace(len(points) - 1, 0, min(TRIES, len(points))).astype(int)]:
        yield x - width - 3, y + 3 + more
        yield x + 3, y - height - 3 - more
        yield x - width / 2, y + near - 1
        yield x - width / 2, y - height - near + 1
        yield x - width - near + 1, y - height / 2


def _within(mine: Box, box: Box) -> bool:
    return mine[0] >= box[0] + 2 and mine[1] >= box[1] + 2 and mine[2] <= box[2] - 2 and mine[3] <= box[3] - 2


def _free(mine: Box, own: Floats, others: Sequence[Floats], taken: Sequence[Box], more: float) -> bool:
    if any(mine[0] < t[2] + 3 and t[0] < mine[2] + 3 and mine[1] < t[3] + 1 and t[1] < mine[3] + 1 for t in taken):
        return False
    return FREE + more <= _distance(mine, own) <= NEAR + more and all(
        _distance(mine, points) >= APART for points in others
    )


def _distance(mine: Box, points: Floats) -> float:
    """Pixels from a box to the nearest of some points; 0 inside of it."""
    across = np.maximum(np.maximum(mine[0] - points[:, 0], points[:, 0] - mine[2]), 0)
    down = np.maximum(np.maximum(mine[1] - points[:, 1], points[:, 1] - mine[3]), 0)
    return float(np.hypot(across, down).min())
