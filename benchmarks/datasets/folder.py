"""``folder:PATH``: the image files of any folder, subfolders included."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Found, Split, dataset
from benchmarks.datasets.files import found, image_files


@dataset(
    "folder",
    splits={"all": Split(trainable=True)},
    license="the folder's own",
    manual="a folder of PNG, JPEG, WebP, TIFF, BMP, PPM or GIF files is what it takes",
    argument="PATH",
)
def folder(path: Path, split: str) -> Found | None:
    """Every image file below the path, in natural order; each is decoded once, so that broken ones are known."""
    images = image_files(path, "**/*")
    return found(images, f"folder {path.resolve().name}")
