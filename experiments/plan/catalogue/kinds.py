"""Kinds of tasks that every system has: curves, lossless rows, trainings, and results that are files."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.plan.task import Task

DATASETS = (
    "kodak",
    "clic_professional_test",
    "cid22",
    "clic2025_crops",
    "cifar10",
    "imagenet32",
    "imagenet32_unseen",
    "fashion_mnist",
    "fashion_mnist_train",
    "cifar10_train",
    "bsds500",
    "celeba",
    "celeba_train",
    "ffhq",
    "ffhq_train",
)
DAY, WEEK = 24 * 60, 7 * 24 * 60  # minutes
RD, LOSSLESS_TABLE = "python benchmarks/rd_curve.py with", "python benchmarks/lossless_table.py with"
USAGE, SPEED = "python benchmarks/codebook_usage.py with", "python benchmarks/speed.py with"


def after_data(dataset: str, *others: str) -> tuple[str, ...]:
    """What an evaluation comes after: its data, unless it is embedded, and other tasks."""
    return (*([] if dataset == "sample" else [f"data-{dataset}"]), *others)


def curve(
    system: str,
    method: str,
    dataset: str,
    more: str = "",
    name: str = "",
    after: Sequence[str] = (),
    quick: bool = False,
    minutes: float = 240,
) -> Task:
    """A rate-distortion curve of a method; ``more`` are further options of the command."""
    jobs = ("paper", system, *(["quick"] if quick else []))
    command = f"{RD} method={method} dataset={dataset}{' ' if more else ''}{more}"
    return Task(
        name or f"{method}-{dataset}", "evaluate", "cells", command, jobs, (), after_data(dataset, *after), (), minutes
    )


def lossless(system: str, method: str, dataset: str, more: str = "", after: Sequence[str] = (), name: str = "") -> Task:
    """A row of the lossless table."""
    jobs = ("paper", system, *(["quick"] if dataset == "sample" else []))
    chosen = "method" if "params." in more else "methods"
    command = f"{LOSSLESS_TABLE} {chosen}={method} dataset={dataset}{' ' if more else ''}{more}"
    name = name or f"{method}-{dataset}-lossless"
    return Task(name, "evaluate", "cells", command, jobs, (), after_data(dataset, *after), (), DAY)


def training(
    system: str,
    name: str,
    command: str,
    data: str,
    folders: Sequence[str],
    after: Sequence[str] = (),
    minutes: float = DAY,
) -> Task:
    """A training whose weights are in one of ``folders``."""
    known = (f"data-{data}", *after) if data in DATASETS else tuple(after)
    return Task(
        f"train-{name}", "train", "weights", command, ("paper", system), tuple(folders), known, (data,), minutes
    )


def made(
    system: str,
    name: str,
    command: str,
    outputs: Sequence[str],
    data: str = "sample",
    after: Sequence[str] = (),
    minutes: float = 240,
) -> Task:
    """An evaluation whose results are no cells but files."""
    known = () if data == "sample" else (data,)
    return Task(
        name, "evaluate", "files", command, ("paper", system), tuple(outputs), after_data(data, *after), known, minutes
    )
