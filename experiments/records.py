"""Results that are one JSON file each: named by what they depend on, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from benchmarks import atomic
from core.codec import TesseraError


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
