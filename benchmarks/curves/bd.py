"""Bjontegaard differences between two rate-distortion curves, with the protocol in the result.

BD-rate is the average difference of log10 rate over the quality range that both curves cover; BD-PSNR (or the same of
another metric) the average difference of quality over the common range of log10 rate. The numbers come from the
``bjontegaard`` package; before it sees a curve, non-finite and dominated points are dropped and the rest is sorted,
because the package raises on some of them and silently answers nonsense on others.

A metric declares its direction: where lower is better, values go in with the other sign and come back with their own.

The interval is a bootstrap over images (95 %, percentiles): images are drawn with replacement, the mean curves are
computed again, and with them the BD-rate. It needs the per-image rows of both curves on the same images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.curves.curve import Curve, of_mean, pictures_differ
from benchmarks.measure.metrics import METRICS
from core.codec import TesseraError

Method = Literal["pchip", "akima", "cubic"]
Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]  # rates and qualities

LEAST = {"pchip": 2, "akima": 2, "cubic": 4}  # points that each interpolation needs
WHO = ("anchor", "test curve")
SEED = 0
NARROW_DB, NARROW_MARK = 1.0, "†"
NARROW_NOTE = "the two curves share less than 1 dB: little to go by"
LEVEL = 95.0  # per cent of the resamples inside the interval


class BDError(TesseraError):
    """Two curves that cannot be compared at all, or an unknown interpolation."""


@dataclass(frozen=True)
class BDResult:
    """A BD comparison of a test curve with an anchor.

    ``rate_percent`` is the BD-rate (negative: the test curve needs less), ``psnr_db`` the BD difference of the metric,
    in its unit; both are nan without overlap. ``low`` and ``high`` bound the common quality range (nan when empty),
    ``points_anchor`` and ``points_test`` count the points left after cleaning, ``interval`` bounds ``rate_percent``.
    Without overlap ``reason`` says why in two or three words for a table's cell, and the note in a sentence.
    """

    rate_percent: float
    psnr_db: float
    low: float
    high: float
    points_anchor: int
    points_test: int
    method: str
    interval: tuple[float, float] | None
    overlap: bool
    note: str = ""
    reason: str = ""


def is_narrow(result: BDResult, metric: str) -> bool:
    """Whether two curves share less than 1 dB of a metric in dB, so that their BD-rate says little."""
    return result.overlap and result.high - result.low < NARROW_DB and METRICS[metric].unit == "dB"


def bd_rate(
    anchor: Curve | Sequence[ArrayLike],
    test: Curve | Sequence[ArrayLike],
    metric: str = "psnr",
    method: Method = "pchip",
    bootstrap: int = 1000,
) -> BDResult:
    """Compare two curves, or two pairs of arrays (rates, values of the metric, whose direction is the registered one).

    Curves of two data sets or measured on different pictures are refused (BDError). With MS-SSIM in dB and a published
    curve on one side, both sides use the dB of the mean MS-SSIM. ``bootstrap`` is the number of resamples; 0 gives no
    interval.
    """
    if method not in LEAST:
        raise BDError(f"unknown interpolation '{method}': known are {', '.join(LEAST)}.")
    notes: list[str] = []
    if isinstance(anchor, Curve) and isinstance(test, Curve):
        anchor, test = _comparable(anchor, test, metric, notes)
    sign = direction(metric)
    pairs = [_points(curve, metric) for curve in (anchor, test)]
    pairs = [(rate, sign * quality) for rate, quality in pairs]
    cleaned = [clean(*pair) for pair in pairs]
    for who, pair, kept in zip(WHO, pairs, cleaned, strict=True):
        dropped = int(np.sum(~np.isnan(pair[0] + pair[1]))) - len(kept[0])  # nan: the metric does not exist there
        notes += [f"{dropped} unusable or dominated points of the {who} dropped"] if dropped else []
    lack = lacking(pairs, LEAST[method], f"{method} interpolation")
    result = in_own_unit(_compare(cleaned[0], cleaned[1], method, notes, lack), sign)
    if not (result.overlap and bootstrap and isinstance(anchor, Curve) and isinstance(test, Curve)):
        return result
    interval, note = _interval(anchor, test, metric, method, bootstrap)
    return replace(result, interval=interval, note="; ".join(filter(None, (result.note, note))))


def direction(metric: str) -> int:
    """1 where a higher value of the metric is better, -1 where a lower one is; 1 for a name that is not registered."""
    return -1 if metric in METRICS and METRICS[metric].better == "lower" else 1


def in_own_unit(result: BDResult, sign: int) -> BDResult:
    """A comparison whose qualities went in with ``sign``, in the unit of its metric."""
    if sign > 0:
        return result
    return replace(result, psnr_db=-result.psnr_db, low=-result.high, high=-result.low)


def lacking(pairs: Sequence[Pair], least: int, what: str) -> tuple[str, str] | None:
    """Why points as measured (rates, qualities) cannot be compared at all, in a cell's words and in a sentence."""
    for who, (rate, quality) in zip(WHO, pairs, strict=True):
        known = ~np.isnan(rate + quality)
        usable = np.isfinite(rate) & np.isfinite(quality) & (rate > 0)
        if not known.any():
            return "no values", f"the {who} has no values of this metric"
        if not usable.any():
            return "not finite", f"the {who} has no point of finite quality and positive rate"
    for who, pair in zip(WHO, pairs, strict=True):
        if (count := len(clean(*pair)[0])) < least:
            return "too few points", f"{what} needs {least} points on each curve, and the {who} has {count}"
    return None


