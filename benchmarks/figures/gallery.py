"""Rows of pictures with a name each: originals and reconstructions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures.paper import save, write
from benchmarks.figures.style import RC
from core.codec import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

DPI, CAPTIONED_DPI = 160, 120
TITLE_ROOM, CAPTION_ROOM = 0.3, 0.26  # inches


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
                _show(axes, picture)
        return save(canvas, stem, DPI, photographs=any(p.shape[2] > 1 for _, pictures in rows for p in pictures))


def save_captioned(
    rows: Sequence[tuple[str, Sequence[tuple[Image, str]]]], stem: Path, title: str, digest: str
) -> list[Path]:
    """Write named rows of pictures with captions below them, under a title, as ``stem`` .pdf and .png.

    ``digest`` stands for all that the figure depends on: files that bear it are left as they are. Raises StoreError.
    """
    metadata: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None, "Producer": None, "Creator": None, "Keywords": digest},
        ".png": {"Software": None, "Comment": digest},
    }
    paths = [stem.with_name(stem.name + suffix) for suffix in metadata]
    if all(path.is_file() and digest.encode() in path.read_bytes() for path in paths):
        return paths
    from matplotlib import style

    with style.context(["default", RC]):
        canvas = _captioned(rows, title)
        for path in paths:
            file = BytesIO()
            facts = metadata[path.suffix]
            canvas.savefig(file, format=path.suffix[1:], metadata=facts, bbox_inches="tight", dpi=CAPTIONED_DPI)
            write(path, file.getvalue())
    return paths


def _captioned(rows: Sequence[tuple[str, Sequence[tuple[Image, str]]]], title: str) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    columns = max(len(shown) for _, shown in rows)
    height, width = (max(image.shape[side] for _, shown in rows for image, _ in shown) for side in (0, 1))
    across = min(1.4, 7.2 / columns)  # inches of a picture
    lines = 1 + max(text.count("\n") for _, shown in rows for _, text in shown)
    captions = any(text for _, shown in rows for _, text in shown)
    down = across * height / width + (CAPTION_ROOM * (lines + 1) / 2 if captions else 0.04)
    canvas = Canvas(figsize=(across * columns, down * len(rows) + TITLE_ROOM), dpi=100)
    top = 1 - TITLE_ROOM / (down * len(rows) + TITLE_ROOM)
    grid: Any = canvas.subplots(len(rows), columns, squeeze=False)
    canvas.subplots_adjust(0, 0, 1, top, wspace=0.04, hspace=down / (across * height / width) - 1)
    for line, (name, shown) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axes, (image, text) in zip(line, shown, strict=False):
            _show(axes, image)
            axes.set_xlabel(text, fontsize=7, labelpad=2)
        for axes in line[len(shown) :]:
            axes.set_axis_off()
    canvas.suptitle(title, x=0, y=1, ha="left", va="top", fontsize=10.5)
    return canvas


def _show(axes: Any, picture: Image) -> None:
    grey = picture.shape[2] == 1
    shown = picture[..., 0] if grey else picture
    axes.imshow(shown, cmap="gray" if grey else None, vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
