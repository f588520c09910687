"""The family's shipped weights, its tables and figures, and the table of search speed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.datasets import open_dataset
from benchmarks.measure.harness import LeakError, refuse_leaks
from core import checkpoint
from core.atomic import sha256
from core.codec import Method
from core.registry import METHODS, discover, make_method
from experiments.studies.vqvae_family import FOLDER
from tests.conftest import Command
from tests.support.recorded import assert_recorded
from tests.support.shared import shared

discover()
NAMES = ("vqvae", "vqvae_ema", "vqvae_rot", "vqvae_cosine", "vqvae_ec", "simvq", "rvq", "pq", "fsq", "lfq")
SHIPPED = checkpoint.SHIPPED / FOLDER
FLOAT32 = [(name, point) for name in ("ifsq", "bsq") for point in METHODS[name].points]  # trained without autocast
POINTS = [(name, point) for name in NAMES for point in METHODS[name].points] + FLOAT32

BUDGET = ("steps", "batch", "lr", "schedule", "warmup", "clip", "ema", "crop", "turns", "scales")


def method(name: str, point: Any, prior: bool = True) -> Method:
    return make_method(name, {"prior": prior}).at(point)


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_shipped_weights_serve_with_and_without_their_prior(name: str, point: Any) -> None:
    """They load, and decode what they code; the prior makes the stream of a picture with a background shorter."""
    picture = np.zeros((28, 28, 1), np.uint8)
    picture[8:20, 10:18] = np.linspace(90, 200, 8, dtype=np.uint8)[None, :, None]
    sizes = []
    for prior in (False, True):
        wanted = method(name, point, prior)
        weights = checkpoint.find(wanted, "ours")
        assert weights is not None and weights.meta["method"] == name
        codec = wanted.codec(checkpoint.load(wanted, weights))
        stream = codec.compress(picture)
        decoded = codec.decompress(stream)
        assert np.square(decoded.astype(float) - picture).mean() < 1000, "18 dB at least, of such a hard edge"
        sizes.append(len(stream))
    assert sizes[1] < 0.9 * sizes[0]


MADE = [("raq", {}), ("vqvae_ema", {"prior": "hyper"})]  # of vqvae_ema at 256, which stays as it is


@pytest.mark.parametrize(("name", "params"), MADE)
def test_shipped_additions_have_the_model_they_were_made_of(name: str, params: dict[str, Any]) -> None:
    """Encoder, codebook and decoder bit for bit, its training images, and streams that are read again."""
    wanted, plain = make_method(name, params), make_method("vqvae_ema")
    found, old = checkpoint.find(wanted, "ours"), checkpoint.find(plain, "ours")
    assert found is not None and old is not None and found.id != old.id
    states = checkpoint.read(found.path), checkpoint.read(old.path)
    same = [key for key in states[1] if key.startswith(("encoder.", "quantizer.", "decoder."))]
    assert len(same) > 10 and all(torch.equal(states[0][key], states[1][key]) for key in same)
    assert checkpoint.seen(found) == checkpoint.seen(old)
    codecs = [m.codec(checkpoint.load(m, w)) for m, w in ((wanted, found), (plain, old))]
    picture = np.zeros((28, 28, 1), np.uint8)
    picture[8:20, 10:18] = np.linspace(90, 200, 8, dtype=np.uint8)[None, :, None]
    streams = [codec.compress(picture) for codec in codecs]
    assert np.array_equal(*(codec.decompress(stream) for codec, stream in zip(codecs, streams, strict=True)))
    assert not params or len(streams[0]) < 0.9 * len(streams[1])


def test_equal_budgets_and_small_files() -> None:
    recipes, parameters = [], []
    for name, point in POINTS:
        weights = checkpoint.find(method(name, point), "ours")
        assert weights is not None
        assert weights.meta["recipe"]["amp"] is ((name, point) not in FLOAT32)
        recipes.append({key: weights.meta["recipe"][key] for key in BUDGET})
        parameters.append({key: weights.meta["params"][key] for key in ("channels", "hidden", "dim", "weight")})
        assert weights.meta["data"]["images"] == 60_000 and weights.meta["data"]["names"] == ["fashion_mnist"]
    assert all(r == recipes[0] for r in recipes) and all(p == parameters[0] for p in parameters)
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 7e6
    for path in SHIPPED.glob("*/meta.json"):  # other seeds too
        meta = json.loads(path.read_text())
        made = meta["recipe"]["init"] is not None  # of another one, in no steps
        assert {key: meta["recipe"][key] for key in BUDGET[made:]} == {key: recipes[0][key] for key in BUDGET[made:]}
        assert meta["sha256"] == sha256(path.with_name("weights.safetensors"))


def test_training_images_are_refused_and_test_images_are_not() -> None:
    weights = checkpoint.find(method("fsq", "5x3"), "ours")
    assert weights is not None
    seen = checkpoint.seen(weights)
    assert len(seen) == 60_000, "as many as there are training images"
    refuse_leaks(open_dataset("fashion_mnist", 500, shared("data")), seen)
    with pytest.raises(LeakError, match="100 of 100"):
        refuse_leaks(open_dataset("fashion_mnist_train", 100, shared("data")), seen)


def test_tables_and_figures_of_the_family(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 9:19, 9:19] = np.array([60, 120, 240])[:, None, None]
    (folder / "t10k-images-idx3-ubyte").write_bytes(np.array([0x803, 3, 28, 28], ">i4").tobytes() + images.tobytes())
    done = command("benchmarks/vqvae_table.py", "with", "smoke", f"data_root={tmp_path / 'data'}")
    assert done.code == 0, done.err
    (bits,) = (tmp_path / "results" / "tables").glob("vqvae_*test.csv")
    rows = list(csv.DictReader(bits.open()))
    assert [row["point"] for row in rows] == [str(point) for point in METHODS["simvq"].points]
    for row in rows:
        assert float(row["with prior bpp"]) < float(row["coded bpp"]) < float(row["file bpp"])
        assert 0 < int(row["used"]) <= int(row["codes"]) and float(row["PSNR (dB)"]) > 18
        assert float(row["prior saves (%)"]) == pytest.approx(
            100 * (1 - float(row["with prior bpp"]) / float(row["coded bpp"])), abs=0.1
        )
    figures = {path.stem.rpartition("test_")[2] for path in (tmp_path / "results" / "figures").glob("*.png")}
    assert figures == {"rd", "rd_prior", "training", "histogram", "coverage", "pictures"}


def test_search_speed(command: Command, tmp_path: Path) -> None:
    """Every search finds the codes of float64, and the table has the matrix product as the ceiling."""
    done = command("benchmarks/speed.py", "with", "experiment=search", "smoke")
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "results" / "tables" / "speed_search.csv").open()))
    assert_recorded("speed_search", "search_speed.py with smoke")
    assert "is a script of its own: python benchmarks/search_speed.py" in done.err
    ours = [row for row in rows if row["search"] == "nearest (ours)"]
    assert [row["K"] for row in ours] == ["512", "8192"] and all(float(r["GFLOP/s"]) > 0 for r in rows)
    assert all(row["codes as in float64"] == "64 of 64" for row in ours)
    products = [float(row["times the product"]) for row in rows if "product" in row["search"]]
    assert min(products) == 1 and all(float(row["times the product"]) > 1 for row in ours)
