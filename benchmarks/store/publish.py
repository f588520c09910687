"""Publishing: what lies in the user's own folder of results becomes part of the results that the repository ships.

Files are moved, so that nothing stays behind that would be read instead of a newer shipped one. What belongs to one
machine stays, and so does what ``benchmarks/report.py`` makes again; ``git status`` shows what came.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.store import listing
from benchmarks.store.cell import StoreError
from benchmarks.store.store import CellResult, Store
from core import atomic, places

STAY = ("sacred", "failures", "plan", "report", "match_rate", "fingerprints", "curves", "images", "cells")


def publish(
    results: str | Path, patterns: Sequence[str] = ("*",), shipped: str | Path = places.SHIPPED
) -> tuple[list[str], list[str]]:
    """Move cells with their pictures, records, figures and tables of ``results`` into the ``shipped`` ones.

    Only names below the folder that match one of the ``patterns`` go. Returns the names that went, and a sentence for
    each cell that stays. Cells of folders of pictures stay, as nobody else can measure them. Raises StoreError.
    """
    own, to = Path(results), Path(shipped)
    if own.absolute() == to.absolute() or not to.is_dir():
        raise StoreError(f"{own} cannot be published into {to}: run this in a checkout, of results of your own.")
    gone, left = [], []
    try:
        for folder in sorted((own / "cells").glob("[!.]*")):
            name = f"cells/{folder.name}"
            if not _chosen(name, patterns):
                continue
            if reason := _publish_cell(own, folder, to):
                left.append(f"{name} stays: {reason}")
            else:
                gone.append(name)
        for path in [path for path in _files(own) if _chosen(path.relative_to(own).as_posix(), patterns)]:
            _move(path, to / path.relative_to(own))
            gone.append(path.relative_to(own).as_posix())
    except OSError as error:
        raise StoreError(f"{own} cannot be published into {to}: {error.strerror or error}.") from error
    return gone, left


def _chosen(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _publish_cell(own: Path, folder: Path, to: Path) -> str:
    """Move a cell and its pictures; '' or why it stays."""
    try:
        result = Store(own).read(folder.name)
    except StoreError as error:
        return str(error)
    if result.cell.dataset.startswith("folder:") or result.about.get("private"):
        return f"{result.label} was measured on pictures that are not public"
    if (to / "cells" / folder.name).exists():
        return f"{result.label} is shipped already"
    _move(folder, to / "cells" / folder.name)
    for pictures in _pictures(own, result):
        for path in sorted(pictures.glob("*.webp")):
            _move(path, to / path.relative_to(own))
    return ""


def _pictures(own: Path, result: CellResult) -> tuple[Path, Path]:
    """The folders of a cell's pictures and of the originals."""
    originals = Store(own).original(result.cell.dataset, "any", result.cell.pictures).parent.name
    return own / "images" / result.key, own / "images" / "original" / originals


def _files(own: Path) -> Iterator[Path]:
    """Files beside cells that are anybody's results, and not of the report."""
    made = {own / name for name in listing.names(own / "report_files.json")}
    for path in sorted(own.rglob("*")):
        name = path.relative_to(own)
        passing = path.name.startswith(atomic.PREFIX) or path.suffix in (".part", ".sqlite")
        if path.is_file() and len(name.parts) > 1 and name.parts[0] not in STAY and path not in made and not passing:
            yield path
    if (loose := own / "training_speed.json").is_file():
        yield loose


def _move(source: Path, final: Path) -> None:
    """Move a file or folder, which appears whole: also where the two places are on different file systems."""
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = final.with_name(f"{atomic.PREFIX}{final.name}-published")
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, part)
        part.rename(final)
        (shutil.rmtree if source.is_dir() else Path.unlink)(source)