def clean(rate: ArrayLike, quality: ArrayLike) -> Pair:
    """The points that BD can use: finite, of positive rate, sorted, and each better than every cheaper one."""
    x, y = np.asarray(rate, float), np.asarray(quality, float)
    kept = _usable(x, y)
    return x[kept], y[kept]


def _usable(rate: Floats, quality: Floats) -> NDArray[np.intp]:
    """Indices of the usable points, by increasing rate."""
    finite = np.flatnonzero(np.isfinite(rate) & np.isfinite(quality) & (rate > 0))
    order = finite[np.lexsort((-quality[finite], rate[finite]))]
    best = np.maximum.accumulate(np.concatenate(([-np.inf], quality[order])))
    return order[quality[order] > best[:-1]]


def _comparable(anchor: Curve, test: Curve, metric: str, notes: list[str]) -> tuple[Curve, Curve]:
    if anchor.dataset != test.dataset:
        raise BDError(
            f"{anchor.label} is of {anchor.dataset} and {test.label} of {test.dataset}: compare on one data set."
        )
    if different := pictures_differ((anchor, test)):
        raise BDError(different)
    if anchor.subset != test.subset or (anchor.subset and anchor.title != test.title):
        notes.append(f"different images: {anchor.title} and {test.title}")
    if metric == "ms_ssim_db" and "published" in (anchor.source, test.source):
        both = [of_mean(c) if c.source == "measured" and metric in c.points else c for c in (anchor, test)]
        return both[0], both[1]
    return anchor, test


def _points(curve: Curve | Sequence[ArrayLike], metric: str) -> Pair:
    if isinstance(curve, Curve):
        if metric not in curve.points:
            return np.zeros(0), np.zeros(0)
        return curve.points["bpp"].to_numpy(float), curve.points[metric].to_numpy(float)
    rate, quality = (np.asarray(values, float) for values in curve)
    if rate.shape != quality.shape or rate.ndim != 1:
        raise BDError(
            f"rates and qualities must be two equally long lists, not of shapes {rate.shape}, {quality.shape}."
        )
    return rate, quality


def _overlap(a: Pair, t: Pair, method: Method) -> tuple[float, float] | None:
    """The common quality range, or None."""
    if min(len(a[0]), len(t[0])) < LEAST[method]:
        return None
    low, high = max(a[1][0], t[1][0]), min(a[1][-1], t[1][-1])
    return (float(low), float(high)) if low < high else None


