"""Bars on paper: their numbers, intervals, and where long ones are cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmarks.figures.figure import Figure
from benchmarks.figures.style import INK, PALETTE, WIDTHS, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_bars(axes: Axes, figure: Figure) -> None:
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
        plain_ticks(axes.xaxis)
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
    canvas = axes.get_figure(root=True)
    return canvas is not None and canvas.get_figwidth() > 2 * WIDTHS["column"]
