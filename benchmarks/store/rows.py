"""Rows of a cell, one per image: what ``images.csv`` keeps of the columns, and how the others come back on reading.

Format 2 of a cell keeps six significant digits (counts are kept in full) and neither columns that follow from others
(``LAWS``) nor columns that have one value; ``cell.json`` says the columns and those values beside the means. Cells
without a format, of version 1, have every column in the file; both are read alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.store.cell import StoreError

FORMAT = 2
DIGITS = 6
Numbers = NDArray[Any]

# What follows from what. MS-SSIM follows from its decibels, not they from it: near 1 six digits of it are too few.
LAWS: dict[str, tuple[tuple[str, ...], Callable[..., Numbers]]] = {
    "bpp": (("bytes", "height", "width"), lambda size, height, width: 8 * size / (height * width)),
    "bpd": (
        ("bytes", "height", "width", "channels"),
        lambda size, height, width, channels: 8 * size / (height * width * channels),
    ),
    "psnr": (("mse",), lambda error: 10 * np.log10(255**2 / error)),
    "ms_ssim": (("ms_ssim_db",), lambda decibels: 1 - 10 ** (-decibels / 10)),
}


@dataclass(frozen=True)
class Layout:
    """The columns of a cell in their order, and the value of each that is the same for every image.

    Without columns the file has them all (version 1).
    """

    columns: tuple[str, ...] = ()
    constant: Mapping[str, int | float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Layout:
        """The layout that a ``cell.json`` says; StoreError for a format that this version does not know."""
        if (known := document.get("format", 1)) not in (1, FORMAT):
            raise StoreError(f"it has format {known}, and this version reads formats up to {FORMAT}")
        constant = {str(k): v if isinstance(v, int) else float(v) for k, v in document.get("constant", {}).items()}
        return cls(tuple(document.get("columns", ())), constant)

    def as_dict(self) -> dict[str, Any]:
        """What ``cell.json`` says of it."""
        return {"format": FORMAT, "columns": list(self.columns), "constant": dict(self.constant)}


def packed(frame: pd.DataFrame) -> tuple[str, Layout]:
    """The text of ``images.csv`` for a table with the column ``image`` and numeric ones, and the layout beside it."""
    left, layout = _kept(frame)
    return csv_text(left), layout


def as_kept(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as it comes back from the files: what two measurements are compared by."""
    return _whole(*_kept(frame), "the table")


def _kept(frame: pd.DataFrame) -> tuple[pd.DataFrame, Layout]:
    columns = tuple(str(name) for name in frame)
    left = frame[[name for name in columns if not _follows(name, frame)]]
    left = left.assign(**{name: _rounded(left[name]) for name in map(str, left) if name != "image"})
    constant = {name: left[name].iloc[0].item() for name in columns if len(left) > 1 and _constant(name, left)}
    return left.drop(columns=list(constant)), Layout(columns, constant)


def csv_text(frame: pd.DataFrame) -> str:
    """A data frame as all our CSV files are."""
    return frame.to_csv(index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV of ours: image names stay text ('007', 'NA'), 'inf' is a number."""
    with path.open(encoding="utf-8") as file:
        missing = {name: ["", "nan"] for name in file.readline().strip().split(",") if name != "image"}
    return pd.read_csv(path, dtype={"image": str}, keep_default_na=False, na_values=missing)


def read(path: Path, layout: Layout) -> pd.DataFrame:
    """The whole table of an ``images.csv``; StoreError where a column that the layout promises cannot be had."""
    return _whole(read_csv(path), layout, str(path))


def _whole(frame: pd.DataFrame, layout: Layout, path: str) -> pd.DataFrame:
    columns = layout.columns or tuple(str(name) for name in frame)
    kept: dict[str, Numbers] = {str(name): frame[name].to_numpy() for name in frame}
    found = {name: column(name, kept.get, layout, len(frame)) for name in columns}
    if lost := [name for name, values in found.items() if values is None]:
        raise StoreError(f"{path} cannot be read (no column {lost[0]}): remove the cell and measure again.")
    return pd.DataFrame(found)


def column(name: str, kept: Callable[[str], Numbers | None], layout: Layout, count: int) -> Numbers | None:
    """A column of ``count`` images: as the file has it (``kept``), of one value, or recomputed; else None."""
    if (found := kept(name)) is not None:
        return found
    if name in layout.constant:
        return np.full(count, layout.constant[name])
    if name not in LAWS:
        return None
    sources, law = LAWS[name]
    values = [column(source, kept, layout, count) for source in sources]
    return None if any(v is None for v in values) else _applied(law, values)


def digest(folder: Path, layout: Layout) -> str:
    """The first 16 hexadecimal digits of a SHA-256 of all that was measured, the same in either format."""
    table, codes = folder / "images.csv", folder / "codebook.csv"
    text, layout = (table.read_text(encoding="utf-8"), layout) if layout.columns else packed(read_csv(table))
    return digest_of(text, layout, codes.read_text(encoding="utf-8") if codes.is_file() else "")


def digest_of(text: str, layout: Layout, codes: str) -> str:
    """The same of the texts that ``packed`` and a codebook's table are."""
    parts = (text, json.dumps(layout.as_dict(), sort_keys=True), codes)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _applied(law: Callable[..., Numbers], values: Sequence[Any]) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return law(*(np.asarray(v, float) for v in values))


def _follows(name: str, frame: pd.DataFrame) -> bool:
    """Whether a column can be left out: of rates that are no files' sizes, bits per pixel do not follow."""
    if name not in LAWS or not set(LAWS[name][0]) <= set(frame):
        return False
    sources, law = LAWS[name]
    again = _applied(law, [frame[source] for source in sources])
    return bool(np.allclose(again, frame[name].to_numpy(float), rtol=1e-9, atol=1e-12))


def _rounded(values: pd.Series[Any]) -> pd.Series[Any]:
    if values.dtype.kind in "iu":
        return values
    return pd.Series([float(f"{v:.{DIGITS}g}") for v in values.astype(float)], values.index, float)


def _constant(name: str, frame: pd.DataFrame) -> bool:
    return name != "image" and name in frame and bool((frame[name] == frame[name].iloc[0]).all())
