"""Pictures for training lossless models: those that were never coded with loss, or made smaller so that it is gone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Found, Split, dataset
from benchmarks.datasets.cifar10 import cifar10
from benchmarks.datasets.files import found
from benchmarks.datasets.imagenet32 import imagenet64_sample, spent
from benchmarks.datasets.photos import photos


@dataset(
    "lossless_pictures",
    splits={"train": Split(trainable=True)},
    license="of each picture of photos_train, in its manifest.csv; ImageNet terms; CIFAR-10 states none",
    folder=".",
    manual="put photos_train (with its manifest.csv), cifar10 (train) and imagenet, or some, into the data folder",
)
def lossless_pictures(folder: Path, split: str) -> Found | None:
    """The lossless photographs of ``photos``, CIFAR-10's training images, and ImageNet photographs at 64x64.

    Of the latter those alone whose photographs are trained on anyway (``photos``): the others are left to be measured.
    """
    sample = imagenet64_sample(folder / "imagenet", "train")
    parts = {
        "photos": photos(folder, "lossless"),
        "cifar10": cifar10(folder / "cifar10", "train"),
        "imagenet64_sample": found(tuple(i for i in sample.images if spent(i))) if sample else None,
    }
    images = {name: part.images if part else () for name, part in parts.items()}
    title = "lossless_pictures train (" + ", ".join(f"{len(some)} {name}" for name, some in images.items()) + ")"
    return found(tuple(image for some in images.values() for image in some), title)
