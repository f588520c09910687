"""Tables as data frames, and their files: CSV, Markdown and LaTeX with the same cells and the same rounding.

Tables are made from curves and stored cells only; the same results give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.curves.bd import NARROW_MARK, BDResult, Method, bd_rate, is_narrow
from benchmarks.curves.curve import PUBLISHED, Curve, published_lossless, titles
from benchmarks.store import CellResult, Store
from benchmarks.tables.files import DIGITS, ESCAPES

RD_COLUMNS = ("bpp", "psnr", "ms_ssim", "ms_ssim_db", "mse", "bpd", "encode_s", "decode_s", "peak_memory_mb")
UNITS = {
    "psnr": "PSNR (dB)",
    "ms_ssim": "MS-SSIM",
    "ms_ssim_db": "MS-SSIM (dB)",
    "mse": "MSE",
    "encode_s": "encode (s)",
}
UNITS |= {"decode_s": "decode (s)", "peak_memory_mb": "peak memory (MB)"}
DIGITS |= dict.fromkeys(("file", "ideal", "accounted", "asymptotic"), 4) | {"over ideal (%)": 2}
DIGITS |= {"encode (s)": 4, "decode (s)": 4, "peak memory (MB)": 0}
DIGITS |= dict.fromkeys(("R (bits)", "coded (bits)", "entropy (bits)", "L"), 4) | {"D (SSE)": 5}
DIGITS |= dict.fromkeys((f"{what} of {name}" for what in ("spread", "excess") for name in "LR"), 4)
RATE_NOTES = {
    "ideal": "what a perfect coder would need (negative ELBO), not a file",
    "accounted": "code lengths as published: without headers and side information, ideal residual; not a file",
    "asymptotic": "what an image adds to a long stream of images",
}
ESCAPES |= {
    NARROW_MARK: r"\textsuperscript{\dag}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def bd_table(
    curves: Iterable[Curve],
    anchor: Curve,
    metric: str = "psnr",
    method: Method = "pchip",
    bootstrap: int = 1000,
) -> pd.DataFrame:
    """One row per curve, best first, curves without overlap last: BD-rate with everything that makes it readable.

    The columns are curve, BD-rate (%) (a number, or why there is none), 95 % interval, BD-<metric>, range (the common
    quality range), points (anchor/test), interpolation, source and note. The anchor itself is left out.
    """
    found = [(c, bd_rate(anchor, c, metric, method, bootstrap)) for c in curves if c is not anchor]
    if not found:
        return bd_frame([(anchor, bd_rate(anchor, anchor, metric))], metric).iloc[:0]
    return bd_frame(found, metric)


def bd_frame(found: Iterable[tuple[Curve, BDResult]], metric: str) -> pd.DataFrame:
    """The rows of ``bd_table`` from comparisons that are already made."""
    order = sorted(found, key=lambda p: (not p[1].overlap, p[1].rate_percent if p[1].overlap else 0.0, p[0].label))
    return pd.DataFrame([_bd_row(curve, result, metric) for curve, result in order])


def _bd_row(curve: Curve, result: BDResult, metric: str) -> dict[str, Any]:
    name = UNITS.get(metric, metric)
    interval = result.interval
    return {
        "curve": curve.label,
        "BD-rate (%)": result.rate_percent if result.overlap else result.reason or "no overlap",
        "95 % interval": f"[{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "",
        f"BD-{name}": result.psnr_db if math.isfinite(result.psnr_db) else "",
        f"range, {name}": range_text(result, metric),
        "points (anchor/test)": f"{result.points_anchor}/{result.points_test}",
        "interpolation": result.method,
        "source": curve.source,
        "note": result.note,
    }


def range_text(result: BDResult, metric: str) -> str:
    """The common range of quality, marked where it is under 1 dB: '30.32 to 44.37'; empty without overlap."""
    mark = f" {NARROW_MARK}" if is_narrow(result, metric) else ""
    return f"{result.low:.2f} to {result.high:.2f}{mark}" if result.overlap else ""


def rd_table(curves: Iterable[Curve], columns: Sequence[str] = RD_COLUMNS) -> pd.DataFrame:
    """One row per point of every curve: curve, data set, point, rate, quality and costs, source."""
    rows = []
    for curve in curves:
        for record in curve.points.to_dict("records"):
            row = {"curve": curve.label, "data set": curve.title, "point": str(record["point"])}
            row |= {UNITS.get(name, name): record[name] for name in columns if name in record}
            rows.append({**row, "source": curve.source})
    frame = pd.DataFrame(rows, columns=None if rows else ["curve", "data set", "point", "bpp", "source"])
    return frame[[*(c for c in frame if c != "source"), "source"]]


def lossless_table(
    store: Store, datasets: Collection[str] | None = None, folder: Path | None = PUBLISHED
) -> pd.DataFrame:
    """Bits per dimension of lossless methods: a column per image set ('kodak (24 images)'), a row per method.

    Measured numbers are means over images of each file's bits per dimension, decoded bit exactly; rows of other rates
    than 'file' say so in label and note and are for comparison only. Below them stand
    published ones (``folder=None``: none) in columns of their own, 'kodak, published', with what each of them counts.
    """
    cells = [r for r in store.cells() if r.about.get("lossless") and (datasets is None or r.cell.dataset in datasets)]
    known = titles(cells)
    cells.sort(key=lambda r: (r.cell.dataset, bool(r.about.get("subset")), r.count, str(r.provenance.get("started"))))
    rows: dict[str, dict[str, Any]] = {}
    columns: list[str] = []
    for result in cells:
        column = f"{known[result.key]} ({result.count} images)"
        columns.append(column)
        rows.setdefault(_lossless_label(result), {})[column] = result.means.get("bpd", math.nan)
    notes = {_lossless_label(r): _rate_note(r.cell.rate) for r in cells}
    records = [{"method": k, **rows[k], "source": "measured", "note": notes[k]} for k in sorted(rows)]
    for entry in published_lossless(folder) if folder else []:
        numbers = {f"{k}, published": v for k, v in entry["bpd"].items() if datasets is None or k in datasets}
        columns += numbers
        records += (
            [{"method": entry["name"], **numbers, "source": "published", "note": entry["kind"]}] if numbers else []
        )
    return pd.DataFrame(records, columns=["method", *dict.fromkeys(columns), "source", "note"])


def _lossless_label(result: CellResult) -> str:
    """The variant with what else tells cells apart: the point, the weights, a device or seed that is not the usual."""
    cell, curve = result.cell, result.about.get("curve") or "point"
    said = [str(result.about["legend"])] if result.about.get("legend") else []
    said += [] if cell.point is None else [f"{curve} {cell.point}"]
    said += [] if cell.rate == "file" else [f"rate {cell.rate}"]
    said += ([cell.device] if cell.device != "cpu" else []) + ([f"seed {cell.seed}"] if cell.seed else [])
    return f"{result.label} [{', '.join(said)}]" if said else result.label


def lossless_rates(store: Store) -> pd.DataFrame:
    """Lossless methods whose bits are counted in several ways: a row per method and image set, a column per way.

    Bits per dimension; 'over ideal' is what the file has above the ideal, in per cent.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    cells = [result for result in store.cells() if result.about.get("lossless")]
    known = titles(cells)
    for result in cells:
        label = _lossless_label(replace(result, cell=replace(result.cell, rate="file")))
        images = f"{known[result.key]} ({result.count} images)"
        rows.setdefault((label, images), {})[result.cell.rate] = result.means.get("bpd", math.nan)
    several = {key: row for key, row in sorted(rows.items()) if len(row) > 1}
    records = [{"method": label, "images": images, **row} for (label, images), row in several.items()]
    frame = pd.DataFrame(records, columns=["method", "images", "file", *RATE_NOTES])
    frame["over ideal (%)"] = 100 * (frame["file"] / frame["ideal"] - 1)
    return frame


def _rate_note(rate: str) -> str:
    return "files, bit exact" if rate == "file" else RATE_NOTES.get(rate, f"counted as '{rate}', not a file")
