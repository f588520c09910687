"""Figures on paper: draws a ``figures.Figure`` as PDF (embedded TrueType) and PNG, byte-identical on every run.

A figure is as wide as a page or as a column of a paper, so that nothing is scaled there. Names stand at their curves
where there is room, in a legend where there is none. Beside the pictures lies the figure itself as JSON, from which the
page draws it again. Each picture carries a digest of the figure and of this code, so a figure that is already drawn is
not drawn again.
"""

from __future__ import annotations

import hashlib
import json
import textwrap
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from benchmarks.figures import bars, labels, style
from benchmarks.figures.bars import draw_bars
from benchmarks.figures.figure import Figure, as_data, look
from benchmarks.figures.style import (
    HEIGHTS,
    INK,
    LABELLED,
    MANY,
    PALETTE,
    QUIET,
    RC,
    TIGHT,
    WIDTHS,
    line_style,
    mixed,
    plain_ticks,
    settings,
)
from benchmarks.store import StoreError
from core.atomic import write_bytes
from core.codec import TesseraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def render(figure: Figure, folder: Path, data: bool = True, width: str = "page") -> list[Path]:
    """Write ``<name>`` .pdf, .png and .json into the folder and return their paths; a figure without series has none.

    ``width`` is 'page' or 'column', whose files are ``<name>_column``. Without ``data`` the JSON is left alone: it is
    where the figure came from. The same figure gives the same bytes: no dates, no software versions, a style that
    ignores the user's settings. Raises TesseraError for another width, StoreError when the files cannot be written.
    """
    if width not in WIDTHS:
        raise TesseraError(f"width={width} of a figure must be {' or '.join(WIDTHS)}.")
    if not figure.series:
        return []
    digest = _digest(figure, width)
    # None: what the formats would otherwise say about when and with what they were written.
    metadata: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None, "Producer": None, "Creator": None, "Keywords": digest},
        ".png": {"Software": None, "Comment": digest},
    }
    paths = [folder / f"{figure.name}{'' if width == 'page' else f'_{width}'}{suffix}" for suffix in metadata]
    written = [*paths, *_write_data(figure, folder)] if data else paths
    if all(path.is_file() and digest.encode() in path.read_bytes() for path in paths):
        return written
    from matplotlib import style as matplotlib_style

    with matplotlib_style.context(settings(width)):
        canvas = draw(figure, width)
        for path in paths:
            picture = BytesIO()
            canvas.savefig(picture, format=path.suffix[1:], metadata=metadata[path.suffix])
            write(path, picture.getvalue() if path.suffix == ".pdf" else palette_png(picture))
    return written


