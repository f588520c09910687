"""Advice where a method has no weights here: how to get them, how to train them, and what runs without them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from core import checkpoint
from core.codec import Method
from core.registry import METHODS

MOST = 6  # methods that are named


def advice(methods: Sequence[Method], dataset: str) -> list[str]:
    """Lines for a method at the points that lack weights; commands stand on lines of their own, to be copied."""
    first, lines = methods[0], []
    files = checkpoint.official(first.name, [m.point for m in methods])
    if files:
        licence = next(e["licence"] for e in checkpoint.manifest() if e["method"] == first.name and e.get("url"))
        lines += [f"to fetch the authors' weights, {licence}:", f"    {_prepare(first.name)}"]
        lines += ["or by hand, on any machine with a network:", *(f"    {_curl(url, path)}" for url, path in files)]
    family = type(first).__module__.partition(".")[0]
    point = f" params.{first.curve}={first.point}" if first.curve and not first.variable_rate else ""
    lines += ["to train some, and then give weights=runs/...:"]
    lines += [f"    python -m {family} train with method={first.name}{point}"]
    shipped, classical = _runs(first, dataset)
    kinds = ((shipped, "weights are shipped"), (classical, "classical"))
    if there := [f"{', '.join(names[:MOST])} ({what})" for names, what in kinds if names]:
        usual = f" dataset={dataset}" if dataset and dataset != "sample" else ""
        lines += [f"what runs here now: {'; '.join(there)}:"]
        lines += [f"    python benchmarks/rd_curve.py with methods={','.join((*shipped[:1], *classical[:3]))}{usual}"]
    return lines


def _prepare(name: str) -> str:
    return f"python -m experiments.prepare with weights={name}"


def _curl(url: str, path: object) -> str:
    return f"curl -L --create-dirs -o {shlex.quote(str(path))} {shlex.quote(url)}"


def _runs(method: Method, dataset: str) -> tuple[list[str], list[str]]:
    """Methods with a curve that run here on a data set: with shipped weights (of the same family first), and without
    any.
    """
    shipped = {e["method"] for e in checkpoint.manifest() if e["origin"] == "ours" and _here(e["path"])}
    family = type(method).__module__.partition(".")[0]
    able = [
        name
        for name, cls in METHODS.items()
        if cls.curve and not cls.lossless and (name in shipped or not cls.trains_on) and _may(cls, dataset)
    ]
    learned = [name for name in able if name in shipped]
    learned.sort(key=lambda n: (not METHODS[n].__module__.startswith(f"{family}."), not METHODS[n].variable_rate))
    return learned, [name for name in able if not METHODS[name].trains_on]


def _may(cls: type[Method], dataset: str) -> bool:
    """Whether nothing but the pictures decides that the method runs; those made for grey thumbnails stand aside."""
    method = cls()
    return not method.skip(dataset or "sample") and (not cls.trains_on or method.channels == 3)


def _here(path: str) -> bool:
    return (checkpoint.SHIPPED / path).exists()
