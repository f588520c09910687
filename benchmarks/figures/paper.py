"""Figures on paper: draws a ``figures.Figure`` as PDF (embedded TrueType) and PNG, byte-identical on every run.

A figure is as wide as a page or as a column of a paper, so that nothing is scaled there. Names stand at their curves
where there is room, in a legend where there is none. Beside the pictures lies the figure itself as JSON, from which the
page draws it again. Each picture carries a digest of the figure and of this code, so a figure that is already drawn is
not drawn again.
"""

from __future__ import annotations

import hashlib
import json
import math
import textwrap
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from benchmarks.figures import labels
from benchmarks.figures.figure import Figure, Series, as_data, look
from benchmarks.store import StoreError
from core.atomic import write_bytes
from core.codec import TesseraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Okabe and Ito's colours, distinguishable with any colour vision; their yellow, too pale on white, gives way to a wine
# red of Tol's.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B5B5B", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Solid, long, dots, dash and dot; lengths in widths of the line. The first of published curves, thin ones, is dashed.
DASHES: tuple[Any, ...] = ("-", (0, (6, 1.6)), (0, (1.2, 1.1)), (0, (6, 1.4, 1.2, 1.4)))
PUBLISHED_DASHES: tuple[Any, ...] = ((0, (4, 2)), (0, (9, 2.5)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))
INK, FAINT, QUIET = "#1F2328", "#D9DCE1", "#5B6068"
LIGHTER = 0.4  # how far published curves are on the way to white
WIDTHS = {"page": 6.9, "column": 3.35}  # inches: a page of two columns, and one of them
HEIGHTS = {"page": 4.1, "column": 2.7}
TIGHT: dict[str, Any] = {"font.size": 7, "axes.titlesize": 8, "axes.labelsize": 7.5, "legend.fontsize": 6.5,
                         "lines.linewidth": 1.2, "lines.markersize": 3.4}  # in a column  # fmt: skip
MANY = 200  # dots of a curve beyond which they are small
LABELLED = 8  # curves that have names beside them; more are left to the legend

# DejaVu Sans is inside the matplotlib wheel, so text looks the same on every machine.
RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 10,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.edgecolor": "#8A9099",
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}


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
    from matplotlib import style

    with style.context(settings(width)):
        canvas = draw(figure, width)
        for path in paths:
            picture = BytesIO()
            canvas.savefig(picture, format=path.suffix[1:], metadata=metadata[path.suffix])
            write(path, picture.getvalue() if path.suffix == ".pdf" else palette_png(picture))
    return written


def settings(width: str = "page") -> list[Any]:
    """What matplotlib's style must be while a figure is drawn."""
    import seaborn as sns  # brings SciPy and pyplot, which take longer than all else here

    return ["default", {**sns.axes_style("whitegrid"), **RC, **(TIGHT if width == "column" else {})}]


