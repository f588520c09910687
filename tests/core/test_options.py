"""Options: wrong values are one sentence and exit code 2 in every command; a closed pipe is, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import options
from core.codec import TesseraError

ROOT = Path(__file__).resolve().parents[2]
HUGE, NAN = 10**30, float("nan")


@pytest.mark.parametrize(
    ("name", "default", "good", "bad"),
    [
        ("limit", None, [None, "", 0, 1, 10**6], [True, -1, 1.0, "two", HUGE, {"x": 3}, [1]]),
        ("limit", 1000, [None, 3], [-1, 1.5]),
        ("points", None, [None, "", 5, "a,b", (16, 64), [0.5], "smoke"], [{"a": 1}, True, NAN, [[1]], ()]),
        ("methods", None, ["jpeg", "jpeg,webp", ["jpeg"]], [{"jpeg": 1}, ",", [""]]),
        ("seed", 0, [0, 2**63 - 1], [-1, 2**63, True, 0.5, "x", None]),
        ("seeds", 3, [1], [0, -2, True]),
        ("threads", 1, [1, 8], [0, -1, "all"]),
        ("bootstrap", 1000, [0, 1000], [-5, 1.5, HUGE, "many"]),
        ("results", "results", ["out"], ["", "  ", None, 3, {"a": 1}]),
        ("alpha", None, ["white", "black", None], ["red", True, 1]),
        ("depth", None, [8, None], [16, "8", True, 8.0]),
        ("lr", 2e-3, [1e-4, 1], [0, -1, NAN, float("inf"), "fast", True]),
        ("signed", 0.05, [0, 1, 0.5], [1.1, -0.1]),
        ("scales", (1.0,), [(1.0, 0.6), 1, [0.5]], [(0,), (), "x", (True,), (float("inf"),), {"a": 1}]),
        ("keep_images", True, [True, False], [1, 0, "yes", None]),
        ("warmup", 200, [0, 5], [-1, True, 2.5]),
        ("params", {}, [{"quality": 3}], [3, "quality"]),
        ("folder", None, ["runs/x", None], [3, True, {"a": 1}]),
        ("batches", "1", ["1,16", 4, (1, 16)], ["", True, {"a": 1}]),
        ("published", "vtm18", ["", "vtm18,jpeg"], [True, {"a": 1}]),
        ("anything", 1.5, [2, 0.5], [NAN, "x", True]),
        ("anything", None, [3, "x", (1, 2)], [{"a": 1}]),
    ],
)  # fmt: skip
def test_what_options_may_be(name, default, good, bad):
    for value in good:
        options.check(name, value, default)
    for value in bad:
        with pytest.raises(TesseraError, match=rf"^{name}=.* must be .*\.$"):
            options.check(name, value, default)


def test_literals_are_values_or_a_sentence():
    assert [options.literal(t) for t in ("3", "1,2", "True", "None", " a ", "1e3", "a,b")] == [
        3, (1, 2), True, None, "a", 1000.0, "a,b",
    ]  # fmt: skip
    for text in ("{[1]}", "(" * 5000):
        try:
            assert options.literal(text) == text
        except TesseraError as error:
            assert "cannot be read as a value" in str(error)


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("benchmarks/rd_curve.py", "points={'a':1}", "points={'a':1} must be a word or number, or several as a,b"),
        ("benchmarks/rd_curve.py", "limit.x=3", "limit has no parts: write limit=VALUE instead of limit.x"),
        ("benchmarks/rd_curve.py", "limit=True", "limit=True must be a whole number, at least 0"),
        ("benchmarks/rd_curve.py", "limit=-3", "limit=-3 must be a whole number, at least 0"),
        ("benchmarks/rd_curve.py", "results=", "results= must be text, not empty"),
        ("benchmarks/rd_curve.py", "points=1e999", "points=1e999 must be"),
        ("benchmarks/rd_curve.py", "params=3", "params=3 must be written as NAME.PART=VALUE"),
        ("benchmarks/rd_curve.py", f"seed={HUGE}", "must be a whole number"),
        ("benchmarks/rd_curve.py", "alpha=red", "alpha=red must be white or black"),
        ("benchmarks/lossless_table.py", "depth=16", "depth=16 must be 8"),
        ("benchmarks/codebook_usage.py", "limit=1.5", "limit=1.5 must be a whole number"),
        ("benchmarks/match_rate.py", "limit=-1", "limit=-1 must be a whole number"),
        ("benchmarks/match_rate.py", "target_bpp=1e999", "must be numbers above 0"),
        ("benchmarks/speed.py", "repeats=0", "repeats=0 must be a whole number, at least 1"),
        ("benchmarks/speed.py", "threads=0", "threads=0 must be a whole number, at least 1"),
        ("benchmarks/cross_decode.py", "crop=-1", "crop=-1 must be a whole number, at least 0"),
        ("benchmarks/toy_sources.py", "seeds=0", "seeds=0 must be a whole number, at least 1"),
        ("benchmarks/toy_sources.py", "vectors=-5", "vectors=-5 must be a whole number, at least 1"),
        ("benchmarks/rec_overhead.py", "samples=0", "samples=0 must be"),
        ("benchmarks/fuzz.py", "signed=2", "signed=2 must be a number at least 0 and at most 1"),
        ("benchmarks/fuzz.py", "limit_s=-1", "limit_s=-1 must be a number above 0"),
        ("benchmarks/bd_table.py", "bootstrap=-5", "bootstrap=-5 must be a whole number, at least 0 and at most"),
        ("benchmarks/bd_table.py", "bootstrap=abc", "bootstrap=abc must be a whole number"),
        ("benchmarks/bd_table.py", "limit=True", "limit=True must be a whole number"),
        ("benchmarks/bd_table.py", "results=", "results= must be text, not empty"),
        ("benchmarks/report.py", "jobs=-1", "jobs=-1 must be a whole number, at least 1"),
        ("benchmarks/report.py", "results=", "results= must be text, not empty"),
        ("benchmarks/readme.py", "check=maybe", "check=maybe must be yes or no"),
        ("experiments.prepare", "connect_s=nan", "connect_s=nan must be a number above 0"),
        ("experiments.plan", "results=", "results= must be text, not empty"),
    ],
)  # fmt: skip
def test_wrong_values_are_one_sentence_in_every_command(command, pictures, script, words, sentence):
    given = ("quick", words) if script.endswith("plan") else ("with", words)
    method = ("method=jpeg", "dataset=folder:pictures") if "rd_curve" in script else ()
    ended = command(script, *given, *method)
    assert ended.code == 2 and sentence in ended.sentence and not list(Path().glob("results/cells/*"))


def test_files_of_options_are_checked_like_the_command_line(command, pictures, tmp_path):
    for text, sentence in (
        ('{"limit": -1}', "limit=-1 must be a whole number"),
        ('{"limt": 1}', "unknown option in options.json 'limt': did you mean limit"),
        ("[1]", "options.json holds no options"),
        ("{", "options.json cannot be read as a configuration"),
    ):
        (tmp_path / "options.json").write_text(text)
        ended = command("benchmarks/rd_curve.py", "with", "options.json", "method=jpeg", "dataset=folder:pictures")
        assert ended.code == 2 and sentence in ended.sentence


def test_points_of_a_method_without_a_curve_are_refused(command, pictures):
    ended = command("benchmarks/rd_curve.py", "with", "method=png", "dataset=folder:pictures", "points=5")
    assert ended.code == 2 and "png has no setting that moves along a curve" in ended.sentence


PIPED = [
    ("benchmarks/rd_curve.py", "with", "method=jpeg", "dataset=folder:pictures", "points=50"),
    ("benchmarks/rd_curve.py", "print_config"),
    ("benchmarks/bd_table.py", "help"),
    ("-m", "experiments.prepare"),
    ("-m", "qres", "help"),
]


@pytest.mark.parametrize("words", PIPED, ids=" ".join)
def test_a_closed_pipe_is_one_sentence(pictures, tmp_path, words):
    read, write = os.pipe()
    os.close(read)
    script = [str(ROOT / words[0]), *words[1:]] if words[0].endswith(".py") else list(words)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *script], cwd=tmp_path, env=env, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == 2 and done.stderr.startswith("error: the output was closed before its end")
    assert len(done.stderr.splitlines()) == 1
