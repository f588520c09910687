"""``folder:PATH``: the image files of any folder, subfolders included."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Found, Split, dataset
from benchmarks.datasets.files import found, image_files
from core.images import KNOWN


@dataset(
    "folder",
    splits={"all": Split(trainable=True)},
    license="the folder's own",
    manual=f"a folder of PNG, JPEG or other image files is what it takes ({KNOWN})",
    argument="PATH",
)
def folder(path: Path, split: str) -> Found | None:
    """Every image file below the path, in natural order; each is decoded once, so that refused ones are known."""
    images = image_files(path, "**/*")
    return found(images, f"folder {path.resolve().name}")
