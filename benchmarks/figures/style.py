"""The look of drawings: colours, markers, dashes, sizes, and matplotlib's settings."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.figures.figure import Series, look

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


def settings(width: str = "page") -> list[Any]:
    """What matplotlib's style must be while a figure is drawn."""
    import seaborn as sns  # brings SciPy and pyplot, which take longer than all else here

    return ["default", {**sns.axes_style("whitegrid"), **RC, **(TIGHT if width == "column" else {})}]


def plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis as numbers that one reads: 0.01, 0.1, 1, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else 9.0
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.2 else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def mixed(color: str, other: str, share: float) -> str:
    """A colour on the way to another."""
    pairs = zip(*(bytes.fromhex(c[1:]) for c in (color, other)), strict=True)
    return "#" + "".join(f"{round((1 - share) * a + share * b):02x}" for a, b in pairs)


def line_style(series: Series) -> dict[str, Any]:
    """Options of ``Axes.plot``: filled markers where measured, open and lighter where published, none on a bound."""
    number, marker, dash = look(series.style)
    every = max(1, len(series.x) // 9)  # the marker tells crowded lines apart, too
    if series.source == "bound":
        return {"color": PALETTE[number], "linestyle": PUBLISHED_DASHES[dash], "linewidth": 1.2, "zorder": 2}
    color = PALETTE[number] if series.source == "measured" else mixed(PALETTE[number], "#ffffff", LIGHTER)
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
