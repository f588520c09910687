"""List of the files a command wrote: those it writes no longer can go, without a guess at whose they are.

The list lies in the results folder, with a digest of each file. A file that is not in it, or that somebody wrote since,
is never touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks.store.cell import StoreError
from core import atomic


def replace(listing: Path, paths: Iterable[Path], root: Path) -> list[Path]:
    """Note ``paths`` (below ``root``) as written now, and remove what the listing has beyond them.

    Returns the files removed, sorted. A listing that cannot be read removes nothing. Raises StoreError.
    """
    before = _read(listing)
    now = {path.relative_to(root).as_posix(): _digest(path) for path in paths}
    old = [root / name for name in sorted(set(before) - set(now)) if _inside(name)]
    gone = [path for path in old if path.is_file() and _digest(path) == before[path.relative_to(root).as_posix()]]
    try:
        for path in gone:
            path.unlink()
        atomic.write_text(listing, json.dumps(dict(sorted(now.items())), indent=0) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(
            f"cannot write {listing} or remove files beside it: {reason}; choose another folder."
        ) from error
    return gone


def names(listing: Path) -> set[str]:
    """Names of the files that were written last time; none where the listing cannot be read."""
    return set(_read(listing))


def _read(listing: Path) -> dict[str, str]:
    try:
        known = json.loads(listing.read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in known.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _inside(name: str) -> bool:
    """Whether a noted name stays below the folder: the list is a file that others can edit."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts
