"""Data sets: a function that finds images, and the facts that every table must carry about them.

A data set is one decorated function in one file of this folder::

    @dataset("tecnick", splits={"test": Split(100)}, license="...", manual="...")
    def tecnick(folder: Path, split: str) -> Found | None:
        return found(image_files(folder))    # None where there is nothing
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from core.codec import Image, TesseraError
from core.registry import Registry

SHOWN = 3  # pictures that are left out and named before work starts
NAMED = 3  # images of a part of a split that its title names


class MissingData(TesseraError):
    """Images that are not here: the text says what, where it was looked for, and the command that gets it."""


@dataclass(frozen=True)
class NamedImage:
    """One image, read when asked: ``data`` gives its stored bytes, ``decode`` makes them an image.

    In sets whose name takes an argument, ``decode`` also takes ``convert=``, a ``core.images.Conversion``. ``files``
    are those that the bytes lie in: while they stay as they are, so do the bytes. Empty: not known.
    """

    name: str
    data: Callable[[], bytes] = field(repr=False)
    decode: Callable[..., Image] = field(repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)

    def read(self) -> Image:
        """The image, uint8 (H, W, C); raises ``core.images.ImageError`` when its file cannot be used."""
        return self.decode(self.data())

    def sha256(self) -> str:
        """Hex digest of the stored bytes: the file's, or the samples' where a set is one array."""
        return hashlib.sha256(self.data()).hexdigest()


@dataclass(frozen=True)
class ImageSet:
    """The images of one split, lazily read, with what may be claimed about them.

    ``title`` is the wording for every table and legend ('cifar10, first 1000 test'); ``subset`` tells that it is not
    the complete official split; ``private`` that its pictures must never be stored or published; ``overlaps`` names
    data sets that show the same pictures in another size, which no pixel fingerprint can notice; ``left_out`` has one
    sentence for each file that cannot be used; ``limit`` is the limit asked for where it left images out, else None.
    """

    name: str
    split: str
    title: str
    images: tuple[NamedImage, ...] = field(repr=False)
    subset: bool
    license: str
    trainable: bool = False
    private: bool = False
    note: str = ""
    overlaps: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    limit: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NamedImage]:
        return iter(self.images)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the digests and names of the images, in order: one hash that verifies the set."""
        return fingerprint(self.images)

    def checked(self) -> ImageSet:
        """The same set after every image was decoded once: those that are refused are moved to ``left_out``."""
        good, refused = [], list(self.left_out)
        for image in self.images:
            try:
                image.read()
                good.append(image)
            except TesseraError as error:
                refused.append(str(error))
        lost = len(self.images) - len(good)
        if not lost:
            return self
        title = f"{self.title}, {lost} left out"
        return replace(self, title=title, images=tuple(good), subset=True, left_out=tuple(refused))

    def refused(self) -> str:
        """What is left out, in one sentence with the first reasons; '' where nothing is."""
        if not self.left_out:
            return ""
        first = " ".join(f"{sentence.rstrip('.')}." for sentence in self.left_out[:SHOWN])
        more = f" ({len(self.left_out) - SHOWN} more.)" if len(self.left_out) > SHOWN else ""
        total = len(self) + len(self.left_out)
        return f"left out: {len(self.left_out)} of {total} pictures of {self.name}: {first}{more}"


def fingerprint(images: tuple[NamedImage, ...]) -> str:
    """SHA-256 over lines 'digest  name', as ``sha256sum`` prints them."""
    return fingerprint_of((image.sha256(), image.name) for image in images)


def fingerprint_of(digests: Iterable[tuple[str, str]]) -> str:
    """The fingerprint of a set from the digest and the name of each image, in order."""
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in digests).encode()).hexdigest()


