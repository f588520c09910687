"""CID22: the validation part of Cloudinary's image dataset of 2022, photographs of 512x512 (Sneyers et al.)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Found, Split, dataset
from benchmarks.datasets.files import image_files, picture, verified

COUNT = 41
PLACES = ("cid22_valid", "cid22", "CID22/CID22-512/validation")  # the last one: as in imazen/codec-corpus
DIGESTS = Path(__file__).with_suffix(".txt")  # SHA-256 of each picture as a binary PPM, and its name


@dataset(
    "cid22",
    splits={"valid": Split(COUNT)},
    folder=".",
    license="CC BY-SA 4.0, credit Cloudinary; photographs mostly from Pexels",
    manual=(
        "github.com/imazen/codec-corpus has CID22/CID22-512/validation; put its 41 pictures, as PNG or without loss in "
        "another format, into cid22/ of the data root"
    ),
)
def cid22(folder: Path, split: str) -> Found | None:
    """The 41 pictures in cid22_valid/, cid22/ or CID22/CID22-512/validation/, each compared with its digest."""
    digests = {name: digest for digest, name in (line.split() for line in DIGESTS.read_text().splitlines())}
    for place in PLACES:
        files = {image.name: image.files[0] for image in image_files(folder / place)}
        here = verified(tuple(picture(files[name], name) for name in digests if name in files), digests)
        if here is not None:
            count = len(here.images)
            said = f"{count}" if count == COUNT else f"{count} of {COUNT}"
            title = f"CID22-512 validation, {said} images (imazen/codec-corpus)"
            return Found(here.images, title, left_out=here.left_out)
    return None
