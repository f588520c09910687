"""Figures as data: what is drawn, not how.

A ``Figure`` holds axes with units and series of points. ``benchmarks/figures/paper.py`` draws it as PDF and PNG,
``benchmarks/page/page.py`` puts the same one on a page, so paper and page can never disagree.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

Value = float | int | str | bool | None

# Colours, markers and dashes count up at different paces, so curves look alike only after 224 of them.
COLORS, MARKERS, DASHES = 8, 7, 4
PUBLISHED = " (published)"  # after the names of other people's curves
CLIP, BEYOND = 150.0, 1.2  # per cent that bars show at least; how much longer the longest must be to be cut


def look(style: int) -> tuple[int, int, int]:
    """The numbers of colour, marker and dash that stand for a style."""
    return style % COLORS, style % MARKERS, style // COLORS % DASHES


@cache
def _styles() -> dict[tuple[int, int, int], int]:
    return {look(i): i for i in reversed(range(COLORS * MARKERS * DASHES))}


def style_of(color: int, marker: int, dash: int) -> int:
    """The style that ``look`` turns into these numbers; KeyError for numbers that stand for nothing."""
    return _styles()[color, marker, dash]


def clip_of(values: Sequence[float], least: float = CLIP, medians: float = 1.5) -> float | None:
    """A number beyond which some few of these values would hide the others; None where none does.

    It is at least ``least``, and so many medians.
    """
    ordered = sorted(values)
    most = max(least, medians * ordered[len(ordered) // 2]) if ordered else least
    return most if ordered and ordered[-1] > BEYOND * most else None


@dataclass(frozen=True)
class Axis:
    """One axis: the column it shows, what a reader calls it, its unit ('' when it has none), and its scale."""

    column: str
    label: str
    unit: str = ""
    log: bool = False

    @property
    def text(self) -> str:
        """The words beside the axis, e.g. 'PSNR [dB]'."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


@dataclass(frozen=True)
class Series:
    """One line (or one bar per entry): equally long ``x`` and ``y``, finite numbers.

    ``style`` is a small integer that ``look`` turns into colour, marker and dash; the same label has the same style in
    every figure made from the same curves. ``rows`` are the full result rows behind the points, ``cells`` their keys
    in the store (empty for published numbers); ``low`` and ``high`` bound an interval around x where there is one.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    source: str  # 'measured', 'published', or 'bound': a line that nobody measured
    style: int
    names: tuple[str, ...] = ()  # the bars' names, or the points' settings
    cells: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Value], ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    reference: str = ""  # checkpoint or citation
    shown: str = ""  # what the figure calls it where that is not the label

    @property
    def legend(self) -> str:
        """What the figure calls it, with 'published' where the numbers are other people's."""
        return f"{self.shown or self.label}{PUBLISHED if self.source == 'published' else ''}"


@dataclass(frozen=True)
class Figure:
    """A titled set of series on two axes.

    ``kind`` is 'line' (y over x), 'scatter' (points without lines) or 'bar' (horizontal bars of length x).
    """

    name: str  # file stem
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    kind: str = "line"
    notes: tuple[str, ...] = ()

    @property
    def window(self) -> tuple[float, float, float, float] | None:
        """Left, right, bottom and top of a line figure: the measured curves' rates, with a little air.

        Published curves may run far beyond; they set the window only where nothing is measured. None when empty.
        """
        leading = [s for s in self.series if s.source == "measured"] or list(self.series)
        if not leading or self.x.log or self.kind != "line":
            return None
        right = 1.04 * max(max(s.x) for s in leading) or 1.0
        seen = [y for s in self.series for x, y in zip(s.x, s.y, strict=True) if x <= right]
        air = 0.04 * ((max(seen) - min(seen)) or 1.0)
        return 0.0, right, min(seen) - air, max(seen) + air

    @property
    def clip(self) -> float | None:
        """Where bars are cut, so that a few long ones do not hide the others; None where none is."""
        values = [x for s in self.series for x in s.x]
        if self.kind != "bar" or self.x.log:
            return None
        return clip_of(values) if self.x.unit == "%" else clip_of(values, 0.0, 2.0)

    @property
    def order(self) -> tuple[int, ...]:
        """Places of the series from the highest line to the lowest at the middle of the window, as a legend lists them.

        Lines that end before it count with their last point; figures without a window keep their order.
        """
        every = range(len(self.series))
        if self.window is None:
            return tuple(every)
        middle = sum(self.window[:2]) / 2
        return tuple(sorted(every, key=lambda i: (-_height(self.series[i], middle), i)))


def _height(series: Series, x: float) -> float:
    """The y of a line at x, between its points linear, beyond them that of the nearest."""
    points = sorted(zip(series.x, series.y, strict=True))
    after = bisect_left(points, (x, -math.inf))
    if after in (0, len(points)):
        return points[min(after, len(points) - 1)][1]
    (x0, y0), (x1, y1) = points[after - 1 : after + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def as_data(figure: Figure) -> dict[str, Any]:
    """The figure as JSON values: what the page draws, and what lies beside every figure on paper.

    The full result rows behind the points are left out; numbers have seven significant digits.
    """
    series = [
        {"label": s.label, "legend": s.legend, "source": s.source, "look": look(s.style), "reference": s.reference}
        | {"names": s.names, "cells": s.cells if any(s.cells) else ()}
        | {name: [float(f"{v:.7g}") for v in getattr(s, name)] for name in ("x", "y", "low", "high")}
        for s in figure.series
    ]
    axes = {k: {"label": a.label, "unit": a.unit, "log": a.log} for k, a in (("x", figure.x), ("y", figure.y))}
    facts = {"name": figure.name, "title": figure.title, "kind": figure.kind, "notes": figure.notes}
    derived = {"window": figure.window, "order": figure.order, "clip": figure.clip}
    return {**facts, **axes, **derived, "series": series}


def from_data(data: Mapping[str, Any]) -> Figure:
    """The figure that ``as_data`` gave these values of, without its result rows; KeyError or TypeError for others."""
    series = tuple(
        Series(
            label=str(s["label"]),
            x=_floats(s["x"]),
            y=_floats(s["y"]),
            source=str(s["source"]),
            style=style_of(*s["look"]),
            names=tuple(map(str, s["names"])),
            cells=tuple(map(str, s["cells"])),
            low=_floats(s["low"]),
            high=_floats(s["high"]),
            reference=str(s["reference"]),
            shown=_shown(s),
        )
        for s in data["series"]
    )
    x, y = (Axis(a["label"], a["label"], a["unit"], a["log"]) for a in (data["x"], data["y"]))
    return Figure(data["name"], data["title"], x, y, series, data["kind"], tuple(data["notes"]))


def _shown(series: Mapping[str, Any]) -> str:
    name = str(series["legend"]).removesuffix(PUBLISHED if series["source"] == "published" else "")
    return "" if name == series["label"] else name


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(map(float, values))


def plain(value: Any) -> Value:
    """A value as JSON can hold it: NaN and missing become None, infinities the text 'inf', NumPy scalars Python's."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def number(value: Value) -> float:
    """A value as a float: NaN for text and for what is missing."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def has_number(row: Mapping[str, Value], column: str) -> bool:
    """Whether a row has a finite number in a column."""
    return math.isfinite(number(row.get(column)))
