"""Photographs for training: openly licensed ones, ImageNet's and BSDS500, joined; a part is held out for validation."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from benchmarks.datasets.base import Found, NamedImage, Split, dataset
from benchmarks.datasets.bsds500 import bsds500
from benchmarks.datasets.files import DataError, found, image_files

HELD_OUT = 16  # of 256: photographs whose hash begins with a byte below this are for validation


@dataset(
    "photos",
    splits={"train": Split(trainable=True), "valid": Split(), "lossless": Split(trainable=True)},
    license="of each picture, in manifest.csv of its folder; non-commercial research",
    folder=".",
    manual="put photos_train (with its manifest.csv), imagenet_photos and bsds500, or some, into the data folder",
)
def photos(folder: Path, split: str) -> Found | None:
    """photos_train/, imagenet_photos/ and bsds500/ below the data folder, as far as they are there.

    ``valid`` holds one photograph of sixteen of photos_train, by the hash of its source (column ``blob``), so that no
    crop of it is trained on. ``lossless`` are the pictures of photos_train that were never coded with loss.
    """
    open_photos = _photos_train(folder / "photos_train", split)
    if split != "train":
        return found(open_photos, f"photos {split}, {len(open_photos)} photographs")
    bsds = bsds500(folder / "bsds500", "trainval")
    parts = {
        "photos_train": open_photos,
        "imagenet_photos": image_files(folder / "imagenet_photos"),
        "bsds500": bsds.images if bsds else (),
    }
    if not any(parts.values()):
        return None
    title = "photos train (" + ", ".join(f"{len(images)} {name}" for name, images in parts.items()) + ")"
    return found(tuple(image for images in parts.values() for image in images), title)


def _photos_train(folder: Path, split: str) -> tuple[NamedImage, ...]:
    images = image_files(folder)
    if not images:
        return ()
    try:
        with (folder / "manifest.csv").open(newline="") as file:
            rows = {Path(row["file"]).stem: row for row in csv.DictReader(file)}
        chosen = [i for i in images if _belongs(rows[i.name], split)]
    except (OSError, KeyError) as error:
        raise DataError(f"{folder}/manifest.csv does not list every picture ({error}); restore the folder.") from None
    return tuple(chosen)


def _belongs(row: dict[str, str], split: str) -> bool:
    held_out = hashlib.sha256((row["blob"] or row["file"]).encode()).digest()[0] < HELD_OUT
    if split == "lossless":
        return not held_out and row["lossless"] == "1"
    return held_out == (split == "valid")
