"""Figures, tables and the offline page, made from the results folder alone: no model, no checkpoint, no Sacred.

    python benchmarks/report.py
    python benchmarks/report.py with results=/scratch/results
    python benchmarks/report.py with published=vtm18,qarv-paper jobs=1
    python benchmarks/report.py with most=0                                 # figures of all curves, crowded in parts
    python benchmarks/report.py with check=True                             # exit 2 where the page lacks results
    python benchmarks/report.py with figures=False                          # in a third of the time: page and tables
    python benchmarks/report.py with curves=mine.csv dataset=kodak          # a page with your own curves on it

``published`` names the published curves that may stand beside the measured ones in the figures on paper; a figure shows
``most`` curves, the best of each kind (``figures/choice.py``), and the page has the others to tick. The same results
give the same bytes. ``<results>/report_files.json`` lists what was written; what it lists and is written no longer is
removed the next time, and no other file is.

Files of your own curves (docs/own_curves.md) are put on a page of their own, <results>/given/report: nothing else is
written then.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.curves import curve as rd
from benchmarks.curves import given, tidy
from benchmarks.curves.bd import BDResult
from benchmarks.curves.curve import Curve
from benchmarks.curves.groups import BD_NOTE, PUBLISHED, Group, Pairs, drawn_metrics, group_curves
from benchmarks.figures import choice, comparisons, looks, stored
from benchmarks.figures import figure as figures
from benchmarks.figures.drawing import render_all
from benchmarks.figures.rd import Part, bd_figure, bd_name, metric_axis, rd_figure
from benchmarks.page import page
from benchmarks.store import CellResult, Store, listing
from benchmarks.tables import files
from benchmarks.tables import results as tables
from core import commandline, crew, places
from core.codec import TesseraError

CROWDED = 16  # measured curves beyond which a figure on paper is drawn in parts
LATTICES = ("lattice_", "llvq_")
DEFAULTS = {"results": places.default_results(), "published": ",".join(PUBLISHED), "jobs": "", "figures": "True"}
DEFAULTS |= {"most": str(choice.MOST), "check": "False", "curves": "", "dataset": "kodak"}


def build_report(
    results: Path | str,
    published: Sequence[str] = PUBLISHED,
    jobs: int = 1,
    draw: bool = True,
    most: int = choice.MOST,
) -> list[Path]:
    """Make figures, tables, curves and the page from results; returns the files written into their folder, the page
    last.

    ``published`` are labels of published curves drawn on paper; labels that a data set does not have are passed over.
    A figure shows ``most`` curves, or all of them (0). ``jobs`` processes draw the figures that are not there; without
    ``draw`` those on paper stay as they are, and nothing is removed. Raises StoreError when files cannot be written.
    """
    store = Store(results)
    cells = store.cells()
    groups = group_curves(cells, published)
    metrics = drawn_metrics()
    lossless = tables.lossless_table(store)
    paths = tidy.export([c for g in groups for c in g.curves], store.root / "curves")
    paths += [p for g in groups for p in _group_tables(g, metrics, published, store.root)]
    drawn = [f for g in groups for f in _group_figures(g, metrics, published, most)]
    if len(lossless):
        caption = "Lossless methods: bits per dimension (mean over images)."
        paths += files.to_files(lossless, store.root / "tables" / "lossless", caption)
        drawn += comparisons.lossless_figures(lossless)
    own = {path.stem for path in paths} | {figure.name for figure in drawn}  # the page has these from the curves
    if draw:
        paths += _drawn(drawn, store.root, jobs)
        listing.replace(store.root / "report_files.json", paths, store.root)
    return [*paths, build_page(store, cells, groups, lossless, published, own)]


def _drawn(drawn: Sequence[figures.Figure], root: Path, jobs: int) -> list[Path]:
    """Draw the report's own figures and those of which commands stored the data, whose JSON stays the commands'."""
    folder, sizes = root / "figures", stored.codebook_size_figures(root)
    own = {figure.name for figure in (*drawn, *sizes)} | _former(root)
    paths = render_all([*drawn, *sizes], folder, jobs) + stored.picture_figures(root)
    return paths + render_all(stored.data_figures(folder, own), folder, jobs, data=False)


def _former(root: Path) -> set[str]:
    """Names of figures whose data an earlier report wrote: what it writes no longer goes."""
    names = listing.names(root / "report_files.json")
    return {Path(name).stem for name in names if name.startswith("figures/") and name.endswith(".json")}


def build_page(
    store: Store,
    cells: Sequence[CellResult],
    groups: Sequence[Group],
    lossless: pd.DataFrame,
    published: Sequence[str] = PUBLISHED,
    own: Collection[str] = (),
    inside: str = "",
) -> Path:
    """Write the page alone, into a folder ``inside`` the results; ``own`` are names of stored figures and tables that
    it has from the curves already.
    """
    everyone = {c.label for g in groups for c in g.curves if c.source == "published"}
    folder, hidden = store.root / inside / "report", sorted(everyone - set(published))
    data = page.page_data(groups, cells, lossless, store, drawn_metrics(), folder, hidden, own, published)
    return page.write_page(data, folder)


def own_page(results: Path, files_of_curves: Sequence[Path], dataset: str, published: Sequence[str]) -> Path:
    """The page with a user's own curves on it, in the folder of such things; TesseraError for files that cannot be read
    or a data set that nothing was measured on.
    """
    store = Store(results)
    cells = store.cells()
    groups = group_curves(cells, published, given.read(files_of_curves, dataset))
    drawn = listing.names(store.root / "report_files.json")
    names = {Path(name).stem for name in drawn}
    return build_page(store, cells, groups, tables.lossless_table(store), published, names, given.FOLDER)


def _chosen(group: Group, published: Sequence[str]) -> list[Curve]:
    """The curves on paper: measured ones and the chosen published ones."""
    return [c for c in group.curves if c.source == "measured" or c.label in published]


def _group_figures(
    group: Group, metrics: Sequence[str], published: Sequence[str], most: int = choice.MOST
) -> list[figures.Figure]:
    """Figures of one data set."""
    listed, drawn = _chosen(group, published), []
    lossy = [c for c in listed if not c.lossless]
    names = {label: name for (_, label), name in looks.names(group.curves).items()}
    for metric in metrics:
        pairs = group.bd[metric]
        found = _against_anchor(group, lossy, pairs)
        results = {c.label: result for c, result in found}
        if len(found) > 1:
            drawn.append(bd_figure(results, pairs.anchor, metric, group.name, group.title, names))
        rates = {label: r.rate_percent for label, r in results.items()} | {pairs.anchor: 0.0}
        able = [c for c in lossy if metric in c.points]
        shown = choice.chosen(able, rates, published, most or len(able))
        for part in parts(lossy) if not most else [None]:
            figure = rd_figure(
                listed, metric, name=group.name, part=part or Part("", frozenset(c.label for c in shown))
            )
            drawn.append(figure if part else _whole(figure, group, metric, len(shown), len(able)))
        if metric == metrics[0]:
            drawn += _beside(group, lossy, metric, shown if most else None)
    return drawn


def _whole(figure: figures.Figure, group: Group, metric: str, shown: int, known: int) -> figures.Figure:
    """The figure of chosen curves under the name of the whole, with a note where it leaves some out."""
    title = f"{looks.heading(group.title)}: {metric_axis(metric).label} over rate"
    notes = (f"{shown} of {known} curves, the best of each kind; the report's page has all",) if shown < known else ()
    return replace(figure, name=f"rd_{group.name}_{metric}", title=title, notes=(*figure.notes, *notes))


def parts(curves: Sequence[Curve]) -> list[Part | None]:
    """How a figure of curves is divided on paper: not at all (None), or where it would be crowded by kinds of methods.

    Lattices are one part, methods with other parameters than their defaults another; published curves join the rest.
    """
    measured = [c for c in curves if c.source == "measured"]
    if len(measured) <= CROWDED:
        return [None]
    lattices = [c for c in measured if c.method.startswith(LATTICES)]
    changed = [c for c in measured if c not in lattices and c.label.startswith(f"{c.method}(")]
    rest = [c for c in curves if c not in lattices and c not in changed]
    named = (("lattices", lattices), ("other settings", changed), ("default settings", rest))
    found = [Part(name, frozenset(c.label for c in mine)) for name, mine in named if mine]
    return [*found] if len(found) > 1 else [None]


def _group_tables(group: Group, metrics: Sequence[str], published: Sequence[str], root: Path) -> list[Path]:
    """Tables of one data set."""
    lossy = [c for c in _chosen(group, published) if not c.lossless]
    caption = f"{group.title}: all points."
    paths = files.to_files(tables.rd_table(lossy), root / "tables" / f"rd_{group.name}", caption) if lossy else []
    for metric in metrics:
        pairs = group.bd[metric]
        if found := _against_anchor(group, lossy, pairs):
            axis = metric_axis(metric)
            caption = f"{group.title}: BD-rate against {pairs.anchor} at equal {axis.label}. {BD_NOTE}"
            stem = root / "tables" / bd_name(group.name, metric, pairs.anchor)
            paths += files.to_files(tables.bd_frame(found, metric), stem, caption)
    return paths


def _against_anchor(group: Group, curves: Sequence[Curve], pairs: Pairs) -> list[tuple[Curve, BDResult]]:
    """Each curve that has a BD-rate against the anchor shown first, with it; none where there is no anchor."""
    if not pairs.anchor:
        return []
    anchor = rd.find(group.curves, pairs.anchor)
    tests = [c for c in curves if c is not anchor and c.label in pairs.names]
    return [(c, pairs.results[anchor.label, c.label]) for c in tests]


def _beside(group: Group, curves: Sequence[Curve], metric: str, shown: Sequence[Curve] | None) -> list[figures.Figure]:
    """Figures that are drawn for one metric only, of the ``shown`` curves where given; the page has the others."""
    pairs = group.bd[metric]
    speed = [
        comparisons.speed_figure(curves, pairs.results, pairs.anchor, metric, column, group.name)
        for column in (comparisons.SPEEDS if pairs.anchor else ())
    ]
    divided = parts(curves) if shown is None else [None]
    few = curves if shown is None else shown
    images = [comparisons.images_figure(few, metric, group.name, part) for part in divided]
    return [f for f in (*images, *speed) if f.kind != "scatter" or sum(len(s.x) for s in f.series) > 1]


def behind(root: Path) -> str:
    """How the page in a results folder is older than the results: a sentence without its full stop, '' where it is not.

    Compared are the keys of cells, not times, which a copy or a checkout changes.
    """
    path, keys = root / "report" / "index.html", {cell.key for cell in Store(root).cells()}
    if not path.is_file():
        return f"there is no page {path}" if keys else ""
    shown = page.shown_cells(path)
    new, gone = len(keys - shown), len(shown - keys)
    if not new and not gone:
        return ""
    said = [f"lacks {new} of {len(keys)} results"] if new else []
    said += [f"shows {gone} that are gone"] if gone else []
    return f"{path} is older than the results: it {' and '.join(said)}"


def report(options: dict[str, str]) -> None:
    """Build the report of a results folder and say where it is."""
    if not any(root.is_dir() for root in places.roots(options["results"])):
        raise TesseraError(f"there is no results folder {options['results']}: measure something first.")
    if options["check"] not in ("True", "False"):
        raise TesseraError(f"check={options['check']} must be True or False.")
    older = behind(Path(options["results"]))
    if options["check"] == "True":
        if older:
            raise TesseraError(f"{older}: run python benchmarks/report.py.")
        print(f"{options['results']}/report/index.html shows all results that are there")
        return
    jobs = crew.jobs(int(options["jobs"] or 0) or None)
    if options["figures"] not in ("True", "False"):
        raise TesseraError(f"figures={options['figures']} must be True or False.")
    if not options["most"].isdigit():
        raise TesseraError(f"most={options['most']} must be a whole number of curves, or 0 for all of them.")
    labels, own = given.asked(options["curves"])
    if labels:
        raise TesseraError(
            f"curves={labels[0]} is no file: the page has all curves that are here, and files join them."
        )
    if own:
        print(f"open {own_page(Path(options['results']), own, options['dataset'], options['published'].split(','))}")
        return
    draw, most = options["figures"] == "True", int(options["most"])
    paths = build_report(Path(options["results"]), options["published"].split(","), jobs, draw, most)
    print(f"{older}: made again" if older else "", end="\n" if older else "")
    print(f"{len(paths)} files from {options['results']}; open {paths[-1]}")


def main(words: Sequence[str]) -> int:
    """Run from a command line ``[with] name=value ...``; returns the exit code."""
    return commandline.run("report.py", __doc__ or "", DEFAULTS, report, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
