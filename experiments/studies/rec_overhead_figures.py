"""The table and figures of ``experiments.studies.rec_overhead``, from its stored results alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.figures.figure import Axis, Figure, Series

Record = Mapping[str, Any]
FOR_BLOCKS = ("beam_search", "irec")  # coders whose overhead in one dimension hides all others': in the table only
KL = Axis("kl_bits", "KL(Q || P)", "bits")
MARGIN = Axis("overhead_bits", "code length - log2 q(z)/p(z)", "bits")
PERCENT = Axis("overhead_percent", "effective overhead", "%")
TIME = Axis("ms", "CPU time of encoding", "ms per nat", log=True)

# Bounds on a code length in bits beside KL = k (or mutual information, where the theorem is about that).
BOUNDS: dict[str, Callable[[float], float]] = {
    "PFR: log2(I+1) + 4, Li & El Gamal 2018": lambda k: math.log2(k + 1) + 4,
    "PFR: log2(I+3.4) + 1, Li 2024": lambda k: math.log2(k + 3.4) + 1,
    "ring toss: log2(I+1) + 2.45, 2026": lambda k: math.log2(k + 1) + 2.45,
    "GPRS: log2(I+1) + 6, Flamich 2023": lambda k: math.log2(k + 1) + 6,
    "GRS: 2 log2(KL+1) + O(1), Harsha et al. 2007": lambda k: 2 * math.log2(k + 1),
}


def table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per case and coder that did not refuse it."""
    rows = []
    for r in records:
        if "refused" in r:
            continue
        row = {"case": r["case"], "coder": r["coder"], "D": r["dims"], "KL (bits)": r["kl_bits"]}
        row |= {"D_inf (bits)": r["d_inf_bits"], "file (bits)": r["file_bits"], "ideal (bits)": r["ideal_bits"]}
        row |= {"log2 q/p": r["log_ratio_bits"], "effective overhead (%)": r["overhead_percent"]}
        row |= {"+-": r["error_percent"], "candidates": math.nan if r["candidates"] is None else r["candidates"]}
        if r["track"] == "line":
            row["KS"] = r["ks"]
        row |= {"encode (ms/nat)": r["encode_ms_per_nat"], "decode (ms/nat)": r["decode_ms_per_nat"]}
        rows.append({**row, "samples": r["samples"]})
    return pd.DataFrame(rows)


def figures(records: Sequence[Record]) -> list[Figure]:
    """Overhead over the KL on the line and in blocks, and what encoding takes."""
    labels = list(dict.fromkeys(r["coder"] for r in records))
    styles = {label: i for i, label in enumerate([*labels, *BOUNDS])}
    line = [r for r in records if r["case"].endswith("excess1") and not r["coder"].startswith(FOR_BLOCKS)]
    blocks = {dims: [r for r in records if r["track"] == "block" and r["dims"] == dims] for dims in (8, 32, 1024)}
    made = [
        _figure(
            "rec_overhead_line",
            "One dimension, D_inf = KL + 1 bit: code length",
            MARGIN,
            line,
            styles,
            _margin,
            bounds=True,
        ),
        _figure(
            "rec_overhead_line_time", "One dimension, D_inf = KL + 1 bit: encoding time", TIME, line, styles, _time
        ),
    ]
    for dims, chosen in blocks.items():
        title = f"Blocks of {dims} dimensions"
        made.append(_figure(f"rec_overhead_block{dims}", f"{title}: overhead", PERCENT, chosen, styles, _percent))
        made.append(_figure(f"rec_overhead_block{dims}_time", f"{title}: encoding time", TIME, chosen, styles, _time))
    return [figure for figure in made if figure.series]


def _figure(
    name: str,
    title: str,
    y: Axis,
    records: Sequence[Record],
    styles: Mapping[str, int],
    value: Callable[[Record], float],
    bounds: bool = False,
) -> Figure:
    found: dict[str, list[Record]] = {}
    for r in sorted(records, key=lambda r: r["kl_bits"]):
        if "refused" not in r:
            found.setdefault(r["coder"], []).append(r)
    series = [
        Series(label, tuple(r["kl_bits"] for r in rs), tuple(map(value, rs)), "measured", styles[label])
        for label, rs in sorted(found.items(), key=lambda item: styles[item[0]])
    ]
    if bounds and series:
        grid = [min(s.x[0] for s in series) * 1.1**i for i in range(60)]
        grid = [k for k in grid if k <= max(s.x[-1] for s in series)]
        for label, bound in BOUNDS.items():
            line = tuple(map(bound, grid))
            series.append(Series(label, tuple(grid), line, "published", styles[label], reference=label))
    notes = ("beam_search and irec_*, which are made for blocks, are in the table",) if "line" in name else ()
    return Figure(name, title, KL, y, tuple(series), notes=notes)


def _margin(r: Record) -> float:
    return float(r["overhead_bits"])


def _percent(r: Record) -> float:
    return float(r["overhead_percent"])


def _time(r: Record) -> float:
    return max(float(r["encode_ms_per_nat"]), 1e-6)
