"""BSDS500: 481x321 photographs (Arbelaez et al., 2011), here for training only."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from benchmarks.datasets.base import Download, Found, Split, dataset
from benchmarks.datasets.files import found, image_files

BY_NAME = attrgetter("name")  # as text: training crops depend on the order, so it is fixed
COMMIT = "a04b7c6c3a9f0ace74bf205c72a43d32e1c72722"


def _photos(part: str) -> Download:
    url = f"https://github.com/BIDS/BSDS500/archive/{COMMIT}.zip"
    members = f"BSDS500-{COMMIT}/BSDS500/data/images/{part}/*.jpg"
    return Download(url, name="bsds500.zip", members=members, into=part)


@dataset(
    "bsds500",
    splits={
        "trainval": Split(300, trainable=True),
        "train": Split(
            200, trainable=True, fingerprint="01a9937959d14f4d15254a76cfd51d6f6a73ea5731f26e9339fc2d0a4b60e389"
        ),
        "val": Split(
            100, trainable=True, fingerprint="b85abfc3c5580f39072d66b0bb0d06f0bad1cbb412a266dd830e8ee7fd79ab36"
        ),
    },
    license="UC Berkeley: non-commercial research and education; cite Arbelaez, Maire, Fowlkes, Malik, TPAMI 2011",
    downloads=(_photos("train"), _photos("val")),
)
def bsds500(folder: Path, split: str) -> Found | None:
    """The JPEG files below train/ and val/, or where the repository has them."""
    for place in (folder, folder / "BSDS500" / "data" / "images"):
        parts = {part: tuple(sorted(image_files(place / part), key=BY_NAME)) for part in ("train", "val")}
        images = parts["train"] + parts["val"] if split == "trainval" else parts[split]
        if images:
            return Found(images)
    return found(())
