"""The user's own results beside the shipped ones: both are read, one is written."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import fuzz, report
from benchmarks.page.sections import stored
from benchmarks.store import Cell, Store, StoreError
from benchmarks.store import __main__ as command_line
from benchmarks.store.publish import publish
from core import places

LOCAL = "results/local"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with shipped results, as a checkout has them, and no folder named by the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TESSERA_RESULTS")
    (tmp_path / "results").mkdir()
    return tmp_path


def write(store: Store, point: int, dataset: str = "toy", bpp: float = 1.0) -> Cell:
    cell = Cell("zip", {}, point, dataset, "test", pictures="ab" * 8)
    store.write(cell, pd.DataFrame({"image": ["a"], "bpp": [bpp], "psnr": [30.0]}), {"title": dataset}, {})
    return cell


def test_the_default_is_a_folder_of_ones_own_and_the_variable_names_another(here, monkeypatch):
    assert places.default_results() == LOCAL and Store().root == Path(LOCAL)
    assert places.roots(LOCAL) == (Path(LOCAL), Path("results"))
    assert places.roots(here / LOCAL) == (here / LOCAL, Path("results"))
    monkeypatch.setenv("TESSERA_RESULTS", "/scratch/mine")
    assert places.roots("/scratch/mine") == (Path("/scratch/mine"), Path("results"))
    assert places.roots(LOCAL) == (Path(LOCAL),)
    monkeypatch.setenv("TESSERA_RESULTS", "results")
    assert places.roots("results") == (Path("results"),)


@pytest.mark.parametrize("other", ["results", "elsewhere", "results/local/match_rate"])
def test_any_other_folder_is_read_alone(here, other):
    write(Store("results"), 1)
    write(Store(LOCAL), 2)
    assert [r.cell.point for r in Store(other).cells()] == ([1] if other == "results" else [])


def test_cells_of_both_are_read_the_users_first_and_only_one_folder_is_written(here):
    shipped, own = Store("results"), Store()
    first, both = write(shipped, 1), write(shipped, 2, bpp=5.0)
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    assert own.has(first) and own.read(first).folder == Path("results/cells") / first.key
    new = write(own, 3)
    write(Store(here / "apart"), 2, bpp=7.0)
    (here / "apart" / "cells" / both.key).rename(Path(LOCAL) / "cells" / both.key)
    assert {r.cell.point: r.means["bpp"] for r in own.cells()} == {1: 1.0, 2: 7.0, 3: 1.0}
    assert [r.key for r in own.cells()] == sorted(r.key for r in own.cells())
    assert own.path(new).parent == Path(LOCAL) / "cells" and not shipped.has(new)
    write(own, 1, bpp=9.0)  # a second writer: the first one's cell stays
    own.record_failure(Cell("zip", {}, 4, "toy", "test"), "no")
    assert own.read(first).means["bpp"] == 1.0
    now = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    assert {path: now[path] for path in now if not path.is_relative_to(LOCAL)} == before


def test_a_damaged_cell_of_ones_own_does_not_hide_the_shipped_one(here):
    cell = write(Store("results"), 1)
    damaged = Path(LOCAL) / "cells" / cell.key
    damaged.mkdir(parents=True)
    (damaged / "cell.json").write_text("{")
    found, problems = Store().scan()
    assert [r.folder for r in found] == [Path("results/cells") / cell.key]
    assert len(problems) == 1 and str(damaged) in problems[0] and "remove it" in problems[0]


def test_pictures_are_read_from_both_and_kept_in_ones_own(here):
    shipped, own = Store("results"), Store()
    cell = write(shipped, 1)
    there = shipped.picture(cell, "a")
    there.parent.mkdir(parents=True)
    there.touch()
    assert own.picture(cell, "a") == there and own.own(there) == Path(LOCAL) / there.relative_to("results")
    lacking = own.picture(cell, "b")
    assert lacking.is_relative_to(LOCAL) and own.own(lacking) == lacking and shipped.own(there) == there


def test_records_and_files_of_both_by_their_names(here):
    for root, names in (("results", "ab"), (LOCAL, "bc")):
        for name in names:
            path = Path(root) / "fuzz" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            facts = {"method": name, "checkpoint": "", "counts": {}, "problems": 0, "slowest_s": 0}
            path.write_text(json.dumps({**facts, "done": len(root)}))
    frame = fuzz.outcomes(LOCAL)
    assert dict(zip(frame["decoder"], frame["mutations"], strict=True)) == {"a": 7, "b": 13, "c": 13}
    assert places.find(Path(LOCAL, "fuzz/a.json"), LOCAL) == Path("results/fuzz/a.json")
    assert places.find(Path(LOCAL, "fuzz/d.json"), LOCAL) == Path(LOCAL, "fuzz/d.json")
    assert list(fuzz.outcomes("results")["decoder"]) == ["a", "b"]


def test_the_report_shows_both_and_is_written_into_ones_own(here):
    shipped = Store("results")
    for point in (1, 2):
        write(shipped, point, bpp=float(point))
    report.build_report("results", draw=False)
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    write(Store(), 3, bpp=3.0)
    assert report.main(["with", f"results={LOCAL}", "figures=False"]) == 0
    page = Path(LOCAL, "report", "index.html").read_text()
    assert all(f'"{r.key}"' in page for r in Store().cells())
    assert len(pd.read_csv(Path(LOCAL, "curves", "toy.csv"))) == 3
    assert all(path.read_bytes() == text for path, text in before.items())


def test_stored_tables_of_both_are_shown_but_not_what_the_shipped_report_made(here):
    for root, names in (("results", ("speed_a", "speed_b", "rd_toy")), (LOCAL, ("speed_b",))):
        for name in names:
            stem = Path(root, "tables", name)
            stem.parent.mkdir(parents=True, exist_ok=True)
            stem.with_suffix(".csv").write_text(f"where\n{root}\n")
            stem.with_suffix(".md").write_text(f"**{name}**\n")
    Path("results/report_files.json").write_text('{"tables/rd_toy.csv": "0"}')
    found = stored(Path(LOCAL), Path(LOCAL, "report"), ())
    assert [(t["name"], t["rows"]) for t in found["speed"]["tables"]] == [
        ("speed_a", [["results"]]),
        ("speed_b", [[LOCAL]]),
    ]
    assert not found["other"]["tables"]


def test_publishing_moves_what_others_can_use(here, capsys):
    shipped, own = Store("results"), Store()
    cell, private, twice = write(own, 1), write(own, 2, "folder:photos"), write(own, 3)
    write(shipped, 3)
    for name in ("fuzz/a.json", "sacred/1/run.json", "report/index.html", "tables/rd_toy.csv", "tables/fuzz.csv",
                 f"images/{cell.key}/a.webp", f"images/{private.key}/a.webp", "failures/x.json"):  # fmt: skip
        path = Path(LOCAL, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    Path(LOCAL, "report_files.json").write_text('{"tables/rd_toy.csv": "0"}')
    assert command_line.main(["publish", "tables/*"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == ["tables/fuzz.csv"]
    assert command_line.main(["publish"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:-1] == [f"cells/{cell.key}", "fuzz/a.json"]
    assert said.err.count("stays") == 2 and private.key in said.err and twice.key in said.err
    assert shipped.has(cell) and shipped.picture(cell, "a").is_file() and Path("results/fuzz/a.json").is_file()
    assert not (Path(LOCAL) / "cells" / cell.key).exists() and own.has(cell) and own.has(private)
    stayed = ("sacred/1/run.json", "report/index.html", "tables/rd_toy.csv", "failures/x.json")
    assert all(Path(LOCAL, name).is_file() for name in stayed) and not Path("results/sacred").exists()
    assert command_line.main(["publish"]) == 0 and capsys.readouterr().out.startswith("0 published")


def test_publishing_into_itself_or_nowhere_is_refused(here):
    with pytest.raises(StoreError, match="checkout"):
        publish("results")
    with pytest.raises(StoreError, match="checkout"):
        publish(LOCAL, shipped="elsewhere")
    assert command_line.main(["list", "cells/*"]) == 2
