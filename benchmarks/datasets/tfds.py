"""``tfds:NAME``: a set that tensorflow-datasets has already prepared as array_record or parquet, without TensorFlow.

Nothing is ever downloaded or prepared here: that needs TensorFlow and, without a network, hangs for minutes.
"""

from __future__ import annotations

import io
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets.base import Found, NamedImage, Split, dataset
from benchmarks.datasets.files import DataError, found
from core.codec import Image
from core.images import check_image


def home() -> list[Path]:
    """Where tensorflow-datasets keeps prepared sets: TFDS_DATA_DIR, else its own default."""
    return [Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()]


@dataset(
    "tfds",
    splits={"test": Split(), "validation": Split(), "train": Split(trainable=True)},
    default=("test", "validation"),
    license="see the data set's page in the TensorFlow Datasets catalogue",
    manual=(
        "prepare it once where TensorFlow is installed, with "
        "tfds.builder(NAME, file_format='array_record').download_and_prepare()"
    ),
    argument="NAME",
    roots=home,
)
def tfds(place: Path, split: str) -> Found | None:
    """The images below ``ROOT/NAME[/config][/version]``, the highest version first."""
    version = newest(place)
    return None if version is None else _open(version, split)


def newest(folder: Path) -> Path | None:
    """The prepared folder (it holds dataset_info.json) of the highest version below, or None."""
    versions = [p.parent for depth in ("", "*/", "*/*/") for p in folder.glob(f"{depth}dataset_info.json")]
    return max(versions, key=lambda p: [int(n) if n.isdigit() else -1 for n in p.name.split(".")], default=None)


def _open(folder: Path, split: str) -> Found | None:
    """The images of one split of a prepared folder, each record decoded when its image is read."""
    try:
        from tensorflow_datasets.core.read_only_builder import builder_from_directory
    except ImportError as error:
        raise DataError(
            f"{folder} needs tensorflow-datasets ({error}): run 'pip install tensorflow-datasets'."
        ) from error
    builder = builder_from_directory(folder)
    if split not in builder.info.splits:
        return None
    try:
        source = builder.as_data_source(split)
        count = len(source)
    except Exception as error:  # tfds has no common class for a tfrecord file, a missing shard and a missing reader
        raise DataError(
            f"{folder} cannot be read without TensorFlow ({type(error).__name__}); "
            "prepare it again with file_format='array_record'."
        ) from error
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    images = tuple(NamedImage(f"{split}-{i:06d}", partial(_stored, source, i), _image, files) for i in range(count))
    return found(images, f"tfds {builder.name} {builder.version} {split}")


def _stored(source: Any, index: int) -> bytes:
    """A record's image as the bytes of an .npy file, which carry its shape."""
    record = source[index]
    if "image" not in record:
        raise DataError(f"the records of {source} have no 'image'; only sets of images can be used.")
    file = io.BytesIO()
    np.save(file, check_image(np.asarray(record["image"])))
    return file.getvalue()


def _image(data: bytes) -> Image:
    image: Image = np.load(io.BytesIO(data), allow_pickle=False)
    return image
