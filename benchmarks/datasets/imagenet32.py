"""ImageNet at 32x32: the validation set of 'downsampled ImageNet' (van den Oord et al., 2016), or a sample made anew.

The sample is 1,000 ImageNet photographs, one for each class, reduced with Pillow's box filter: its bits per dimension
cannot be compared with published ImageNet32 numbers. 448 of them are also training photographs (``imagenet_photos``;
their classes are in ``imagenet_photos.txt``), at any size; the other 552 are the split ``unseen``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.datasets.base import Download, Found, NamedImage, Split, dataset
from benchmarks.datasets.files import array_images, found, image_files, npz_array, tar_images

TERMS = "ImageNet terms: non-commercial research and educational use; the images belong to their owners"
MANUAL = (
    "the sample is github.com/EliSchwartz/imagenet-sample-images (1,000 JPEG), converted to RGB and resized with "
    "Pillow's Image.BOX into imagenet/imagenet_sample1000_box{size}.npz (keys 'images', 'names')"
)
NOTE = "made from 1,000 ImageNet photographs by box downsampling; not comparable with published ImageNet32/64 numbers"


@cache
def _classes() -> frozenset[str]:
    return frozenset(Path(__file__).with_name("imagenet_photos.txt").read_text().split())


def spent(image: NamedImage) -> bool:
    """Whether a picture of the sample shows one of the photographs of imagenet_photos, which models are trained on."""
    return image.name.partition("_")[0].removeprefix("n") in _classes()


def _sample(folder: Path, size: int, title: str) -> Found | None:
    path = folder / f"imagenet_sample1000_box{size}.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as archive:
        names = archive["names"]
    return found(array_images(npz_array(path), "", (path,), names), title, NOTE)


@dataset(
    "imagenet32",
    splits={"valid": Split(50000), "sample": Split(), "unseen": Split(overlaps=("imagenet64_sample",))},
    default=("valid", "sample"),
    license=TERMS,
    folder="imagenet",
    downloads=(
        Download(
            "http://image-net.org/small/valid_32x32.tar",
            "862e559462b24cf736212a19f6b0d47b55c2dc8ebdaa95ccecfe71260124c8f7",
            161474560,
            splits=("valid",),
        ),
    ),
    manual=MANUAL.format(size=32),
    overlaps=("imagenet64_sample", "photos", "lossless_pictures"),
)
def imagenet32(folder: Path, split: str) -> Found | None:
    """valid_32x32.tar read in place, its extracted folder, or the sample's .npz, or what no model of ours has seen."""
    if split == "unseen":
        sample = _sample(folder, 32, "")
        images = tuple(image for image in sample.images if not spent(image)) if sample else ()
        return found(images, f"imagenet32 sample, the {len(images)} of 1000 that are not in imagenet_photos", NOTE)
    if split == "sample":
        return _sample(folder, 32, "imagenet32 sample: 1000 images box-downsampled by us, not the official ImageNet32")
    return found(tar_images(folder / "valid_32x32.tar") or image_files(folder / "valid_32x32"))


@dataset(
    "imagenet64_sample",
    splits={"train": Split(1000, trainable=True)},
    license=TERMS,
    folder="imagenet",
    manual=MANUAL.format(size=64),
    overlaps=("imagenet32",),
)
def imagenet64_sample(folder: Path, split: str) -> Found | None:
    """The sample at 64x64, for training: the same pictures as the sample of imagenet32."""
    return _sample(folder, 64, "imagenet64_sample: 1000 images box-downsampled by us")
