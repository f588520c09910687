"""Is a cell that was measured again the stored one? Sizes of files, pictures by their metrics, and codes, by image.

Seconds and memory are of the run and are not compared. Streams themselves are not stored: their sizes are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure.metrics import METRICS
from benchmarks.store import CellResult, Store, rows

OF_THE_RUN = ("encode_s", "decode_s", "peak_memory_mb")
DB = 0.001  # decibels that a picture's quality may differ by
RELATIVE = 1e-4  # and other numbers that are not counts, relative to their size
LEVELS = 1  # grey levels that a kept picture may differ by
WORDS = ("identical", "reproduced", "differs", "failed", "cannot run")
GROUP = ("curve", "data set", "rate")


@dataclass(frozen=True)
class Comparison:
    """How a second measurement compares with the stored cell.

    ``outcome`` is 'identical' (every number, to the digits that cells keep), 'reproduced' (sizes and codes equal,
    pictures within ``DB`` and ``LEVELS``) or 'differs'; ``said`` are sentences about differences, ``largest`` has the
    largest of each column.
    """

    outcome: str
    said: tuple[str, ...] = ()
    largest: Mapping[str, float] = field(default_factory=dict)


def compare(stored: CellResult, again: CellResult, levels: int | None = None) -> Comparison:
    """Compare two cells of the same images; ``levels`` is the largest difference of pictures kept on both sides."""
    first, second = (rows.as_kept(cell.images) for cell in (stored, again))
    if list(first["image"]) != list(second["image"]):
        return Comparison("differs", (f"{len(first)} images, now {len(second)}, or other names of them",))
    wrong: list[str] = []
    near: list[str] = []
    largest: dict[str, float] = {}
    for name in [str(c) for c in first if c not in (*OF_THE_RUN, "image")]:
        if name not in second and name in METRICS and not METRICS[name].default:
            continue  # was asked for, or added later
        if name not in second:
            wrong.append(f"{name} is not measured any more")
        elif size := _largest(first[name], second[name]):
            text = _sentence(name, first[name], second[name], size)
            (near if _allowed(name, first[name], second[name]) else wrong).append(text)
            largest[name] = size
    if codes := _codes(stored, again):
        wrong.append(codes)
    if levels:
        largest["levels"] = float(levels)
        (near if levels <= LEVELS else wrong).append(f"kept pictures differ by up to {levels} grey levels")
    outcome = "differs" if wrong else "reproduced" if near else "identical"
    return Comparison(outcome, tuple(wrong or near), largest)


def picture_levels(stored: CellResult, store: Store, again: CellResult, other: Store) -> int | None:
    """The largest difference of a sample between pictures that both stores kept; None where there are none."""
    from core.images import open_image

    found = []
    for name in stored.images["image"]:
        paths = [s.picture(key, name) for s, key in ((store, stored.key), (other, again.key))]
        if all(path.is_file() for path in paths):
            first, second = (open_image(path).astype(int) for path in paths)
            found.append(int(np.abs(first - second).max()) if first.shape == second.shape else 255)
    return max(found, default=None)


def _numbers(column: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return column.to_numpy(float)


def _largest(first: pd.Series[Any], second: pd.Series[Any]) -> float:
    """The largest difference; 0 where both are equal, be it inf or nan, and inf where one of them is not finite."""
    a, b = _numbers(first), _numbers(second)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    off = np.abs(a[~same] - b[~same])
    return float(np.where(np.isnan(off), math.inf, off).max(initial=0.0))


def _allowed(name: str, first: pd.Series[Any], second: pd.Series[Any]) -> bool:
    """Whether a difference is rounding: of metrics and estimates, never of counts."""
    a, b = _numbers(first), _numbers(second)
    if name in METRICS and METRICS[name].unit == "dB":
        return bool(_largest(first, second) <= DB)
    if name == "ms_ssim":  # as its decibels
        a, b = 1 - a, 1 - b
    elif name not in METRICS and name != "estimate_bits":
        return False
    relative = RELATIVE if name == "estimate_bits" else 10 ** (DB / 10) - 1
    return bool(np.allclose(a, b, rtol=relative, atol=0, equal_nan=True))


def _sentence(name: str, first: pd.Series[Any], second: pd.Series[Any], size: float) -> str:
    unit = METRICS[name].unit if name in METRICS else {"bytes": "bytes", "payload_bits": "bits"}.get(name, "")
    a, b = _numbers(first), _numbers(second)
    count = int(np.sum(~((a == b) | (np.isnan(a) & np.isnan(b)))))
    text = f"{name} of {count} of {len(a)} images, by up to {size:.3g}{' ' if unit else ''}{unit}"
    total = abs(float(b.sum() / a.sum() - 1)) if name == "bytes" else 0.0
    return f"{text} ({100 * total:.2g} % in all)" if total else text


def _codes(stored: CellResult, again: CellResult) -> str:
    """What differs in the counts of codes, or ''."""
    first, second = stored.codebook, again.codebook
    if first is None or second is None:
        return "" if first is None else "codes are not counted any more"
    both = first.merge(second, on=["level", "code"], how="outer", suffixes=("", "_now")).fillna(0)
    off = int((both["count"] - both["count_now"]).abs().sum()) // 2
    sizes = stored.about.get("codebook_sizes") == again.about.get("codebook_sizes")
    if off or not sizes:
        return f"{off} of {int(first['count'].sum())} codes are others" if sizes else "the codebooks have other sizes"
    return ""


def table(outcomes: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row per curve, data set and rate: its cells by outcome, the largest differences, and what there is to say."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for outcome in sorted(outcomes, key=lambda o: tuple(str(o[name]) for name in GROUP)):
        groups.setdefault(tuple(str(outcome[name]) for name in GROUP), []).append(outcome)
    rows = []
    for group, mine in groups.items():
        counts = {word: sum(o["outcome"] == word for o in mine) for word in WORDS}
        notes = dict.fromkeys(text for o in mine if o["outcome"] != "reproduced" for text in o["said"])
        row = {**dict(zip(GROUP, group, strict=True)), "cells": len(mine), **counts}
        row |= {"bytes off by": _most(mine, "bytes"), "PSNR off by (dB)": _most(mine, "psnr")}
        rows.append({**row, "note": "; ".join(notes)})
    return pd.DataFrame(rows, columns=[*GROUP, "cells", *WORDS, "bytes off by", "PSNR off by (dB)", "note"])


def _most(outcomes: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The largest difference of a column in cells that were measured again."""
    measured = [o for o in outcomes if o["outcome"] in WORDS[:3]]
    return max((float(o["largest"].get(name, 0.0)) for o in measured), default=None)


def summary(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """How many cells came to which end, in one line."""
    counts = {word: sum(o["outcome"] == word for o in outcomes) for word in WORDS}
    return f"{len(outcomes)} cells: {', '.join(f'{n} {word}' for word, n in counts.items() if n)}"


def table_files(root: Path) -> list[Path]:
    """Files of curves and tables in a results folder, relative to it."""
    return sorted(p.relative_to(root) for part in ("curves", "tables") for p in (root / part).glob("*") if p.is_file())
