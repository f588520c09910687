"""From the name a user types to an ``ImageSet``: data roots, splits, limits, titles."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets.base import DATASETS, Dataset, Found, ImageSet, MissingData, NamedImage
from core.codec import Image, TesseraError
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


def parse_name(name: str, split: str | None = None) -> tuple[Dataset, str, str | None]:
    """Data set, argument and split (None: not named) of a name as ``open_dataset`` takes it."""
    base, _, argument = name.partition(":")
    if base not in DATASETS and not argument:
        for candidate in DATASETS.values():
            if name in (f"{candidate.name}_{part}" for part in candidate.splits):
                base, split = candidate.name, split or name[len(candidate.name) + 1 :]
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

    ``name``: a registered name, a name with its split (``bsds500_train``, ``clic_mobile_test``), ``folder:PATH`` or
    ``tfds:NAME``. ``limit`` keeps the first images. Raises ``MissingData``, ``core.registry.UnknownName``, or
    ``DataError`` for damaged data files.
    """
    facts, argument, split = parse_name(name, split)
    if limit is not None and limit < 1:
        raise TesseraError(f"limit={limit} leaves no image of {name}; give at least 1 or leave it out.")
    places = _places(facts, argument, root)
    for candidate in (split,) if split else facts.default:
        for place in places:
            found = facts.find(place, candidate)
            if found is not None:
                return _image_set(facts, name if argument else facts.name, candidate, found, limit)
    raise MissingData(_missing(name, split, facts, places))


def training_set(name: str, root: str | Path | None = None, limit: int | None = None) -> ImageSet:
    """The images to train on.

    Without a split in the name it is the default split if that is for training, else ``train``. Evaluation splits are
    refused.
    """
    facts, _, split = parse_name(name)
    known = [other for other, s in facts.splits.items() if s.trainable]
    images = open_dataset(name, limit, root, split or next((s for s in (*facts.default, "train") if s in known), None))
    if not images.trainable:
        offer = f"train on {', '.join(f'{facts.name}_{k}' for k in known)}" if known else "choose a training set"
        raise TesseraError(f"{name} is for evaluation only; {offer}.")
    return images


def training_arrays(
    name: str, root: str | Path | None = None, limit: int | None = None
) -> NDArray[np.uint8] | list[Image]:
    """All images of a ``training_set`` in memory: one array (N, H, W, C) where the sizes agree, else a list."""
    arrays = [image.read() for image in training_set(name, root, limit)]
    return np.stack(arrays) if len({a.shape for a in arrays}) == 1 else arrays


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


def _image_set(facts: Dataset, name: str, split: str, found: Found, limit: int | None) -> ImageSet:
    """The ``ImageSet`` of what was found; a set of files of unknown origin is decoded once to find the broken ones."""
    official = facts.splits[split]
    images = found.images[:limit]
    names = [image.name for image in images]
    cut = len(images) < len(found.images)
    complete = len(found.images) + len(found.broken) == official.count
    whole = not found.title and not cut and not found.broken and complete
    first = (cut and complete and not found.broken) or official.begins_with(names)
    if found.title:
        title = f"{found.title}, first {len(images)}" if cut else found.title
    else:
        title = facts.title(split, names, complete and not cut, first)
    if found.broken:
        title += f", {len(found.broken)} broken left out"
    result = ImageSet(
        name=name,
        split=split,
        title=title,
        images=images,
        subset=not whole and not (facts.argument and not cut),
        license=facts.license,
        trainable=official.trainable,
        private=facts.private,
        note=found.note,
        overlaps=facts.overlaps,
        broken=found.broken,
    )
    result = result.checked() if facts.argument == "PATH" else result
    if not result.images:
        raise MissingData(f"no image of {name} can be used: {result.broken[0]}")
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
