"""Figures on paper: draws a ``figures.Figure`` as PDF (embedded TrueType) and PNG, byte-identical on every run.

Each file carries a digest of the figure and of this module, so a figure that is already drawn is not drawn again.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Series
from benchmarks.store import StoreError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Okabe and Ito's colours, distinguishable with any colour vision; their yellow, too pale on white, gives way to a wine
# red of Tol's. Eight colours and seven markers repeat together only after 56 curves.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B5B5B", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT = "#1F2328", "#D9DCE1"

# DejaVu Sans is inside the matplotlib wheel, so text looks the same on every machine.
RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
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


def render(figure: Figure, folder: Path) -> list[Path]:
    """Write ``<name>.pdf`` and ``<name>.png`` into the folder and return their paths; a figure without series has none.

    The same figure gives the same bytes: no dates, no software versions, a style that ignores the user's settings.
    Raises StoreError when the files cannot be written.
    """
    if not figure.series:
        return []
    digest = _digest(figure)
    # None: what the formats would otherwise say about when and with what they were written.
    metadata: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None, "Producer": None, "Creator": None, "Keywords": digest},
        ".png": {"Software": None, "Comment": digest},
    }
    paths = [folder / f"{figure.name}{suffix}" for suffix in metadata]
    if all(path.is_file() and digest.encode() in path.read_bytes() for path in paths):
        return paths
    import seaborn as sns  # brings SciPy and pyplot, which take longer than all else here
    from matplotlib import style

    with style.context(["default", {**sns.axes_style("whitegrid"), **RC}]):
        canvas = draw(figure)
        for path in paths:
            picture = BytesIO()
            kind = path.suffix
            canvas.savefig(picture, format=kind[1:], metadata=metadata[kind], bbox_inches="tight", pad_inches=0.08)
            write(path, picture.getvalue())
    return paths


def _digest(figure: Figure) -> str:
    """What the picture depends on: the figure, this module and the library that draws."""
    parts = (repr(figure), Path(__file__).read_text(encoding="utf-8"), version("matplotlib"), version("seaborn"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def save(canvas: Canvas, stem: Path, dpi: int) -> list[Path]:
    """Write a drawn canvas as ``stem`` .png and .pdf; the same drawing gives the same bytes."""
    written = []
    for suffix, empty in ((".png", ("Software",)), (".pdf", ("CreationDate", "Producer", "Creator"))):
        picture = BytesIO()
        metadata: dict[str, Any] = dict.fromkeys(empty)
        canvas.savefig(picture, format=suffix[1:], metadata=metadata, bbox_inches="tight", dpi=dpi)
        written.append(stem.with_name(stem.name + suffix))
        write(written[-1], picture.getvalue())
    return written


def write(path: Path, content: bytes) -> None:
    """Write a file, its folders too; ``StoreError`` where that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
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
        axes.plot(series.x, series.y, label=series.legend, **_line_style(series))
    axes.set_ylabel(figure.y.text)
    if figure.window:
        axes.set_xlim(*figure.window[:2])
        axes.set_ylim(*figure.window[2:])
    count = len(figure.series)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), ncols=1 + (count - 1) // 24, handlelength=2.6, labelspacing=0.45
    )


def _line_style(series: Series) -> dict[str, Any]:
    color, marker = PALETTE[series.style % len(PALETTE)], MARKERS[series.style % len(MARKERS)]
    if series.source == "published":
        crowded = len(series.x) > 20
        return {
            "color": color,
            "marker": "" if crowded else marker,
            "linestyle": (0, (4, 2)),
            "linewidth": 1.1,
            "markersize": 3.4,
            "markerfacecolor": "white",
            "markeredgewidth": 0.8,
            "zorder": 2,
        }
    return {
        "color": color,
        "marker": marker,
        "linestyle": "-",
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "zorder": 3,
    }


def _draw_bars(axes: Axes, figure: Figure) -> None:
    series = figure.series[0]
    colors = [PALETTE[2] if x < 0 else PALETTE[1] for x in series.x]
    axes.barh(series.y, series.x, color=colors, height=0.62, zorder=2)
    for x, y, low, high in zip(series.x, series.y, series.low, series.high, strict=True):
        if low < high:
            axes.plot([low, high], [y, y], color=INK, linewidth=1.1, marker="|", markersize=5, zorder=3)
        edge = max(x, high, 0.0) if x >= 0 else min(x, low)
        axes.annotate(f"{x:+.1f} %", (edge, y), (4 if x >= 0 else -4, 0), textcoords="offset points", va="center",
                      ha="left" if x >= 0 else "right", fontsize=8)  # fmt: skip
    axes.set_yticks(series.y, series.names)
    axes.set_ylim(max(series.y) + 0.6, -0.6)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=4)
    axes.margins(x=0.14)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
