"""CIFAR-10: 32x32 colour images (Krizhevsky, 2009), 50,000 for training and 10,000 for the test."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Download, Found, Split, dataset
from benchmarks.datasets.files import array_images, cifar_array, npz_array

FILES = {"test": ["test_batch.bin"], "train": [f"data_batch_{i}.bin" for i in range(1, 6)]}
FIRST = {"test": "cifar10_test_first1000.npz", "train": "cifar10_train_first4000.npz"}


@dataset(
    "cifar10",
    splits={"test": Split(10000, start=0), "train": Split(50000, trainable=True, start=0)},
    license="no licence stated by its owner (University of Toronto); cite Krizhevsky, 2009",
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170052171,
            members="cifar-10-batches-bin/*.bin",
        ),
    ),
)
def cifar10(folder: Path, split: str) -> Found | None:
    """The official binary files, as they are or in their own folder; else the beginning of a split as .npz."""
    for place in (folder, folder / "cifar-10-batches-bin"):
        paths = [place / name for name in FILES[split]]
        if all(path.is_file() for path in paths):
            return Found(array_images(cifar_array(*paths), split, tuple(paths)))
    path = folder / FIRST[split]
    return Found(array_images(npz_array(path), split, (path,))) if path.is_file() else None
