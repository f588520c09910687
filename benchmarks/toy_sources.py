"""Codes on toy sources: rate against distortion with bounds and published points, and distances to the bound.

    python benchmarks/toy_sources.py with source=banana
    python benchmarks/toy_sources.py with source=laplace methods=ecvq,vecvq points=0.5,1,4 seeds=5
    python benchmarks/toy_sources.py with source=normal2d method=vecvq params.recipe=seed
    python benchmarks/toy_sources.py with source=sphere source_params.width=0.5
    python benchmarks/toy_sources.py with smoke                    # seconds: two quick methods, few vectors

Results that exist are not computed again. Writes below ``results``: toy/ (one file per result), figures/, tables/.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.curves.curve import PUBLISHED
from benchmarks.figures import paper
from benchmarks.figures.toy import Line, Partition, excess_figure, published_lines, rd_figure, save_panels
from benchmarks.tables.files import for_screen, to_files
from experiments.studies.toy import (
    HIGH_RATE,
    codebook,
    known_bound,
    refuse_unknown,
    run_all,
    source_of,
    stem_of,
    summary,
    toy_config,
)
from experiments.studies.toy_train import partition
from experiments.wiring import experiment, guarded, run

NAMED: dict[str, dict[str, Any]] = {
    "smoke": {"methods": "ecvq,ecsq", "points": "1,5", "seeds": 1, "vectors": 20_000, "source": "normal2d"},
    "paper": {"seeds": 5},
}
ex = experiment(__file__, "toy_sources", toy_config, NAMED)


@ex.main
@guarded
def toy_sources(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure what is missing, draw, and print where everything is."""
    records = run_all(config, str(sacred_run._id or ""))
    results = Path(config["results"])
    source = source_of(config)
    limit = known_bound(source, results)
    frame = pd.DataFrame(summary(records, limit))
    stem = stem_of(config)
    caption = f"{source.title}: bits per vector, squared error per vector, means over seeds; bound: " + (
        limit.kind if limit is not None else "none known"
    )
    print(for_screen(frame, caption))
    for path in to_files(frame, results / "tables" / stem, caption):
        print(path)
    for figure in _figures(records, source, limit, stem) if len({r["point"] for r in records}) > 1 else ():
        for path in paper.render(figure, results / "figures"):
            print(path)
    if config["pictures"] and source.box and source.dim <= 2:
        for path in _pictures(records, source, results / "figures" / f"{stem}_partitions"):
            print(path)
    return 0


def _figures(records: Sequence[Mapping[str, Any]], source: Any, limit: Any, stem: str) -> list[Any]:
    measured = _measured(records)
    entries = json.loads((PUBLISHED / "nvtc.json").read_text(encoding="utf-8"))
    cited = published_lines([{**e, "source": entries["source"]} for e in entries["toy"]], source.name)
    bounds = [] if limit is None else _bounds(measured, source, limit)
    lines = [*measured, *cited, *bounds]
    figures = [rd_figure(f"{stem}_rd", f"{source.title}: rate and distortion", source.dim, lines)]
    if limit is not None:
        title = f"{source.title}: distance to the bound"
        low = 0.98 * min(min(line.rates) for line in measured)
        near = [line for line in (_from(c, low) for c in [*cited, *bounds]) if line.rates]
        figures.append(
            excess_figure(f"{stem}_excess", title, [*measured, *near], limit.rate, (f"bound: {limit.kind}",))
        )
    return figures


def _from(line: Line, low: float) -> Line:
    """The part of a line at rates of at least ``low``."""
    kept = [(r, d) for r, d in zip(line.rates, line.distortions, strict=True) if r >= low]
    rates, distortions = (tuple(v) for v in zip(*kept, strict=True)) if kept else ((), ())
    return Line(line.label, rates, distortions, line.kind, line.reference)


def _measured(records: Sequence[Mapping[str, Any]]) -> list[Line]:
    """One line per method: means over seeds at each point."""
    frame = pd.DataFrame([{k: r[k] for k in ("title", "point", "rate", "distortion")} for r in records])
    lines = []
    for title, group in frame.groupby("title", sort=False):
        means = group.groupby("point")[["rate", "distortion"]].mean().sort_values("rate")
        lines.append(Line(str(title), tuple(means["rate"]), tuple(means["distortion"])))
    return lines


def _bounds(measured: Sequence[Line], source: Any, limit: Any) -> list[Line]:
    """The bound, Shannon's bound where it is another one, and what fine lattices reach, over the measured range."""
    spans = [d for line in measured for d in line.distortions]
    distortions = np.geomspace(min(spans) / 1.5, max(spans) * 1.2, 400)
    rates = [limit.rate(float(d)) for d in distortions]
    kept = [(r, float(d)) for r, d in zip(rates, distortions, strict=True) if r > 0]
    lines = [_line(f"bound: {limit.kind}", kept)]
    shannon = [(limit.shannon(float(d)), float(d)) for d in distortions]
    lines.append(_line("Shannon lower bound", [(r, d) for r, d in shannon if r > 0]))
    for label, gap in HIGH_RATE.get(source.dim, {}).items():
        lines.append(_line(f"{label}, high rate", [(r + gap, d) for r, d in shannon if r > 3]))
    return [line for line in lines if line.rates]


def _line(label: str, pairs: Sequence[tuple[float, float]]) -> Line:
    return Line(label, tuple(r for r, _ in pairs), tuple(d for _, d in pairs), "bound")


def _pictures(records: Sequence[Mapping[str, Any]], source: Any, stem: Path) -> list[Path]:
    """Partitions of the first seed's codebooks, a row per method."""
    rows: dict[str, list[tuple[Partition, str]]] = {}
    for record in records:
        code = codebook(record) if record["seed"] == 0 else None
        if code is not None:
            text = f"{record['curve']} {record['point']:g}: {record['rate']:.2f} bits"
            rows.setdefault(record["title"], []).append((partition(code, source), text))
    return save_panels(rows, f"{source.title}: density, cells and codewords", stem) if rows else []


if __name__ == "__main__":
    refuse_unknown(sys.argv)
    run(ex)
