"""Figures beside the rate-distortion curves: speed against quality, all images at one rate, lossless bars."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.curves.curve import published_lossless
from benchmarks.figures import looks
from benchmarks.figures.figure import Axis, Figure, Series, clip_of, plain
from benchmarks.figures.rd import RATE, Part, metric_axis, near_and_far, of_part, refuse_mixture, styles
from benchmarks.store.names import slug, slugs, stem_of

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.curves.bd import BDResult
    from benchmarks.curves.curve import Curve

NARROW = 20.0  # times; seconds that differ less are on a linear axis: labels of a logarithmic one would touch
SPEEDS = {"encode_s": "encoding", "decode_s": "decoding"}


def speed_figure(
    curves: Sequence[Curve],
    results: Mapping[tuple[str, str], BDResult],
    anchor: str,
    metric: str,
    column: str,
    name: str,
) -> Figure:
    """BD-rate against ``anchor`` over the seconds of an image, one dot per measured curve that has both.

    ``column`` is 'encode_s' or 'decode_s': means over images and points, CPU time on a CPU and wall time on a GPU.
    """
    refuse_mixture(curves)
    style, shown, series = styles(curves), looks.names(curves), []
    for curve in curves:
        seconds = mean_seconds(curve, column)
        result = results.get((anchor, curve.label))
        percent = 0.0 if curve.label == anchor else result.rate_percent if result else math.nan
        if curve.source == "measured" and not curve.lossless and seconds and math.isfinite(percent):
            dot = ((seconds,), (percent,), "measured", style[f"measured:{curve.label}"])
            name_of = shown[curve.source, curve.label]
            series.append(Series(curve.label, *dot, reference=curve.reference, shown=name_of))
    said = next((shown[c.source, c.label] for c in curves if c.label == anchor), anchor)
    title = curves[0].title if curves else name
    known = [s.x[0] for s in series]
    most = clip_of([s.y[0] for s in series])
    far = [s for s in series if most and s.y[0] > most]
    series = [s for s in series if s not in far]
    beyond = f"beyond the figure: {', '.join(f'{s.legend} at {s.y[0]:+.0f} %' for s in far)}"
    wide = bool(known) and max(known) >= NARROW * min(known)
    return Figure(
        f"speed_{slug(name)}_{metric}_{SPEEDS[column]}",
        f"{looks.heading(title)}: BD-rate against {said} over {SPEEDS[column]} time",
        Axis(column, f"{SPEEDS[column]} time of an image", "s", log=wide),
        Axis("rate_percent", f"BD-rate against {said} at equal {metric_axis(metric).label}", "%"),
        tuple(series),
        kind="scatter",
        notes=("lower left is better; curves of other devices say so in their names", *((beyond,) if far else ())),
    )


def mean_seconds(curve: Curve, column: str) -> float | None:
    """The mean over a curve's points of its seconds per image; None where they are not known."""
    if column not in curve.points:
        return None
    known = [v for v in curve.points[column].tolist() if math.isfinite(v) and v > 0]
    return statistics.fmean(known) if known else None


def images_figure(
    curves: Sequence[Curve], metric: str, name: str, part: Part | None = None, most: int | None = None
) -> Figure:
    """Every image of a data set as a dot, each measured curve at the point whose mean rate is nearest to a common one.

    The common rate is the median of the curves' middle points, so that most curves have a point near it. Curves beyond
    uncompressed images would hide all others and are named in the notes. ``part``: as in ``rd_figure``; ``most``: only
    so many of the first images. Raises TesseraError for curves of different pictures.
    """
    refuse_mixture(curves)
    style, shown, series = styles(curves), looks.names(curves), []
    usable = [c for c in curves if c.images is not None and not c.lossless and metric in c.images]
    middles = [float(c.points["bpp"].iloc[(len(c.points) - 1) // 2]) for c in usable]
    wanted, count = (statistics.median(middles) if middles else math.nan), 0
    mine = [c for c in usable if part is None or c.label in part.labels]
    near, far = near_and_far(mine, [min(c.points["bpp"].tolist()) for c in mine])
    for curve in near:
        rates = [abs(math.log(max(r, 1e-9) / wanted)) for r in curve.points["bpp"].tolist()]
        place = rates.index(min(rates))
        point, key = curve.points["point"].iloc[place], curve.cells[place]
        assert curve.images is not None
        rows = curve.images[[str(p) == str(point) for p in curve.images["point"]]]
        dots = [
            (x, y, str(image))
            for image, x, y in zip(rows["image"], rows["bpp"], rows[metric], strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]
        count = max(count, len(dots))
        if dots:
            x, y, images = zip(*dots[:most], strict=True)
            at = "" if plain(point) is None else f" at {plain(point)}"
            facts = ("measured", style[f"measured:{curve.label}"], images, (key,) * len(x))
            said = f"{shown[curve.source, curve.label]}{at}"
            series.append(Series(f"{curve.label}{at}", x, y, *facts, reference=curve.reference, shown=said))
    which = "every image" if most is None or count <= most else f"the first {most} of {count} images"
    notes = [f"beyond the figure: {', '.join(c.label for c in far)}"] if far else []
    title = curves[0].title if curves else name
    figure = Figure(
        f"images_{slug(name)}_{metric}",
        f"{looks.heading(title)}: {which} at about {wanted:.2f} bits per pixel",
        RATE,
        metric_axis(metric),
        tuple(series),
        kind="scatter",
        notes=tuple(notes),
    )
    return figure if part is None else of_part(figure, part)


def lossless_figures(frame: pd.DataFrame) -> list[Figure]:
    """Bars of bits per dimension, fewest first: a figure per image set of ``tables.lossless_table``.

    Published numbers of a data set stand among the measured ones of its whole set.
    """
    figures = []
    columns = [str(c) for c in frame.columns if str(c).endswith("images)")]
    called = {entry["name"]: entry["title"] for entry in published_lossless()}
    for column, name in zip(columns, slugs(columns), strict=True):
        title = column.rpartition(" (")[0]
        bars = [(float(v), str(m), "measured") for m, v in zip(frame["method"], frame[column], strict=True)]
        cited = f"{title}, published"
        if cited in frame:
            bars += [
                (float(v), f"{called.get(m, m)} (published)", "published")
                for m, v in zip(frame["method"], frame[cited], strict=True)
            ]
        known = sorted((value, looks.readable(name), kind) for value, name, kind in bars if math.isfinite(value))
        if len(known) < 2:  # nothing to compare
            continue
        series = [_bars(known, source, i) for i, source in enumerate(("measured", "published"))]
        figures.append(
            _cut(
                stem_of(f"lossless_{name}"),
                f"{looks.heading(column)}: lossless rate",
                Axis("bpd", "rate, left is better", "bits per dimension"),
                Axis("method", "method"),
                tuple(s for s in series if s.x),
            )
        )
    return figures


def _cut(name: str, title: str, x: Axis, y: Axis, series: tuple[Series, ...]) -> Figure:
    """A figure of bars that says where the longest are cut."""
    figure = Figure(name, title, x, y, series, "bar")
    note = f"bars are cut at {figure.clip:.3g}, their numbers are whole" if figure.clip else ""
    return replace(figure, notes=(note,) if note else ())


def _bars(bars: Sequence[tuple[float, str, str]], source: str, style: int) -> Series:
    mine = [(value, float(place), name) for place, (value, name, kind) in enumerate(bars) if kind == source]
    values, places, names = zip(*mine, strict=True) if mine else ((), (), ())
    return Series(source, tuple(values), tuple(places), source, style, tuple(names))
