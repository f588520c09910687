"""Toy sources end to end: the commands, the repository's own results against their targets, published points."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.curves.curve import PUBLISHED
from benchmarks.figures.toy import published_lines
from core.codec import TesseraError
from experiments.studies import toy, toy_train
from tests.support.shared import shared
from vq.toy.methods import TOY, make_toy
from vq.toy.sources import make_source

torch.set_num_threads(1)
SCRIPT = "benchmarks/toy_sources.py"
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("source=bananna",), "unknown source 'bananna': did you mean banana"),
        (("methods=ecvq,vecqv",), "unknown method 'vecqv': did you mean vecvq"),
        (("points=x",), "positive numbers"),
        (("method=vq", "points=2.5"), "positive numbers (k)"),
        (("method=ecvq", "params.strat=random"), "did you mean start"),
        (("method=ecvq", "params.start=hexagon", "points=1"), "is not one of lattice, random, merged"),
        (("method=vecvq", "params.recipe=sed", "points=1"), "did you mean seed"),
        (("method=vecvq", "params.k=1", "points=1"), "at least 2"),
        (("method=ecvq_random", "params.k=1", "points=1"), "at least 2"),
        (("seeds=0",), "at least 1"),
        (("methods=ecvq,vq", "params.k=3"), "go with method=NAME"),
        (("source=sphere", "source_params.wdth=1"), "did you mean width"),
    ],
)
def test_a_mistake_is_one_sentence(command, words, sentence):
    ended = command(SCRIPT, "with", *words)
    assert ended.code == 2 and sentence in ended.sentence and not list(Path().glob("results/toy/*/*.json"))


def test_toy_sources_end_to_end_and_resume(command):
    words = ("with", "smoke", "pictures=False")
    first = command(SCRIPT, *words)
    assert first.code == 0 and "[4/4]" in first.out and "excess of L" in first.out
    files = sorted(Path("results/toy/normal2d").glob("*.json"))
    stamps = [path.stat().st_mtime_ns for path in files]
    again = command(SCRIPT, *words)
    assert again.code == 0 and "[4/4]" not in again.out and [p.stat().st_mtime_ns for p in files] == stamps
    record = json.loads(files[0].read_text())
    assert record["provenance"]["command"] and record["rate"] > 0 and record["seed"] == 0
    for name in ("figures/toy_normal2d_ecvq_ecsq_rd.pdf", "tables/toy_normal2d_ecvq_ecsq.csv"):
        assert (Path("results") / name).stat().st_size > 100
    files[0].write_text("{")
    broken = command(SCRIPT, *words)
    assert broken.code == 2 and "delete it" in broken.sentence


def test_train_writes_an_animation(command):
    words = ("method=vecvq", "source=normal2d", "regime=low", "gif=true", "params.steps=6", "vectors=2000")
    ended = command("vq", "train", "with", *words)
    assert ended.code == 0, ended.err
    from PIL import Image

    picture = Image.open("results/figures/toy_normal2d_vecvq_steps6_low.gif")
    assert picture.n_frames == 7 and min(picture.size) > 300  # the start, and six steps
    assert command("vq", "train", "with", "method=ecsq", "gif=true").sentence.startswith("error: gif=true shows")
    assert "did you mean low" in command("vq", "train", "with", "source=banana", "regime=lo").sentence
    assert "gif=perhaps must be true or false" in command("vq", "train", "with", "gif=perhaps").sentence


def stored(pattern: str) -> list[dict[str, Any]]:
    """Results of the repository's own runs on 1,000,000 test vectors."""
    found = [json.loads(path.read_text()) for path in sorted((ROOT / "results/toy").glob(pattern))]
    return [record for record in found if record["vectors"] == 1_000_000]


def best_known(row: dict[str, Any]) -> float:
    return min(row["best_loss"], row.get("best_known_hex_init", {}).get("L", math.inf))


@pytest.mark.parametrize("name", ["normal2d", "laplace", "banana"])
@pytest.mark.parametrize(("method", "within"), [("ecvq", 0.01), ("vecvq", 0.05)])
def test_stored_results_meet_the_targets(name, method, within):
    """Every seed ends within ``within`` bits of the best Lagrangian known, and none beats the bound."""
    limit = toy.known_bound(make_source(name), ROOT / "results")
    assert limit is not None
    for row in json.loads(shared("golden/vecvq.json").read_text())["ecvq_reference"][name]:
        lmb = row["lmbda_sse"]
        usual = make_toy(method, {"lmb": lmb}).variant
        records = [r for r in stored(f"{name}/{method}-{lmb:g}-*.json") if r["settings"] == usual]
        assert len(records) >= 3
        for record in records:
            noise = 4 * (record["rate_se"] + lmb * record["distortion_se"])
            assert limit.lagrangian(lmb) - noise < record["loss"] < best_known(row) + within
            assert record["coded_rate"] == pytest.approx(record["rate"], abs=2e-3)


def test_stored_runs_keep_all_seven_codewords():
    records = [r for r in stored("normal2d/vecvq-5-*.json") if r["settings"]["k"] == 7]
    assert len(records) >= 8 and {r["live"] for r in records} == {7} and max(r["loss"] for r in records) < 4.95


def test_published_points_are_those_of_the_collection():
    theirs = json.loads(shared("published/vecvq.json").read_text())["sources"]["NVTC_toy"]["results"]
    ours = json.loads((PUBLISHED / "nvtc.json").read_text())["toy"]
    names = {"banana": "banana_2d", "normal2d": "normaliid_2d", "laplace": "laplaceiid_2d"}
    found = {f"{names[entry['toy_source']]}_{entry['method']}": entry for entry in ours}
    assert set(found) == {key for key in theirs if key.rpartition("_")[0] in names.values()}
    for key, entry in found.items():
        assert entry["psnr_db"] == [point["psnr_db"] for point in theirs[key]]
        assert entry["bits_per_dim"] == [point["bits_per_dim"] for point in theirs[key]]
    entries = [{**entry, "source": ""} for entry in ours if entry["method"] == "ecvq"]
    (line,) = published_lines(entries, "banana_tfc")  # isometric: the banana's points
    assert (line.rates[0], line.distortions[0]) == pytest.approx((2.2548, 0.929031), abs=1e-5)


def test_jobs_have_paths_of_their_own():
    scope = {
        "source": "banana",
        "source_params": {},
        "method": None,
        "methods": None,
        "params": {},
        "points": None,
        "seeds": 2,
        "vectors": 10,
    }
    listed = toy.jobs(scope)
    assert len({job.path(Path("r")) for job in listed}) == len(listed) == 2 * (5 * 5 + 6)
    assert {job.method.name for job in listed} == set(TOY)
    assert all(set(r) == {"low", "medium", "high"} for r in toy_train.REGIMES.values())
    with pytest.raises(TesseraError, match="positive"):
        make_toy("ecvq", {"lmb": 0})
