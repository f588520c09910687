"""Numbers belong to the pictures that were measured: no stale cell, no comparison across them, no shared file name."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image as pillow

from benchmarks.curves import curve as curves
from benchmarks.curves.bd import BDError, bd_rate
from benchmarks.curves.bd_pairs import all_pairs
from benchmarks.curves.groups import group_curves
from benchmarks.datasets import NamedImage, open_dataset, stamps
from benchmarks.datasets.files import array_images, npz_array, zip_images
from benchmarks.figures import comparisons, paper
from benchmarks.figures.rd import rd_figure
from benchmarks.measure.harness import HarnessError, describe, measure
from benchmarks.page.sections import usage_sections
from benchmarks.store import Cell, Store, StoreError
from benchmarks.store.names import LONGEST, label_name, set_name, slugs, stem_of
from benchmarks.tables import results
from core.atomic import sha256
from core.codec import TesseraError
from experiments.plan.state import state
from experiments.plan.task import Task
from experiments.studies import llvq
from tests.support.shared import shared

RD, BD = "benchmarks/rd_curve.py", "benchmarks/bd_table.py"
HERE = "dataset=folder:pictures"


def paint(folder: Path, seed: int, count: int = 2, rough: int = 40) -> None:
    """Pictures 0.png, 1.png, ... of 64x64 pixels: a ramp with noise, other ones for every seed."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 255 - rough, 64)[:, None, None] + rng.integers(0, rough, (count, 64, 64, 3))
    for i, picture in enumerate(ramp.astype(np.uint8)):
        pillow.fromarray(picture).save(folder / f"{i}.png")


def settle(folder: Path) -> None:
    """Make files look as old as those of a real data set."""
    old = time.time() - 3600
    for path in folder.rglob("*"):
        os.utime(path, (old, old))


def change(folder: Path) -> None:
    paint(folder, 2, rough=250)


def add(folder: Path) -> None:
    paint(folder, 1, count=3)


def remove(folder: Path) -> None:
    (folder / "1.png").unlink()


def rename(folder: Path) -> None:
    (folder / "0.png").rename(folder / "2.png")


# Stale cells


@pytest.mark.parametrize("act", [change, add, remove, rename])
def test_other_pictures_of_a_folder_are_measured_anew_and_said(command, tmp_path, act):
    words = (RD, "with", "method=jpeg", "points=50", HERE)
    paint(tmp_path / "pictures", 1)
    settle(tmp_path / "pictures")
    assert command(*words).code == 0
    (first,) = Store("results").cells()
    act(tmp_path / "pictures")
    settle(tmp_path / "pictures")
    again = command(*words)
    assert again.code == 0 and "1 stored cells (jpeg): measured again" in again.out.replace("\n", " ")
    cells = Store("results").cells()
    (second,) = [r for r in cells if r.key != first.key]
    assert len(cells) == 2 and second.pictures != first.pictures and second.cell.question == first.cell.question
    assert f"{second.means['bpp']:.4f}" in again.out
    assert command(*words).code == 0 and len(Store("results").cells()) == 2


def test_pictures_that_come_back_need_no_measuring(command, tmp_path, monkeypatch):
    words = (RD, "with", "method=jpeg", "points=50", HERE)
    paint(tmp_path / "pictures", 1)
    shutil.copytree("pictures", "kept")
    command(*words)
    change(tmp_path / "pictures")
    command(*words)
    shutil.rmtree("pictures")
    shutil.copytree("kept", "pictures")
    monkeypatch.setattr("benchmarks.measure.harness.measure", lambda *a, **b: pytest.fail("a cell was computed again"))
    assert command(*words).code == 0


def test_the_plan_and_the_search_know_the_pictures(command, tmp_path):
    task = Task("x", "evaluate", "cells", f"python {RD} with method=jpeg {HERE} points=50", ())
    paint(tmp_path / "pictures", 1)
    assert command(RD, "with", "method=jpeg", "points=50", HERE).code == 0
    assert state(task, "results").complete
    change(tmp_path / "pictures")
    assert not state(task, "results").complete
    found = command("benchmarks/match_rate.py", "with", "method=jpeg", "target_psnr=12", "tolerance=40", HERE)
    newest = Store("results/match_rate").cells()
    assert found.code == 0 and {r.pictures for r in newest} == {open_dataset("folder:pictures").fingerprint}


def test_an_older_cell_is_found_by_its_recorded_pictures(tmp_path):
    store, old = Store(tmp_path), Cell("zip", {}, 1, "toy", "test")
    frame = pd.DataFrame({"image": ["a"], "bpp": [1.0]})
    store.write(old, frame, {"data_fingerprint": "a" * 64}, {})
    same, other = (replace(old, pictures=letter * 64) for letter in "ab")
    assert store.has(same) and store.read(same).key == old.key and store.path(same).name == old.key
    assert not store.has(other) and store.path(other).name == other.key != same.key
    store.write(other, frame, {"data_fingerprint": "b" * 64}, {})
    assert [r.pictures[0] for r in store.others([same])] == ["b"] and len(store.cells()) == 2


