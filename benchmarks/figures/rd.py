"""Figures of curves: rate and distortion, BD-rates, training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from benchmarks.curves.bd import NARROW_MARK, NARROW_NOTE, is_narrow
from benchmarks.figures import looks
from benchmarks.figures.figure import Axis, Figure, Series, has_number, number, plain
from benchmarks.store.names import label_name, slug, stem_of
from core.codec import TesseraError

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.curves.bd import BDResult
    from benchmarks.curves.curve import Curve
T = TypeVar("T")


UNCOMPRESSED = 24.0  # bits per pixel: a curve that begins beyond would hide all others
RATE = Axis("bpp", "rate", "bits per pixel")


def metric_axis(metric: str) -> Axis:
    """The axis of a registered metric: 'psnr' -> PSNR [dB], 'ms_ssim_db' -> MS-SSIM [dB]."""
    from benchmarks.measure.metrics import METRICS

    return Axis(metric, metric.removesuffix("_db").replace("_", "-").upper(), METRICS[metric].unit)


def styles(curves: Iterable[Curve]) -> dict[str, int]:
    """A style number for each curve, by source and label: that of its method, as ``looks`` knows it."""
    listed = list({_identity(c): c for c in sorted(curves, key=lambda c: c.lossless)}.items())
    numbers = looks.line_styles([(c.method, c.label, c.source) for _, c in listed])
    return {key: number for (key, _), number in zip(listed, numbers, strict=True)}


@dataclass(frozen=True)
class Part:
    """Some of the curves of a figure that has too many: what they are called, and their labels."""

    name: str
    labels: frozenset[str]


def rd_figure(
    curves: Sequence[Curve],
    metric: str = "psnr",
    dataset: str | None = None,
    name: str | None = None,
    part: Part | None = None,
) -> Figure:
    """Rate-distortion figure of the curves of one data set (all must be of one when ``dataset`` is None).

    ``name`` replaces the data set in the file name, as it is. A figure of a ``part`` of the curves has its name in file
    name and title; its curves look as in the whole figure.

    Lossless curves and points without a finite rate and metric are left out; a measured curve without any point left
    is named in the notes. Raises ValueError for curves of several data sets, TesseraError for curves of different
    pictures.
    """
    shown = [c for c in curves if (dataset is None or c.dataset == dataset) and not c.lossless]
    if len(names := {c.dataset for c in shown}) > 1:
        raise ValueError(f"one figure shows one data set, not {', '.join(sorted(names))}")
    refuse_mixture(shown)
    style, said = styles(curves), looks.names(curves)
    mine = [c for c in shown if part is None or c.label in part.labels]
    series = [_series(c, metric, style[_identity(c)], said[c.source, c.label]) for c in mine]
    known = dataset or (shown[0].dataset if shown else "empty")
    figure = _line_figure(f"rd_{name or slug(known)}_{metric}", _title(shown, known), metric, series)
    return figure if part is None else of_part(figure, part)


def refuse_mixture(curves: Iterable[Curve]) -> None:
    """Raise TesseraError where curves that go into one panel were measured on different pictures."""
    from benchmarks.curves.curve import pictures_differ

    if different := pictures_differ(curves):
        raise TesseraError(different)


def of_part(figure: Figure, part: Part) -> Figure:
    """The figure under the name and title of a part."""
    return replace(figure, name=f"{figure.name}_{slug(part.name)}", title=f"{figure.title}, {part.name}")


def training_figure(log: pd.DataFrame, title: str) -> Figure:
    """PSNR of the training crops over the steps, from the columns step and distortion of a training log."""
    rows = log.dropna(subset=["distortion"])
    steps = tuple(float(v) for v in rows["step"])
    values = tuple(-10 * math.log10(v) for v in rows["distortion"])
    series = Series("training crops", steps, values, "measured", 0)
    return Figure("training", title, Axis("step", "step"), Axis("psnr", "PSNR", "dB"), (series,))


def bd_name(dataset: str, metric: str, anchor: str) -> str:
    """The file stem of a figure or table of BD-rates."""
    return stem_of(f"bd_{slug(dataset)}_{metric}_{label_name(anchor)}")


def bd_figure(
    results: Mapping[str, BDResult],
    anchor: str,
    metric: str,
    dataset: str,
    title: str,
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Bar figure of BD-rates against ``anchor``, best first, with bootstrap intervals where there are any.

    Curves without a number are named in the notes, with the reason; one whose common range with the anchor is under
    1 dB is marked. ``names`` are what figures call the curves, by label.
    """
    said = {label: (names or {}).get(label, label) for label in (*results, anchor)}
    found = {k: r for k, r in results.items() if r.overlap and math.isfinite(r.rate_percent)}
    order = sorted(found, key=lambda k: found[k].rate_percent)
    bounds = [found[k].interval or (found[k].rate_percent,) * 2 for k in order]
    narrow = {k for k in order if is_narrow(found[k], metric)}
    bars = Series(
        label=f"against {said[anchor]}",
        x=tuple(found[k].rate_percent for k in order),
        y=tuple(float(i) for i in range(len(order))),
        source="measured",
        style=0,
        names=tuple(f"{said[k]}{f' {NARROW_MARK}' if k in narrow else ''}" for k in order),
        low=tuple(float(b[0]) for b in bounds),
        high=tuple(float(b[1]) for b in bounds),
    )
    axis = metric_axis(metric)
    lost: dict[str, list[str]] = {}
    for label in sorted(set(results) - set(found)):
        lost.setdefault(results[label].reason or "no overlap", []).append(said[label])
    notes = [f"{reason} with {said[anchor]}: {', '.join(labels)}" for reason, labels in lost.items()]
    figure = Figure(
        name=bd_name(dataset, metric, anchor),
        title=f"{looks.heading(title)}: BD-rate against {said[anchor]} at equal {axis.label}",
        x=Axis("rate_percent", "BD-rate, left is better", "%"),
        y=Axis("test", "curve"),
        series=(bars,) if order else (),
        kind="bar",
    )
    notes += [f"{NARROW_MARK} {NARROW_NOTE}"] if narrow else []
    notes += [f"bars are cut at {figure.clip:+.0f} %, their numbers are whole"] if figure.clip else []
    return replace(figure, notes=tuple(notes))


