"""Rows of a cell: what images.csv keeps, what comes back on reading, and cells of the format before."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import verify
from benchmarks.curves.curve import read_columns
from benchmarks.measure import metrics, reproduced
from benchmarks.store import Cell, CellResult, Store, StoreError, rows
from benchmarks.store.__main__ import main

CELL = Cell("zip", {}, 1, "toy", "test")
ABOUT = {"title": "toy", "codebook_sizes": [4]}
BOOK = pd.DataFrame({"level": [0, 0], "code": [1, 3], "count": [5, 6]})


def measured(count: int = 40) -> pd.DataFrame:
    """A table as the harness makes it: two sizes of images, one of them equal to its original."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"image": [f"{i:03d}" for i in range(count)], "height": 200, "width": 300, "channels": 3})
    table.loc[1, "height"] = 167
    table["bytes"] = rng.integers(1_000_000, 9_000_000, count)
    table["payload_bits"], table["estimate_bits"] = 8 * table["bytes"] - 96, 8 * table["bytes"] * rng.random(count)
    table["bpp"] = 8 * table["bytes"] / (table["height"] * table["width"])
    table["bpd"] = table["bpp"] / 3
    table["mse"] = 900 * rng.random(count) ** 8
    table.loc[2, "mse"] = 0
    table["psnr"] = table["mse"].map(metrics.METRICS["psnr"].derive)
    table["ms_ssim"] = 1 - rng.random(count) ** 30
    table.loc[2, "ms_ssim"] = 1
    table["ms_ssim_db"] = table["ms_ssim"].map(metrics.METRICS["ms_ssim_db"].derive)
    return table.assign(encode_s=rng.random(count) / 1000, peak_memory_mb=444.547072)


