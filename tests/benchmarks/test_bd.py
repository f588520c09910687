"""BD-rate: the published table, laws, cleaning, and the bootstrap against the package itself."""

from __future__ import annotations

import json
import math
import time
import warnings
from dataclasses import replace

import bjontegaard
import numpy as np
import pandas as pd
import pytest

from benchmarks.curves import curve as curves_of
from benchmarks.curves.bd import BDError, bd_rate, bd_rates, clean
from benchmarks.curves.curve import Curve, find, published
from core.registry import UnknownName
from tests.support.shared import shared

KODAK = {c.label: c for c in published("kodak")}

# anchor vtm18: cubic, pchip, akima in per cent, BD-PSNR with akima in dB, common range in dB
PUBLISHED = {
    "qres34m-paper": (-4.086, -4.030, -4.037, 0.206, 30.02, 44.35),
    "qarv-paper": (-5.899, -5.894, -5.894, 0.307, 30.32, 44.37),
    "elic-paper": (-6.379, -6.373, -6.362, 0.291, 29.11, 37.62),
    "cheng2020-attn": (6.371, 6.334, 6.331, -0.261, 28.43, 36.62),
    "mbt2018": (11.507, 11.621, 11.618, -0.516, 28.09, 40.64),
    "mbt2018-mean": (21.991, 21.965, 21.964, -0.928, 27.70, 40.63),
    "bmshj2018-hyperprior": (31.175, 31.239, 31.220, -1.278, 27.58, 40.56),
    "bmshj2018-factorized": (69.175, 69.249, 69.172, -2.410, 26.91, 39.62),
    "bpg444": (23.480, 23.554, 23.554, -1.004, 26.20, 44.57),
    "av1": (17.285, 17.322, 17.313, -0.716, 25.56, 43.97),
}
RATE = np.array([0.2, 0.4, 0.8, 1.6, 3.0])
QUALITY = np.array([30.0, 32.5, 35.2, 38.0, 41.0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_curves_against_vtm18(name):
    cubic, pchip, akima, psnr, low, high = PUBLISHED[name]
    results = [bd_rate(KODAK["vtm18"], KODAK[name], method=m) for m in ("cubic", "pchip", "akima")]
    assert [r.rate_percent for r in results] == pytest.approx([cubic, pchip, akima], abs=6e-4)
    assert results[2].psnr_db == pytest.approx(psnr, abs=6e-4)
    assert (results[1].low, results[1].high) == pytest.approx((low, high), abs=6e-3)
    assert all(r.overlap and r.points_anchor == 36 and r.interval is None for r in results)


@pytest.mark.parametrize("name, cubic, pchip", [("webp", 79.4, 79.5), ("jpeg2000", 98.7, 99.3), ("jpeg", 235.6, 233.0)])
def test_classical_codecs_against_vtm18(name, cubic, pchip):
    for method, value in (("cubic", cubic), ("pchip", pchip), ("akima", pchip)):
        result = bd_rate(KODAK["vtm18"], KODAK[f"{name}-compressai"], method=method)
        assert result.rate_percent == pytest.approx(value, abs=0.06)


def test_the_other_vtm_as_anchor():
    found = [bd_rate(KODAK["vtm-compressai"], KODAK["qres34m-paper"], method=m) for m in ("cubic", "pchip", "akima")]
    assert [r.rate_percent for r in found] == pytest.approx([-4.079, -4.018, -4.003], abs=6e-4)


@pytest.mark.parametrize("name, metric", [("irec", "psnr"), ("irec-ms-ssim", "ms_ssim_db")])
def test_irec_against_its_own_ideal(name, metric):
    result = bd_rate(KODAK[f"{name}-ideal-paper"], KODAK[f"{name}-paper"], metric)
    assert result.rate_percent == pytest.approx(32.5, abs=0.06)


@pytest.mark.parametrize("dataset, names", [("tecnick", (-4.319, -8.938)), ("clic22", (-3.471, -6.914))])
def test_the_authors_other_sets(dataset, names):
    curves = published(dataset)
    for name, value in zip(("qres34m-paper", "qarv-paper"), names, strict=True):
        result = bd_rate(find(curves, "vtm18"), find(curves, name), method="cubic")
        assert result.rate_percent == pytest.approx(value, abs=6e-4)


def test_the_range_matters():
    """Every second point (the top one dropped): the protocol page quotes this."""
    points = KODAK["qres34m-paper"].points.iloc[::2]
    pair = points["bpp"], points["psnr"]
    anchor = KODAK["vtm18"].points["bpp"], KODAK["vtm18"].points["psnr"]
    for method in ("pchip", "akima"):
        assert bd_rate(anchor, pair, method=method).rate_percent == pytest.approx(-2.28, abs=0.06)


# ---- laws


@pytest.mark.parametrize("method", ["pchip", "akima", "cubic"])
@pytest.mark.parametrize("factor", [0.9, 1.0, 1.25])
def test_a_factor_on_the_rate_is_the_answer(method, factor):
    result = bd_rate((RATE, QUALITY), (factor * RATE, QUALITY), method=method)
    assert result.rate_percent == pytest.approx(100 * (factor - 1), abs=1e-9)
    assert (result.low, result.high) == (30.0, 41.0)


def test_a_shift_of_quality_is_the_answer():
    assert bd_rate((RATE, QUALITY), (RATE, QUALITY + 0.5)).psnr_db == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_swapping_inverts_the_ratio(method):
    rng = np.random.default_rng(1)
    other = RATE * rng.uniform(0.7, 1.4, RATE.size).cumsum() / np.arange(1, RATE.size + 1), QUALITY + 0.3
    there, back = bd_rate((RATE, QUALITY), other, method=method), bd_rate(other, (RATE, QUALITY), method=method)
    assert (1 + there.rate_percent / 100) * (1 + back.rate_percent / 100) == pytest.approx(1, abs=1e-9)


# ---- cleaning


@pytest.mark.parametrize(
    "extra_rate, extra_quality",
    [
        ([0.4], [32.5]),  # a duplicate
        ([0.4], [31.0]),  # the same rate, worse
        ([0.9], [33.0]),  # dominated: the curve would not be monotone
        ([9.0], [math.inf]),  # lossless
        ([0.1, 5.0], [math.nan, math.nan]),
        ([0.0, -1.0], [20.0, 21.0]),
        ([math.inf], [50.0]),
    ],
)
@pytest.mark.parametrize("method", ["pchip", "akima", "cubic"])
def test_unusable_points_change_nothing(method, extra_rate, extra_quality):
    anchor = 1.1 * RATE, QUALITY - 0.2
    clean_answer = bd_rate(anchor, (RATE, QUALITY), method=method)
    order = np.random.default_rng(0).permutation(RATE.size + len(extra_rate))
    dirty = np.concatenate((RATE, extra_rate))[order], np.concatenate((QUALITY, extra_quality))[order]
    result = bd_rate(anchor, dirty, method=method)
    assert result.rate_percent == clean_answer.rate_percent and math.isfinite(result.rate_percent)
    assert result.points_test == RATE.size
    assert ("dropped" in result.note) == (not np.isnan(extra_quality).any())


def test_cleaned_points_increase():
    rng = np.random.default_rng(2)
    for _ in range(50):
        x, y = clean(rng.integers(0, 6, 12), rng.integers(0, 6, 12).astype(float))
        assert np.all(np.diff(x) > 0) and np.all(np.diff(y) > 0) and np.all(x > 0)


def test_no_overlap_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = bd_rate((RATE, QUALITY), (RATE, QUALITY + 20))
    assert not result.overlap and math.isnan(result.rate_percent) and math.isnan(result.psnr_db)
    assert "no overlap" in result.note and result.interval is None


@pytest.mark.parametrize("rate, quality", [([], []), ([0.5], [33.0]), ([math.nan] * 3, [1.0, 2.0, 3.0])])
def test_too_few_points_are_said(rate, quality):
    result = bd_rate((RATE, QUALITY), (rate, quality))
    words = {0: ("no values", "the test curve has no values"), 1: ("too few points", "the test curve has 1")}
    word, sentence = words[len(rate) % 3]
    assert not result.overlap and result.reason == word and sentence in result.note
    assert result.points_test == len(rate) % 3


def test_cubic_needs_four_points():
    few = bd_rate((RATE, QUALITY), (RATE[:3], QUALITY[:3]), method="cubic")
    assert "needs 4 points" in few.note and few.reason == "too few points"
    assert bd_rate((RATE, QUALITY), (RATE[:2], QUALITY[:2])).overlap


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(BDError, match="pchp"):
        bd_rate((RATE, QUALITY), (RATE, QUALITY), method="pchp")
    with pytest.raises(BDError, match="equally long"):
        bd_rate((RATE, QUALITY), (RATE, QUALITY[1:]))
    with pytest.raises(BDError, match="tecnick"):
        bd_rate(KODAK["vtm18"], published("tecnick")[0])
    with pytest.raises(UnknownName, match="vtm18"):
        find(KODAK.values(), "vtm81")


# ---- the bootstrap


def measured(label: str, factor: float, images: int = 24, seed: int = 0, spread: float = 0.2) -> Curve:
    """A curve whose images differ: rate factors common to all curves, and a little noise of its own."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    ease = common.uniform(0.5, 1.6, images)
    records = []
    for point, (rate, quality) in enumerate(zip(RATE, QUALITY, strict=True)):
        rates = rate * factor * ease * own.uniform(1 - spread / 4, 1 + spread / 4, images)
        qualities = quality + 2 * (1 - ease) + own.normal(0, spread, images)
        records += [
            {"image": f"{i}", "point": point, "bpp": r, "psnr": q}
            for i, (r, q) in enumerate(zip(rates, qualities, strict=True))
        ]
    frame = pd.DataFrame(records)
    points = frame.groupby("point", as_index=False)[["bpp", "psnr"]].mean()
    return Curve(label, label, "toy", "toy", "measured", "", points, images=frame)


def test_vectorised_pchip_equals_the_package():
    rng = np.random.default_rng(3)
    shape = 200, 7
    rates = [np.exp(rng.uniform(0.05, 0.9, shape).cumsum(axis=1) - 2) for _ in range(2)]
    qualities = [25 + rng.uniform(0.01, 5, (200, 1)) + rng.uniform(0.02, 4, shape).cumsum(axis=1) for _ in range(2)]
    values = bd_rates(rates[0], qualities[0], rates[1], qualities[1])
    for i, value in enumerate(values):
        arrays = rates[0][i], qualities[0][i], rates[1][i], qualities[1][i]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no overlap, which must give nan in both
            expected = bjontegaard.bd_rate(*arrays, method="pchip", min_overlap=0)
        assert value == pytest.approx(expected, abs=1e-9, rel=1e-9, nan_ok=True)
    assert 0 < np.isnan(values).sum() < 40


def test_rows_that_are_not_monotone_are_cleaned_like_curves():
    rates, qualities = np.tile(RATE, (2, 1)), np.tile(QUALITY, (2, 1))
    worse = qualities.copy()
    worse[1, 2] = worse[1, 1] - 1
    values = bd_rates(rates, qualities, 0.9 * rates, worse)
    assert values[0] == pytest.approx(-10, abs=1e-9)
    assert values[1] == pytest.approx(bd_rate((RATE, QUALITY), (0.9 * RATE, worse[1])).rate_percent, abs=1e-12)


def test_interval_holds_the_answer_and_repeats():
    anchor, test = measured("a", 1.0, seed=1), measured("t", 0.8, seed=2)
    result = bd_rate(anchor, test)
    low, high = result.interval
    assert low < result.rate_percent < high < 0
    assert bd_rate(anchor, test).interval == result.interval
    assert bd_rate(anchor, test, bootstrap=0).interval is None
    assert bd_rate(anchor, anchor).interval == pytest.approx((0, 0), abs=1e-9)


def test_interval_narrows_with_images_and_widens_with_noise():
    def width(**values: float) -> float:
        low, high = bd_rate(measured("a", 1.0, seed=1, **values), measured("t", 0.8, seed=2, **values)).interval
        return high - low

    assert width(images=200) < 0.6 * width(images=24)
    assert width(spread=0.4) > 1.3 * width(spread=0.1)


def test_interval_covers_at_about_its_level():
    """Draw images from a known population many times: the truth must lie inside about 95 % of the intervals."""
    big_a, big_t = measured("a", 1.0, images=600, seed=1), measured("t", 0.85, images=600, seed=2)
    truth, inside = bd_rate(big_a, big_t, bootstrap=0).rate_percent, 0
    rng = np.random.default_rng(5)
    for _ in range(60):
        names = {str(i) for i in rng.choice(600, 40, replace=False)}
        pair = [_only(c, names) for c in (big_a, big_t)]
        low, high = bd_rate(*pair, bootstrap=300).interval
        inside += low <= truth <= high
    assert 50 <= inside <= 60


def _only(curve: Curve, names: set[str]) -> Curve:
    frame = curve.images[curve.images["image"].isin(names)]
    points = frame.groupby("point", as_index=False)[["bpp", "psnr"]].mean()
    return Curve(curve.label, curve.method, "toy", "toy", "measured", "", points, images=frame)


def test_different_images_have_no_interval():
    result = bd_rate(measured("a", 1.0, images=24), measured("t", 0.8, images=23))
    assert result.overlap and result.interval is None and "different images" in result.note


def test_a_dropped_point_does_not_hurt_the_interval():
    test = measured("t", 0.8, seed=2)
    lossless = pd.DataFrame({"image": [str(i) for i in range(24)], "point": 9, "bpp": 8.0, "psnr": math.inf})
    images = pd.concat([test.images, lossless])
    points = images.groupby("point", as_index=False)[["bpp", "psnr"]].mean()
    curve = Curve("t", "t", "toy", "toy", "measured", "", points, images=images)
    with_it, without = bd_rate(measured("a", 1.0, seed=1), curve), bd_rate(measured("a", 1.0, seed=1), test)
    assert with_it.interval == without.interval and "dropped" in with_it.note


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_thousand_resamples_are_quick(method):
    anchor, test = measured("a", 1.0, seed=1), measured("t", 0.8, seed=2)
    bd_rate(anchor, test, method=method, bootstrap=10)
    start = time.process_time()
    assert bd_rate(anchor, test, method=method, bootstrap=1000).interval
    assert time.process_time() - start < (0.2 if method == "pchip" else 2)


# ---- MS-SSIM in dB, published against measured


def test_both_sides_use_the_db_of_the_mean_beside_a_published_curve():
    """A measured curve with the published means must tie, although its mean of dB is higher."""
    anchor = KODAK["bpg444"]
    points = anchor.points.assign(ms_ssim_db=anchor.points["ms_ssim_db"] + 1)
    ours = Curve("ours", "ours", "kodak", "kodak", "measured", "", points)
    assert bd_rate(anchor, ours, "ms_ssim_db").rate_percent == pytest.approx(0, abs=1e-9)
    both = [Curve("x", "x", "kodak", "kodak", "measured", "", c.points) for c in (anchor, ours)]
    assert bd_rate(*both, "ms_ssim_db").rate_percent < -1


def test_subsets_are_noted():
    ours = Curve("o", "o", "kodak", "kodak, first 4", "measured", "", KODAK["vtm18"].points, subset=True)
    assert "kodak, first 4" in bd_rate(KODAK["vtm18"], ours).note


# ---- the committed numbers against their sources


def test_committed_lossy_vae_numbers():
    source = json.loads(shared("published/qres.json").read_text())
    for dataset, name in {"kodak": "kodak", "tecnick": "tecnick-rgb-1200", "clic22": "clic2022-test"}.items():
        official, old = source["official"], source["old_repo_qres-vae"]
        pairs = {"vtm18": official[f"{name}-vtm18.0"], "qres34m-paper": official[f"{name}-qres34m"]}
        pairs["qarv-paper"] = official["qarv_base"][f"{name}-qarv_base"]
        if dataset != "tecnick":
            pairs["qres34m-first-release"] = old[f"{name}-qres34m"]
        if dataset == "clic22":
            pairs["vtm12"] = old["clic2022-test-vtm-12.1"]
        for label, values in pairs.items():
            assert same(find(published(dataset), label), bpp=values["bpp"], psnr=values["psnr"])
    assert len(KODAK["vtm18"].points) == 36


def test_committed_compressai_numbers():
    source = json.loads(shared("published/compressai.json").read_text())["datasets"]
    entries = json.loads((curves_of.PUBLISHED / "compressai.json").read_text())["curves"]
    for dataset, curves in source.items():
        ours = published(dataset, [e["name"] for e in entries if e["dataset"] == dataset])
        assert all("CompressAI" in c.reference for c in ours)
        columns = {"bpp": "bpp", "psnr": "psnr-rgb", "ms_ssim": "ms-ssim-rgb"}
        theirs = [v["results"] for v in curves.values() if len(v["results"]) > 1]  # some have rates alone
        assert len(ours) == len(theirs)
        for curve in ours:
            named = [{k: r[v] for k, v in columns.items() if v in r} for r in theirs]
            assert sum(same(curve, **values) for values in named) == 1, curve.label
        name = {"vtm18": None, "hm": "hm", "mbt2018": "mbt2018_mse", "cheng2020-attn-ms-ssim": "cheng2020-attn_ms-ssim"}
        for label, key in name.items():
            if key:
                values = curves[key]["results"]
                assert same(
                    find(ours, label), bpp=values["bpp"], psnr=values["psnr-rgb"], ms_ssim=values["ms-ssim-rgb"]
                )


def test_committed_irec_numbers():
    source = json.loads(shared("published/irec.json").read_text())
    for loss, name in (("mse", "irec"), ("ms_ssim", "irec-ms-ssim")):
        for kind, suffix in (("actual", "-paper"), ("ideal", "-ideal-paper")):
            rows = [p[kind] for p in source[f"lossy_kodak_2level_{loss}"]["points"]]
            columns = {"bpp": "bpp", "psnr": "psnr_db", "ms_ssim": "ms_ssim", "ms_ssim_db": "ms_ssim_db"}
            assert same(KODAK[name + suffix], **{k: [r[v] for r in rows] for k, v in columns.items()})
    drawn = {"JPEG (4:2:0)": "jpeg420-irec", "BPG (4:4:4)": "bpg444-irec", "Theis (2017)": "theis2017-irec"}
    drawn |= {"Ballé (2018) (opt. for MSE)": "bmshj2018-hyperprior-irec", "Minnen (2020)": "minnen2020-irec"}
    drawn |= {"Ballé (2018) (opt. for MS-SSIM)": "bmshj2018-hyperprior-ms-ssim-irec"}
    for part, column in (("psnr", "psnr"), ("ms_ssim_db", "ms_ssim_db")):
        for theirs, pairs in source[f"other_methods_{part}"]["curves"].items():
            points = KODAK[drawn[theirs]].points[["bpp", column]].dropna()
            np.testing.assert_allclose(points.to_numpy(), sorted(pairs), atol=2e-5)


def same(curve: Curve, **columns: list[float]) -> bool:
    order = np.argsort(columns["bpp"], kind="stable")
    return all(
        name in curve.points
        and len(values) == len(curve.points)
        and np.array_equal(curve.points[name].to_numpy(), np.array(values)[order])
        for name, values in columns.items()
    )


def test_two_points_are_enough_for_an_interval():
    anchor, test = measured("anchor", 1.0), measured("test", 0.9, seed=1)
    few = _points(test, 2)
    assert bd_rate(_points(anchor, 2), few, bootstrap=20).overlap


def _points(curve: Curve, count: int) -> Curve:
    """The first points of a curve, per image as well."""
    kept = curve.points.head(count)
    return replace(curve, points=kept, images=curve.images[curve.images["point"].isin(kept["point"])])
