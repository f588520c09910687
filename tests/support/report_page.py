"""The report page of a small results folder and a browser at it: fixtures of the tests of the page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.curves.groups import group_curves
from benchmarks.store import Store
from benchmarks.tables import results as tables
from tests.support.chromium import Chromium, find_chromium
from tests.support.report_samples import HOSTILE, sample_results, stored_figures, write_cell

PROGRAM = find_chromium()
needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="no chromium is installed (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = sample_results(tmp_path_factory.mktemp("results"))
    stored_figures(store.root)
    for point, counts in enumerate(((5, 3, 0, 0), (2, 2, 2, 2))):
        write_cell(store, "books", point, "cifar10", "cifar10, first 4 test", 4, 1.5, codes=counts)
    write_cell(store, "books", 0, "cifar10", "cifar10, first 4 test", 4, 1.5, checkpoint="another", codes=(1, 0, 0, 7))
    write_cell(store, HOSTILE, 0, "kodak", "kodak", 3, 2.0, note=HOSTILE)
    for point in (1, 2):
        write_cell(store, HOSTILE, point, "kodak", "kodak", 3, 2.0)
    cells = store.cells()
    report.build_page(store, cells, group_curves(cells), tables.lossless_table(store))
    return store


@pytest.fixture(scope="module")
def page(results: Store) -> Path:
    return results.root / "report" / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    assert PROGRAM is not None
    with Chromium(PROGRAM) as browser:
        yield browser


@pytest.fixture
def opened(browser: Chromium, page: Path) -> Iterator[Chromium]:
    """The page at desktop size; afterwards it must have had no error and asked for nothing but files beside it."""
    browser.problems.clear()
    browser.requests.clear()
    browser.size(1280, 900)
    browser.open(page)
    browser.until("document.querySelectorAll('#rd-chart .scatterlayer .trace').length > 0")
    yield browser
    assert browser.problems == []
    folder = page.parents[1].as_uri() + "/"
    assert browser.requests and all(url.startswith((folder, "data:", "blob:")) for url in browser.requests)


def embedded(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data
