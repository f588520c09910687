"""CelebA, aligned and cropped: faces (Liu et al., 2015). Its pictures must never be published."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Download, Found, NamedImage, Split, dataset
from benchmarks.datasets.files import found, image_files, zip_images

HALF = "celeba_half_89x109_000001-010000.zip"
HELD_OUT = 1000  # the last images of the half-size part; all of it lies in CelebA's training partition
OFFICIAL = {"test": slice(182637, 202599), "train": slice(0, 162770)}  # list_eval_partition.txt


@dataset(
    "celeba",
    splits={"test": Split(19962), "train": Split(162770, trainable=True)},
    license=(
        "CelebA (MMLAB, CUHK): non-commercial research only; no part of it may be copied, published or distributed, "
        "so its pictures are never stored in results"
    ),
    downloads=(
        Download(
            "https://drive.google.com/open?id=0B7EVK8r0v71pZjFTYXZWM3FlRnM",
            "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
            1443490838,
            name="img_align_celeba.zip",
        ),
    ),
    manual="Google Drive gives it to browsers only",
    private=True,
)
def celeba(folder: Path, split: str) -> Found | None:
    """img_align_celeba.zip or its folder (178x218, official partition); else the half-size zip, last 1,000 held out."""
    images = zip_images(folder / "img_align_celeba.zip") or image_files(folder / "img_align_celeba")
    if len(images) == 202599:
        return Found(images[OFFICIAL[split]])
    return _half(zip_images(folder / HALF), split)


def _half(images: tuple[NamedImage, ...], split: str) -> Found | None:
    chosen = images[-HELD_OUT:] if split == "test" else images[:-HELD_OUT]
    which = "last" if split == "test" else "first"
    title = f"celeba, {which} {len(chosen)} of the first {len(images)} training images at half size"
    return found(chosen, title, "89x109, halved and re-encoded as JPEG by others: not for lossless scores")
