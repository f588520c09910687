"""From the name a user types to an ``ImageSet``: data roots, splits, limits, titles."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.datasets.base import DATASETS, Dataset, Found, ImageSet, MissingData, NamedImage
from core.codec import Image, TesseraError
from core.images import AS_STORED, Conversion
from core.registry import unknown

CHECKOUT = Path(__file__).resolve().parents[2]


def data_roots(root: str | Path | None = None) -> list[Path]:
    """Where data is looked for: ``root``; else TESSERA_DATA; else ./data, then ../shared/data beside the checkout.

    The first one is where ``experiments.prepare`` puts them.
    """
    if root:
        return [Path(root).expanduser()]
    if os.environ.get("TESSERA_DATA"):
        return [Path(os.environ["TESSERA_DATA"]).expanduser()]
    beside = CHECKOUT.parent / "shared" / "data"
    return [Path("data"), *([beside] if beside.is_dir() else [])]


CONVERTED = re.compile(r"(?:\+(?:alpha|depth)=[^+/]*)+$")


def split_conversion(name: str) -> tuple[str, Conversion]:
    """A name without the conversions behind it, and those: 'folder:photos+alpha=white+depth=8'."""
    found = CONVERTED.search(name)
    if found is None:
        return name, AS_STORED
    given = dict(part.split("=", 1) for part in found[0][1:].split("+"))
    if given.get("depth", "8") != "8":
        raise TesseraError(f"depth={given['depth']} must be 8.")
    if "alpha" in given and not given["alpha"]:
        raise TesseraError("alpha= must be white or black.")
    return name[: found.start()], Conversion(given.get("alpha", ""), int(given.get("depth", 0)))


def converted_name(name: str, alpha: str | None = None, depth: int | None = None) -> str:
    """The name of a data set with what is converted behind it, which makes it another data set.

    Raises ``core.images.ImageError`` for values other than white, black and 8.
    """
    base, known = split_conversion(name)
    return "+".join((base, *Conversion(alpha or known.alpha, depth or known.depth).parts))


def parse_name(name: str, split: str | None = None) -> tuple[Dataset, str, str | None]:
    """Data set, argument and split (None: not named) of a name as ``open_dataset`` takes it."""
    base, _, argument = name.partition(":")
    if base not in DATASETS and not argument:
        for candidate in DATASETS.values():
            if name in (f"{candidate.name}_{part}" for part in candidate.splits):
                base, split = candidate.name, split or name[len(candidate.name) + 1 :]
    if base not in DATASETS and not argument and (re.search(r"[/\\]", name) or Path(name).expanduser().is_dir()):
        raise TesseraError(f"dataset={name} is the path of a folder: write dataset=folder:{name}.")
    facts = DATASETS[base]
    if bool(argument) != bool(facts.argument):
        form = f"{base}:{facts.argument}" if facts.argument else base
        raise TesseraError(f"data set '{name}' must be written as '{form}'.")
    if split is not None and split not in facts.splits:
        raise unknown(f"split of {base}", split, facts.splits)
    return facts, argument, split


def open_dataset(
    name: str, limit: int | None = None, root: str | Path | None = None, split: str | None = None
) -> ImageSet:
    """The images of a data set, lazily read, with the wording for tables.

    ``name``: a registered name, a name with its split (``bsds500_train``, ``clic_mobile_test``), ``folder:PATH``,
    ``lmdb:PATH`` or ``tfds:NAME``; behind these three ``+alpha=white``, ``+alpha=black`` and ``+depth=8`` convert
    (``core.images.Conversion``). ``limit`` keeps the first images. Raises ``MissingData``,
    ``core.registry.UnknownName``, or ``DataError`` for damaged data files.
    """
    name, convert = split_conversion(name)
    facts, argument, split = parse_name(name, split)
    if convert != AS_STORED and not argument:
        raise TesseraError(
            f"{name} is measured as it is stored: {' and '.join(convert.parts)} are for folder:, lmdb: and tfds:."
        )
    if limit is not None and limit < 1:
        raise TesseraError(f"limit={limit} leaves no image of {name}; give at least 1 or leave it out.")
    places = _places(facts, argument, root)
    for candidate in (split,) if split else facts.default:
        for place in places:
            found = facts.find(place, candidate)
            if found is not None:
                return _image_set(
                    facts, name if argument else facts.name, candidate, _as(convert, found), limit, convert
                )
    raise MissingData(_missing(name, split, facts, places))


def training_set(name: str, root: str | Path | None = None, limit: int | None = None) -> ImageSet:
    """The images to train on.

    Without a split in the name it is the default split if that is for training, else ``train``. Evaluation splits are
    refused.
    """
    facts, _, split = parse_name(split_conversion(name)[0])
    known = [other for other, s in facts.splits.items() if s.trainable]
    images = open_dataset(name, limit, root, split or next((s for s in (*facts.default, "train") if s in known), None))
    if not images.trainable:
        offer = f"train on {', '.join(f'{facts.name}_{k}' for k in known)}" if known else "choose a training set"
        raise TesseraError(f"{name} is for evaluation only; {offer}.")
    return images


def fingerprints(images: Iterable[NamedImage | Image]) -> list[str]:
    """Sorted hex SHA-256 of each image's shape and samples: equal pictures have equal digests, whatever their files."""
    return sorted(_pixels_sha256(image.read() if isinstance(image, NamedImage) else image) for image in images)


