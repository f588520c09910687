"""Figures, tables and the offline page, made from the results folder alone: no model, no checkpoint, no Sacred.

    python benchmarks/report.py
    python benchmarks/report.py with results=/scratch/results
    python benchmarks/report.py with published=vtm18,qarv-paper

``published`` names the published curves that stand beside the measured ones in the figures on paper; on the page the
others can be ticked. The same results give the same bytes. ``<results>/report_files.json`` lists what was written;
what it lists and is written no longer is removed the next time, and no other file is.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from benchmarks import arguments, comparisons, figures, paper, tables, web, written
from benchmarks import curves as rd
from benchmarks.curves import Curve
from benchmarks.metrics import METRICS
from benchmarks.pairs import METHOD, RESAMPLES, all_pairs
from benchmarks.store import CellResult, Store
from core.codec import TesseraError

PUBLISHED = ("vtm18", "bpg444", "qres34m-paper", "qarv-paper", "mbt2018-mean", "bmshj2018-hyperprior")
ANCHORS = ("vtm18", "jpeg")  # the first of these that has the metric is the anchor shown first
SUBSET_NOTE = "Published curves are of whole data sets, so none stands beside a subset."
BD_NOTE = (
    f"{METHOD.upper()} of log rate over the common range; 95 % intervals from {RESAMPLES} resamples of the images."
)
DEFAULTS = {"results": "results", "published": ",".join(PUBLISHED)}


def build_report(results: Path | str = Path("results"), published: Sequence[str] = PUBLISHED) -> list[Path]:
    """Make figures, tables, curves and the page from a results folder; returns the files written, the page last.

    ``published`` are labels of published curves drawn on paper; labels that a data set does not have are passed over.
    Raises StoreError when files cannot be written.
    """
    store = Store(results)
    cells = store.cells()
    groups = group_curves(cells, published)
    metrics = drawn_metrics()
    lossless = tables.lossless_table(store)
    paths = rd.export([c for g in groups for c in g.curves], store.root / "curves")
    paths += [p for g in groups for p in _group_files(g, metrics, published, store.root)]
    if len(lossless):
        caption = "Lossless methods: bits per dimension (mean over images)."
        paths += tables.to_files(lossless, store.root / "tables" / "lossless", caption)
        paths += [p for f in comparisons.lossless_figures(lossless) for p in paper.render(f, store.root / "figures")]
    written.replace(store.root / "report_files.json", paths, store.root)
    return [*paths, build_page(store, cells, groups, lossless, published, {p.stem for p in paths})]


def build_page(
    store: Store,
    cells: Sequence[CellResult],
    groups: Sequence[web.Group],
    lossless: pd.DataFrame,
    published: Sequence[str] = PUBLISHED,
    own: Collection[str] = (),
) -> Path:
    """Write the page alone; ``own`` are names of stored figures and tables that it has from the curves already."""
    everyone = {c.label for g in groups for c in g.curves if c.source == "published"}
    folder, hidden = store.root / "report", sorted(everyone - set(published))
    data = web.page_data(groups, cells, lossless, store, drawn_metrics(), folder, hidden, own)
    return web.write_page(data, folder)


def drawn_metrics() -> tuple[str, ...]:
    """The metrics that have a figure: the registered ones in dB, in order of registration."""
    return tuple(name for name, metric in METRICS.items() if metric.unit == "dB")


def group_curves(cells: Sequence[CellResult], leading: Sequence[str] = PUBLISHED) -> list[web.Group]:
    """The measured curves by data set and subset, whole sets first, those of most curves before others; published ones,
    the leading ones first, join whole sets only."""
    measured = rd.of_cells(cells, by_title=True)
    groups = []
    for dataset, title in dict.fromkeys((c.dataset, c.title) for c in measured):
        mine = tuple(c for c in measured if (c.dataset, c.title) == (dataset, title))
        subset = any(c.subset for c in mine)
        place = {label: i for i, label in enumerate(leading)}
        beside = () if subset else sorted(rd.published(dataset), key=lambda c: place.get(c.label, len(place)))
        note = SUBSET_NOTE if subset and rd.published(dataset) else ""
        every = _distinct((*mine, *beside))
        bd = {m: _pairs(every, m) for m in drawn_metrics()}
        name = figures.slug(title if subset else dataset)
        groups.append(web.Group(name, title, every, subset, note, bd))
    return sorted(groups, key=lambda g: (g.subset, -len(g.curves), g.name, g.title))


def _distinct(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """The curves without published ones whose label a measured curve bears: two rows of one name mislead."""
    taken = {c.label for c in curves if c.source == "measured"}
    return tuple(c for c in curves if c.source == "measured" or c.label not in taken)


def _pairs(curves: Sequence[Curve], metric: str) -> web.Pairs:
    lossy = [c for c in curves if not c.lossless]
    results = all_pairs(lossy, metric)
    names = tuple(c.label for c in lossy if any(c.label in pair for pair in results))
    return web.Pairs(names, results, first_anchor(names), BD_NOTE)


def first_anchor(names: Sequence[str]) -> str:
    """The anchor shown first among curves that have the metric: one of ``ANCHORS``, else the first ('' for none)."""
    return next((a for a in (*ANCHORS, *names) if a in names), "")


def _group_files(group: web.Group, metrics: Sequence[str], published: Sequence[str], root: Path) -> list[Path]:
    """Figures and tables of one data set: measured curves and the chosen published ones."""
    chosen = [c for c in group.curves if c.source == "measured" or c.label in published]
    lossy = [c for c in chosen if not c.lossless]
    table = tables.rd_table(lossy)
    paths = tables.to_files(table, root / "tables" / f"rd_{group.name}", f"{group.title}: all points.") if lossy else []
    for metric in metrics:
        drawn = [figures.rd_figure(chosen, metric, name=group.name)]
        if metric == metrics[0]:
            drawn += _beside(group, lossy, metric)
        pairs = group.bd[metric]
        if pairs.anchor:
            paths += _bd_files(group, lossy, metric, pairs, root)
        paths += [path for figure in drawn for path in paper.render(figure, root / "figures")]
    return paths


def _beside(group: web.Group, curves: Sequence[Curve], metric: str) -> list[figures.Figure]:
    """Figures that are drawn for one metric only; the page has those of the others."""
    pairs = group.bd[metric]
    speed = [
        comparisons.speed_figure(curves, pairs.results, pairs.anchor, metric, column, group.name)
        for column in (comparisons.SPEEDS if pairs.anchor else ())
    ]
    return [comparisons.images_figure(curves, metric, group.name), *speed]


def _bd_files(group: web.Group, curves: Sequence[Curve], metric: str, pairs: web.Pairs, root: Path) -> list[Path]:
    anchor = rd.find(group.curves, pairs.anchor)
    tests = [c for c in curves if c is not anchor and c.label in pairs.names]
    if not tests:
        return []
    found = {c.label: pairs.results[anchor.label, c.label] for c in tests}
    figure = figures.bd_figure(found, anchor.label, metric, group.name, group.title)
    axis = figures.metric_axis(metric)
    caption = f"{group.title}: BD-rate against {anchor.label} at equal {axis.label}. {BD_NOTE}"
    frame = tables.bd_frame([(c, found[c.label]) for c in tests], metric)
    return paper.render(figure, root / "figures") + tables.to_files(frame, root / "tables" / figure.name, caption)


def report(options: dict[str, str]) -> None:
    """Build the report of a results folder and say where it is."""
    if not Path(options["results"]).is_dir():
        raise TesseraError(f"there is no results folder {options['results']}: measure something first.")
    paths = build_report(Path(options["results"]), options["published"].split(","))
    print(f"{len(paths)} files from {options['results']}; open {paths[-1]}")


def main(words: Sequence[str]) -> int:
    """Run from a command line ``[with] name=value ...``; returns the exit code."""
    return arguments.run("report.py", __doc__ or "", DEFAULTS, report, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
