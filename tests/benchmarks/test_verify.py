"""Stored cells measured again: what counts as the same, what cannot run, and that outcomes are kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as pillow

from benchmarks import verify
from benchmarks.measure import reproduced
from benchmarks.measure.reproduced import compare
from benchmarks.store import Cell, CellResult, Store
from benchmarks.tables import redrawn
from core.registry import discover
from experiments.request import Asked

SCRIPT = "benchmarks/verify.py"
ABOUT = {"title": "toy", "legend": "ours", "codebook_sizes": [8]}
IMAGES = pd.DataFrame(
    {
        "image": ["a", "b"], "bytes": [100, 120], "bpp": [1.0, 1.2], "psnr": [30.0, math.inf], "mse": [65.025, 0.0],
        "ms_ssim": [0.99, 1.0], "ms_ssim_db": [20.0, math.inf], "estimate_bits": [790.0, 940.0],
        "encode_s": [0.1, 0.2],
    }
)  # fmt: skip
CODES = pd.DataFrame({"level": [0, 0, 0], "code": [0, 3, 7], "count": [5, 2, 3]})


def stored(folder: Path, images: pd.DataFrame = IMAGES, codes: pd.DataFrame | None = CODES) -> CellResult:
    cell = Cell("fsq", {"levels": "5x3"}, None, "toy", "test", checkpoint="fsq-00000000")
    return Store(folder).write(cell, images, ABOUT, {"wall_s": 2.0}, codes)


def changed(name: str, *values: float) -> pd.DataFrame:
    return IMAGES.assign(**{name: list(values)})


@pytest.mark.parametrize(
    ("images", "outcome", "said"),
    [
        (IMAGES, "identical", ""),
        (changed("encode_s", 7.0, 8.0), "identical", ""),
        (changed("psnr", 30.0009, math.inf), "reproduced", "psnr of 1 of 2 images, by up to 0.0009 dB"),
        (changed("psnr", 30.002, math.inf), "differs", "psnr of 1 of 2 images, by up to 0.002 dB"),
        (changed("psnr", 30.0, 90.0), "differs", "psnr of 1 of 2 images, by up to inf dB"),
        (changed("mse", 65.03, 0.0), "reproduced", "mse of 1"),
        (changed("mse", 65.1, 0.0), "differs", "mse of 1"),
        (changed("ms_ssim", 0.990001, 1.0), "reproduced", "ms_ssim of 1"),
        (changed("ms_ssim", 0.99001, 1.0), "differs", "ms_ssim of 1"),
        (changed("estimate_bits", 790.01, 940.0), "reproduced", "estimate_bits of 1"),
        (changed("estimate_bits", 791.0, 940.0), "differs", "estimate_bits of 1"),
        (changed("bytes", 100, 121), "differs", "bytes of 1 of 2 images, by up to 1 bytes (0.45 % in all)"),
        (IMAGES.drop(columns="mse"), "differs", "mse is not measured any more"),
        (IMAGES.assign(new=[1.0, 2.0]), "identical", ""),
        (IMAGES.iloc[:1], "differs", "2 images, now 1"),
    ],
)
def test_what_is_the_same(tmp_path, images, outcome, said):
    found = compare(stored(tmp_path / "one"), stored(tmp_path / "two", images))
    assert found.outcome == outcome and said in "; ".join(found.said)
    assert bool(found.said) == (outcome != "identical")


def test_codes_must_be_equal(tmp_path):
    first = stored(tmp_path / "one")
    other = compare(first, stored(tmp_path / "two", codes=CODES.assign(count=[5, 1, 4])))
    assert other.outcome == "differs" and other.said == ("1 of 10 codes are others",)
    assert compare(first, stored(tmp_path / "three", codes=None)).outcome == "differs"
    sized = replace(first, about={**ABOUT, "codebook_sizes": [9]})
    assert "other sizes" in compare(first, sized).said[0]


@pytest.mark.parametrize(("levels", "outcome"), [(0, "identical"), (1, "reproduced"), (2, "differs")])
def test_kept_pictures_are_compared(tmp_path, levels, outcome):
    cells, picture = [], np.full((8, 8, 3), 100, np.uint8)
    for name, value in (("one", 0), ("two", levels)):
        cells.append(stored(tmp_path / name))
        path = Store(tmp_path / name).picture(cells[-1].key, "a")
        path.parent.mkdir(parents=True)
        pillow.fromarray(picture + np.uint8(value)).save(path, lossless=True)
    found = reproduced.picture_levels(cells[0], Store(tmp_path / "one"), cells[1], Store(tmp_path / "two"))
    assert found == levels and compare(*cells, levels=found).outcome == outcome
    none = reproduced.picture_levels(cells[0], Store(tmp_path / "three"), cells[1], Store(tmp_path / "two"))
    assert none is None


def test_the_table_counts_outcomes():
    common = {"curve": "c", "data set": "d", "rate": "file", "largest": {}, "said": []}
    made = [{**common, "outcome": word} for word in ("identical", "identical", "reproduced")]
    made.append({**common, "outcome": "differs", "largest": {"bytes": 3.0, "psnr": 0.1}, "said": ["bytes off"]})
    made.append({**common, "outcome": "cannot run", "said": ["no weights"], "curve": "e"})
    frame = reproduced.table(made)
    assert frame[["curve", "cells", "identical", "reproduced", "differs", "cannot run"]].values.tolist() == [
        ["c", 4, 2, 1, 1, 0],
        ["e", 1, 0, 0, 0, 1],
    ]
    assert list(frame["note"]) == ["bytes off", "no weights"] and frame["bytes off by"][0] == 3.0
    assert reproduced.summary(made) == "5 cells: 2 identical, 1 reproduced, 1 differs, 1 cannot run"


def test_a_search_is_asked_for_as_it_was(tmp_path):
    discover()
    result = stored(tmp_path)
    result = replace(result, cell=replace(result.cell, dataset="sample"))
    searched = replace(result, cell=replace(result.cell, variant={"prior": True, "search": 7}, point="5x3"))
    asked = verify.request(searched, tmp_path, None, False)
    assert asked.search == 7 and asked.methods == (Asked("fsq", {"prior": True}),) and asked.points == ("5x3",)
    assert verify.request(replace(result, cell=replace(result.cell, variant={})), tmp_path, None, False).search == 0


# The command


@pytest.fixture
def measured(command, pictures) -> CellResult:
    done = command("benchmarks/rd_curve.py", "with", "method=jpeg", "dataset=folder:pictures", "points=50")
    assert done.code == 0, done.err
    return Store("results").cells()[0]


def only_record() -> dict:
    (path,) = Path("results/verify").glob("jpeg_*.json")
    return json.loads(path.read_text())


def edited(result: CellResult, name: str, change) -> None:
    path = result.folder / name
    path.write_text(change(path.read_text()))


def test_a_cell_comes_out_again_and_the_outcome_stands(command, measured):
    done = command(SCRIPT)
    assert done.code == 0, done.err
    assert "jpeg at 50 on" in done.out and "asked for: 1 cells: 1 identical" in done.out
    record = only_record()
    assert record["outcome"] == "identical" and record["said"] == [] and record["provenance"]["commit"]
    assert pd.read_csv("results/tables/verify.csv")["identical"].tolist() == [1]
    again = command(SCRIPT, "with", "tables=False")
    assert again.code == 0 and "[1/1]" not in again.out and only_record() == record
    path = next(Path("results/verify").glob("jpeg_*.json"))
    path.write_text(json.dumps({**record, "code": "other code"}))
    kept = command(SCRIPT, "with", "tables=False", "again=False")
    assert kept.code == 0 and only_record()["code"] == "other code"
    command(SCRIPT, "with", "tables=False")
    assert only_record()["code"] == record["code"]


def test_other_numbers_are_seen(command, measured):
    size = str(int(measured.images["bytes"][1]))
    edited(measured, "images.csv", lambda text: text.replace(f",{size},", f",{int(size) + 3},", 1))
    done = command(SCRIPT, "with", "method=jpeg", "tables=False")
    assert done.code == 1 and "differs: bytes of 1 of 3 images, by up to 3 bytes" in done.out
    assert only_record()["largest"]["bytes"] == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cell: edited(cell, "cell.json", lambda t: t.replace("libjpeg-turbo", "libjpeg")), "the codec here is"),
        (lambda cell: Path("pictures/1.png").unlink(), "are not those that were measured"),
        (lambda cell: [p.unlink() for p in Path("pictures").iterdir()], "pictures"),
    ],
)
def test_what_cannot_run_says_why(command, measured, change, sentence):
    change(measured)
    done = command(SCRIPT, "with", "all=True", "tables=False")
    assert done.code == 0 and "cannot run" in done.out and sentence in only_record()["said"][0]


def test_missing_weights_methods_and_parameters_are_named(command, tmp_path):
    store = Store("results")
    for cell in (
        Cell("fsq", {}, "8x6x5", "sample", "test", checkpoint="fsq-00000000"),
        Cell("gone", {}, None, "sample", "test"),
        Cell("png", {"level": 9, "lost": 1}, None, "sample", "test"),
    ):
        store.write(cell, IMAGES, {"title": "toy", "legend": "path" if cell.checkpoint else ""}, {})
    done = command(SCRIPT, "with", "all=True", "tables=False")
    assert done.code == 0 and "asked for: 3 cells: 3 cannot run" in done.out
    for sentence in ("the weights fsq-00000000 are not here", "no method gone", "png has no parameter lost today"):
        assert sentence in done.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("method=jpg",), "there is no stored cell of method=jpg: known are jpeg"),
        (("at_most_s=soon",), "must be a number of seconds"),
        (("at_most_s=0",), "there are no such cells"),
        (("results=elsewhere",), "there are no such cells"),
    ],
)
def test_mistakes_are_one_sentence(command, measured, words, sentence):
    done = command(SCRIPT, "with", *words)
    assert done.code == 2 and sentence in done.sentence


def test_curves_and_tables_are_made_again(tmp_path):
    from benchmarks import bd_table, report

    root, store = tmp_path / "results", Store(tmp_path / "results")
    for method, factor in (("jpeg", 1.0), ("webp", 0.8)):
        for point in range(4):
            row = {"image": "a", "bytes": 1, "bpp": factor * 2**point, "psnr": 30.0 + 3 * point}
            images = pd.DataFrame([row, {**row, "image": "b", "psnr": row["psnr"] + 1}])
            store.write(Cell(method, {}, point, "toy", "test"), images, {"title": "toy"}, {})
    report.build_report(root, draw=False)
    bd_table.bd_table(bd_table.DEFAULTS | {"anchor": "jpeg", "dataset": "toy", "results": str(root)})
    (root / "tables" / "speed_x.csv").write_text("a\n1\n")
    found = redrawn.redraw(root, tmp_path / "first")
    assert "curves/toy.csv" in found.identical and "tables/bd_toy_psnr_vs_jpeg_pchip.tex" in found.identical
    assert found.differs == () and found.others == ("tables/speed_x.csv",)
    path = root / "tables" / "bd_toy_psnr_vs_jpeg_pchip.md"
    path.write_text(path.read_text().replace("-20.00", "-21.00"))
    (root / "curves" / "toy.csv").write_text("damaged")
    assert redrawn.redraw(root, tmp_path / "second").differs == ("curves/toy.csv", path.relative_to(root).as_posix())