def _pixels_sha256(image: Image) -> str:
    digest = hashlib.sha256(repr(tuple(image.shape)).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _places(facts: Dataset, argument: str, root: str | Path | None) -> list[Path]:
    """The folders a data set's function looks into, in order."""
    if facts.argument == "PATH":
        return [Path(argument).expanduser()]
    if facts.embedded:
        return [Path()]
    return [place / (argument or facts.folder) for place in [*data_roots(root), *facts.roots()]]


def _as(convert: Conversion, found: Found) -> Found:
    """What was found, its images converted when they are read."""
    if convert == AS_STORED:
        return found
    return replace(found, images=tuple(replace(i, decode=partial(i.decode, convert=convert)) for i in found.images))


def _image_set(
    facts: Dataset, name: str, split: str, found: Found, limit: int | None, convert: Conversion = AS_STORED
) -> ImageSet:
    """The ``ImageSet`` of what was found; a set of files of unknown origin is decoded once to find what is refused."""
    official = facts.splits[split]
    images = found.images[:limit]
    names = [image.name for image in images]
    cut = len(images) < len(found.images)
    complete = len(found.images) + len(found.left_out) == official.count
    whole = not found.title and not cut and not found.left_out and complete
    first = (cut and complete and not found.left_out) or official.begins_with(names)
    if found.title:
        title = f"{found.title}, first {len(images)}" if cut else found.title
    else:
        title = facts.title(split, names, complete and not cut, first)
    title = ", ".join((title, *convert.parts))
    if found.left_out:
        title += f", {len(found.left_out)} left out"
    result = ImageSet(
        name="+".join((name, *convert.parts)),
        split=split,
        title=title,
        images=images,
        subset=not whole and not (facts.argument and not cut),
        license=facts.license,
        trainable=official.trainable,
        private=facts.private,
        note=found.note,
        overlaps=facts.overlaps if official.overlaps is None else official.overlaps,
        left_out=found.left_out,
        limit=limit if cut else None,
    )
    result = result.checked() if facts.argument == "PATH" else result
    if not result.images:
        raise MissingData(f"no image of {name} can be used: {result.left_out[0]}")
    return result


def _missing(name: str, split: str | None, facts: Dataset, places: list[Path]) -> str:
    looked = "the installed packages" if facts.embedded else " and ".join(str(place) for place in places)
    what = f"{name}{f' ({split})' if split and not name.endswith(split) else ''}"
    if facts.downloads:
        option = f" split={split}" if split and split not in facts.default else ""
        remedy = (
            f"run 'python -m experiments.prepare with dataset={facts.name}{option}', or set data_root or TESSERA_DATA"
        )
    else:
        remedy = facts.manual
    return f"no images of {what} in {looked}: {remedy}."
