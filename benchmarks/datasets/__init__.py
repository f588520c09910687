"""Data sets by name: ``open_dataset("kodak")`` gives an ``ImageSet`` of lazily read images.

Every public module of this folder is imported, so that a new file with a decorated function adds a data set.
"""

import importlib
import pkgutil

from benchmarks.datasets.base import (
    DATASETS,
    Dataset,
    Download,
    Found,
    ImageSet,
    MissingData,
    NamedImage,
    Split,
    dataset,
)
from benchmarks.datasets.files import DataError
from benchmarks.datasets.opening import (
    converted_name,
    data_roots,
    fingerprints,
    open_dataset,
    parse_name,
    training_set,
)

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "Download",
    "Found",
    "ImageSet",
    "MissingData",
    "NamedImage",
    "Split",
    "converted_name",
    "data_roots",
    "dataset",
    "fingerprints",
    "open_dataset",
    "parse_name",
    "training_set",
]

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")):
    importlib.import_module(f"{__name__}.{_module}")
