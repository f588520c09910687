"""Files and folders that appear whole or not at all.

Both are written under a temporary name beside their final one, synced to disk and renamed last. Their writer holds a
lock on it, which the operating system drops when the writer dies: so leftovers can be told from work in progress. What
a dead writer left of a file is taken over by the next one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from core.codec import TesseraError

try:
    import fcntl
except ImportError:  # not a POSIX system: leftovers are recognised by their age alone
    fcntl = None  # type: ignore[assignment]

PREFIX = ".part-"
OLD_S = 24 * 3600  # a leftover this old is removed even where the file system knows no locks
ATTEMPTS = 20


class WriteError(TesseraError, OSError):
    """A file that cannot be written; ``strerror`` is the system's reason alone."""


@contextmanager
def writing(path: Path, also: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """The temporary file that the block fills; at its end ``path`` is that file, in a folder that is made if need be.

    When the block fails, what was at ``path`` stays and nothing is left beside it. OSErrors, and those in ``also``
    (what a library makes of them), become ``WriteError``.
    """
    errors: tuple[type[Exception], ...] = (OSError, *also)
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part, lock = _begin(path)
        try:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    except WriteError:
        raise
    except errors as error:
        raise _unwritable(path, error) from None
    finally:
        if lock is not None:
            os.close(lock)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old bytes or the new ones; raises ``WriteError``."""
    with writing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """The same for text: UTF-8, line feeds as given."""
    write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _unwritable(path: Path, error: Exception) -> WriteError:
    cause = error if isinstance(error, OSError) else error.__context__
    reason = (cause.strerror if isinstance(cause, OSError) else None) or str(error).partition("\n")[0]
    failed = WriteError(f"{path} cannot be written ({reason}): make room, or choose another place.")
    failed.strerror = reason
    return failed


def _begin(path: Path) -> tuple[Path, int | None]:
    """A temporary file for ``path`` that no living writer has, and the open handle that holds its lock."""
    for number in itertools.count():
        part = path.with_name(f"{PREFIX}{path.name}-{number}")
        part.touch()
        try:
            lock = _lock(part, wait=False)
            if lock is None:
                break
            if os.path.samestat(os.fstat(lock), part.stat()):  # else its writer renamed it before it was locked
                return part, lock
            os.close(lock)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # a file system without locks
            break
    part.unlink(missing_ok=True)
    return path.with_name(f"{PREFIX}{path.name}-{uuid.uuid4().hex[:8]}"), None


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
