"""Operating points at a target: the search on known curves, and the command on real files."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import pytest

from benchmarks.curves import matching
from benchmarks.store import Store
from core.codec import Method, TesseraError
from core.registry import discover, make_method
from experiments import match_rate

SCRIPT = "benchmarks/match_rate.py"
HERE = "dataset=folder:pictures"
WHOLE = tuple(range(1, 101))


class Counted:
    """A curve that counts its measurements."""

    def __init__(self, curve):
        self.curve, self.calls = curve, []

    def __call__(self, point):
        self.calls.append(point)
        return self.curve(point)


# The search


@pytest.mark.parametrize("sign", [1, -1], ids=["rising", "falling"])
@pytest.mark.parametrize("target", [0.3, 1, 4.2, 9.7, 10])
def test_whole_numbers_end_at_the_neighbours(sign, target):
    curve = Counted(lambda q: q / 10 if sign > 0 else (101 - q) / 10)
    match = matching.search(WHOLE, (4, 87), curve, target, 1e-9)
    assert match.within and match.in_range and match.monotone
    assert math.isclose(curve.curve(match.best), target)
    assert len(curve.calls) == len(set(curve.calls)) <= 10  # two ends, one more end, seven halvings
    between = matching.search(WHOLE, (4, 87), curve, target - 0.05 if target > 1 else target + 0.05, 1e-9)
    assert between.in_range and not between.within
    assert abs(between.above - between.below) == 1 and between.best in (between.below, between.above)
    assert curve.curve(between.below) < curve.curve(between.above)


@pytest.mark.parametrize(("target", "best"), [(0.01, 1), (11, 100)])
def test_out_of_range_gives_the_end(target, best):
    curve = Counted(lambda q: q / 10)
    match = matching.search(WHOLE, (4, 87), curve, target, 1e-3)
    assert not match.in_range and match.best == best and (match.below is None) != (match.above is None)
    assert len(curve.calls) == 3


def test_a_short_list_that_turns_is_measured_whole():
    values = {"16": 22.2, "64": 22.7, "256": 21.9}
    match = matching.search(tuple(values), (0, 2), values.get, 22.6, 0.02)
    assert match.in_range and match.best == "64" and not match.monotone
    assert (match.below, match.above) == ("16", "64")


TURNING = [0.1, 0.2, 0.3, 0.9, 0.35, 0.3, 0.45, 0.6, 0.7, 0.8] + [0.8 + 0.1 * i for i in range(1, 31)]


@pytest.mark.parametrize("target", [0.25, 0.4, 0.5, 0.65, 0.72, 0.88, 1.234])
def test_neighbours_are_neighbours_where_the_curve_turns(target):
    """A rate that falls between two settings: below and above must still have nothing between them."""
    tried = tuple(range(len(TURNING)))
    match = matching.search(tried, (2, 33), lambda i: TURNING[i], target, 1e-9)
    assert match.in_range and not match.within
    assert abs(match.below - match.above) == 1 and TURNING[match.below] < target <= TURNING[match.above]
    turns = sum((a < target) != (b < target) for a, b in itertools.pairwise(TURNING))
    assert len(match.tried) <= 2 + 6 * turns


def test_words_for_whole_numbers_and_for_a_grid():
    discover()
    match = matching.Match(3, 3, 4, False, True, True, {3: 1.0, 4: 2.0})
    method = make_method("jpeg", {})
    assert "there is no setting between them" in match_rate.sentences(match, method, "bpp", 1.5)[0]
    assert "none was tried between them" in match_rate.sentences(match, method, "bpp", 1.5, grid=True)[0]


def test_continuous_settings_meet_the_tolerance():
    @dataclass(frozen=True)
    class Smooth(Method):
        name = "smooth"
        curve = "step"
        points: ClassVar = (64, 32, 16, 8)
        step: float = 16

    tried, start = matching.settings(Smooth())
    assert (tried[start[0]], tried[start[1]]) == (8, 64) and len(tried) > 4000
    curve = Counted(lambda step: 4 / step)
    match = matching.search(tried, start, curve, 0.1234, 0.0005 * 0.1234)
    assert match.within and abs(4 / match.best / 0.1234 - 1) <= 0.0005 and len(curve.calls) <= 14


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("jpeg", 1, 100, 100),
        ("jpegxl", 0.01, 25, None),
        ("x265", 0, 51, 52),
        ("qres3m_vr", 4, 1024, None),
        ("rvq", 1, 4, 4),
        ("qres34m", 16, 2048, 8),
        ("fsq", "5x3", None, None),
    ],
)
def test_what_may_be_tried(name, first, last, count):
    discover()
    method = make_method(name, {})
    tried, (low, high) = matching.settings(method)
    assert tried[0] == first and (last is None or tried[-1] == last) and 0 <= low < high < len(tried)
    assert len(tried) == (count or (len(tried) if last else len(method.points)))
    assert [type(p) for p in tried] == [type(p) for p in method.points] or len(tried) > len(method.points)


def test_a_method_without_a_curve_is_refused():
    discover()
    with pytest.raises(TesseraError, match="png has no setting that moves"):
        matching.settings(make_method("png", {}))


# The command


def test_the_command_finds_a_quality_and_measures_nothing_twice(command, pictures):
    words = ("with", "method=jpeg", HERE, "target_psnr=28.5", "limit=2")
    done = command(SCRIPT, *words)
    assert done.code == 0, done.err
    (path,) = Store("results").root.glob("match_rate/*.csv")
    table = pd.read_csv(path)
    assert table["match"][0] == "nearest" and "first 2" in table["data set"][0]
    assert list(table["error (dB)"].round(6)) == list((table["PSNR (dB)"] - 28.5).round(6))
    found = Store("results/match_rate")
    cells = {r.cell.point: r.means["psnr"] for r in found.cells()}
    if len(table) == 2:  # two neighbours, one on either side
        assert abs(table["point"][0] - table["point"][1]) == 1 and table["error (dB)"].prod() < 0
        assert "and there is no setting between them" in done.out
    assert cells[table["point"][0]] == min(cells.values(), key=lambda v: abs(v - 28.5))
    assert not Store("results").cells()  # curves are left as they are
    again = command(SCRIPT, *words)
    assert again.code == 0 and "all done" not in again.out


def test_known_cells_are_used(command, pictures):
    command("benchmarks/rd_curve.py", "with", "method=jpeg", HERE, "points=5,88", "limit=1")
    known = {r.key for r in Store("results").cells()}
    assert len(known) == 2
    done = command(SCRIPT, "with", "method=jpeg", HERE, "target_psnr=28", "limit=1")
    assert done.code == 0 and not known & {r.key for r in Store("results/match_rate").cells()}


def test_out_of_range_is_said(command, pictures):
    done = command(SCRIPT, "with", "method=jpeg", HERE, "target_bpp=200", "limit=1")
    assert done.code == 1 and "200 bpp is out of range: the highest that jpeg reaches here" in done.out
    assert "nearest, out of range" in done.out


def test_several_targets_share_what_they_measure(command, pictures):
    done = command(SCRIPT, "with", "method=jpeg", HERE, "target_bpp=JPEG_AI", "limit=1")
    assert done.code in (0, 1) and "jpeg at 0.06, 0.12, 0.25, 0.5, 0.75 bpp" in done.out, done.err
    (path,) = Store("results").root.glob("match_rate/*_bpp_0.06+0.12+0.25+0.5+0.75_*.csv")
    table = pd.read_csv(path)
    assert list(dict.fromkeys(table["target"])) == [0.06, 0.12, 0.25, 0.5, 0.75]
    cells = Store("results/match_rate").cells()
    assert f"{len(cells)} settings of quality were measured" in done.out and done.out.count("were measured") == 1


def test_a_learned_method_meets_its_target(command, pictures):
    done = command(SCRIPT, "with", "method=qres3m_vr", HERE, "target_bpp=0.3", "limit=1", "weights=ours")
    assert done.code == 0, done.err
    (path,) = Store("results").root.glob("match_rate/*.csv")
    table = pd.read_csv(path)
    assert len(table) == 1 and abs(table["error (%)"][0]) <= 0.5 and "[ours]" in table["curve"][0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give one of target_bpp=0.25 and target_psnr=35"),
        (("target_bpp=1", "target_psnr=30"), "give one of"),
        (("target_bpp=-1",), "must be numbers above 0"),
        (("target_psnr=high",), "must be numbers above 0"),
        (("target_psnr=35", "tolerance=0"), "must be numbers above 0"),
        (("target_psnr=35", "params.quality=30"), "quality is what is searched"),
        (("target_pnsr=35",), "unknown option 'target_pnsr': did you mean target_psnr"),
        (("target_psnr=35", "method=png"), "png has no setting"),
        (("target_psnr=35", "method=qres17m", "weights=ours"), "there are no weights for qres17m"),
    ],
)
def test_mistakes_are_one_sentence(command, pictures, words, sentence):
    named = () if any(word.startswith("method=") for word in words) else ("method=jpeg",)
    done = command(SCRIPT, "with", *named, HERE, *words)
    assert done.code == 2 and sentence in done.sentence
