"""The default data set: five photographs inside the scikit-image wheel, read where it is installed, never copied."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from benchmarks.datasets.base import Found, Split, dataset
from benchmarks.datasets.files import file_image, verified

DIGESTS = {  # of the files in scikit-image 0.26
    "astronaut": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "coffee": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "chelsea": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "motorcycle_left": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "motorcycle_right": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
}


@dataset(
    "sample",
    splits={"test": Split(5)},
    license=(
        "astronaut: NASA, public domain; coffee, chelsea: CC0; motorcycle pair: Middlebury 2014, no licence stated, "
        "not to be redistributed"
    ),
    manual="they come with the scikit-image wheel: pip install scikit-image==0.26.0",
    embedded=True,
)
def sample(folder: Path, split: str) -> Found | None:
    """Five PNG files in the data folder of the installed scikit-image."""
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        return None
    data = Path(package.submodule_search_locations[0]) / "data"
    paths = {name: data / f"{name}.png" for name in DIGESTS}
    return verified(tuple(file_image(p, name) for name, p in paths.items() if p.is_file()), DIGESTS)
