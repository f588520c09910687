"""BD comparisons of all pairs of many curves at once, for pages on which the reader chooses the anchor.

The numbers are those of ``bd.bd_rate`` with PCHIP; here pairs of equally many points go through the arithmetic
together, and resampled curves are computed once for all pairs. Exchanging anchor and test negates the mean difference
of log rate, so each unordered pair is computed once.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.curves.bd import (
    LEVEL,
    SEED,
    WHO,
    BDError,
    BDResult,
    bd_rate,
    bd_rates,
    clean,
    direction,
    in_own_unit,
    lacking,
)
from benchmarks.curves.curve import Curve, of_mean, pictures_differ

Floats = NDArray[np.float64]
METHOD = "pchip"
AT_ONCE = 40  # pairs whose resamples go through the arithmetic together
DIFFERENT = "different images"  # a note with titles in it
RESAMPLES = 200  # enough for an interval printed to a tenth of a per cent next to its number


@dataclass(frozen=True, eq=False)
class _Ready:
    """A curve that BD can use: clean points, how many were dropped, and resampled means (resamples, points).

    Qualities have the sign with which a higher one is better.
    """

    curve: Curve
    rate: Floats
    quality: Floats
    dropped: int
    names: tuple[str, ...] = ()
    rates: Floats | None = None
    qualities: Floats | None = None


def all_pairs(
    curves: Sequence[Curve], metric: str = "psnr", resamples: int = RESAMPLES
) -> dict[tuple[str, str], BDResult]:
    """The comparison of every ordered pair (anchor label, test label) of curves of one data set; labels must differ.

    Curves without the metric take no part. Intervals exist for measured curves of the same images; 0 resamples: none.
    Raises BDError for curves measured on different pictures.
    """
    if different := pictures_differ(curves):
        raise BDError(different)
    native = [r for c in curves if metric in c.points and len((r := _ready(c, metric, resamples)).rate)]
    # Published MS-SSIM in dB is that of the mean MS-SSIM: beside it, measured curves are taken so, too.
    mixture = metric == "ms_ssim_db" and len({r.curve.source for r in native}) > 1
    mean = {id(r): _as_published(r, metric) for r in native} if mixture else {}
    jobs = []
    for a, t in combinations(native, 2):
        mixed = mixture and a.curve.source != t.curve.source
        jobs.append((mean[id(a)], mean[id(t)]) if mixed else (a, t))
    found: dict[tuple[str, str], BDResult] = {}
    for (a, t), rate, quality, interval in zip(jobs, *_averages(jobs), _intervals(jobs), strict=True):
        result = in_own_unit(_result(a, t, rate, quality, interval), direction(metric))
        found[a.curve.label, t.curve.label] = result
        found[t.curve.label, a.curve.label] = _exchanged(result)
    return found


def _ready(curve: Curve, metric: str, resamples: int) -> _Ready:
    sign = direction(metric)
    rate, quality = curve.points["bpp"].to_numpy(float), sign * curve.points[metric].to_numpy(float)
    kept = clean(rate, quality)
    dropped = int(np.sum(~np.isnan(rate + quality))) - len(kept[0])
    ready = _Ready(curve, *kept, dropped)
    if curve.images is None or metric not in curve.images or not resamples or len(kept[0]) == 0:
        return ready
    points = curve.points["point"].astype(str)[np.isin(rate, kept[0]) & np.isin(quality, kept[1])]
    names = tuple(sorted(curve.images["image"].unique()))
    if len(names) < 2:  # one image has no spread
        return ready
    draws = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    tables = [_table(curve.images, list(points), names, column) for column in ("bpp", metric)]
    means = [draws / len(names) @ table.T for table in tables]
    return replace(ready, names=names, rates=means[0], qualities=sign * means[1])


def _table(images: pd.DataFrame, points: Sequence[str], names: Sequence[str], column: str) -> Floats:
    """The values of a column as (points, images); nan where an image was not measured at a point."""
    row, place = {point: i for i, point in enumerate(points)}, {name: i for i, name in enumerate(names)}
    rows = images["point"].astype(str).map(row).fillna(-1).to_numpy(int)
    columns = images["image"].map(place).to_numpy(int)
    table = np.full((len(points) + 1, len(names)), np.nan)  # the last row takes the points that BD cannot use
    table[rows, columns] = images[column].to_numpy(float)
    return table[:-1]


def _as_published(ready: _Ready, metric: str) -> _Ready:
    if ready.curve.source == "published" or "ms_ssim" not in ready.curve.points:
        return ready
    return _ready(of_mean(ready.curve), metric, resamples=0)


def _averages(jobs: Sequence[tuple[_Ready, _Ready]]) -> tuple[Floats, Floats]:
    """BD-rate in per cent and the mean difference of quality of every job; nan without overlap."""
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, (a, t) in enumerate(jobs):
        shapes[len(a.rate), len(t.rate)].append(i)
    rate, quality = np.full(len(jobs), np.nan), np.full(len(jobs), np.nan)
    for shape, rows in shapes.items():
        if min(shape) < 3:  # too few points for the arithmetic on arrays
            for i in rows:
                anchor, test = ((side.rate, side.quality) for side in jobs[i])
                one = bd_rate(anchor, test, bootstrap=0)
                rate[i], quality[i] = one.rate_percent, one.psnr_db
            continue
        ra, qa = (np.stack([getattr(jobs[i][0], n) for i in rows]) for n in ("rate", "quality"))
        rt, qt = (np.stack([getattr(jobs[i][1], n) for i in rows]) for n in ("rate", "quality"))
        rate[rows] = bd_rates(ra, qa, rt, qt)
        # With exchanged axes it is the mean difference of quality over log rate, in the form bd_rates wants and gives.
        scale = max(10.0, float(max(np.abs(qa).max(), np.abs(qt).max())) / 100)  # no power of ten leaves the floats
        percent = bd_rates(10 ** (qa / scale), np.log10(ra), 10 ** (qt / scale), np.log10(rt))
        quality[rows] = scale * np.log10(1 + percent / 100)
    return rate, quality


def _result(a: _Ready, t: _Ready, rate: float, quality: float, interval: tuple[float, float] | None) -> BDResult:
    low, high = max(a.quality[0], t.quality[0]), min(a.quality[-1], t.quality[-1])
    overlap = math.isfinite(rate)
    pairs = [(side.rate, side.quality) for side in (a, t)]
    word, sentence = lacking(pairs, 2, f"{METHOD} interpolation") or ("no overlap", "no overlap")
    notes = [] if overlap else [sentence]
    for who, side in zip(WHO, (a, t), strict=True):
        notes += [f"{side.dropped} unusable or dominated points of the {who} dropped"] if side.dropped else []
    if a.curve.subset != t.curve.subset or (a.curve.subset and a.curve.title != t.curve.title):
        notes.append(f"{DIFFERENT}: {a.curve.title} and {t.curve.title}")
    return BDResult(
        rate_percent=float(rate),
        psnr_db=float(quality) if overlap else math.nan,
        low=float(low) if overlap else math.nan,
        high=float(high) if overlap else math.nan,
        points_anchor=len(a.rate),
        points_test=len(t.rate),
        method=METHOD,
        interval=interval if overlap else None,
        overlap=overlap,
        note="; ".join(notes),
        reason="" if overlap else word,
    )


def _intervals(jobs: Sequence[tuple[_Ready, _Ready]]) -> list[tuple[float, float] | None]:
    """The bootstrap interval of every job, or None for curves without resamples of the same images."""
    found: list[tuple[float, float] | None] = [None] * len(jobs)
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, (a, t) in enumerate(jobs):
        same = a.names == t.names and a.curve.pictures == t.curve.pictures
        if a.rates is not None and t.rates is not None and same and min(len(a.rate), len(t.rate)) >= 3:
            shapes[*a.rates.shape, *t.rates.shape].append(i)
    for rows in shapes.values():
        for chunk in (rows[k : k + AT_ONCE] for k in range(0, len(rows), AT_ONCE)):
            stacks = [
                np.concatenate([getattr(jobs[i][s], n) for i in chunk]) for s in (0, 1) for n in ("rates", "qualities")
            ]
            for i, values in zip(
                chunk, bd_rates(stacks[0], stacks[1], stacks[2], stacks[3]).reshape(len(chunk), -1), strict=True
            ):
                found[i] = _percentiles(values)
    return found


def _percentiles(values: Floats) -> tuple[float, float] | None:
    """The interval of the finite values, or None when too many resamples have no overlap."""
    kept = values[np.isfinite(values)]
    if len(kept) < 0.9 * len(values):
        return None
    low, high = np.percentile(kept, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)


def _exchanged(result: BDResult) -> BDResult:
    """The comparison with anchor and test exchanged: rate ratios become their inverses."""

    def inverse(percent: float) -> float:
        return (1 / (1 + percent / 100) - 1) * 100

    swap = dict(zip(WHO, reversed(WHO), strict=True))
    words = [
        word if word.startswith(DIFFERENT) else re.sub("|".join(WHO), lambda who: swap[who[0]], word)
        for word in filter(None, result.note.split("; "))
    ]
    return replace(
        result,
        rate_percent=inverse(result.rate_percent),
        psnr_db=-result.psnr_db,
        points_anchor=result.points_test,
        points_test=result.points_anchor,
        interval=(inverse(result.interval[1]), inverse(result.interval[0])) if result.interval else None,
        note="; ".join(words),
    )