def _compare(a: Pair, t: Pair, method: Method, notes: list[str], lack: tuple[str, str] | None) -> BDResult:
    """The comparison of cleaned points; ``lack`` is why there can be none."""
    span = None if lack else _overlap(a, t, method)
    percent = _package("bd_rate", a, t, method) if span else math.nan
    if span and not math.isfinite(percent):
        lack, span = ("not finite", f"{method} interpolation gives no finite rate in the common range"), None
    word, sentence = lack or ("no overlap", "no overlap")
    low, high = span or (math.nan, math.nan)
    extra = [f"the {method} fit of {who} is not monotone in the range" for who in _waves(a, t, method, low, high)]
    return BDResult(
        rate_percent=percent if span else math.nan,
        psnr_db=_package("bd_psnr", a, t, method) if span else math.nan,
        low=low,
        high=high,
        points_anchor=len(a[0]),
        points_test=len(t[0]),
        method=method,
        interval=None,
        overlap=span is not None,
        note="; ".join([*extra, *notes] if span else [sentence, *notes]),
        reason="" if span else word,
    )


def _waves(a: Pair, t: Pair, method: Method, low: float, high: float) -> list[str]:
    """Whose log rate, as interpolated over quality, falls somewhere in the range although the points rise."""
    if not low < high or method == "pchip":  # which is monotone where its points are
        return []
    from bjontegaard.interpolation import interpolate

    places, found = np.linspace(low, high, 1001), []
    for who, (rate, quality) in zip(WHO, (a, t), strict=True):
        curve = np.asarray(interpolate(quality, np.log10(rate), method)(places))
        if np.diff(curve).min() < -1e-9 * np.ptp(curve):
            found.append(f"the {who}")
    return found


def _package(kind: Literal["bd_rate", "bd_psnr"], a: Pair, t: Pair, method: Method) -> float:
    """What the package answers: per cent of rate, or quality (nan when the rates do not overlap)."""
    import bjontegaard  # brings pyplot, so not at the top

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(getattr(bjontegaard, kind)(*a, *t, method=method, require_matching_points=False, min_overlap=0))


