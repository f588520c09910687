"""CLIC: photographs of about 2 megapixels from the Challenge on Learned Image Compression (compression.cc)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Download, Found, Split, dataset
from benchmarks.datasets.files import found, image_files

ETH = "https://data.vision.ee.ethz.ch/cvl/clic/"
GOOGLE = "https://storage.googleapis.com/clic2022_public/test_sets/"
COUNTS = {"professional_valid": 41, "mobile_valid": 61, "professional_test": 250, "mobile_test": 178, "test2022": 30}
ARCHIVES = {  # split: URL, bytes, SHA-256 (both unknown for 2022)
    "professional_valid": (
        f"{ETH}professional_valid_2020.zip",
        134834429,
        "00be38092ade2ab5163b65f7f6523d46c7bca147007f559adbb02c0afc236b7d",
    ),
    "mobile_valid": (
        f"{ETH}mobile_valid_2020.zip",
        236556531,
        "ff0280382eeb32fdceb28c81a7f47ac9ad86d933ebe901680845635d04e47a10",
    ),
    "professional_test": (
        f"{ETH}test/CLIC2020Professional_test.zip",
        891643809,
        "857df244fc2bfa5da28d4c66bf0db16ee99bfc79eb807be8afa89cd507852884",
    ),
    "mobile_test": (
        f"{ETH}test/CLIC2020Mobile_test.zip",
        721789976,
        "2025f07a6c652270e534640de4271feef3b3dd3260beed4ac4821064837aa732",
    ),
    "test2022": (f"{GOOGLE}image_test_30.zip", 0, ""),
}


@dataset(
    "clic",
    splits={**{split: Split(count) for split, count in COUNTS.items()}, "assorted": Split()},
    default=("professional_valid", "assorted"),
    license="Unsplash licence of 2017 (professional part); the challenge states no other terms",
    downloads=tuple(
        Download(url, sha256, size, splits=(split,), members="*.png", into=split)
        for split, (url, size, sha256) in ARCHIVES.items()
    ),
)
def clic(folder: Path, split: str) -> Found | None:
    """One folder of PNG files for each split; PNG files lying loose are not a split of the challenge."""
    if split != "assorted":
        return found(image_files(folder / split))
    images = image_files(folder)
    return found(
        images,
        f"clic, {len(images)} assorted images (not a CLIC split)",
        "a handful of pictures attributed to CLIC: their scores must not be reported as CLIC",
    )