@dataclass(frozen=True)
class Found:
    """What a data set's function found, with a ``title`` if these are not the first ones of the official split."""

    images: tuple[NamedImage, ...]
    title: str = ""
    note: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """The official split: its number of images (0: unknown) and, where known, the fingerprint of the complete set.

    ``start`` is the number in the name of its first image where names count up one by one, None where they do not.
    ``overlaps`` are those of this split where they are not the data set's.
    """

    count: int = 0
    trainable: bool = False
    fingerprint: str = ""
    start: int | None = None
    overlaps: tuple[str, ...] | None = None

    def begins_with(self, names: Sequence[str]) -> bool:
        """Whether these can only be the split's first images: their names count up from its first."""
        numbers = [re.search(r"(\d+)$", name) for name in names]
        return self.start is not None and [n and int(n[1]) for n in numbers] == [
            *range(self.start, self.start + len(names))
        ]


@dataclass(frozen=True)
class Download:
    """A file that ``experiments.prepare`` can fetch for the given splits.

    ``members`` is a pattern of the archive's members (``valid/*.png``) that go, without their folders, to ``into``
    below the data set's folder; with no pattern the file is kept there as it is.
    """

    url: str
    sha256: str = ""
    size: int = 0
    name: str = ""  # of the file; empty: the last part of the URL
    splits: tuple[str, ...] = ()  # empty: all
    members: str = ""
    into: str = "."

    @property
    def file(self) -> str:
        """The file's name, also looked for in DATA_ROOT/downloads/manual."""
        return self.name or self.url.rpartition("/")[2]


Finder = Callable[[Path, str], "Found | None"]


@dataclass(frozen=True)
class Dataset:
    """A registered data set; ``open_dataset`` turns it into an ``ImageSet``."""

    name: str
    find: Finder
    splits: Mapping[str, Split]
    license: str
    default: tuple[str, ...]  # splits tried in order when none is named; the decorator's default is the first one
    folder: str  # below the data root; the decorator's default is the name
    downloads: tuple[Download, ...] = ()
    manual: str = ""  # a sentence for what cannot be downloaded by a program
    private: bool = False
    overlaps: tuple[str, ...] = ()
    embedded: bool = False  # needs no data root
    argument: str = ""  # what follows the colon in the name ('PATH' in folder:PATH); such a set has no folder
    roots: Callable[[], list[Path]] = list  # further data roots

    def title(self, split: str, names: Sequence[str], whole: bool, first: bool) -> str:
        """'cifar10 test' for a complete split, 'cifar10, first 9 test' for its beginning, 'kodak' for the only one.

        Others of a split are named where they are few: 'kodak, 2 of 24 (kodim05, kodim06)', 'kodak, 9 of 24'.
        """
        count = self.splits[split].count
        some = f"first {len(names)}" if first else f"{len(names)} of {count}" if count else f"{len(names)} images"
        said = "" if len(self.splits) == 1 else f" {split}"
        listed = f" ({', '.join(names)})" if not whole and not first and len(names) <= NAMED else ""
        return f"{self.name}{said}" if whole else f"{self.name}, {some}{said}{listed}"


DATASETS: Registry[Dataset] = Registry("data set")


def dataset(
    name: str,
    *,
    splits: Mapping[str, Split],
    license: str,
    default: tuple[str, ...] = (),
    folder: str = "",
    downloads: tuple[Download, ...] = (),
    manual: str = "",
    private: bool = False,
    overlaps: tuple[str, ...] = (),
    embedded: bool = False,
    argument: str = "",
    roots: Callable[[], list[Path]] = list,
) -> Callable[[Finder], Finder]:
    """Decorator: register a function (folder, split) -> Found | None as the data set ``name`` (see ``Dataset``)."""

    def add(find: Finder) -> Finder:
        facts = Dataset(
            name,
            find,
            splits,
            license,
            default or tuple(splits)[:1],
            folder or name,
            downloads,
            manual,
            private,
            overlaps,
            embedded,
            argument,
            roots,
        )
        DATASETS.register(name)(facts)
        return find

    return add
