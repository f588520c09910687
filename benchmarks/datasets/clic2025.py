"""CLIC 2025: the challenge's image validation set of that year, whole or as centre crops of 26 of its 32 pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from benchmarks.datasets.base import Found, NamedImage, Split, dataset
from benchmarks.datasets.files import found, image_files, picture, verified

COUNT, CROPS = 32, 26
WHOLE = ("clic2025/validation", "clic2025/valid", "clic2025")  # the first one: as in imazen/codec-corpus
CUT = ("clic2025_valid_crops", "clic2025/crops")
TABLE = Path(__file__).with_suffix(".txt")  # SHA-256 of each crop as a binary PPM, name, x, y, width and height


class Crop(NamedTuple):
    """Where a crop lies in its picture, and the digest of it."""

    digest: str
    box: tuple[int, int, int, int]


@dataset(
    "clic2025",
    splits={"valid": Split(COUNT), "crops": Split()},
    default=("valid", "crops"),
    folder=".",
    license="Unsplash License: free use, not to be compiled into a competing photo service",
    manual=(
        "github.com/imazen/codec-corpus has clic2025/validation; its pictures go, as PNG, into clic2025/validation/ of "
        "the data root"
    ),
)
def clic2025(folder: Path, split: str) -> Found | None:
    """PNG files in clic2025/validation/ (also clic2025/valid/, clic2025/); ``crops`` cuts 26 of them, or has them cut.

    A crop is the centre 768x512 or 512x768 at native resolution; each is compared with its digest.
    """
    whole = next((images for place in WHOLE if (images := image_files(folder / place, "*.png"))), ())
    if split == "valid":
        return found(whole)
    crops = {name: Crop(digest, _box(box)) for digest, name, *box in map(str.split, _lines())}
    cut = next((images for place in CUT if (images := image_files(folder / place))), ())
    mine = _paths(cut) or _paths(whole)
    pictures = tuple(
        picture(mine[name], name, None if cut else crop.box) for name, crop in crops.items() if name in mine
    )
    here = verified(pictures, {name: crop.digest for name, crop in crops.items()})
    if here is None:
        return None
    title = f"CLIC 2025 validation, centre crops of {len(here.images)} of {COUNT}"
    return Found(here.images, title, left_out=here.left_out)


def _lines() -> list[str]:
    return TABLE.read_text(encoding="utf-8").splitlines()


def _box(numbers: list[str]) -> tuple[int, int, int, int]:
    x, y, width, height = map(int, numbers)
    return x, y, width, height


def _paths(images: tuple[NamedImage, ...]) -> dict[str, Path]:
    return {image.name: image.files[0] for image in images}