def _interval(
    anchor: Curve, test: Curve, metric: str, method: Method, resamples: int
) -> tuple[tuple[float, float] | None, str]:
    """The bootstrap interval of the BD-rate in per cent, or None and why."""
    pair = _matrices(anchor, test, metric, direction(metric))
    if isinstance(pair, str):
        return None, f"no interval: {pair}" if pair else ""
    images = pair[0][0].shape[1]
    draws = np.random.default_rng(SEED).multinomial(images, np.full(images, 1 / images), size=resamples) / images
    curves = [(draws @ rate.T, draws @ quality.T) for rate, quality in pair]
    values = bd_rates(*curves[0], *curves[1], method=method)
    kept = values[np.isfinite(values)]
    if len(kept) < 0.9 * resamples:
        return None, "no interval: too many resamples without overlap"
    low, high = np.percentile(kept, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return (float(low), float(high)), ""


def _matrices(anchor: Curve, test: Curve, metric: str, sign: int) -> list[Pair] | str:
    """Rates and signed qualities (points, images) of both curves on the same images; or why not ('' if published)."""
    tables, names = [], []
    for curve in (anchor, test):
        if curve.images is None:
            return ""
        if metric not in curve.images:
            return f"{curve.label} has no {metric} per image"
        rows = _usable(curve.points["bpp"].to_numpy(float), sign * curve.points[metric].to_numpy(float))
        points = curve.points["point"].astype(str).iloc[rows]
        frame = curve.images.assign(point=curve.images["point"].astype(str))
        wide = frame.pivot(index="point", columns="image", values=["bpp", metric]).loc[list(points)]
        names.append(set(wide["bpp"].columns))
        tables.append(wide)
    if anchor.pictures != test.pictures or names[0] != names[1]:  # one fingerprint: one picture under each name
        return "the curves are of different images"
    if len(names[0]) < 2:
        return "one image has no spread"
    order = sorted(names[0])
    return [(w["bpp"][order].to_numpy(float), sign * w[metric][order].to_numpy(float)) for w in tables]


def bd_rates(rate_a: Floats, quality_a: Floats, rate_t: Floats, quality_t: Floats, method: Method = "pchip") -> Floats:
    """BD-rates in per cent of many pairs of curves at once: arrays (resamples, points); nan without overlap.

    PCHIP on curves that increase strictly is vectorised; other rows are cleaned and compared one by one.
    """
    increasing = [np.all(np.diff(v, axis=1) > 0, axis=1) for v in (rate_a, quality_a, rate_t, quality_t)]
    fast = np.logical_and.reduce(increasing)
    if method != "pchip" or min(rate_a.shape[1], rate_t.shape[1]) < 3:
        fast[:] = False
    values = np.full(len(rate_a), np.nan)
    if fast.any():
        values[fast] = _vectorised(rate_a[fast], quality_a[fast], rate_t[fast], quality_t[fast])
    for i in np.flatnonzero(~fast):
        pair = clean(rate_a[i], quality_a[i]), clean(rate_t[i], quality_t[i])
        if _overlap(*pair, method):
            values[i] = _package("bd_rate", *pair, method)
    return values


def _vectorised(rate_a: Floats, quality_a: Floats, rate_t: Floats, quality_t: Floats) -> Floats:
    low = np.maximum(quality_a[:, 0], quality_t[:, 0])
    high = np.minimum(quality_a[:, -1], quality_t[:, -1])
    areas = [_pchip_area(q, np.log10(r), low, high) for r, q in ((rate_a, quality_a), (rate_t, quality_t))]
    with np.errstate(invalid="ignore", divide="ignore"):
        percent = (10 ** ((areas[1] - areas[0]) / (high - low)) - 1) * 100
    return np.where(high > low, percent, np.nan)


def _pchip_area(x: Floats, y: Floats, low: Floats, high: Floats) -> Floats:
    """Integrals from ``low`` to ``high`` (n,) of the PCHIP interpolants of n curves, x and y (n, points >= 3).

    Per interval of width h, the cubic Hermite with slopes d is y + d0 s + c s^2 + b s^3, s from 0 to h.
    """
    h = np.diff(x, axis=1)
    delta = np.diff(y, axis=1) / h
    d = _pchip_slopes(h, delta)
    b = (d[:, :-1] - 2 * delta + d[:, 1:]) / h**2
    c = (3 * delta - 2 * d[:, :-1] - d[:, 1:]) / h

    def primitive(s: Floats) -> Floats:
        return s * (y[:, :-1] + s * (d[:, :-1] / 2 + s * (c / 3 + s * b / 4)))

    start = np.clip(low[:, None] - x[:, :-1], 0, h)
    stop = np.clip(high[:, None] - x[:, :-1], 0, h)
    area: Floats = (primitive(stop) - primitive(start)).sum(axis=1)
    return area


def _pchip_slopes(h: Floats, delta: Floats) -> Floats:
    """Slopes (n, points) after Fritsch and Butland (1984), three-point formula at the ends: as SciPy."""
    w1, w2 = 2 * h[:, 1:] + h[:, :-1], h[:, 1:] + 2 * h[:, :-1]
    rising = delta[:, :-1] * delta[:, 1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(rising, (w1 + w2) / (w1 / delta[:, :-1] + w2 / delta[:, 1:]), 0.0)
    first = _end_slope(h[:, 0], h[:, 1], delta[:, 0], delta[:, 1])
    last = _end_slope(h[:, -1], h[:, -2], delta[:, -1], delta[:, -2])
    return np.column_stack((first, inner, last))


def _end_slope(h0: Floats, h1: Floats, delta0: Floats, delta1: Floats) -> Floats:
    slope = ((2 * h0 + h1) * delta0 - h0 * delta1) / (h0 + h1)
    overshoots = (np.sign(delta0) != np.sign(delta1)) & (np.abs(slope) > 3 * np.abs(delta0))
    limited = np.where(overshoots, 3 * delta0, slope)
    return np.where(np.sign(slope) != np.sign(delta0), 0.0, limited)
