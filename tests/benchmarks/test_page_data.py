"""The file of the report page: whole, with every cell and its provenance, naming no address."""

from __future__ import annotations

import os
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from benchmarks import report
from benchmarks.curves.groups import group_curves
from benchmarks.store import Store
from benchmarks.tables import results as tables
from tests.support.report_page import embedded
from tests.support.report_samples import COMMIT, sample_results


class Outline(HTMLParser):
    """Counts elements and collects addresses outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]


def test_the_file_is_whole_and_names_no_address(page: Path) -> None:
    outline = Outline()
    outline.feed(page.read_text(encoding="utf-8"))
    assert outline.tags.count("script") == 3 and outline.tags.count("img") == 0 and "main" in outline.tags
    assert all(a.startswith("#") or a == "data:," for a in outline.addresses)


def test_data_carry_every_cell_and_its_provenance(page: Path, results: Store) -> None:
    data = embedded(page)
    cells = {c.key: c for c in results.cells()}
    toy = {key: shown for key, shown in data["cells"].items() if key not in cells}
    assert set(data["cells"]) == set(cells) | set(toy) and list(toy) == ["banana/vecvq-1-s0-00000000"]
    (shown,) = toy.values()
    assert (shown["label"], shown["point"], shown["title"]) == ("VECVQ", "lmb 1.0 seed 0", "toy: banana")
    assert "source=banana" in shown["command"] and shown["commit"] == COMMIT and "2.25 bits" in shown["note"]
    for key, shown in ((k, data["cells"][k]) for k in cells):
        made = cells[key].provenance
        assert (shown["commit"], shown["dirty"], shown["command"]) == (made["commit"], made["dirty"], made["command"])
        assert shown["checkpoint"] == cells[key].cell.checkpoint and shown["started"] == made["started"]
        assert "numpy 2.4.6" in shown["versions"] and "1 thread" in shown["machine"]
    drawn = {key for g in data["groups"] for s in g["figures"]["psnr"]["series"] for key in s["cells"] if key}
    newest = {key for key, c in cells.items() if c.cell.point is not None and c.cell.checkpoint != "another"}
    older = {c.key for c in results.cells(method="books", point=0)}  # of two checkpoints one is drawn
    assert drawn | older == newest | older and len(drawn & older) == 1


def test_pictures_are_linked_only_where_they_lie(page: Path, results: Store) -> None:
    group = embedded(page)["groups"][0]
    links = [url for found in group["images"]["pictures"].values() for url in found.values()]
    assert len(links) == 3 + 5 * 3  # three originals, five points of one method
    assert all((page.parent / unquote(url)).resolve().is_file() and ".." in url for url in links)
    assert set(group["images"]["pictures"]) == {
        "original",
        *(c.key for c in results.cells(method="alpha", dataset="kodak")),
    }


def test_whole_sets_come_first_and_published_curves_never_join_a_subset(page: Path) -> None:
    whole, subset = embedded(page)["groups"]
    assert (whole["title"], subset["title"], subset["subset"]) == ("Kodak", "CIFAR-10, first 4 test", True)
    sources = [{s["source"] for s in g["figures"]["psnr"]["series"]} for g in (whole, subset)]
    assert sources == [{"measured", "published"}, {"measured"}]
    assert subset["figures"]["ms_ssim_db"]["series"] == [] and subset["bd"]["ms_ssim_db"]["names"] == []


def test_nothing_measured_gives_a_page_that_says_so(tmp_path: Path) -> None:
    (index,) = [p for p in report.build_report(tmp_path) if p.suffix == ".html"]
    assert embedded(index)["groups"] == [] and "Nothing has been measured yet" in index.read_text(encoding="utf-8")


def test_a_thousand_cells_in_ten_seconds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sample_results(
        tmp_path,
        methods=tuple(f"method{i}" for i in range(25)),
        datasets=tuple((f"set{i}", f"set{i}", 24) for i in range(5)),
        points=8,
        kept=False,
    )
    assert len(store.cells()) == 1005
    start = time.process_time()
    cells = store.cells()
    path = report.build_page(store, cells, group_curves(cells), tables.lossless_table(store))
    spent = time.process_time() - start
    assert path.stat().st_size < 12e6 and len(embedded(path)["groups"][0]["bd"]["psnr"]["rows"]) == 25 * 24
    if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip("the machine is too busy for a time to mean anything")
    assert spent < 10


def test_use_of_codebooks_names_every_checkpoint(page: Path) -> None:
    (usage,) = embedded(page)["usage"]
    assert usage["title"] == "cifar10, first 4 test" and [f["name"][-9:] for f in usage["figures"]] == [
        "histogram",
        "_coverage",
    ]
    drawn = sorted(s["label"] for s in usage["figures"][0]["series"])
    assert drawn == ["books 1", "books [another] 0", "books [books-ckpt] 0"]
    column = {name: [row[i] for row in usage["table"]["rows"]] for i, name in enumerate(usage["table"]["columns"])}
    assert sorted(column["curve"]) == ["books", "books [another]", "books [books-ckpt]"]
    used = dict(zip(zip(column["curve"], column["point"], strict=True), column["used"], strict=True))
    assert used["books [another]", "0"] == 2 and used["books", "1"] == 4


def test_stored_figures_pictures_and_tables_find_their_section(page: Path) -> None:
    stored = embedded(page)["stored"]
    assert [f["name"] for f in stored["toy"]["figures"]] == ["toy_banana_rd"]
    assert [s["source"] for s in stored["toy"]["figures"][0]["series"]] == ["measured", "bound"]
    (picture,) = stored["toy"]["pictures"]
    assert (page.parent / unquote(picture["url"])).resolve().is_file()
    assert stored["overhead"]["tables"][0]["rows"] == [["a", 3], ["b", 4.5]]
    assert stored["other"] == {"figures": [], "pictures": [], "tables": []}
