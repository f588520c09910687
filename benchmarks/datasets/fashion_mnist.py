"""Fashion-MNIST: 28x28 grey images (Xiao et al., 2017), 60,000 for training and 10,000 for the test."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Download, Found, Split, dataset
from benchmarks.datasets.files import array_images, idx_array

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = {"test": "t10k-images-idx3-ubyte", "train": "train-images-idx3-ubyte"}


@dataset(
    "fashion_mnist",
    splits={"test": Split(10000, start=0), "train": Split(60000, trainable=True, start=0)},
    license="MIT, Copyright (c) 2017 Zalando SE",
    downloads=(
        Download(
            f"{URL}{FILES['test']}.gz",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            4422102,
            splits=("test",),
        ),
        Download(
            f"{URL}{FILES['train']}.gz",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            26421880,
            splits=("train",),
        ),
    ),
)
def fashion_mnist(folder: Path, split: str) -> Found | None:
    """The original idx files, gzipped or not; labels are not needed."""
    for suffix in (".gz", ""):
        path = folder / f"{FILES[split]}{suffix}"
        if path.is_file():
            return Found(array_images(idx_array(path), split, (path,)))
    return None
