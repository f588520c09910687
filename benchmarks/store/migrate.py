"""Stored cells brought into the format that is written today; what was measured, and where from, stays as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from benchmarks.store import rows
from benchmarks.store.store import CellResult, Store, json_text
from core import atomic


def migrate(store: Store) -> int:
    """Rewrite the cells of an older format in the store's own folder; returns how many. Raises StoreError.

    Means, identity and provenance are not touched, and outcomes of ``benchmarks/verify.py`` go on under the name that
    their cell has now. A run that is interrupted goes on with the next: ``cell.json`` is written first, and is right
    beside either table.
    """
    mine = [result for result in store.cells() if result.folder.parent == store.root / "cells"]
    return sum(_migrated(result, store.root / "verify") for result in mine)


def _migrated(result: CellResult, verified: Path) -> bool:
    path, about = result.folder / "images.csv", result.folder / "cell.json"
    before = path.read_text(encoding="utf-8")
    text, layout = rows.packed(result.images)
    document = json.loads(about.read_text(encoding="utf-8"))
    changed = json_text(document | layout.as_dict())
    if before == text and about.read_text(encoding="utf-8") == changed:
        return False
    outcome = verified / f"{result.cell.method}_{_older_digest(result.folder)}.json"
    codes = result.folder / "codebook.csv"
    name = rows.digest_of(text, layout, codes.read_text(encoding="utf-8") if codes.is_file() else "")
    atomic.write_text(about, changed)
    if outcome.is_file():
        outcome.replace(outcome.with_name(f"{result.cell.method}_{name}.json"))
    atomic.write_text(path, text)
    return True


def _older_digest(folder: Path) -> str:
    """What named the outcome of verifying a cell of version 1: the bytes of its files."""
    paths = [folder / name for name in ("images.csv", "codebook.csv")]
    content = b"\0".join(path.read_bytes() for path in paths if path.is_file())
    return hashlib.sha256(content).hexdigest()[:16]
