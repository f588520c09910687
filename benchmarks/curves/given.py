"""Curves that a user gives: files of their own numbers, read beside what is measured and published, never stored there.

A file is CSV with one header line, a row per point (or per point and image, with a column ``image``)::

    curve,bpp,psnr,ms_ssim
    mine,0.21,29.8,0.951

or JSON as CompressAI writes it, ``{"name": ..., "description": ..., "results": {"bpp": [...], "psnr-rgb": [...]}}``,
whose lists have a number per point or a list per point with a number per image. Names of columns are read without
regard to case and punctuation. What holds such curves is written to the folder ``given`` of the results, which git
ignores.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.curves.curve import Curve, find, listed
from benchmarks.measure.metrics import METRICS
from core.codec import TesseraError

FOLDER = "given"  # of the results
SUFFIXES = (".csv", ".json")
MOST_BYTES = 64 * 2**20
ALIASES = {
    **dict.fromkeys(("label", "name"), "curve"),
    **dict.fromkeys(("rate", "bitrate", "bits_per_pixel"), "bpp"),
    **dict.fromkeys(("psnr_rgb", "psnr_db", "psnr_rgb_db"), "psnr"),
    **dict.fromkeys(("ms_ssim_rgb", "msssim", "ms_ssim_linear"), "ms_ssim"),
    **dict.fromkeys(("ms_ssim_rgb_db", "msssim_db"), "ms_ssim_db"),
    **dict.fromkeys(("quality", "q", "lambda", "lmb"), "point"),
    **dict.fromkeys(("encoding_time", "encode_time"), "encode_s"),
    **dict.fromkeys(("decoding_time", "decode_time"), "decode_s"),
}
WORDS = ("curve", "point", "image", "dataset")  # columns of text


class GivenError(TesseraError):
    """A file of curves that cannot be read; the text says where and what it must be."""


@dataclass
class _Rows:
    """The points of one curve: a row for each, or for each and image."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


def asked(text: str) -> tuple[list[str], list[Path]]:
    """Labels and files in what a user wrote as ``curves=vtm18,mine.csv``."""
    words = listed(text)
    files = [word for word in words if word.lower().endswith(SUFFIXES)]
    return [word for word in words if word not in files], [Path(word).expanduser() for word in files]


def chosen(curves: Sequence[Curve], labels: Sequence[str], own: Sequence[Curve]) -> list[Curve]:
    """The curves of these labels, or all that are not lossless, and the user's own."""
    named = [find([*curves, *own], label) for label in labels] or [c for c in curves if not c.lossless]
    return [*named, *(curve for curve in own if curve not in named)]


def read(files: Iterable[Path], dataset: str, title: str = "", subset: bool = False) -> list[Curve]:
    """The curves in files, taken to be of this data set; labels are 'NAME [given]'. Raises GivenError.

    Where a file has a column ``dataset``, rows of other ones are left out.
    """
    found: dict[str, Curve] = {}
    for path in files:
        for name, rows in _parsed(path, dataset).items():
            label = f"{name} [given]"
            if label in found:
                raise GivenError(f"{path} has a curve {name}, and so has another file: rename one of them.")
            points, images = _points(rows.rows, f"{path}, curve {name}")
            said = "; ".join(filter(None, (f"given by the user: {path.name}", rows.note)))
            found[label] = Curve(
                label=label,
                method=name,
                dataset=dataset,
                title=title or dataset,
                source="given",
                reference=said,
                points=points,
                images=images,
                subset=subset,
                pictures=str(path) if images is not None else "",
            )
    return list(found.values())


def _parsed(path: Path, dataset: str) -> dict[str, _Rows]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise GivenError(f"{path} is larger than {MOST_BYTES // 2**20} MiB: give the points of curves alone.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GivenError(f"{path} cannot be read ({error}): give a CSV file or CompressAI's JSON.") from None
    found = _json(text, path) if path.suffix.lower() == ".json" else _csv(text, path, dataset)
    if not found:
        raise GivenError(f"{path} has no points of {dataset}.")
    return found


def _csv(text: str, path: Path, dataset: str) -> dict[str, _Rows]:
    head = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    columns = _columns(next(reader, []))
    if "bpp" not in columns.values():
        raise GivenError(f"{path} has no column bpp: its first line must name the columns, such as curve,bpp,psnr.")
    found: dict[str, _Rows] = defaultdict(_Rows)
    for number, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) <= max(columns):
            raise GivenError(f"{path}, line {number}, has {len(cells)} cells: it needs {max(columns) + 1}.")
        row = {name: _cell(cells[i], name, f"{path}, line {number}") for i, name in columns.items()}
        if row.pop("dataset", dataset) in (dataset, ""):
            found[str(row.pop("curve", "") or path.stem)].rows.append(row)
    return dict(found)