def test_the_shipped_cells_are_where_their_pictures_lead():
    """The stored results of Kodak are found without being measured anew, by the fingerprint that they recorded."""
    store = Store("results")
    for result in store.cells(dataset="kodak", limit=None):
        assert store.path(replace(result.cell, pictures=result.pictures)) == result.folder
        assert not store.has(replace(result.cell, pictures="0" * 64))


def test_counts_of_a_codebook_know_their_pictures(tmp_path, monkeypatch, capsys):
    counted = []
    monkeypatch.setattr(llvq, "measure", lambda row, config: counted.append(row) or {"distinct": len(counted)})
    row = SimpleNamespace(dataset="fashion_mnist", quantizer="vq", weights=SimpleNamespace(id="w-1"))
    config = {"sketch": False, "limit": None, "data_root": str(tmp_path / "data")}

    def write(value: int) -> None:
        for stem in ("train", "t10k"):
            path = tmp_path / "data" / "fashion_mnist" / f"{stem}-images-idx3-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in (1, 2, 2)) + bytes([value] * 4))

    write(1)
    assert [llvq._stored(row, config, tmp_path)["distinct"] for _ in range(2)] == [1, 1]
    write(2)
    assert llvq._stored(row, config, tmp_path)["distinct"] == 2 and "measured again" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "data")
    assert llvq._stored(row, config, tmp_path)["distinct"] == 2  # without the pictures: what is stored


def test_pictures_that_change_under_the_measurement_make_no_cell(tmp_path):
    paint(tmp_path / "pictures", 1)
    images = open_dataset(f"folder:{tmp_path / 'pictures'}")
    planned = images.fingerprint
    change(tmp_path / "pictures")
    codec = SimpleNamespace(compress=lambda image: image.tobytes(), decompress=None)
    codec.decompress = lambda stream: np.frombuffer(stream, np.uint8).reshape(64, 64, 3)
    method = SimpleNamespace(note="", paper="", lossless=False, curve=None, parameters=dict)
    cell = Cell("raw", {}, None, images.name, images.split, pictures=planned)
    with pytest.raises(HarnessError, match="changed while they were measured"):
        measure(cell, codec, images, Store(tmp_path), about=describe(method, images), provenance={}, bar=False)
    assert not Store(tmp_path).cells()


# Fingerprints that need no reading


def test_ten_thousand_pictures_are_not_read_twice(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    settle(tmp_path)
    reads: list[int] = []

    def data() -> bytes:
        reads.append(1)
        return file.read_bytes()

    monkeypatch.setattr(stamps, "SETTLED_NS", -(10**12))  # the file is as old as the test
    named = tuple(NamedImage(f"{i:05d}", data, np.frombuffer, (file,)) for i in range(10_000))
    images = replace(open_dataset("sample"), images=named)
    first = stamps.fingerprint(images, tmp_path / "results" / "fingerprints")
    assert len(reads) == 10_000
    again = replace(images)
    assert stamps.fingerprint(again, tmp_path / "results" / "fingerprints") == first and len(reads) == 10_000


def test_times_set_back_do_not_hide_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "SETTLED_NS", -(10**12))
    (tmp_path / "results").mkdir()
    cache, folder = tmp_path / "results" / "fingerprints", tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.ppm").write_bytes(b"P6 2 1 255\n" + b"abcdef")
    settle(folder)
    first = stamps.fingerprint(open_dataset(f"folder:{folder}"), cache)
    time.sleep(0.05)  # beyond the grain of the file system's clock
    (folder / "a.ppm").write_bytes(b"P6 2 1 255\n" + b"ABCDEF")
    settle(folder)
    images = open_dataset(f"folder:{folder}")
    assert stamps.fingerprint(images, cache) == images.fingerprint != first


def test_young_files_and_unknown_ones_are_read(tmp_path):
    (tmp_path / "results").mkdir()
    paint(tmp_path / "pictures", 1)
    images = open_dataset(f"folder:{tmp_path / 'pictures'}")
    assert stamps.stamp(images) is None
    assert stamps.stamp(replace(images, images=tuple(replace(i, files=()) for i in images))) is None
    assert stamps.fingerprint(images, tmp_path / "results" / "x") == images.fingerprint
    assert not (tmp_path / "results" / "x").exists()


