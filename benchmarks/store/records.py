"""Results that are one JSON file each: named by what they depend on, written whole or not at all.

A table that is not made of cells is a ``Table``: beside its files goes a record with every number in full, and with
where it comes from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.measure.provenance import provenance
from benchmarks.tables.files import to_files
from core import atomic
from core.codec import TesseraError

FOLDER = "records"  # of the results: records of tables


def digest(facts: Mapping[str, Any]) -> str:
    """What names a record: the SHA-256, in hexadecimal, of the facts that it depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read(path: Path, needed: Collection[str] = ()) -> dict[str, Any] | None:
    """A stored record, or None when there is none; a damaged file, or one without the ``needed`` fields, is refused."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not set(needed) <= found.keys():
            raise ValueError("fields are missing")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TesseraError(f"{path} cannot be read ({error}): delete it, and it will be made again.") from None


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Store a record; ``TesseraError`` where that is impossible."""
    try:
        atomic.write_text(path, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        text = error.strerror or str(error)
        raise TesseraError(f"{path} cannot be written ({text}): give another place with results=DIR.") from None


class Table:
    """A table that is being measured; make it before measuring starts, for commit, time and machine are noted then."""

    def __init__(self, device: str = "cpu", sacred_run: str = "") -> None:
        self._made, self._clock = provenance(device, sacred_run), time.perf_counter()

    def write(self, frame: pd.DataFrame, results: str | Path, stem: str, caption: str) -> list[Path]:
        """Write ``tables/<stem>`` (CSV, Markdown, LaTeX) and ``records/<stem>.json``; returns the paths."""
        rows = [{str(k): _number(v) for k, v in row.items()} for row in frame.to_dict("records")]
        made = {**self._made, "wall_s": round(time.perf_counter() - self._clock, 3)}
        path = Path(results) / FOLDER / f"{stem}.json"
        paths = to_files(frame, Path(results) / "tables" / stem, caption)
        write(path, {"table": stem, "caption": caption, "rows": rows, "provenance": made})
        return [*paths, path]


def _number(value: Any) -> Any:
    """A value of a table as JSON has it; what is missing or not finite is null."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


log = logging.getLogger("tessera.report")
AGAIN = "run the command that writes it again"


def read_json(path: Path, needed: Collection[str] = ()) -> dict[str, Any] | None:
    """A stored document with all ``needed`` fields; None, with a warning, for what cannot be read or lacks them."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and set(needed) <= document.keys():
            return document
        log.warning("%s lacks fields: %s.", path, AGAIN)
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): %s.", path, error, AGAIN)
    return None
