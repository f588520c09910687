"""BD-rate where a metric falls, where there is no number, and where a fit is not monotone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.curves.bd import bd_rate
from benchmarks.curves.bd_pairs import all_pairs
from benchmarks.measure.metrics import METRICS, Metric
from tests.benchmarks.test_bd import QUALITY, RATE, _points, measured


@pytest.mark.parametrize(
    ("rate", "quality", "word"),
    [
        ([1.0, 2.0, 3.0], [math.inf] * 3, "not finite"),
        ([0.0, 0.0, 0.0], [30.0, 31.0, 32.0], "not finite"),
        ([1.0, 2.0], [30.0, math.inf], "too few points"),
        ([1.0, 2.0, 3.0], [60.0, 61.0, 62.0], "no overlap"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True], ids=["test", "anchor"])
def test_what_there_is_no_number_for_is_told_apart(rate, quality, word, swapped):
    pair = [(rate, quality), (RATE, QUALITY)] if swapped else [(RATE, QUALITY), (rate, quality)]
    result = bd_rate(*pair)
    assert not result.overlap and result.reason == word and math.isnan(result.rate_percent)
    if word != "no overlap":
        assert f"the {'anchor' if swapped else 'test curve'} has" in result.note and "no overlap" not in result.note


@pytest.mark.parametrize("method", ["pchip", "akima", "cubic"])
def test_a_metric_where_lower_is_better(monkeypatch, method):
    monkeypatch.setitem(METRICS._items, "blur", Metric("blur", "levels", "lower", 1, lambda a, b: 0.0))
    sharp = bd_rate((RATE, QUALITY), (0.8 * RATE, QUALITY + 0.3), method=method)
    pairs = [(RATE, 50 - QUALITY), (0.8 * RATE, 50 - (QUALITY + 0.3))]
    found = bd_rate(*pairs, metric="blur", method=method)
    assert found.overlap and found.rate_percent == pytest.approx(sharp.rate_percent, abs=1e-6)
    assert found.psnr_db == pytest.approx(-sharp.psnr_db, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((50 - sharp.high, 50 - sharp.low))


def test_mse_has_intervals_and_pairs():
    curves = []
    for curve in (measured("a", 1.0, seed=1), measured("t", 0.8, seed=2)):
        images = curve.images.assign(mse=255**2 * 10 ** (-curve.images["psnr"] / 10))
        points = images.groupby("point", as_index=False)[["bpp", "mse"]].mean()
        curves.append(replace(curve, points=points, images=images))
    result = bd_rate(*curves, metric="mse")
    low, high = result.interval
    assert low < result.rate_percent < high < 0 and result.psnr_db < 0 < result.low < result.high
    pairs = all_pairs(curves, "mse", resamples=50)
    for pair, expected in (("a", "t"), result), (("t", "a"), bd_rate(curves[1], curves[0], "mse")):
        assert pairs[pair].rate_percent == pytest.approx(expected.rate_percent)
        assert pairs[pair].psnr_db == pytest.approx(expected.psnr_db)
        assert (pairs[pair].low, pairs[pair].high) == pytest.approx((expected.low, expected.high))
    assert pairs["a", "t"].interval == pytest.approx(bd_rate(*curves, metric="mse", bootstrap=50).interval)


def test_pairs_say_what_is_missing_on_either_side():
    few = _points(measured("few", 1.0), 1)
    pairs = all_pairs([measured("a", 1.0, seed=1), few], resamples=0)
    assert pairs["a", "few"].reason == pairs["few", "a"].reason == "too few points"
    assert "the test curve has 1" in pairs["a", "few"].note and "the anchor has 1" in pairs["few", "a"].note


def test_fits_that_are_not_monotone_say_so():
    rates = np.array([0.1, 0.11, 0.12, 1.0, 3.0, 3.1, 3.2])
    qualities = np.array([30.0, 33.0, 36.0, 36.3, 36.6, 39.0, 42.0])
    steps = rates, qualities
    cubic = bd_rate((RATE, QUALITY), steps, method="cubic")
    assert cubic.overlap and "the cubic fit of the test curve is not monotone in the range" in cubic.note
    assert "the cubic fit of the anchor is not" in bd_rate(steps, (RATE, QUALITY), method="cubic").note
    assert "monotone" not in bd_rate((RATE, QUALITY), steps).note
    assert "monotone" not in bd_rate((RATE, QUALITY), (1.1 * RATE, QUALITY), method="cubic").note