def _identity(curve: Curve) -> str:
    """What makes a curve the same one in another figure: a published 'jpeg' is not the measured 'jpeg'."""
    return f"{curve.source}:{curve.label}"


def _title(curves: Sequence[Curve], name: str) -> str:
    """The data set's title with its subset wording; measured curves know it best."""
    titles = [c.title for c in sorted(curves, key=lambda c: c.source != "measured") if c.title]
    return titles[0] if titles else name


def _line_figure(name: str, title: str, metric: str, series: Sequence[Series]) -> Figure:
    axis, some = metric_axis(metric), [s for s in series if s.x]
    drawn, far = near_and_far(some, [min(s.x) for s in some])
    empty = [s.label for s in series if not s.x and s.source == "measured"]
    notes = [f"without {axis.label}: {', '.join(empty)}"] if drawn and empty else []
    if far:
        notes.append(f"beyond the figure: {', '.join(f'{s.label} at {min(s.x):.0f} bits per pixel' for s in far)}")
    if metric == "ms_ssim_db" and len({s.source for s in drawn}) > 1:
        notes.append("dB: measured curves average it over images, published ones take it of the average MS-SSIM")
    return Figure(name, f"{looks.heading(title)}: {axis.label} over rate", RATE, axis, tuple(drawn), notes=tuple(notes))


def near_and_far(curves: Sequence[T], starts: Sequence[float]) -> tuple[list[T], list[T]]:
    """Curves to draw, and those that begin beyond uncompressed images and would hide the others, if there are any."""
    sides: tuple[list[T], list[T]] = ([], [])
    for curve, start in zip(curves, starts, strict=True):
        sides[start > UNCOMPRESSED].append(curve)
    return sides if sides[0] else (sides[1], [])


def _series(curve: Curve, metric: str, style: int, shown: str) -> Series:
    keys = curve.cells if len(curve.cells) == len(curve.points) else ("",) * len(curve.points)
    rows = [{str(k): plain(v) for k, v in row.items()} for row in curve.points.to_dict("records")]
    kept = [
        (row, key) for row, key in zip(rows, keys, strict=True) if has_number(row, "bpp") and has_number(row, metric)
    ]
    return Series(
        label=curve.label,
        x=tuple(number(row["bpp"]) for row, _ in kept),
        y=tuple(number(row[metric]) for row, _ in kept),
        source=curve.source,
        style=style,
        names=tuple(str(row.get("point", "")) for row, _ in kept),
        cells=tuple(key for _, key in kept),
        rows=tuple(row for row, _ in kept),
        reference=curve.reference,
        shown="" if shown == curve.label else shown,
    )
