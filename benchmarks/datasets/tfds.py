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
from core.images import AS_STORED, Conversion, array_image


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
    try:
        builder = builder_from_directory(folder)
    except Exception as error:  # of JSON, protocol buffers and tfds itself
        raise DataError(f"{folder} is damaged ({_said(error)}); prepare it again.") from error
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
    where = f"{folder}, {split} image"
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    images = tuple(
        NamedImage(
            f"{split}-{i:06d}", partial(_stored, f"{where} {i}", source, i), partial(_image, f"{where} {i}"), files
        )
        for i in range(count)
    )
    if images:
        images[0].data()  # a file that cannot be read at all is known before anything is measured
    return found(images, f"tfds {builder.name} {builder.version} {split}")


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__


def _stored(name: str, source: Any, index: int) -> bytes:
    """A record's image as the bytes of an .npy file, which carry its shape."""
    try:
        record = source[index]
    except Exception as error:  # the reader raises RuntimeError, decoders of features whatever they like
        raise DataError(f"{name} is damaged ({_said(error)}); prepare the data set again.") from error
    if "image" not in record:
        raise DataError(f"the records of {source} have no 'image'; only sets of images can be used.")
    file = io.BytesIO()
    np.save(file, np.asarray(record["image"]))
    return file.getvalue()


def _image(name: str, data: bytes, convert: Conversion = AS_STORED) -> Image:
    return array_image(np.load(io.BytesIO(data), allow_pickle=False), name, convert)
