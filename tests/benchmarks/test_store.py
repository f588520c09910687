"""The store: identity, whole cells under kill -9 and rival writers, and what users see of failures."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.store import Cell, Store, StoreError
from benchmarks.store.__main__ import main
from benchmarks.store.cell import variant_label
from core import atomic

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {"title": "toy", "subset": False, "defaults": {"level": 6}, "lossless": False}


def cell(point: float | None = 1, **changes: object) -> Cell:
    values = {"method": "zip", "variant": {"level": 6}, "point": point, "dataset": "toy", "split": "test"}
    return Cell(**{**values, **changes})


def rows(n: int = 3, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = [f"{i:03d}" for i in range(n)]
    return pd.DataFrame({"image": names, "bytes": rng.integers(10, 99, n), "bpp": rng.random(n), "psnr": rng.random(n)})


def write(store: Store, which: Cell, frame: pd.DataFrame | None = None) -> None:
    store.write(which, rows() if frame is None else frame, ABOUT, {"commit": "abc"})


def test_key_is_pinned():
    """Keys name folders that exist: a change of the canonical form would orphan every stored cell."""
    assert cell().json == (
        '{"checkpoint":"","dataset":"toy","device":"cpu","limit":null,"method":"zip","point":1,"rate":"file",'
        '"seed":0,"split":"test","variant":{"level":6}}'
    )
    assert cell().key == "71d419356cd31e59"


def test_equal_values_have_one_key():
    assert cell(16).key == cell(16.0).key == cell(np.float64(16)).key == cell(np.int64(16)).key
    assert cell(variant={"a": 1, "b": (2, 3)}).key == cell(variant={"b": [2, 3], "a": 1}).key
    assert cell(variant={"a": 1, "b": (2, 3)}) == cell(variant={"b": [2, 3], "a": 1})


@pytest.mark.parametrize(
    "change",
    [
        *({"method": "zap"}, {"variant": {"level": 7}}, {"point": 2}, {"point": "1"}, {"dataset": "kodak"}),
        *({"split": "train"}, {"limit": 4}, {"seed": 1}, {"checkpoint": "c"}, {"rate": "estimate"}, {"device": "cuda"}),
    ],
)
def test_every_field_is_in_the_key(change):
    assert cell(**change).key != cell().key


def test_non_finite_parameter_is_refused():
    with pytest.raises(StoreError, match="nan"):
        cell(math.nan)


def test_label_shows_only_what_differs_from_the_defaults():
    assert variant_label("jpeg", {"subsampling": "4:2:0"}, {"subsampling": "4:2:0"}) == "jpeg"
    assert variant_label("jpeg", {"subsampling": "4:4:4", "q": 1}, {"subsampling": "4:2:0", "q": 1}) == (
        "jpeg(subsampling=4:4:4)"
    )
    assert variant_label("net", {"widths": [1, 2]}, {"widths": (1, 2)}) == "net"


def test_round_trip(tmp_path):
    store, frame = Store(tmp_path), rows()
    frame.loc[1, "psnr"] = math.inf
    frame.loc[0, "image"] = "NA"
    book = pd.DataFrame({"level": [0, 0], "code": [3, 9], "count": [5, 6]})
    written = store.write(cell(), frame, ABOUT, {"commit": "abc"}, book)
    found = store.read(cell().key)
    assert found == written and found.cell == cell() and found.label == "zip"
    pd.testing.assert_frame_equal(found.images, frame)
    pd.testing.assert_frame_equal(found.codebook, book)
    assert found.means["bpp"] == frame["bpp"].mean() and found.means["psnr"] == math.inf and found.count == 3
    text = (store.path(cell()) / "cell.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    facts = {"key", "cell", "means", "images", "about", "provenance"}
    assert set(json.loads(text)) == facts | {"format", "columns", "constant"}


def test_filters_and_order(tmp_path):
    store = Store(tmp_path)
    for which in (cell(1), cell(2), cell(1, method="zap"), cell(1, limit=4)):
        write(store, which)
    assert {r.cell.point for r in store.cells(method="zip", limit=None)} == {1, 2}
    assert len(store.cells(method=["zip", "zap"])) == 4 and len(store.cells(limit=4)) == 1
    assert [r.key for r in store.cells()] == sorted(r.key for r in store.cells())
    with pytest.raises(TypeError, match="metod"):
        store.cells(metod="zip")


def test_cells_without_images_or_with_twins_are_refused(tmp_path):
    for frame in (rows(0), pd.concat([rows(1), rows(1)])):
        with pytest.raises(StoreError, match="image"):
            write(Store(tmp_path), cell(), frame)
    assert not Store(tmp_path).has(cell())


def test_foreign_folders_are_reported_and_do_not_hurt(tmp_path, capsys, caplog):
    store = Store(tmp_path)
    write(store, cell(1))
    write(store, cell(2))
    (tmp_path / "cells" / "notes").mkdir()
    (tmp_path / "cells" / "stray.txt").write_text("x")
    renamed = store.path(cell(2)).rename(tmp_path / "cells" / "0123456789abcdef")
    broken = tmp_path / "cells" / "fedcba9876543210"
    broken.mkdir()
    (broken / "cell.json").write_text('{"key": "fedcba98')
    found, problems = store.scan()
    assert [r.key for r in found] == [cell(1).key]
    assert len(problems) == 4 and sum(renamed.name in p for p in problems) == 1
    assert len(store.cells()) == 1 and renamed.name in caplog.text
    assert main(["list", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr()
    assert cell(1).key in out.out and "notes" in out.err


def test_a_folder_in_the_way_is_replaced(tmp_path):
    store = Store(tmp_path)
    store.path(cell()).mkdir(parents=True)
    (store.path(cell()) / "images.csv").write_text("half")
    write(store, cell())
    assert store.read(cell()).count == 3
    store.clean()
    assert [p.name for p in (tmp_path / "cells").iterdir()] == [cell().key]


def test_failures_are_listed_until_the_cell_is_written(tmp_path):
    store = Store(tmp_path)
    store.record_failure(cell(1), "no weights")
    store.record_failure(cell(2), "broken codec")
    assert {(f.cell.point, f.text) for f in store.failures()} == {(1, "no weights"), (2, "broken codec")}
    write(store, cell(1))
    assert [f.cell for f in store.failures()] == [cell(2)]
    (tmp_path / "failures" / "x.json").write_text("{")
    assert len(store.failures()) == 1


@pytest.mark.parametrize("name", ["../../etc", "a/b", "folder:/x", ".hidden", "kodim01", "é ü"])
def test_pictures_stay_inside_and_names_stay_distinct(tmp_path, name):
    store = Store(tmp_path)
    for path in (store.picture(cell(), name), store.original(name, name)):
        assert path.resolve().is_relative_to(tmp_path / "images") and path.suffix == ".webp"
        assert not path.name.startswith(".")
    assert store.picture(cell(), name) != store.picture(cell(), name.replace("/", "_") + "_")


# ---- what the file system refuses


def test_unwritable_results_are_one_sentence(tmp_path):
    (tmp_path / "results").write_text("a file")
    for act in (lambda s: write(s, cell()), lambda s: s.record_failure(cell(), "x"), lambda s: s.sync()):
        with pytest.raises(StoreError) as caught:
            act(Store(tmp_path / "results"))
        assert str(caught.value).count("\n") == 0 and "results" in str(caught.value)


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(path, text):
        path.write_text(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write(Store(tmp_path), cell())
    assert list((tmp_path / "cells").iterdir()) == []


# ---- killed and rival writers

SWEEP = """
import sys, time
sys.path.insert(0, {root!r})
from core import atomic
from tests.benchmarks.test_store import cell, rows, write
from benchmarks.store import Store
store, slow = Store({results!r}), atomic._write
def crawl(path, text):
    slow(path, text[: len(text) // 2]); time.sleep({pause}); slow(path, text)
atomic._write = crawl
for point in range(8):
    if not store.has(cell(point)):
        write(store, cell(point))
        print(point, flush=True)
"""


def sweep(results: Path, pause: float) -> subprocess.Popen[str]:
    code = SWEEP.format(root=str(ROOT), results=str(results), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_kill_leaves_no_half_cell_and_rerunning_completes(tmp_path):
    running = sweep(tmp_path, pause=0.3)
    for _ in range(3):
        assert running.stdout.readline().strip()
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cells").glob(f"{atomic.PREFIX}*/*")):  # inside a write
        assert time.monotonic() < deadline
    running.send_signal(signal.SIGKILL)
    running.wait()
    store = Store(tmp_path)
    done, problems = store.scan()
    assert 3 <= len(done) < 8 and problems == []
    assert all(len(r.images) == 3 for r in done)
    assert list((tmp_path / "cells").glob(f"{atomic.PREFIX}*")), "the killed writer left nothing to clean"
    again = sweep(tmp_path, pause=0)
    printed = again.communicate(timeout=60)[0].split()
    assert again.returncode == 0 and len(printed) == 8 - len(done)
    assert {r.cell.point for r in store.cells()} == set(range(8))
    assert not list((tmp_path / "cells").glob(f"{atomic.PREFIX}*"))


def test_cleaning_spares_a_living_writer(tmp_path):
    running = sweep(tmp_path, pause=0.5)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cells").glob(f"{atomic.PREFIX}*/*")):
        assert time.monotonic() < deadline
    assert Store(tmp_path).clean() == 0
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert Store(tmp_path).clean() == 1


def _rival(arguments: tuple[str, int]) -> float:
    root, seed = arguments
    store = Store(root)
    for point in range(10):
        store.write(cell(point), rows(seed=seed), {**ABOUT, "writer": seed}, {})
    return 0.0


def test_two_writers_of_the_same_cells(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_rival, [(str(tmp_path), 1), (str(tmp_path), 2)]))
    found, problems = Store(tmp_path).scan()
    assert len(found) == 10 and problems == []
    for result in found:  # files of one writer, never a mixture
        pd.testing.assert_frame_equal(result.images, rows(seed=result.about["writer"]))
    assert not list((tmp_path / "cells").glob(f"{atomic.PREFIX}*"))


def test_the_first_writer_wins(tmp_path):
    store = Store(tmp_path)
    write(store, cell(), rows(seed=1))
    write(store, cell(), rows(seed=2))
    pd.testing.assert_frame_equal(store.read(cell()).images, rows(seed=1))


def test_light_imports():
    """The report builds in seconds: none of its modules may bring torch."""
    modules = "store store.database tables.results curves.curve curves.bd"
    code = f"import importlib, sys\nfor m in '{modules}'.split(): importlib.import_module('benchmarks.' + m)\n"
    code += "print([m for m in ('torch', 'matplotlib', 'tensorflow', 'sacred') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