def _columns(names: Sequence[str]) -> dict[int, str]:
    """The columns by place; where two stand for one, the more exact name is used."""
    plain = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in names]
    found: dict[str, int] = {}
    for i, name in enumerate(plain):
        known = ALIASES.get(name, name)
        if known and (known not in found or name.endswith("_rgb")):
            found[known] = i
    return {i: name for name, i in found.items()}


def _cell(text: str, name: str, where: str) -> Any:
    text = text.strip()
    if name in WORDS:
        return text
    try:
        return float(text) if text else math.nan
    except ValueError:
        if name in METRICS or name == "bpp":
            raise GivenError(f"{where}: {name} is '{text[:30]}', which is no number.") from None
        return math.nan


def _json(text: str, path: Path) -> dict[str, _Rows]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise GivenError(f"{path} is not JSON ({error}): write it again.") from None
    found: dict[str, _Rows] = {}
    for one in document if isinstance(document, list) else [document]:
        results = one.get("results") if isinstance(one, dict) else None
        if not isinstance(results, dict):
            raise GivenError(f'{path} has no "results": CompressAI\'s JSON is name, description and results.')
        name = str(one.get("name") or path.stem).removesuffix(" [given]")
        if name in found:
            raise GivenError(f"{path} has two curves called {name}: rename one of them.")
        found[name] = _Rows(_listed_rows(results, f"{path}, curve {name}"), str(one.get("description") or ""))
    return found


def _listed_rows(results: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    names = list(results)
    columns = {name: results[names[i]] for i, name in _columns(names).items()}
    if not isinstance(columns.get("bpp"), list):
        raise GivenError(f'{where}: "bpp" must be a list, of a number per point or of lists per image.')
    shape, rows = _shape(columns["bpp"], "bpp", where), []
    kept = {name: values for name, values in columns.items() if isinstance(values, list) and name not in WORDS}
    for name, values in kept.items():
        alike = all(isinstance(v, list) == isinstance(b, list) for v, b in zip(values, columns["bpp"], strict=False))
        if _shape(values, name, where) != shape or not alike:
            raise GivenError(f"{where}: {name} and bpp have lists of different lengths.")
    labels = columns.get("point")
    for i, images in enumerate(shape):
        point = labels[i] if isinstance(labels, list) and len(labels) == len(shape) else i + 1
        several = isinstance(columns["bpp"][i], list)
        for j in range(images):
            row = {name: values[i][j] if several else values[i] for name, values in kept.items()}
            rows.append({**row, "point": point} | ({"image": str(j + 1)} if several else {}))
    return rows


def _shape(values: Sequence[Any], name: str, where: str) -> list[int]:
    """How many numbers each point has; GivenError for anything that is no number."""
    inner = [value if isinstance(value, list) else [value] for value in values]
    for value in (v for one in inner for v in one):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise GivenError(f"{where}: {name} holds {json.dumps(value)[:30]}, which is no number.")
    return [len(one) for one in inner]


def _points(rows: Sequence[dict[str, Any]], where: str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The points, sorted by rate; and a row per image where there are several of a point."""
    frame = pd.DataFrame(rows)
    if "point" not in frame:
        if "image" in frame:
            raise GivenError(f"{where}: rows per image need a column point that says which belong together.")
        frame["point"] = range(1, len(frame) + 1)
    _check(frame, where)
    if "ms_ssim" in frame and "ms_ssim_db" not in frame:
        frame["ms_ssim_db"] = -10 * np.log10(1 - frame["ms_ssim"].where(frame["ms_ssim"] < 1))
    if "image" not in frame:
        return frame.sort_values("bpp", ignore_index=True), None
    if frame.duplicated(["point", "image"]).any():
        raise GivenError(f"{where}: an image stands twice at one point.")
    numbers = [name for name in frame if name not in WORDS]
    means = frame.groupby("point", sort=False, as_index=False)[numbers].mean()
    return means.sort_values("bpp", ignore_index=True), frame


def _check(frame: pd.DataFrame, where: str) -> None:
    bpp = frame["bpp"].to_numpy(float)
    if not (np.isfinite(bpp) & (bpp > 0)).all():
        raise GivenError(f"{where}: every bpp must be a number above 0.")
    if "ms_ssim" in frame and not frame["ms_ssim"].dropna().between(0, 1).all():
        raise GivenError(f"{where}: ms_ssim lies from 0 to 1; decibels belong in a column ms_ssim_db.")
    known = [name for name in METRICS if name in frame and frame[name].notna().any()]
    if not known:
        raise GivenError(f"{where}: it has no metric; known are {', '.join(METRICS)}.")
    for name in known:
        if np.isinf(frame[name].to_numpy(float)).any():
            raise GivenError(f"{where}: {name} is infinite at a point: leave the point out.")
