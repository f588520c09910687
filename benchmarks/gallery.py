"""Rows of pictures with a name each: originals and reconstructions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import RC, save
from core.codec import Image


def save_gallery(rows: Sequence[tuple[str, Sequence[Image]]], stem: Path) -> list[Path]:
    """Write named rows of equally many pictures as ``stem`` .png and .pdf; the same pictures give the same bytes."""
    from matplotlib import style
    from matplotlib.figure import Figure as Canvas

    columns = len(rows[0][1])
    with style.context(["default", RC]):
        canvas = Canvas(figsize=(0.75 * columns + 0.9, 0.75 * len(rows)), dpi=100)
        grid: Any = canvas.subplots(len(rows), columns, squeeze=False)
        for line, (name, pictures) in zip(grid, rows, strict=True):
            line[0].set_ylabel(name, rotation=0, ha="right", va="center")
            for axes, picture in zip(line, pictures, strict=True):
                grey = picture.shape[2] == 1
                shown = picture[..., 0] if grey else picture
                axes.imshow(shown, cmap="gray" if grey else None, vmin=0, vmax=255, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
        return save(canvas, stem, dpi=160)
