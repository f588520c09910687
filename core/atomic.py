"""Files and folders that appear whole or not at all.

A folder is filled under a temporary name beside its final one, synced to disk and renamed last. Its writer holds a
lock on it, which the operating system drops when the writer dies: so leftovers can be told from work in progress.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: leftovers are recognised by their age alone
    fcntl = None  # type: ignore[assignment]

PREFIX = ".part-"
OLD_S = 24 * 3600  # a leftover this old is removed even where the file system knows no locks
ATTEMPTS = 20


def write_text(path: Path, text: str) -> None:
    """Write a file (UTF-8, line feeds as given) so that readers see the old text or the new one; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PREFIX}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        _write(part, text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def publish(final: Path, files: Mapping[str, str], done: Callable[[], bool]) -> bool:
    """Make the folder ``final`` appear with all its files; False when ``done()`` says another writer was first.

    A ``final`` that exists without being done (it is not ours) is set aside. Raises OSError.
    """
    part, lock = _reserve(final)
    try:
        for name, text in files.items():
            _write(part / name, text)
        _sync(part)
        won = _rename(part, final, done)
        _sync(final.parent)
        return won
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def clean(folder: Path) -> int:
    """Remove what dead writers left in ``folder``; returns how many leftovers went."""
    return sum(_removed(part) for part in folder.glob(f"{PREFIX}*"))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    with suppress(OSError):  # some systems cannot sync folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reserve(final: Path) -> tuple[Path, int | None]:
    """A fresh temporary folder beside ``final`` and the open handle that holds its lock."""
    final.parent.mkdir(parents=True, exist_ok=True)
    while True:
        part = final.with_name(f"{PREFIX}{final.name}-{uuid.uuid4().hex[:8]}")
        part.mkdir()
        try:
            lock = _lock(part, wait=True)
        except OSError:
            lock = None
        if part.is_dir():  # else a cleaner came between making and locking
            return part, lock
        if lock is not None:
            os.close(lock)


def _lock(part: Path, wait: bool) -> int | None:
    """An open handle with an exclusive lock; None without locks here; BlockingIOError when it is held."""
    if fcntl is None:
        return None
    handle = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _rename(part: Path, final: Path, done: Callable[[], bool]) -> bool:
    for attempt in range(ATTEMPTS):
        if done():
            return False
        try:
            part.rename(final)
            return True
        except OSError:
            if attempt == ATTEMPTS - 1:
                raise
            with suppress(OSError):  # in the way without being done: set aside, for the cleaner
                if not done():
                    final.rename(final.with_name(f"{PREFIX}{final.name}-{uuid.uuid4().hex[:8]}"))
    return False


def _removed(part: Path) -> bool:
    """Remove a leftover unless its writer lives; says whether it went."""
    lock = None
    try:
        lock = _lock(part, wait=False)
        if lock is None and time.time() - part.stat().st_mtime < OLD_S:
            return False
        shutil.rmtree(part) if part.is_dir() else part.unlink()
        return True
    except OSError:  # held by its writer, or gone meanwhile
        return False
    finally:
        if lock is not None:
            os.close(lock)
