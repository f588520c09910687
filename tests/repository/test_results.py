"""The results in the repository: what is there has an owner and a reader, and nothing that is made from the rest."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from benchmarks.store import Store, listing, rows
from core.registry import METHODS, discover
from tests.repository.test_docs import PAGES
from tests.repository.test_style import committed

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
LIMIT_MB = 22  # 20.3 today, 11 of them cells
SHOWN = re.compile(r"results/figures/([^)\"\s\\]+\.(?:png|gif))")


def figures() -> set[str]:
    """Names of the figures' files under version control."""
    found = {path.name for path in committed() if path.parent == RESULTS / "figures"}
    if not found:
        pytest.skip("there is no git here, so what is under version control is not known.")
    return found


def test_only_figures_that_a_page_shows_are_in_the_repository() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb")))]
    shown = {name for text in texts for name in SHOWN.findall(text)}
    pictures = {name for name in figures() if not name.endswith(".json")}
    assert len(shown) >= 5 and pictures == shown


def test_data_of_figures_that_the_report_makes_are_not_in_the_repository() -> None:
    made = {name.removeprefix("figures/") for name in listing.names(RESULTS / "report_files.json")}
    data = {name for name in figures() if name.endswith(".json")}
    assert made and data and not data & made


def test_the_parameters_of_stored_cells_are_those_of_their_methods_today() -> None:
    """A parameter that a method gains makes its stored cells those of another method, which are measured anew."""
    discover()
    differ = set()
    for result in Store(RESULTS).cells():
        cell = result.cell
        method, known = METHODS[cell.method], METHODS[cell.method].parameters()
        stored = {name: value for name, value in cell.variant.items() if name != "search"}
        today = set(known) - {method.curve}
        if set(stored) != today:
            differ.add((cell.method, *sorted(set(stored) ^ today)))
    assert not differ


def test_what_the_report_wrote_is_what_is_listed() -> None:
    known = json.loads((RESULTS / "report_files.json").read_text(encoding="utf-8"))
    files = [path for path in committed() if path.relative_to(ROOT).as_posix().removeprefix("results/") in known]
    changed = [p.name for p in files if hashlib.sha256(p.read_bytes()).hexdigest()[:16] != known[_below(p)]]
    assert files and not changed, "run python benchmarks/report.py"


def _below(path: Path) -> str:
    return path.relative_to(RESULTS).as_posix()


def test_stored_cells_have_the_format_of_today() -> None:
    cells, problems = Store(RESULTS).scan()
    old = [r.key for r in cells if not r.layout.columns]
    assert cells and not problems and not old, "run python -m benchmarks.store migrate"
    for result in cells[::20]:
        means = rows.as_kept(result.images).drop(columns="image").mean()
        assert means.to_dict() == pytest.approx(result.means, rel=5e-6), result.key


def test_results_are_light() -> None:
    size = sum(path.stat().st_size for path in committed() if path.is_relative_to(RESULTS))
    assert size <= LIMIT_MB * 1e6, f"results/ has {size / 1e6:.1f} MB"