def version_1(store: Store, frame: pd.DataFrame) -> CellResult:
    """A cell as versions before wrote it: every column in full, and no word of a format."""
    result = store.write(CELL, frame, ABOUT, {"commit": "abc"}, BOOK)
    document = json.loads((result.folder / "cell.json").read_text())
    for name in ("format", "columns", "constant"):
        del document[name]
    (result.folder / "cell.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    frame.to_csv(result.folder / "images.csv", index=False, lineterminator="\n")
    return store.read(result.key)


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_derived_and_constant_columns_are_left_out_and_come_back(tmp_path):
    frame = measured()
    result = Store(tmp_path).write(CELL, frame, ABOUT, {})
    head, first = (result.folder / "images.csv").read_text().splitlines()[:2]
    assert head == "image,height,bytes,payload_bits,estimate_bits,mse,ms_ssim_db,encode_s"
    assert all(len(number.replace("0.", "").strip("0.")) <= 7 for number in first.split(",")[4:])
    assert result.layout.constant == {"width": 300, "channels": 3, "peak_memory_mb": 444.547}
    back = result.images
    pd.testing.assert_frame_equal(back, frame, rtol=5e-6, atol=0)
    for name in ("bytes", "payload_bits", "bpp"):
        assert np.array_equal(back[name], frame[name]), name
    assert np.allclose(1 - back["ms_ssim"], 1 - frame["ms_ssim"], rtol=1e-3, atol=0), "near 1, six digits are too few"
    assert back.loc[2, ["psnr", "ms_ssim", "ms_ssim_db"]].tolist() == [math.inf, 1, math.inf]
    assert result.means["psnr"] == math.inf and result.means["bpp"] == frame["bpp"].mean()


def test_both_readers_agree_on_both_formats(tmp_path):
    old = version_1(Store(tmp_path / "1"), measured())
    new = Store(tmp_path / "2").write(CELL, measured(), ABOUT, {"commit": "abc"}, BOOK)
    for result in (old, new):
        columns = read_columns(result, [*result.images.columns, "lost"])
        assert list(columns) == list(result.images)
        assert columns.pop("image") == result.images["image"].tolist()
        for name, values in columns.items():
            assert values == pytest.approx(result.images[name].tolist(), rel=1e-15), name
    assert old.layout.columns == () and old.images["mse"].tolist() == measured()["mse"].tolist()
    assert old == new, "one cell"
    assert old.digest == new.digest, "one measurement"
    assert reproduced.compare(old, new).outcome == "identical"


def test_rates_that_are_no_files_sizes_are_kept(tmp_path):
    frame = measured().assign(bpp=lambda t: t["bpp"] * 0.987)
    result = Store(tmp_path).write(CELL, frame, ABOUT, {})
    assert "bpp" in rows.read_csv(result.folder / "images.csv")
    assert np.allclose(result.images["bpp"], frame["bpp"], rtol=5e-6, atol=0)


def test_writing_what_was_read_changes_nothing(tmp_path):
    frame = measured().assign(tiny=10.0 ** -np.arange(40) * 1.23456789, whole=np.arange(40) * 1e7 + 1.0)
    text, layout = rows.packed(frame)
    assert rows.packed(rows.as_kept(frame)) == (text, layout)
    assert rows.packed(frame.iloc[:1])[1].constant == {}, "one image has no constant columns"


def test_migration_changes_the_format_alone(tmp_path, capsys):
    store = Store(tmp_path)
    result = version_1(store, measured())
    before, name = json.loads(files(result.folder)["cell.json"]), verify.record_path(result, tmp_path)
    digest = result.digest
    (tmp_path / "verify").mkdir()
    older = hashlib.sha256("\0".join(files(result.folder)[n] for n in ("images.csv", "codebook.csv")).encode())
    (tmp_path / "verify" / f"zip_{older.hexdigest()[:16]}.json").write_text("{}")
    assert main(["migrate", "--results", str(tmp_path)]) == 0 and "1 cells rewritten" in capsys.readouterr().out
    again = store.read(result.key)
    assert json.loads(files(result.folder)["cell.json"]) == before | again.layout.as_dict()
    pd.testing.assert_frame_equal(again.images, measured(), rtol=5e-6, atol=0)
    assert again.digest == digest and list((tmp_path / "verify").iterdir()) == [name]
    once = files(result.folder)
    assert main(["migrate", "--results", str(tmp_path)]) == 0 and "0 cells rewritten" in capsys.readouterr().out
    other = Store(tmp_path / "new").write(CELL, measured(), ABOUT, {"commit": "abc"}, BOOK)
    assert files(result.folder) == once == files(other.folder), "as if it were measured today"


def test_an_interrupted_migration_reads_and_goes_on(tmp_path):
    store = Store(tmp_path)
    result = version_1(store, measured())
    table = (result.folder / "images.csv").read_text()
    assert main(["migrate", "--results", str(tmp_path)]) == 0
    done = files(result.folder)
    (result.folder / "images.csv").write_text(table)  # cell.json is there, the table is the older one
    pd.testing.assert_frame_equal(store.read(result.key).images, measured())
    older = hashlib.sha256((table + "\0" + files(result.folder)["codebook.csv"]).encode()).hexdigest()[:16]
    (tmp_path / "verify").mkdir()
    (tmp_path / "verify" / f"zip_{older}.json").write_text("{}")
    assert main(["migrate", "--results", str(tmp_path)]) == 0 and files(result.folder) == done
    assert verify.record_path(store.read(result.key), tmp_path).is_file(), "its outcome of verifying goes on"


def test_a_lost_column_and_a_later_format_are_sentences(tmp_path):
    result = Store(tmp_path).write(CELL, measured(), ABOUT, {})
    path = result.folder / "images.csv"
    rows.read_csv(path).drop(columns="mse").to_csv(path, index=False)
    for read in (lambda: result.images, lambda: read_columns(result, ("psnr",))):
        with pytest.raises(StoreError, match=r"images\.csv cannot be read \(no column"):
            read()
    about = result.folder / "cell.json"
    about.write_text(about.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(StoreError, match="it has format 3, and this version reads formats up to 2"):
        Store(tmp_path).read(result.key)
