"""The store of results: one folder per cell, written whole or not at all.

    python -m benchmarks.store list [--results DIR]
    python -m benchmarks.store sync [--results DIR] [--url postgresql://...]
    python -m benchmarks.store publish [--results DIR] ['cells/*' ...]       # into the shipped results
    python -m benchmarks.store migrate [--results DIR]      # cells of older versions into today's format

The cell files are the truth; the database that ``sync`` fills is an index that can be deleted at any time.
A cell's folder is written under a temporary name and renamed last: presence means done.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
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
from core import atomic, places

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
    """The results folder: ``cells/<key>``, ``failures/<key>.json`` and pictures in ``images/``.

    Beside the user's own folder, the default, the shipped results are read (``core.places``): what both have is the
    user's. Only ``root`` is written.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(places.default_results() if root is None else root)
        self.roots = places.roots(self.root)

    def path(self, cell: Cell | str) -> Path:
        """Where a cell lives, for the writer, the reader and the skipper alike: where it is stored, or in ``root``.

        A cell that was stored before keys had the pictures stays in its folder, if its record says that they are these.
        """
        folders = [_folder(root / "cells", cell) for root in self.roots]
        return next((folder for folder in folders if (folder / "cell.json").is_file()), folders[0])

    def others(self, cells: Iterable[Cell]) -> list[CellResult]:
        """What is stored for the same questions as these cells, of other pictures."""
        asked = {cell.question: cell.pictures for cell in cells}
        return [r for r in self.cells() if asked.get(r.cell.question, r.pictures) != r.pictures]

    def picture(self, cell: Cell | str, image: str) -> Path:
        """Where the decoded picture of an image lives (lossless WebP, only where pictures were kept)."""
        path = self.root / "images" / self.path(cell).name / f"{file_name(image)}.webp"
        return places.find(path, self.root)

    def original(self, dataset: str, image: str, pictures: str = "") -> Path:
        """Where the original beside a decoded picture lives; without ``pictures``, where older versions put it."""
        name = file_name(dataset) + (f"-{pictures[:8]}" if pictures else "")
        return places.find(self.root / "images" / "original" / name / f"{file_name(image)}.webp", self.root)

    def own(self, path: Path) -> Path:
        """Where a file of these results, be it a shipped one, is written."""
        shipped = next((root for root in self.roots[1:] if path.is_relative_to(root)), None)
        return path if shipped is None or path.is_relative_to(self.root) else self.root / path.relative_to(shipped)

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
        return _read(self.path(cell))

    def scan(self) -> tuple[list[CellResult], list[str]]:
        """All readable cells sorted by key, and a sentence for every folder that is none."""
        found, problems = [], []
        for folder in places.listed(self.root, "cells/*"):
            if folder.name.startswith("."):
                continue
            for place in dict.fromkeys((folder, *(root / "cells" / folder.name for root in self.roots[1:]))):
                try:  # a damaged cell of the user's own does not hide the shipped one
                    found.append(_read(place))
                    break
                except StoreError as error:
                    problems += [str(error)] if place.exists() else []
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


def _folder(cells: Path, cell: Cell | str) -> Path:
    """The folder of a cell below ``cells``, by its key or, if its record has these pictures, by its older one."""
    if isinstance(cell, str):
        return cells / cell
    own, older = cells / cell.key, cells / cell.question
    return older if own != older and not own.is_dir() and _recorded(older) == cell.pictures else own


def _read(folder: Path) -> CellResult:
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
