"""FFHQ: faces from Flickr (Karras et al., 2019) at 128x128, 1024x1024, and some at 256x256."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Found, Split, dataset
from benchmarks.datasets.files import found, image_files

OFFICIAL = {"thumbnails128": "thumbnails128x128", "images1024": "images1024x1024"}
TRAINING = 60000  # NVIDIA's training set: images 00000 to 59999


@dataset(
    "ffhq",
    splits={
        "thumbnails128": Split(70000, start=0),
        "images1024": Split(70000, start=0),
        "images256": Split(),
        "train": Split(TRAINING, trainable=True, start=0),
    },
    default=("thumbnails128",),
    license=(
        "pictures CC BY 2.0, CC BY-NC 2.0, Public Domain, CC0 or U.S. Government Works by their Flickr authors; "
        "data set CC BY-NC-SA 4.0 by NVIDIA, non-commercial"
    ),
    manual=(
        "github.com/NVlabs/ffhq-dataset gives it with download_ffhq.py (--thumbs or --images); move thumbnails128x128 "
        "or images1024x1024 into the ffhq folder of the data root"
    ),
)
def ffhq(folder: Path, split: str) -> Found | None:
    """The official folders (thousands below thumbnails128x128 or images1024x1024), or flat ones named as the split.

    ``train`` are the first 60,000 of the larger ones that are here, which the other splits contain.
    """
    if split == "train":
        every = ffhq(folder, "images1024") or ffhq(folder, "thumbnails128")
        return every and found(tuple(i for i in every.images if _number(i.name) < TRAINING))
    if split == "images256":
        images = image_files(folder / split)
        return found(images, f"ffhq, {len(images)} images downsampled to 256x256 by others")
    return found(image_files(folder / OFFICIAL[split], "**/*") or image_files(folder / split, "**/*"))


def _number(name: str) -> int:
    """The number in an official file name such as 00000/00012.png."""
    stem = Path(name).stem
    return int(stem) if stem.isdigit() else TRAINING
