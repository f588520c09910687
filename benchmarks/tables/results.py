"""Tables as data frames, and their files: CSV, Markdown and LaTeX with the same cells and the same rounding.

Tables are made from curves and stored cells only; the same results give the same bytes.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.curves.bd import BDResult, Method, bd_rate
from benchmarks.curves.curve import PUBLISHED, Curve, published_lossless, titles
from benchmarks.store import CellResult, Store, StoreError
from core import atomic

RD_COLUMNS = ("bpp", "psnr", "ms_ssim", "ms_ssim_db", "mse", "bpd", "encode_s", "decode_s", "peak_memory_mb")
UNITS = {
    "psnr": "PSNR (dB)",
    "ms_ssim": "MS-SSIM",
    "ms_ssim_db": "MS-SSIM (dB)",
    "mse": "MSE",
    "encode_s": "encode (s)",
}
UNITS |= {"decode_s": "decode (s)", "peak_memory_mb": "peak memory (MB)"}
DIGITS = {"BD-rate (%)": 2, "bpp": 4, "bpd": 4, "PSNR (dB)": 3, "MS-SSIM": 5, "MS-SSIM (dB)": 3, "MSE": 3}
DIGITS |= dict.fromkeys(("file", "ideal", "accounted", "asymptotic"), 4) | {"over ideal (%)": 2}
DIGITS |= {"encode (s)": 4, "decode (s)": 4, "peak memory (MB)": 0}
DIGITS |= dict.fromkeys(("R (bits)", "coded (bits)", "entropy (bits)", "L"), 4) | {"D (SSE)": 5}
DIGITS |= dict.fromkeys((f"{what} of {name}" for what in ("spread", "excess") for name in "LR"), 4)
MISSING = "–"
RATE_NOTES = {
    "ideal": "what a perfect coder would need (negative ELBO), not a file",
    "accounted": "code lengths as published: without headers and side information, ideal residual; not a file",
    "asymptotic": "what an image adds to a long stream of images",
}
ESCAPES = {c: "\\" + c for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
ESCAPES |= {"^": r"\textasciicircum{}", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}"}


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
        f"range, {name}": f"{result.low:.2f} to {result.high:.2f}" if result.overlap else "",
        "points (anchor/test)": f"{result.points_anchor}/{result.points_test}",
        "interpolation": result.method,
        "source": curve.source,
        "note": result.note,
    }


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


def to_files(frame: pd.DataFrame, stem: str | Path, caption: str) -> list[Path]:
    """Write ``stem`` .csv, .md and .tex (a booktabs table with the caption); returns the three paths.

    Numbers are rounded by the kind of their column; CSV keeps ten significant digits. Raises StoreError.
    """
    base = Path(stem)
    texts = {".csv": to_csv(frame), ".md": to_markdown(frame, caption), ".tex": to_latex(frame, caption, base.name)}
    paths = [base.with_name(base.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        try:
            atomic.write_text(path, text)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another folder.") from error
    return paths


def to_csv(frame: pd.DataFrame) -> str:
    """The table as CSV with numbers to ten significant digits; what is missing is empty."""
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def to_markdown(frame: pd.DataFrame, caption: str) -> str:
    """The caption and a GitHub-flavoured table; columns of numbers are aligned right."""
    right = _right_aligned(frame)
    lines = [f"**{caption}**", "", _markdown_row(str(c) for c in frame)]
    lines.append("|" + "|".join("---:" if r else "---" for r in right) + "|")
    return "\n".join([*lines, *(_markdown_row(row) for row in formatted(frame))]) + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A ``table`` environment in the style of booktabs, every text escaped."""
    align = "".join("r" if r else "l" for r in _right_aligned(frame))
    rows = [" & ".join(escape(cell) for cell in row) + r" \\" for row in formatted(frame)]
    head = " & ".join(escape(str(c)) for c in frame) + r" \\"
    top = [r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}", rf"\label{{tab:{label}}}"]
    body = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*top, *body, r"\end{table}"]) + "\n"


def escape(text: str) -> str:
    """Text as LaTeX prints it literally."""
    return "".join(ESCAPES.get(c, c) for c in text)


def formatted(frame: pd.DataFrame) -> list[list[str]]:
    """The cells of all rows as text, numbers rounded by the kind of their column."""
    columns = [str(c) for c in frame]
    return [[_text(v, c) for v, c in zip(row, columns, strict=True)] for row in frame.itertuples(index=False)]


def _right_aligned(frame: pd.DataFrame) -> list[bool]:
    return [any(_is_number(v) for v in frame[c]) for c in frame]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(value: Any, column: str) -> str:
    if value is None or (_is_number(value) and math.isnan(value)):
        return MISSING
    if not _is_number(value):
        return str(value)
    if not math.isfinite(value) or isinstance(value, numbers.Integral):
        return str(value)
    sign = "+" if column.startswith("BD-") else ""
    return f"{value:{sign}.{_digits(column)}f}"


def _digits(column: str) -> int:
    if column.endswith(("images)", ", published")):
        return DIGITS["bpd"]
    return DIGITS.get(column, 3)
