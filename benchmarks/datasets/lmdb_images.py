"""``lmdb:PATH``: the image files in an LMDB data set as McQuic 0.1 makes it (``python -m vq dataset``).

Keys are whole numbers from 0 as 32 bytes in the machine's byte order, values the bytes of image files;
``metadata.json`` holds their number and the SHA-256 of ``data.mdb``.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import Found, NamedImage, Split, dataset
from benchmarks.datasets.files import DataError, found, state
from core.atomic import sha256
from core.codec import Image
from core.images import AS_STORED, Conversion, decode_image

DATA = "data.mdb"
KEY_BYTES = 32


def key(number: int) -> bytes:
    """The key of an image."""
    return number.to_bytes(KEY_BYTES, sys.byteorder)


_OPEN: dict[Path, tuple[Any, Any]] = {}  # environments by folder, each with the state of its file


def opened(path: Path) -> Any:
    """The data set's environment, for reading; one per process, opened again when its file was replaced."""
    now = state(path / DATA)
    if path not in _OPEN or _OPEN[path][0] != now:
        if path in _OPEN:
            _OPEN.pop(path)[1].close()  # LMDB opens a folder once in a process
        _OPEN[path] = now, _environment(path)
    return _OPEN[path][1]


def _environment(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise DataError(f"{path} needs the package lmdb: pip install lmdb.") from None
    verified = _verified(path)
    try:
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False)
    except lmdb.Error as error:
        raise DataError(f"{path} cannot be opened as LMDB ({error}): build it again.") from None
    if not verified:
        refuse_cut(environment, path)
    return environment


def refuse_cut(environment: Any, path: Path) -> None:
    """Close an environment and raise ``DataError`` when its file is shorter than its pages: reading it would crash."""
    whole = environment.stat()["psize"] * (environment.info()["last_pgno"] + 1)
    if (size := (path / DATA).stat().st_size) < whole:
        environment.close()
        raise DataError(f"{path / DATA} has {size} bytes of {whole}: delete {path} and build the data set again.")


def _verified(path: Path) -> bool:
    """Whether the file is the one its metadata describe, False where they have no hash.

    LMDB maps the file into memory and believes what it says: reading a damaged one ends the process with a signal.
    Raises ``DataError`` for another file.
    """
    _, digest = metadata(path)
    if not digest:
        return False
    try:
        same = sha256(path / DATA) == digest
    except OSError as error:
        raise DataError(f"{path / DATA} cannot be read ({error.strerror or error}); check the file.") from error
    if not same:
        size = (path / DATA).stat().st_size
        raise DataError(
            f"{path / DATA} ({size} bytes) is cut or damaged, its SHA-256 differs: build the data set again."
        )
    return True


def metadata(path: Path) -> tuple[int, str]:
    """How many images a data set says that it has, and the SHA-256 of its ``data.mdb``, '' where it does not say it."""
    try:
        stored = json.loads((path / "metadata.json").read_text())
        return int(stored["length"]), str(stored.get("hash") or "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path / 'metadata.json'} is missing or damaged: build the data set again.") from None


def stored_bytes(path: Path, number: int) -> bytes:
    """The file of an image."""
    with opened(path).begin() as transaction:
        value = transaction.get(key(number))
    if value is None:
        raise DataError(f"{path} has no image {number}: build the data set again.")
    return bytes(value)


def _decode(path: Path, number: int, data: bytes, convert: Conversion = AS_STORED) -> Image:
    return decode_image(data, f"{path}, image {number}", convert)


@dataset(
    "lmdb",
    splits={"all": Split(trainable=True)},
    license="that of the images",
    manual="a folder made by python -m vq dataset, or by the published tool, is what it takes",
    argument="PATH",
)
def lmdb_images(path: Path, split: str) -> Found | None:
    """Every image, in order of the keys."""
    if not (path / DATA).exists():
        return None
    length, _ = metadata(path)
    entries = opened(path).stat()["entries"]
    if entries != length:
        raise DataError(f"{path} holds {entries} images and its metadata say {length}: build it again.")
    files = (path / DATA,)
    images = (
        NamedImage(f"{i:07d}", partial(stored_bytes, path, i), partial(_decode, path, i), files) for i in range(length)
    )
    return found(tuple(images), f"lmdb {path.resolve().name}")
