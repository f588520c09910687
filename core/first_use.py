"""Checksums of files whose authors publish none, noted at the first fetch: another file is refused from then on."""

from __future__ import annotations

import json
from pathlib import Path

from core.atomic import write_text
from core.given import read_json


def known(weights: Path, name: str) -> str | None:
    """The SHA-256 noted for a file of the cache's folder ``weights``; None for one that was never fetched."""
    path = _notes(weights)
    return read_json(path).get(name) if path.exists() else None


def note(weights: Path, name: str, digest: str) -> None:
    """Note the SHA-256 of what was fetched, unless one is noted."""
    if known(weights, name) is None:
        path = _notes(weights)
        entries = read_json(path) if path.exists() else {}
        write_text(path, json.dumps({**entries, name: digest}, indent=1, sort_keys=True) + "\n")


def _notes(weights: Path) -> Path:
    return weights.with_name(f"{weights.name}.lock.json")
