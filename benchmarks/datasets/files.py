"""Images inside folders, archives and arrays, as ``NamedImage`` tuples in a fixed order.

Every function answers an empty tuple where there is nothing, so that finders can try one layout after another.
"""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets.base import Found, NamedImage
from core.codec import Image, TesseraError
from core.images import AS_STORED, Conversion, decode_image

_FORMATS = "png jpg jpeg webp bmp tif tiff ppm pgm pnm pbm gif avif heic heif hif jp2 j2k j2c jpc jpf jxl sgi rgb bw"
SUFFIXES = frozenset(f".{name}" for name in (*_FORMATS.split(), "qoi"))
Array = NDArray[np.uint8]


class DataError(TesseraError):
    """A data file that is here but cannot be used; the text names it and says what to do."""


def found(images: tuple[NamedImage, ...], title: str = "", note: str = "") -> Found | None:
    """``Found`` for images, or None where there are none."""
    return Found(images, title, note) if images else None


def is_image(name: str) -> bool:
    """Whether a file's name looks like an image; hidden files and macOS resource forks do not."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts


def natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts 2.png before 10.png."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def labels(paths: list[str]) -> list[str]:
    """Short unique names without slashes for relative paths: without suffixes where that suffices, else numbered."""
    whole = [path.replace("/", "-") for path in paths]
    bare = [name.rpartition(".")[0] for name in whole]
    for names in (bare, whole):
        if len(set(names)) == len(names):
            return names
    return [f"{i:05d}-{name}" for i, name in enumerate(whole)]


def image_files(folder: Path, pattern: str = "*") -> tuple[NamedImage, ...]:
    """The image files of a folder that match a glob pattern (``**/*`` descends), in natural order of their names.

    Links are followed, to folders, too. A link to nothing is an image that cannot be read.
    """
    if not folder.is_dir():
        return ()
    entries = below(folder) if pattern == "**/*" else folder.glob(pattern)
    paths = [p.relative_to(folder).as_posix() for p in entries if is_image(p.name) and not p.is_dir()]
    paths.sort(key=natural)
    return tuple(file_image(folder / path, name) for path, name in zip(paths, labels(paths), strict=True))


def below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Everything but folders below a folder, through links, too; a link back to a folder above it is not followed.

    Raises ``DataError`` for a folder that cannot be read.
    """
    try:
        real, entries = folder.resolve(), sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror or error}); make it readable or move it.") from error
    if real in above:
        return
    for entry in entries:
        if entry.is_dir():
            yield from below(entry, above | {real})
        else:
            yield entry


def file_image(path: Path, name: str) -> NamedImage:
    """The image in one file, under a name."""
    return NamedImage(name, partial(_file_bytes, path), partial(_decode, str(path)), (path,))


def picture(path: Path, name: str, box: tuple[int, int, int, int] | None = None) -> NamedImage:
    """The picture in one file, or its part (x, y, width, height), whose stored bytes are those of a binary PNM of it.

    So the fingerprint of a set does not depend on the format that its pictures are kept in, nor on being cut already.
    """
    return NamedImage(name, partial(_pnm_bytes, path, box), partial(_decode, str(path)), (path,))


def verified(images: tuple[NamedImage, ...], digests: Mapping[str, str]) -> Found | None:
    """The images whose file has the published SHA-256; the others are left out."""
    good, other = [], []
    for image in images:
        try:
            if image.sha256() == digests.get(image.name):
                good.append(image)
                continue
            reason = f"{image.name} is not the published file (its SHA-256 differs); delete it and prepare again."
        except TesseraError as error:
            reason = str(error)
        other.append(reason)
    return Found(tuple(good), left_out=tuple(other)) if images else None


def zip_images(path: Path) -> tuple[NamedImage, ...]:
    """The images of a zip archive, read member by member."""
    if not path.is_file():
        return ()
    members = sorted((n for n in _open_zip(path, os.getpid(), state(path)).namelist() if is_image(n)), key=natural)
    names = labels([Path(member).name for member in members])
    return tuple(
        NamedImage(name, partial(_zip_bytes, path, member), partial(_decode, f"{path}:{member}"), (path,))
        for name, member in zip(names, members, strict=True)
    )


def tar_images(path: Path) -> tuple[NamedImage, ...]:
    """The images of an uncompressed tar archive, read in place after one pass over its headers."""
    if not path.is_file():
        return ()
    try:
        with tarfile.open(path, "r:") as archive:
            members = {m.name: (m.offset_data, m.size) for m in archive if m.isfile() and is_image(m.name)}
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path} is not a readable tar file ({error}); delete it and prepare again.") from error
    order = sorted(members, key=natural)
    names = labels([Path(member).name for member in order])
    return tuple(
        NamedImage(name, partial(_span_bytes, path, *members[member]), partial(_decode, f"{path}:{member}"), (path,))
        for name, member in zip(names, order, strict=True)
    )


def array_images(
    images: Array, prefix: str, files: tuple[Path, ...] = (), names: NDArray[np.str_] | None = None
) -> tuple[NamedImage, ...]:
    """One image for each entry of (N, H, W, C): 'prefix-00000', ..., or the given names. ``files`` are their source."""
    decode = partial(_from_samples, images.shape[1:])
    given = [f"{prefix}-{i:05d}" for i in range(len(images))] if names is None else labels([str(n) for n in names])
    return tuple(NamedImage(name, image.tobytes, decode, files) for name, image in zip(given, images, strict=True))


def state(*paths: Path) -> tuple[tuple[int, int, int], ...]:
    """What tells that files are the ones read before: size and times of each."""
    try:
        return tuple((s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in (path.stat() for path in paths))
    except OSError:
        return ()


def npz_array(path: Path, key: str = "images") -> Array:
    """A uint8 array (N, H, W, C) of an .npz file, read once."""
    return _npz_array(path, key, state(path))


@lru_cache(maxsize=4)
def _npz_array(path: Path, key: str, now: tuple[Any, ...]) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            images: Array = archive[key]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} has no readable array '{key}' ({error}); replace the file.") from error
    return _expect(path, images)


def idx_array(path: Path) -> Array:
    """A uint8 array (N, H, W, 1) of an idx3-ubyte file, gzipped or not, read once.

    Format: two zero bytes, type 8, three dimensions, their sizes as big-endian uint32, then the samples.
    """
    return _idx_array(path, state(path))


@lru_cache(maxsize=4)
def _idx_array(path: Path, now: tuple[Any, ...]) -> Array:
    data = _gunzip(path) if path.suffix == ".gz" else _file_bytes(path)
    if data[:4] != b"\x00\x00\x08\x03" or len(data) < 16:
        raise DataError(f"{path} is not an idx file of images; delete it and prepare again.")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", 3, 4))
    if len(data) - 16 != int(np.prod(shape, dtype=np.uint64)):
        raise DataError(f"{path} holds {len(data) - 16} samples, not {shape}; delete it and prepare again.")
    return _expect(path, np.frombuffer(data, np.uint8, offset=16).reshape(*shape, 1))


def cifar_array(*paths: Path) -> Array:
    """A uint8 array (N, 32, 32, 3) of CIFAR-10 binary files, read once.

    Format: records of one label byte and 3072 samples, channel after channel, each row by row.
    """
    return _cifar_array(paths, state(*paths))


@lru_cache(maxsize=4)
def _cifar_array(paths: tuple[Path, ...], now: tuple[Any, ...]) -> Array:
    parts = []
    for path in paths:
        data = np.frombuffer(_file_bytes(path), np.uint8)
        if data.size == 0 or data.size % 3073:
            raise DataError(f"{path} has {data.size} bytes, not records of 3073; delete it and prepare again.")
        parts.append(data.reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return np.ascontiguousarray(np.concatenate(parts))


def _expect(path: Path, images: Array) -> Array:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
        raise DataError(f"{path} holds {images.dtype} {images.shape}, not uint8 (N, H, W, 1 or 3); replace the file.")
    return images


def _decode(name: str, data: bytes, convert: Conversion = AS_STORED) -> Image:
    return decode_image(data, name, convert)


def _from_samples(shape: tuple[int, int, int], data: bytes) -> Image:
    return np.frombuffer(data, np.uint8).reshape(shape).copy()  # writable, as torch wants it


def _file_bytes(path: Path) -> bytes:
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link to nothing; mend or remove it.")
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise DataError(f"{path} is not a regular file; remove it.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the file.") from error


def _pnm_bytes(path: Path, box: tuple[int, int, int, int] | None) -> bytes:
    image = decode_image(_file_bytes(path), str(path))
    if box is not None:
        x, y, width, height = box
        image = image[y : y + height, x : x + width]
    height, width, channels = image.shape
    return b"P%d\n%d %d\n255\n" % (5 if channels == 1 else 6, width, height) + image.tobytes()


def _span_bytes(path: Path, start: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the file.") from error


def _zip_bytes(path: Path, member: str) -> bytes:
    try:
        return _open_zip(path, os.getpid(), state(path)).read(member)
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise DataError(f"{path}:{member} is damaged ({error}); delete the archive and prepare again.") from error


@lru_cache(maxsize=2)
def _open_zip(path: Path, process: int, now: tuple[Any, ...]) -> zipfile.ZipFile:
    """An archive stays open, once for each process: forked readers must not share one file position."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is not a readable zip file ({error}); delete it and prepare again.") from error


def _gunzip(path: Path) -> bytes:
    try:
        return gzip.decompress(_file_bytes(path))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete gzip file ({error}); delete it and prepare again.") from error
