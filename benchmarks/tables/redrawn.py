"""Curve and table files made once more from the results they were made from, beside the stored ones.

What is made from cells is made here: the report's curves and tables, the lossless rates, and BD-rate tables of any
anchor, metric and interpolation. Everything happens in a copy of the results; the stored files are read only.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks import bd_table, report
from benchmarks.curves.bd import LEAST
from benchmarks.measure.metrics import METRICS
from benchmarks.measure.reproduced import table_files
from benchmarks.store import Store
from benchmarks.store.names import set_name
from benchmarks.store.store import read_csv
from benchmarks.tables import files
from benchmarks.tables import results as tables
from core import places

RATES = "Lossless methods whose bits are counted in several ways: bits per dimension (mean over images)."
READ = ("cells", "images", "llvq", "qres_pictures", "toy", "published", "figures")  # what the report reads


@dataclass(frozen=True)
class Redrawn:
    """Names below the results folder: files that came out as they are stored, ones that did not, ones that nobody has
    made yet, and stored ones of other commands."""

    identical: tuple[str, ...]
    differs: tuple[str, ...]
    unmade: tuple[str, ...]
    others: tuple[str, ...]


def redraw(results: Path, scratch: Path) -> Redrawn:
    """Make the files in ``scratch`` from a copy of what they are made from, and compare bytes.

    Raises StoreError.
    """
    for name in READ:
        for root in reversed(places.roots(results)):
            if (root / name).is_dir():
                shutil.copytree(root / name, scratch / name, dirs_exist_ok=True)
    report.build_report(scratch, draw=False)
    for stem, caption, frame in _beside(results, Store(scratch)):
        files.to_files(frame, scratch / "tables" / stem, caption)
    stored, made = set(table_files(results)), set(table_files(scratch))
    same = {p for p in made & stored if (results / p).read_bytes() == (scratch / p).read_bytes()}
    return Redrawn(_names(same), _names(made & stored - same), _names(made - stored), _names(stored - made))


def _names(paths: set[Path]) -> tuple[str, ...]:
    return tuple(sorted(path.as_posix() for path in paths))


def _beside(results: Path, store: Store) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Tables beside the report's that are stored and made from cells alone: file, caption, rows."""
    if (results / "tables" / "lossless_rates.csv").is_file():
        yield "lossless_rates", RATES, tables.lossless_rates(store)
    stems = {path.stem for path in (results / "tables").glob("bd_*_vs_*.csv")}
    for dataset, limit in sorted({(r.cell.dataset, r.cell.limit) for r in store.cells()}, key=str) if stems else ():
        found, title, _ = bd_table.one_set(store, dataset, limit)
        name = set_name(dataset, title, next((c.pictures for c in found if c.source == "measured"), ""))
        for curve, metric, method in itertools.product(found, METRICS, LEAST):
            base = bd_table.file_stem(name, metric, curve.label, method)
            for stem in sorted(s for s in stems if s == base or s.startswith(f"{base}_of_")):
                rows = set(read_csv(results / "tables" / f"{stem}.csv")["curve"])
                options = {"anchor": curve.label, "dataset": dataset, "metric": metric, "method": method}
                options |= {"limit": str(limit or ""), "results": str(store.root)}
                labels = [c.label for c in found if c.label in rows]  # those that were asked for then
                frame, caption, _ = bd_table.make(bd_table.DEFAULTS | options, labels)
                yield stem, caption, frame
