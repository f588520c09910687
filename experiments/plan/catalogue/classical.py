"""Data sets, and the classical codecs."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import DATASETS, DAY, WEEK, curve, lossless
from experiments.plan.task import Task

STILLS = ("jpeg", "jpeg2000", "webp", "avif", "jpegxl", "heic")
PROGRAMS = ("bpg", "hm", "vtm")  # where they are installed
LOSSLESS = (
    "png",
    "webp_lossless",
    "jpegxl_lossless",
    "jpegls",
    "jpeg2000_lossless",
    "heic_lossless",
    "avif_lossless",
    "flif",
)


def prepare() -> Iterator[Task]:
    """Downloads of the data sets."""
    for name in DATASETS:
        yield Task(
            f"data-{name}",
            "prepare",
            "data",
            f"python -m experiments.prepare with dataset={name}",
            (),
            (name,),
            minutes=DAY,
        )


def classical() -> Iterator[Task]:
    """Curves and lossless rows of the classical codecs."""
    for dataset in ("sample", "kodak", "clic_professional_test", "cid22", "clic2025_crops"):
        for method in (*STILLS, "x265"):
            yield curve("classical", method, dataset, quick=dataset == "sample")
        yield curve("classical", "vvc", dataset, minutes=DAY)
        for method in PROGRAMS if dataset == "kodak" else ():
            yield curve("classical", method, dataset, minutes=WEEK)
    for dataset in ("sample", "kodak", "cifar10", "imagenet32"):
        for method in LOSSLESS:
            yield lossless("classical", method, dataset)
