"""Get a data set and verify it, into the layout its loader reads."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

from benchmarks.datasets import DATASETS, Dataset, Download, ImageSet, MissingData, data_roots, open_dataset, parse_name
from core import atomic, manual
from core.codec import TesseraError
from core.download import CONNECT_S, READ_S, Expected, fetch, verify
from core.options import check_text
from core.registry import unknown

KEYS = ("connect_s", "data_root", "dataset", "read_s", "split", "url")


class PrepareError(TesseraError):
    """A data set could not be prepared; the text says what to do."""


def prepare(
    dataset: str,
    root: str | Path | None = None,
    split: str | None = None,
    url: str | None = None,
    connect_s: float = CONNECT_S,
    read_s: float = READ_S,
) -> ImageSet:
    """Fetch, verify and unpack a data set below ``root`` unless it is there, and return its images.

    ``split``: one split, or the set's default one. ``url``: the address of a folder with the same files. ``connect_s``
    and ``read_s``: seconds without a connection or without data before giving up. Raises ``PrepareError``,
    ``core.download.DownloadError`` or ``MissingData``.
    """
    facts, argument, split = parse_name(dataset, split)
    home = data_roots(root)[0]
    ready = None if argument else _complete(facts, home, split)
    if ready is not None:
        return ready
    if argument or not facts.downloads:
        return open_dataset(dataset, root=root, split=split)  # its MissingData says how these come about
    wanted = split or facts.default[0]
    files = [d for d in facts.downloads if not d.splits or wanted in d.splits]
    if not files:
        raise PrepareError(f"{facts.name} {wanted} cannot be downloaded: {facts.manual or 'it is no official split'}.")
    for number, file in enumerate(files, 1):
        print(f"{facts.name}: {file.file} ({number} of {len(files)})", flush=True)
        _install(facts, file, home, url, (connect_s, read_s))
    _remove_archives(files, home)
    return _verified(facts, home, wanted)


def _complete(facts: Dataset, home: Path, split: str | None) -> ImageSet | None:
    """The set if it is complete under ``home``."""
    try:
        images = open_dataset(facts.name, root=home, split=split or facts.default[0])
    except MissingData:
        return None
    return None if images.subset and facts.splits[images.split].count else images


def _install(facts: Dataset, file: Download, home: Path, url: str | None, timeouts: tuple[float, float]) -> None:
    """Bring one file to its place, from downloads/manual or the network; an archive is unpacked there."""
    folder = home / facts.folder / file.into
    manual = home / "downloads" / "manual" / file.file
    kept = folder / file.file
    if not file.members and kept.is_file() and _is_good(kept, file):
        return
    archive = manual if manual.is_file() else home / "downloads" / file.file
    if manual.is_file():
        verify(manual, Expected(file.file, file.size, file.sha256))
    elif not (archive.is_file() and _is_good(archive, file)):
        if "drive.google.com" in file.url and url is None:
            raise PrepareError(f"{facts.manual}: download {file.url} and put it at {manual}, then run this again.")
        source = f"{url.rstrip('/')}/{file.file}" if url else file.url
        fetch(source, archive, file.size, file.sha256, manual, timeouts)
    if file.members:
        unpack(archive, file.members, folder)
    else:
        _place(archive, kept, keep=archive == manual)


def _is_good(path: Path, file: Download) -> bool:
    """Whether a file that was renamed into place (so it was complete) is the published one, as far as can be told."""
    return not file.sha256 or atomic.sha256(path) == file.sha256


def _place(source: Path, target: Path, keep: bool) -> None:
    """Move (or copy, when ``keep``) a verified file to its place under a temporary name, renamed last."""
    with atomic.writing(target) as part:
        (shutil.copyfile if keep else shutil.move)(source, part)


def _remove_archives(files: Iterable[Download], home: Path) -> None:
    for file in files:
        (home / "downloads" / file.file).unlink(missing_ok=True)


def _verified(facts: Dataset, home: Path, split: str) -> ImageSet:
    """The prepared set, after its count and, where known, the hash over the set were compared."""
    images = open_dataset(facts.name, root=home, split=split)
    official = facts.splits[split]
    if images.left_out:
        raise PrepareError(images.left_out[0])
    if official.count and len(images) != official.count:
        raise PrepareError(
            f"{home / facts.folder} has {len(images)} images of {facts.name} {split}, not {official.count}; "
            "delete the folder and run this again."
        )
    if official.fingerprint and images.fingerprint != official.fingerprint:
        raise PrepareError(
            f"the files of {facts.name} {split} in {home / facts.folder} are not the published ones (the hash over the "
            "set differs); delete the folder and run this again."
        )
    return images


def unpack(archive: Path, pattern: str, folder: Path) -> None:
    """Put the members of a zip or tar archive whose path or name matches ``pattern`` into ``folder``, without folders.

    An archive with an absolute path, a path through '..' or two files of one name is refused as a whole, and nothing
    appears in ``folder`` before everything is unpacked.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        for member, file in _members(archive):
            path = PurePosixPath(member)
            if path.is_absolute() or ".." in path.parts or "\\" in member:
                raise PrepareError(f"{archive} holds the unsafe path '{member}' and was not unpacked; delete it.")
            if not (fnmatch(member, pattern) or fnmatch(path.name, pattern)) or "__MACOSX" in path.parts:
                continue
            if (part / path.name).exists():
                raise PrepareError(f"{archive} holds two files called {path.name} and was not unpacked; delete it.")
            with (part / path.name).open("wb") as target:
                shutil.copyfileobj(file, target, 2**20)
        _move_files(part, folder, archive, pattern)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise PrepareError(f"{archive} is damaged ({error}); delete it and run this again.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Path and open file of every regular member; links and devices are left out."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    with packed.open(info) as file:
                        yield info.filename, file
        return
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name, stream


def _move_files(part: Path, folder: Path, archive: Path, pattern: str) -> None:
    files = sorted(part.iterdir())
    if not files:
        raise PrepareError(f"{archive} holds no file like '{pattern}'; it is not the expected archive, delete it.")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.replace(folder / file.name)


def catalogue() -> str:
    """One line for each data set: name, splits with their number of images, licence."""
    lines = []
    for name, facts in sorted(DATASETS.items()):
        splits = ", ".join(f"{split} {s.count or ''}".strip() for split, s in facts.splits.items())
        lines.append(f"{name + (':' + facts.argument if facts.argument else ''):18} {splits}\n{'':18} {facts.license}")
    return "\n".join(lines)


def parse(tokens: list[str]) -> dict[str, str]:
    """The ``key=value`` tokens after ``with``, as Sacred users write them."""
    options = {}
    for token in tokens:
        key, equals, value = token.partition("=")
        if token == "with":
            continue
        if not equals or not value:
            raise PrepareError(f"'{token}' is not key=value; write for example 'with dataset=kodak'.")
        if key not in KEYS:
            raise unknown("setting", key, KEYS)
        check_text(key, value, "")
        options[key] = value
    return options


def main(tokens: list[str]) -> int:
    """Run ``with key=value ...``; returns the exit code (2: a sentence on stderr says what to do)."""
    try:
        options = {} if tokens in (["help"], ["--help"], ["-h"]) else parse(tokens)
        if "dataset" not in options:
            print(f"{manual.docstring(Path(__file__).with_name('__main__.py'))}\n\n{catalogue()}")
            return 0
        seconds = {key: float(options[key]) for key in ("connect_s", "read_s") if key in options}
        for name in options["dataset"].split(","):
            images = prepare(name, options.get("data_root"), options.get("split"), options.get("url"), **seconds)
            print(f"{images.title}: {len(images)} images ready. Terms: {images.license}.", flush=True)
    except TesseraError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command resumes the download.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        print(f"{error}; free or choose another data_root, or correct the setting.", file=sys.stderr)
        return 2
    return 0