def _write_data(figure: Figure, folder: Path) -> list[Path]:
    path = folder / f"{figure.name}.json"
    text = json.dumps(as_data(figure), separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if not path.is_file() or path.read_bytes() != text:
        write(path, text)
    return [path]


def _digest(figure: Figure, width: str) -> str:
    """What the picture depends on: the figure, these modules and the library that draws."""
    versions = (version(name) for name in ("matplotlib", "seaborn", "pillow"))
    code = (Path(file).read_text(encoding="utf-8") for file in (__file__, labels.__file__))
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

    bars, small = figure.kind == "bar", width == "column"
    row = 0.17 if small else 0.24
    height = 0.85 + row * sum(len(s.x) for s in figure.series) if bars else HEIGHTS[width]
    notes = [line for note in figure.notes for line in textwrap.wrap(note, 66 if small else 122)]
    foot = (0.11 if small else 0.13) * len(notes) + (0.05 if notes else 0)
    canvas = Canvas(figsize=(WIDTHS[width], height + foot), layout="constrained")
    FigureCanvasAgg(canvas)
    _keep(canvas, foot)
    axes = canvas.add_subplot()
    (_draw_bars if bars else _draw_lines)(axes, figure)
    title = "\n".join(textwrap.wrap(figure.title, 54 if small else 88))
    canvas.suptitle(title, x=0.01, ha="left", fontsize=(TIGHT if small else RC)["axes.titlesize"])
    axes.set_xlabel(figure.x.text)
    sns.despine(ax=axes, left=bars)
    canvas.text(0.01, 0.01, "\n".join(notes), fontsize=5.6 if small else 7, va="bottom", color=QUIET)
    if not bars:
        _name_lines(canvas, axes, figure, foot if small else None)
    return canvas


def _keep(canvas: Canvas, foot: float) -> None:
    """Leave room at the foot of a drawing, in inches."""
    share = foot / canvas.get_figheight()
    canvas.get_layout_engine().set(rect=(0, share, 1, 1 - share))  # type: ignore[union-attr]


def _draw_lines(axes: Axes, figure: Figure) -> None:
    for series in figure.series:
        style = _line_style(series)
        if figure.kind == "scatter":  # a dot for every point
            style |= {"linestyle": "", "markevery": None}
            style |= {"markersize": 1.6, "markeredgewidth": 0, "alpha": 0.6} if len(series.x) > MANY else {}
        axes.plot(series.x, series.y, label=series.legend, **style)
    axes.set_ylabel(figure.y.text)
    for name, axis in (("x", figure.x), ("y", figure.y)):
        if axis.log:
            axes.set(**{f"{name}scale": "log"})
            _plain_ticks(getattr(axes, f"{name}axis"))
    if figure.window:
        axes.set_xlim(*figure.window[:2])
        axes.set_ylim(*figure.window[2:])


def _plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis as numbers that one reads: 0.01, 0.1, 1, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else 9.0
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.2 else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


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
        color = _mixed(PALETTE[look(series.style)[0]], INK, 0.25)
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
            text.set_position(axes.transAxes.inverted().transform(place))
            text.set_in_layout(False)
    return texts, lost


def _mixed(color: str, other: str, share: float) -> str:
    """A colour on the way to another."""
    pairs = zip(*(bytes.fromhex(c[1:]) for c in (color, other)), strict=True)
    return "#" + "".join(f"{round((1 - share) * a + share * b):02x}" for a, b in pairs)


def _line_style(series: Series) -> dict[str, Any]:
    number, marker, dash = look(series.style)
    every = max(1, len(series.x) // 9)  # the marker tells crowded lines apart, too
    if series.source == "bound":
        return {"color": PALETTE[number], "linestyle": PUBLISHED_DASHES[dash], "linewidth": 1.2, "zorder": 2}
    color = PALETTE[number] if series.source == "measured" else _mixed(PALETTE[number], "#ffffff", LIGHTER)
    common: dict[str, Any] = {"color": color, "marker": MARKERS[marker], "markevery": every}
    if series.source == "published":
        return common | {
            "linestyle": PUBLISHED_DASHES[dash],
            "linewidth": 1.1,
            "markersize": 3.4,
            "markerfacecolor": "white",
            "markeredgewidth": 0.8,
            "zorder": 2,
        }
    return common | {"linestyle": DASHES[dash], "markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 3}


def _draw_bars(axes: Axes, figure: Figure) -> None:
    """Bars of one series or several; per cent are signed, and better to the left. A bar past ``clip`` ends there."""
    signed, most = figure.x.unit == "%", figure.clip or math.inf
    if figure.x.log:
        axes.set_xscale("log")
    for series in figure.series:
        own = PALETTE[0] if series.source == "measured" else "#A9AFB8"
        colors = [(PALETTE[2] if x < 0 else PALETTE[1]) if signed else own for x in series.x]
        axes.barh(series.y, [min(x, most) for x in series.x], color=colors, height=0.62, zorder=2)
        for x, y, low, high in zip(series.x, series.y, series.low or series.x, series.high or series.x, strict=True):
            _finish_bar(axes, figure, (x, y, low, high), most)
    names = sorted((y, name) for s in figure.series for y, name in zip(s.y, s.names, strict=True))
    axes.set_yticks([y for y, _ in names], [name for _, name in names])
    axes.set_ylim(names[-1][0] + 0.6, -0.6)
    axes.margins(x=0.16)
    if figure.x.log:
        axes.set_xlim(left=1)
        _plain_ticks(axes.xaxis)
    else:
        axes.axvline(0, color=INK, linewidth=0.8, zorder=4)
    if signed:  # room for the numbers of bars to the left
        low, high = axes.get_xlim()
        share = 0.2 if _is_wide(axes) else 0.5
        axes.set_xlim(min(low, -share * high) if any(x < 0 for s in figure.series for x in s.x) else low, high)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)


def _finish_bar(axes: Axes, figure: Figure, bar: tuple[float, float, float, float], most: float) -> None:
    """The interval of a bar, its number, and a cut where it goes on."""
    x, y, low, high = bar
    if low < high and x <= most:
        axes.plot([low, min(high, most)], [y, y], color=INK, linewidth=1.1, marker="|", markersize=5, zorder=3)
    if x > most:
        axes.plot([0.97 * most], [y], color="white", linewidth=0, marker=(2, 0, -20), markersize=13, mew=2.2, zorder=5)
    edge = min(max(x, high, 0.0), most) if x >= 0 else min(x, low)
    text = f"{x:+.1f} %" if figure.x.unit == "%" else f"{x:,.0f}" if figure.x.log else f"{x:.3f}"
    text = text.replace("-", "\u2212")
    axes.annotate(text, (edge, y), (4 if x >= 0 else -4, 0), textcoords="offset points", va="center",
                  ha="left" if x >= 0 else "right", fontsize=7.5 if _is_wide(axes) else 6.3)  # fmt: skip


def _is_wide(axes: Axes) -> bool:
    canvas = axes.get_figure()
    return canvas is not None and canvas.get_figwidth() > 2 * WIDTHS["column"]
