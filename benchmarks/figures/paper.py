"""Figures on paper: draws a ``figures.Figure`` as PDF (embedded TrueType) and PNG, byte-identical on every run.

Beside them lies the figure itself as JSON, from which the page draws it again. Each picture carries a digest of the
figure and of this module, so a figure that is already drawn is not drawn again.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

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
WIDTHS = {"page": 6.9, "column": 3.35}  # inches: a page of two columns, and one of them
INK, FAINT = "#1F2328", "#D9DCE1"

# DejaVu Sans is inside the matplotlib wheel, so text looks the same on every machine.
RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
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
    import seaborn as sns  # brings SciPy and pyplot, which take longer than all else here
    from matplotlib import style

    with style.context(["default", {**sns.axes_style("whitegrid"), **RC}]):
        canvas = draw(figure)
        if width == "column":
            canvas.set_size_inches(WIDTHS[width], 2.7)
        box = canvas.get_tightbbox().padded(0.08)  # once for both files
        for path in paths:
            picture = BytesIO()
            canvas.savefig(picture, format=path.suffix[1:], metadata=metadata[path.suffix], bbox_inches=box)
            write(path, picture.getvalue() if path.suffix == ".pdf" else palette_png(picture))
    return written


def _write_data(figure: Figure, folder: Path) -> list[Path]:
    path = folder / f"{figure.name}.json"
    text = json.dumps(as_data(figure), separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if not path.is_file() or path.read_bytes() != text:
        write(path, text)
    return [path]


def _digest(figure: Figure, width: str) -> str:
    """What the picture depends on: the figure, this module and the library that draws."""
    versions = (version(name) for name in ("matplotlib", "seaborn", "pillow"))
    parts = (repr(figure), width, Path(__file__).read_text(encoding="utf-8"), *versions)
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


def draw(figure: Figure) -> Canvas:
    """The figure as a matplotlib figure, drawn without pyplot (a notebook's own backend is left alone)."""
    import seaborn as sns
    from matplotlib.figure import Figure as Canvas

    bars = figure.kind == "bar"
    height = 0.9 + 0.27 * sum(len(s.x) for s in figure.series) if bars else 4.2
    canvas = Canvas(figsize=(6.4, height) if bars else (6.0, height))
    axes = canvas.add_subplot()
    (_draw_bars if bars else _draw_lines)(axes, figure)
    axes.set_title(figure.title)
    axes.set_xlabel(figure.x.text)
    sns.despine(ax=axes, left=bars)
    if figure.notes:
        axes.annotate("\n".join(figure.notes), (0, 0), (0, -40), "axes fraction", "offset points", fontsize=7, va="top",
                      color="#5B6068", annotation_clip=False, wrap=True)  # fmt: skip
    return canvas


def _draw_lines(axes: Axes, figure: Figure) -> None:
    for series in figure.series:
        style = _line_style(series)
        if figure.kind == "scatter":  # a dot for every point
            style |= {"linestyle": "", "markevery": None}
        axes.plot(series.x, series.y, label=series.legend, **style)
    axes.set_ylabel(figure.y.text)
    for name, axis in (("x", figure.x), ("y", figure.y)):
        if axis.log:
            axes.set(**{f"{name}scale": "log"})
    if figure.window:
        axes.set_xlim(*figure.window[:2])
        axes.set_ylim(*figure.window[2:])
    handles, count = axes.get_lines(), len(figure.series)
    axes.legend(
        handles=[handles[i] for i in figure.order], loc="upper left", bbox_to_anchor=(1.01, 1.02),
        ncols=1 + (count - 1) // 24, handlelength=3.4, labelspacing=0.45,
    )  # fmt: skip


def _line_style(series: Series) -> dict[str, Any]:
    color, marker, dash = look(series.style)
    every = max(1, len(series.x) // 9)  # the marker tells crowded lines apart, too
    if series.source == "bound":
        return {"color": PALETTE[color], "linestyle": PUBLISHED_DASHES[dash], "linewidth": 1.2, "zorder": 2}
    common: dict[str, Any] = {"color": PALETTE[color], "marker": MARKERS[marker], "markevery": every}
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
    """Bars of one series or several; per cent are signed, and better to the left."""
    signed = figure.x.unit == "%"
    for series in figure.series:
        own = PALETTE[0] if series.source == "measured" else "#A9AFB8"
        colors = [(PALETTE[2] if x < 0 else PALETTE[1]) if signed else own for x in series.x]
        axes.barh(series.y, series.x, color=colors, height=0.62, zorder=2)
        for x, y, low, high in zip(series.x, series.y, series.low or series.x, series.high or series.x, strict=True):
            if low < high:
                axes.plot([low, high], [y, y], color=INK, linewidth=1.1, marker="|", markersize=5, zorder=3)
            edge = max(x, high, 0.0) if x >= 0 else min(x, low)
            text = f"{x:+.1f} %" if signed else f"{x:.3f}"
            axes.annotate(text, (edge, y), (4 if x >= 0 else -4, 0), textcoords="offset points", va="center",
                          ha="left" if x >= 0 else "right", fontsize=8)  # fmt: skip
    names = sorted((y, name) for s in figure.series for y, name in zip(s.y, s.names, strict=True))
    axes.set_yticks([y for y, _ in names], [name for _, name in names])
    axes.set_ylim(names[-1][0] + 0.6, -0.6)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=4)
    axes.margins(x=0.14)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