def _write_data(figure: Figure, folder: Path) -> list[Path]:
    path = folder / f"{figure.name}.json"
    text = json.dumps(as_data(figure), separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if not path.is_file() or path.read_bytes() != text:
        write(path, text)
    return [path]


def _digest(figure: Figure, width: str) -> str:
    """What the picture depends on: the figure, these modules and the library that draws."""
    versions = (version(name) for name in ("matplotlib", "seaborn", "pillow"))
    code = (
        Path(file).read_text(encoding="utf-8") for file in (__file__, bars.__file__, labels.__file__, style.__file__)
    )
    parts = (repr(figure), width, *code, *versions)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def palette_png(file: BinaryIO) -> bytes:
    """A PNG with the 256 colours that cover its own best, a third of the size; text and resolution stay.

    For drawings, in which only the blended edges of lines have more colours. The same picture gives the same bytes.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    facts, made = PngInfo(), BytesIO()
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        for name, text in picture.info.items():
            if isinstance(text, str):
                facts.add_text(str(name), text)
        few.save(made, "PNG", optimize=True, pnginfo=facts, dpi=picture.info.get("dpi"))
    return made.getvalue()


def save(canvas: Canvas, stem: Path, dpi: int, photographs: bool = False) -> list[Path]:
    """Write a drawn canvas as ``stem`` .png and .pdf; the same drawing gives the same bytes.

    A canvas that shows ``photographs`` keeps all their colours.
    """
    written = []
    for suffix, empty in ((".png", ("Software",)), (".pdf", ("CreationDate", "Producer", "Creator"))):
        picture = BytesIO()
        metadata: dict[str, Any] = dict.fromkeys(empty)
        canvas.savefig(picture, format=suffix[1:], metadata=metadata, bbox_inches="tight", dpi=dpi)
        written.append(stem.with_name(stem.name + suffix))
        write(written[-1], picture.getvalue() if suffix == ".pdf" or photographs else palette_png(picture))
    return written


def write(path: Path, content: bytes) -> None:
    """Write a file, its folders too; ``StoreError`` where that is impossible."""
    try:
        write_bytes(path, content)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another folder.") from error


def draw(figure: Figure, width: str = "page") -> Canvas:
    """The figure as a matplotlib figure, drawn without pyplot (a notebook's own backend is left alone)."""
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    is_bars, small = figure.kind == "bar", width == "column"
    row = 0.17 if small else 0.24
    height = 0.85 + row * sum(len(s.x) for s in figure.series) if is_bars else HEIGHTS[width]
    notes = [line for note in figure.notes for line in textwrap.wrap(note, 66 if small else 122)]
    foot = (0.11 if small else 0.13) * len(notes) + (0.05 if notes else 0)
    canvas = Canvas(figsize=(WIDTHS[width], height + foot), layout="constrained")
    FigureCanvasAgg(canvas)
    _keep(canvas, foot)
    axes = canvas.add_subplot()
    (draw_bars if is_bars else _draw_lines)(axes, figure)
    title = "\n".join(textwrap.wrap(figure.title, 54 if small else 88))
    canvas.suptitle(title, x=0.01, ha="left", fontsize=(TIGHT if small else RC)["axes.titlesize"])
    axes.set_xlabel(figure.x.text)
    sns.despine(ax=axes, left=is_bars)
    canvas.text(0.01, 0.01, "\n".join(notes), fontsize=5.6 if small else 7, va="bottom", color=QUIET)
    if not is_bars:
        _name_lines(canvas, axes, figure, foot if small else None)
    return canvas


def _keep(canvas: Canvas, foot: float) -> None:
    """Leave room at the foot of a drawing, in inches."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    share = foot / canvas.get_figheight()
    engine = canvas.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, share, 1, 1 - share))


def _draw_lines(axes: Axes, figure: Figure) -> None:
    for series in figure.series:
        style = line_style(series)
        if figure.kind == "scatter":  # a dot for every point
            style |= {"linestyle": "", "markevery": None}
            style |= {"markersize": 1.6, "markeredgewidth": 0, "alpha": 0.6} if len(series.x) > MANY else {}
        axes.plot(series.x, series.y, label=series.legend, **style)
    axes.set_ylabel(figure.y.text)
    for name, axis in (("x", figure.x), ("y", figure.y)):
        if axis.log:
            axes.set(**{f"{name}scale": "log"})
            plain_ticks(getattr(axes, f"{name}axis"))
    if figure.window:
        axes.set_xlim(*figure.window[:2])
        axes.set_ylim(*figure.window[2:])


def _name_lines(canvas: Canvas, axes: Axes, figure: Figure, foot: float | None) -> None:
    """Names at the lines where there is room, and a legend of the others; of more than a few lines a legend alone."""
    single = figure.kind == "line" or all(len(s.x) == 1 for s in figure.series)
    few = single and len(figure.series) <= (LABELLED if figure.kind == "line" else 2 * LABELLED)
    left = set() if few else set(range(len(figure.series)))
    texts: list[Any] = []
    while True:
        for text in texts:
            text.remove()
        _legend(canvas, axes, figure, left, foot)
        texts, lost = _beside(canvas, axes, figure, left, foot is not None)
        if not lost:
            return
        left |= lost
        left = left if 2 * len(left) < len(figure.series) else set(range(len(figure.series)))


def _legend(canvas: Canvas, axes: Axes, figure: Figure, shown: set[int], foot: float | None) -> None:
    """A legend of some lines to the right of the panel, or in a column below it, above the notes of ``foot`` inches."""
    for legend in (*canvas.legends, axes.get_legend()):
        if legend is not None:
            legend.remove()
    if not shown:
        return
    lines = axes.get_lines()
    handles = [lines[i] for i in figure.order if i in shown]
    common: dict[str, Any] = {"handles": handles, "handlelength": 3.2, "borderaxespad": 0.3}
    common["markerscale"] = 3 if any(len(s.x) > MANY for s in figure.series) and figure.kind == "scatter" else 1
    if foot is None:
        columns = 1 + (len(shown) - 1) // 24
        axes.legend(**common, loc="upper left", bbox_to_anchor=(1.01, 1.01), labelspacing=0.4, ncols=columns)
        return
    below = 0.06 + 0.135 * -(-len(shown) // 2)
    canvas.set_figheight(HEIGHTS["column"] + foot + below)
    place = (0.01, foot / canvas.get_figheight())
    canvas.legend(**common, loc="lower left", bbox_to_anchor=place, ncols=2, labelspacing=0.25, columnspacing=1)
    _keep(canvas, foot + below)


def _beside(canvas: Canvas, axes: Axes, figure: Figure, left: set[int], small: bool) -> tuple[list[Any], set[int]]:
    """Write names beside the lines that are not in the legend; the texts, and the lines whose names had no room."""
    canvas.draw_without_rendering()
    mine = [i for i in range(len(figure.series)) if i not in left]
    size, texts = 6.3 if small else 7.5, []
    for i in mine:
        series = figure.series[i]
        color = mixed(PALETTE[look(series.style)[0]], INK, 0.25)
        texts.append(axes.text(0, 0, series.legend, fontsize=size, color=color, transform=axes.transAxes, zorder=5))
    renderer, box = canvas.canvas.get_renderer(), axes.get_window_extent()  # type: ignore[attr-defined]
    extents = [text.get_window_extent(renderer) for text in texts]
    points = [axes.transData.transform(np.column_stack([s.x, s.y])) for s in figure.series]
    panel = (box.x0, box.y0, box.x1, box.y1)
    order = [*mine, *left]
    wanted = [*((e.width, e.height) for e in extents), *[None] * len(left)]
    found = labels.places([points[i] for i in order], wanted, panel, dots=figure.kind == "scatter")
    lost = set()
    for i, text, place in zip(mine, texts, found, strict=False):
        if place is None:
            lost.add(i)
            text.set_visible(False)
        else:
            x, y = axes.transAxes.inverted().transform(place)
            text.set_position((float(x), float(y)))
            text.set_in_layout(False)
    return texts, lost
