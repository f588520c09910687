"""The store of results: one folder per cell, written whole or not at all.

    python -m benchmarks.store list [--results DIR]
    python -m benchmarks.store sync [--results DIR] [--url postgresql://...]
    python -m benchmarks.store migrate [--results DIR]      # cells of older versions into today's format

The cell files are the truth; the database that ``sync`` fills is an index that can be deleted at any time.
A cell's folder is written under a temporary name and renamed last: presence means done.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store import rows
from benchmarks.store.cell import Cell, StoreError, variant_label
from benchmarks.store.names import file_name
from benchmarks.store.rows import Layout, read_csv
from core import atomic
from core.codec import TesseraError
from core.options import check_text

__all__ = ["Cell", "CellResult", "Failure", "Store", "StoreError", "file_name", "now", "read_csv", "variant_label"]

log = logging.getLogger("tessera.store")


@dataclass(frozen=True)
class CellResult:
    """One finished cell, as read from its folder. ``means`` are averages over images (units in the column names)."""

    key: str
    cell: Cell
    means: dict[str, float]
    count: int
    about: dict[str, Any]
    provenance: dict[str, Any]
    folder: Path = field(compare=False)
    layout: Layout = field(default_factory=Layout, compare=False)

    @property
    def label(self) -> str:
        """Method name with the parameters that differ from the defaults recorded in the cell."""
        return variant_label(self.cell.method, self.cell.variant, self.about.get("defaults", {}))

    @property
    def pictures(self) -> str:
        """The fingerprint of the images measured; '' where it is not known."""
        return self.cell.pictures or str(self.about.get("data_fingerprint", ""))

    @property
    def images(self) -> pd.DataFrame:
        """One row per image (read from disk at each call), with the columns that the file leaves out."""
        return rows.read(self.folder / "images.csv", self.layout)

    @property
    def digest(self) -> str:
        """What names all that was measured, whatever the format and the key."""
        return rows.digest(self.folder, self.layout)

    @property
    def codebook(self) -> pd.DataFrame | None:
        """Columns level, code, count of the codes used, or None for a codec without codes."""
        path = self.folder / "codebook.csv"
        return read_csv(path) if path.is_file() else None


@dataclass(frozen=True)
class Failure:
    """A cell that could not be measured, and why."""

    key: str
    cell: Cell
    text: str
    when: str


class Store:
    """The results folder: ``cells/<key>``, ``failures/<key>.json`` and pictures in ``images/``."""

    def __init__(self, root: str | Path = "results") -> None:
        self.root = Path(root)

    def path(self, cell: Cell | str) -> Path:
        """Where a cell lives, for the writer, the reader and the skipper alike.

        A cell that was stored before keys had the pictures stays in its folder, if its record says that they are these.
        """
        if isinstance(cell, str):
            return self.root / "cells" / cell
        own, older = (self.root / "cells" / key for key in (cell.key, cell.question))
        return older if own != older and not own.is_dir() and _recorded(older) == cell.pictures else own

    def others(self, cells: Iterable[Cell]) -> list[CellResult]:
        """What is stored for the same questions as these cells, of other pictures."""
        asked = {cell.question: cell.pictures for cell in cells}
        return [r for r in self.cells() if asked.get(r.cell.question, r.pictures) != r.pictures]

    def picture(self, cell: Cell | str, image: str) -> Path:
        """Where the decoded picture of an image lives (lossless WebP, only where pictures were kept)."""
        return self.root / "images" / self.path(cell).name / f"{file_name(image)}.webp"

    def original(self, dataset: str, image: str, pictures: str = "") -> Path:
        """Where the original beside a decoded picture lives; without ``pictures``, where older versions put it."""
        name = file_name(dataset) + (f"-{pictures[:8]}" if pictures else "")
        return self.root / "images" / "original" / name / f"{file_name(image)}.webp"

    def has(self, cell: Cell | str) -> bool:
        """Whether the cell is done."""
        return (self.path(cell) / "cell.json").is_file()

    def write(
        self,
        cell: Cell,
        images: pd.DataFrame,
        about: Mapping[str, Any],
        provenance: Mapping[str, Any],
        codebook: pd.DataFrame | None = None,
    ) -> CellResult:
        """Write a whole cell; of two writers of the same cell the first wins and the other's files vanish.

        ``images`` has one row per image: the column ``image`` (names) and numeric columns, of which the file keeps
        what ``rows`` says; means are of the numbers as given. Raises StoreError.
        """
        if images.empty or not images["image"].is_unique:
            raise StoreError(f"cell {cell.key} ({cell.label}) needs at least one image, and each name once.")
        numbers = images.drop(columns="image").astype(float)
        means = {str(name): float(numbers[name].mean()) for name in numbers}
        text, layout = rows.packed(images)
        document = {"key": cell.key, "cell": asdict(cell), "means": means, "images": len(images)}
        document |= {"about": dict(about), "provenance": dict(provenance), **layout.as_dict()}
        files = {"images.csv": text, "cell.json": json_text(document)}
        if codebook is not None:
            files["codebook.csv"] = rows.csv_text(codebook)
        with _writing(self.root):
            self.clean()
            atomic.publish(self.path(cell), files, lambda: self.has(cell))
            self._failure(cell.key).unlink(missing_ok=True)
        return self.read(cell)

    def clean(self) -> int:
        """Remove the temporary folders of writers that no longer live; returns how many."""
        return atomic.clean(self.root / "cells")

    def read(self, cell: Cell | str) -> CellResult:
        """The finished cell; StoreError when it is missing, damaged or not ours."""
        folder = self.path(cell)
        try:
            data = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
            means = {name: math.nan if v is None else float(v) for name, v in data["means"].items()}
            found = Cell.from_dict(data["cell"])
            facts = (data["images"], data["about"], data["provenance"])
            result = CellResult(found.key, found, means, *facts, folder, Layout.from_dict(data))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, StoreError) as error:
            raise StoreError(f"{folder} is no readable cell ({type(error).__name__}: {error}): remove it.") from error
        if found.key != folder.name or data.get("key") != folder.name or not (folder / "images.csv").is_file():
            raise StoreError(f"{folder} does not hold the cell of its name: remove it.")
        return result

    def scan(self) -> tuple[list[CellResult], list[str]]:
        """All readable cells sorted by key, and a sentence for every folder that is none."""
        found, problems = [], []
        root = self.root / "cells"
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if folder.name.startswith("."):
                continue
            try:
                found.append(self.read(folder.name))
            except StoreError as error:
                problems.append(str(error))
        return found, problems

    def cells(self, **filters: Any) -> list[CellResult]:
        """Cells whose fields equal the filters (a list, tuple or set means any of them); problems are logged."""
        unknown = set(filters) - {f.name for f in fields(Cell)}
        if unknown:
            raise TypeError(f"no field of a cell: {', '.join(sorted(unknown))}")
        found, problems = self.scan()
        for problem in problems:
            log.warning("%s", problem)
        return [r for r in found if all(_matches(getattr(r.cell, k), v) for k, v in filters.items())]

    def _failure(self, key: str) -> Path:
        return self.root / "failures" / f"{key}.json"

    def record_failure(self, cell: Cell, text: str) -> None:
        """Note why a cell could not be measured; the note goes when the cell is written."""
        document = {"key": cell.key, "cell": asdict(cell), "text": text, "when": now()}
        with _writing(self.root):
            atomic.write_text(self._failure(cell.key), json_text(document))

    def failures(self) -> list[Failure]:
        """All noted failures sorted by key; unreadable notes are logged."""
        found = []
        for path in sorted((self.root / "failures").glob("*.json")):
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                found.append(Failure(data["key"], Cell.from_dict(data["cell"]), str(data["text"]), str(data["when"])))
            except (OSError, ValueError, TypeError, KeyError, StoreError) as error:
                log.warning("%s is no readable failure (%s): remove it.", path, error)
        return found

    def sync(self, url: str | None = None) -> int:
        """Copy all cells into a database (default ``sqlite`` in the results folder); returns how many changed."""
        from benchmarks.store.database import sync

        return sync(self, url)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _recorded(folder: Path) -> str:
    """The fingerprint of the pictures that a stored cell has beside its key; '' for none."""
    try:
        return str(json.loads((folder / "cell.json").read_text(encoding="utf-8"))["about"]["data_fingerprint"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, (list, tuple, set, frozenset)) else bool(value == wanted)


def json_text(document: Mapping[str, Any]) -> str:
    """Strict JSON: non-finite numbers become the strings 'inf', '-inf' (which ``float`` reads) and null."""
    return json.dumps(_finite(document), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Turn what the file system refuses into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"cannot write results in {root}: {reason}; free space or choose another folder.") from error


def _listing(store: Store) -> Iterator[str]:
    for result in store.scan()[0]:
        cell = result.cell
        where = f"{cell.dataset} {cell.split} {'all' if cell.limit is None else cell.limit}"
        rate = f"{result.means.get('bpp', math.nan):.4f} bpp"
        yield f"{result.key}  {result.label}  point {cell.point}  {where}  {result.count} images  {rate}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (2 for a failure the user can act on)."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.store", description="List, index or convert the results."
    )
    parser.add_argument("command", choices=("list", "sync", "migrate"))
    parser.add_argument("--results", default="results", help="the results folder (default: results)")
    parser.add_argument("--url", help="SQLAlchemy URL of the database (default: store.sqlite in the results folder)")
    options = parser.parse_args(arguments)
    store = Store(options.results)
    try:
        check_text("results", options.results, "results")
        if options.command == "sync":
            print(f"{store.sync(options.url)} cells new or changed")
        elif options.command == "migrate":
            from benchmarks.store.migrate import migrate

            print(f"{migrate(store)} cells rewritten")
        else:
            for line in _listing(store):
                print(line)
    except TesseraError as error:
        print(error, file=sys.stderr)
        return 2
    for text in [
        *store.scan()[1],
        *(f"failed: {f.cell.label} on {f.cell.dataset}: {f.text}" for f in store.failures()),
    ]:
        print(text, file=sys.stderr)
    return 0


if __name__ == "__main__":
    from core.commandline import piped

    sys.exit(piped(main))
