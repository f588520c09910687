"""Points of curves as tidy CSV, a file for each data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmarks.curves.curve import Curve
from benchmarks.store import StoreError
from benchmarks.store.names import file_name
from core import atomic


def export(curves: Iterable[Curve], folder: str | Path = Path("results/curves")) -> list[Path]:
    """Write the points of all curves as tidy CSV, one file per data set; returns the paths."""
    frames: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for curve in curves:
        frames[curve.dataset].append(_tidy(curve))
    paths = []
    for dataset in sorted(frames):
        path = Path(folder) / f"{file_name(dataset)}.csv"
        text = pd.concat(frames[dataset], ignore_index=True).to_csv(index=False, lineterminator="\n")
        try:
            atomic.write_text(path, text)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another folder.") from error
        paths.append(path)
    return paths


def _tidy(curve: Curve) -> pd.DataFrame:
    facts = {name: getattr(curve, name) for name in ("label", "method", "dataset", "title", "source", "reference")}
    frame = pd.DataFrame({**facts, "cell": list(curve.cells) or [""] * len(curve.points)}, index=curve.points.index)
    return pd.concat([frame, curve.points], axis=1)
