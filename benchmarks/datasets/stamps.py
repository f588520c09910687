"""Fingerprints of image sets without reading what did not change: remembered by name, place, size and times of files.

Reading 10,000 pictures to learn that they are those of last time takes minutes; asking the file system takes a
fraction of a second. One small file per state of a set, written at once, so that any number of processes may share it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.datasets.base import ImageSet
from core import atomic

SETTLED_NS = 2_000_000_000  # a file may change again within the grain of its times: so young ones are read


def fingerprint(images: ImageSet, folder: Path) -> str:
    """``images.fingerprint``, from ``folder`` where the files are as they were; else from the pictures themselves."""
    before = stamp(images)
    if before is None:
        return images.fingerprint
    path = folder / before
    with suppress(OSError, ValueError):
        known = path.read_text(encoding="utf-8").strip()
        if re.fullmatch(r"[0-9a-f]{64}", known):
            return known
    found = images.fingerprint
    if folder.parent.is_dir() and stamp(images) == before:
        with suppress(OSError):  # a folder that cannot be written costs time alone
            atomic.write_text(path, f"{found}\n")
    return found


def stamp(images: ImageSet) -> str | None:
    """What names the present state of the files of a set, or None in doubt.

    In doubt: images whose files are not known, files that cannot be asked, and files that changed a moment ago. The
    time of the last change of a file's entry (``ctime``) counts, too: it shows a picture whose own time was set back.
    """
    states: dict[Path, str] = {}
    youngest, digest = 0, hashlib.sha256(f"{images.name} {images.split}\n".encode())
    for image in images:
        for path in image.files:
            if path in states:
                continue
            try:
                s = path.stat()
            except OSError:
                return None
            youngest = max(youngest, s.st_mtime_ns, s.st_ctime_ns)
            states[path] = f"{os.path.abspath(path)} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}\n"  # noqa: PTH100
        if not image.files:
            return None
        digest.update("".join([image.name, "\n", *(states[path] for path in image.files)]).encode())
    return digest.hexdigest()[:32] if youngest < time.time_ns() - SETTLED_NS else None