def test_packed_sets_are_read_again_when_their_file_changed(tmp_path):
    import zipfile

    path, archive = tmp_path / "a.npz", tmp_path / "a.zip"
    seen = []
    for value in (1, 2):
        np.savez(path, images=np.full((2, 4, 4, 3), value, np.uint8))
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a.png", bytes([value]) * value)
        os.utime(path, (value, value))
        seen.append([int(npz_array(path)[0, 0, 0, 0]), zip_images(archive)[0].data()])
        assert all(image.files == (path,) for image in array_images(npz_array(path), "x", (path,)))
    assert seen == [[1, b"\1"], [2, b"\2\2"]]


def test_an_lmdb_that_was_built_again_is_opened_again(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    from benchmarks.datasets.lmdb_images import DATA, key

    pictures = []
    for seed in (1, 2):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        paint(tmp_path / "files", seed)
        with lmdb.open(str(tmp_path / "set"), map_size=2**20) as environment, environment.begin(write=True) as writer:
            writer.put(key(0), (tmp_path / "files" / "0.png").read_bytes())
        (tmp_path / "set" / "metadata.json").write_text(
            json.dumps({"length": 1, "hash": sha256(tmp_path / "set" / DATA)})
        )
        images = open_dataset(f"lmdb:{tmp_path / 'set'}")
        assert images.images[0].files == (tmp_path / "set" / DATA,)
        pictures.append(images.fingerprint)
    assert pictures[0] != pictures[1]


# Comparisons


def measured_twice(command, tmp_path: Path) -> None:
    """jpeg on two pictures, then webp on others of their names."""
    paint(tmp_path / "pictures", 1)
    assert command(RD, "with", "method=jpeg", "points=10,40,80", HERE).code == 0
    time.sleep(1.1)  # cells are told apart by the second in which they were started
    change(tmp_path / "pictures")
    assert command(RD, "with", "method=webp", "points=10,40,80", HERE).code == 0


def test_curves_of_different_pictures_are_not_compared(command, tmp_path):
    measured_twice(command, tmp_path)
    for anchor in ("jpeg", "webp"):
        ended = command(BD, "with", f"anchor={anchor}", HERE)
        assert ended.code == 2 and "were measured on different pictures" in ended.sentence
        assert "jpeg (of folder pictures" in ended.sentence and "webp (of folder pictures" in ended.sentence
    jpeg, webp = (curves.measured(Store("results"), methods=[name])[0] for name in ("jpeg", "webp"))
    assert jpeg.pictures != webp.pictures
    with pytest.raises(BDError, match="different pictures"):
        bd_rate(jpeg, webp)
    with pytest.raises(BDError, match="different pictures"):
        all_pairs([jpeg, webp])
    for panel, more in ((rd_figure, ()), (comparisons.images_figure, ("psnr", "x"))):
        with pytest.raises(TesseraError, match="different pictures"):
            panel([jpeg, webp], *more)
    groups = group_curves(Store("results").cells())
    assert sorted([c.label for c in g.curves] for g in groups) == [["jpeg"], ["webp"]]
    assert len({g.name for g in groups}) == 2
    assert {g.title for g in groups} == {"folder pictures", f"folder pictures (pictures {jpeg.pictures[:6]})"}


def test_measured_again_they_are_compared(command, tmp_path):
    measured_twice(command, tmp_path)
    both = command(RD, "with", "method=jpeg", "points=10,40,80", HERE)
    assert both.code == 0 and "jpeg |" in both.out and "data" not in both.out.split("\n\n")[1].split("|")[1]
    table = command(BD, "with", "anchor=jpeg", HERE)
    assert table.code == 0, table.err
    row = next(line for line in table.out.splitlines() if line.startswith("| webp"))
    now = open_dataset("folder:pictures").fingerprint
    jpeg, webp = (curves.measured(Store("results"), methods=[n], pictures=now)[0] for n in ("jpeg", "webp"))
    assert f"{bd_rate(jpeg, webp, bootstrap=0).rate_percent:+.2f}" in row


def test_published_curves_and_unknown_pictures_compare_as_before():
    points = pd.DataFrame({"point": [1, 2, 3], "bpp": [0.1, 0.2, 0.4], "psnr": [30.0, 32.0, 34.0]})
    images = pd.concat([points.assign(image=name) for name in "ab"], ignore_index=True)
    mine = curves.Curve("m", "m", "kodak", "kodak", "measured", "", points, images=images, pictures="a" * 64)
    cited = replace(mine, label="p", source="published", images=None, pictures="")
    unknown = replace(mine, label="u", pictures="")
    assert bd_rate(mine, cited).rate_percent == pytest.approx(0)
    same, other = bd_rate(mine, replace(mine, label="n")), bd_rate(mine, unknown)
    assert same.interval is not None  # one fingerprint: names stand for the same pictures
    assert other.overlap and other.interval is None and "different images" in other.note
    assert all_pairs([mine, unknown])["m", "u"].interval is None


def test_tables_and_pages_keep_pictures_apart(tmp_path):
    store = Store(tmp_path)
    about = {"title": "folder x", "lossless": True, "codebook_sizes": [2], "defaults": {}}
    frame = pd.DataFrame({"image": ["1"], "bpp": [3.0], "psnr": [30.0], "payload_bits": [9]})
    for number, letter in enumerate("ab"):
        cell = Cell("png", {}, None, "folder:x", "all", pictures=letter * 64)
        made = {"started": f"2026-01-0{number + 1}T00:00:00Z"}
        rows = frame.assign(bpd=1.0 + number, height=4, width=4)
        store.write(cell, rows, about, made, pd.DataFrame({"level": [0], "code": [0], "count": [4]}))
    table = results.lossless_table(store, folder=None)
    assert float(table["folder x (1 images)"][0]) == 2 and float(table["folder x (pictures aaaaaa) (1 images)"][0]) == 1
    assert len(results.lossless_rates(store)) == 0
    assert [one["title"] for one in usage_sections(store.cells())] == ["folder x", "folder x (pictures aaaaaa)"]


def test_an_index_of_an_older_version_is_refused(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("CREATE TABLE cells (key TEXT)")
    with pytest.raises(StoreError, match=r"older version .*pictures.*delete it"):
        Store(tmp_path).sync()


# Titles


@pytest.mark.parametrize(
    ("numbers", "limit", "title"),
    [
        ((1, 2), None, "kodak, first 2"),
        ((5, 6), None, "kodak, 2 of 24 (kodim05, kodim06)"),
        ((1, 2, 4), 2, "kodak, first 2"),
        ((1, 3, 4), 2, "kodak, 2 of 24 (kodim01, kodim03)"),
        ((2, 3, 4, 5), None, "kodak, 4 of 24"),
    ],
)
def test_a_title_says_first_of_the_first_alone(tmp_path, numbers, limit, title):
    source = shared("data/kodak")
    (tmp_path / "kodak").mkdir()
    for n in numbers:
        (tmp_path / "kodak" / f"kodim{n:02d}.png").symlink_to(source / f"kodim{n:02d}.png")
    images = open_dataset("kodak", limit, tmp_path)
    assert images.title == title and images.subset


# Names


def test_other_parameters_have_other_files(command, tmp_path):
    paint(tmp_path / "pictures", 1)
    written = []
    for more in ((), ("params.subsampling=4:4:4",), ("limit=1",)):
        ended = command(RD, "with", "method=jpeg", "points=40", HERE, *more)
        written.append({line for line in ended.out.splitlines() if line.endswith(".pdf")})
        assert ended.code == 0 and written[-1]
    assert not (written[0] & written[1] or written[0] & written[2] or written[1] & written[2])
    assert any("jpeg_subsampling_4_4_4" in name for name in written[1])


def test_names_follow_from_what_is_shown():
    assert label_name("qres3m_vr [ours]") == "qres3m_vr_ours" and set_name("kodak", "kodak, first 2") == "kodak_first_2"
    assert label_name("a(b=[32])") != label_name("a(b=32)")
    assert set_name("folder:/a/x", "folder x", "1") != set_name("folder:/b/x", "folder x", "1")
    assert set_name("kodak", "kodak, 9 of 24", "1") != set_name("kodak", "kodak, 9 of 24", "2")
    assert slugs(["folder a b", "folder a_b", "kodak"])[2] == "kodak" and len(set(slugs(["a b", "a_b"]))) == 2
    many = [f"method_{i}" for i in range(30)]
    long, other = stem_of("kodak_" + "+".join(many)), stem_of("kodak_" + "+".join([*many, "jpeg"]))
    assert long != other and len(long) <= LONGEST and long.rpartition("-")[0].rpartition("+")[2] in many


def test_a_figure_of_images_has_a_dot_for_each(tmp_path):
    points = pd.DataFrame({"point": [1], "bpp": [0.5], "psnr": [30.0]})
    names = [f"{i:03d}" for i in range(150)]
    images = pd.DataFrame({"image": names, "point": 1, "bpp": np.linspace(0.1, 0.9, 150), "psnr": 30.0})
    curve = curves.Curve("m", "m", "kodak", "kodak", "measured", "", points, ("key",), images)
    figure = comparisons.images_figure([curve], "psnr", "kodak")
    assert len(figure.series[0].x) == 150 and "every image" in figure.title
    (line,) = paper.draw(figure).axes[0].get_lines()
    assert line.get_markevery() is None and len(line.get_xdata()) == 150
    part = comparisons.images_figure([curve], "psnr", "kodak", most=100)
    assert len(part.series[0].x) == 100 and "the first 100 of 150 images" in part.title
