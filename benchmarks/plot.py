"""A figure of any curves of a data set: measured, published, and your own.

    python benchmarks/plot.py with dataset=kodak curves=qres3m_vr,webp,jpeg,vtm18
    python benchmarks/plot.py with dataset=kodak curves=vtm18,qres34m-paper,mine.csv metric=ms_ssim_db
    python benchmarks/plot.py with dataset=kodak curves=qres3m_vr,mine.json,vtm18 width=column title="Kodak" \\
        names=qres3m_vr:Baseline,mine:Ours output=paper/rd_kodak
    python benchmarks/plot.py with dataset=sample                               # all that was measured on it

Labels are those of tessera list curves and of tables; what stands in brackets may be left out. Files are described in
docs/own_curves.md: their curves are labelled [given], and what holds them is written to <results>/given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.bd_table import one_set, parse_limit
from benchmarks.curves import given
from benchmarks.curves.curve import Curve
from benchmarks.curves.groups import PUBLISHED
from benchmarks.figures import naming, paper
from benchmarks.figures.figure import Figure
from benchmarks.figures.rd import rd_figure
from benchmarks.measure.metrics import find_metric
from benchmarks.store import Store
from benchmarks.store.names import label_name, set_name, stem_of
from core import commandline
from core.codec import TesseraError
from core.places import default_results

DEFAULTS = {
    "curves": "",  # labels, and files of your own: a.csv, or CompressAI's JSON; default: those measured, some published
    "dataset": "kodak",
    "metric": "psnr",
    "limit": "",  # the limit= of the measurements; default: those without one
    "names": "",  # other names for curves: LABEL:NAME,LABEL:NAME
    "title": "",
    "width": "page",  # or column
    "output": "",  # files without their endings; default: <results>/figures/rd_...
    "results": default_results(),
}


def plot(options: dict[str, str]) -> None:
    """Draw the figure and say where it is."""
    figure, own = make(options)
    folder = Path(options["results"]) / (given.FOLDER if own else "") / "figures"
    if options["output"]:
        place = Path(options["output"])
        figure, folder = replace(figure, name=place.name.removesuffix(".pdf").removesuffix(".png")), place.parent
    print(*paper.render(figure, folder, width=options["width"]), sep="\n")


def make(options: dict[str, str]) -> tuple[Figure, bool]:
    """The figure of the chosen curves, and whether a user's own are among them; TesseraError where there are none."""
    metric, dataset = find_metric(options["metric"]).name, options["dataset"]
    labels, own = given.asked(options["curves"])
    found, title, _ = one_set(Store(options["results"]), dataset, parse_limit(options["limit"]), bool(own))
    mine = given.read(own, dataset, title, any(c.subset for c in found))
    usual = [c for c in found if c.source == "measured" or c.label in PUBLISHED]
    chosen = given.chosen(found if labels else usual, labels, mine)
    if labels or own:
        _need(chosen, metric)
    pictures = next((c.pictures for c in found if c.source == "measured"), "")
    name = set_name(dataset, title, pictures)
    figure = rd_figure(chosen, metric, name=_stem(name, chosen if labels or own else ()))
    if not figure.series:
        raise TesseraError(f"no curve of {title} has {metric}.")
    return naming.named(figure, naming.parsed(options["names"], [c.label for c in chosen]), options["title"]), bool(own)


def _need(chosen: Sequence[Curve], metric: str) -> None:
    """Raise TesseraError for a curve that was asked for and lacks the metric."""
    for curve in (c for c in chosen if metric not in c.points or not c.points[metric].notna().any()):
        there = [str(c) for c in curve.points if c not in ("point", "bpp") and curve.points[c].notna().any()]
        raise TesseraError(f"{curve.label} has no {metric}: leave it out, or ask for one of {', '.join(there)}.")


def _stem(name: str, chosen: Sequence[Curve]) -> str:
    return stem_of(f"{name}_{'+'.join(label_name(c.label) for c in chosen)}" if chosen else f"{name}_measured")


if __name__ == "__main__":
    sys.exit(commandline.run("plot.py", __doc__, DEFAULTS, plot, sys.argv[1:]))
