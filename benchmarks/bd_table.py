"""BD-rate of every curve of a data set against an anchor, from results only: measured curves and published ones.

    python benchmarks/bd_table.py with anchor=vtm18 dataset=kodak
    python benchmarks/bd_table.py with anchor=jpeg dataset=sample metric=ms_ssim_db
    python benchmarks/bd_table.py with anchor=jpeg dataset=kodak metric=mse     # or any metric that cells have
    python benchmarks/bd_table.py with anchor=jpeg dataset=kodak metric=jpeg_ai # mean over JPEG AI's metrics
    python benchmarks/bd_table.py with anchor=vtm18 dataset=kodak method=akima curves=qres3m_vr,webp,qres34m-paper
    python benchmarks/bd_table.py with anchor=jpeg dataset=kodak limit=4        # of what was measured with limit=4
    python benchmarks/bd_table.py with anchor=vtm18 curves=mine.csv             # all curves, and your own
    python benchmarks/bd_table.py with anchor=vtm18 curves=qres3m_vr,webp,mine.json names=qres3m_vr:Ours,webp:WebP \
        columns=curve,BD-rate,interval,range width=column title="Kodak, PSNR"

Every row prints its common quality range, the points used, the interpolation and a 95 % interval over images. A table
is of one set of images, which its caption and its file name say where it is not a whole data set; published curves, of
whole sets, stand in tables of whole sets only. Parameters and multiply-additions of networks stand beside BD-rates
where complexity.py has counted them.

A label may do without what stands in brackets: qres3m_vr for 'qres3m_vr [ours]'. Files of your own curves
(docs/own_curves.md) are taken to be of the same images, are labelled [given], and what holds them is written to
<results>/given.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pandas as pd

from benchmarks.curves import curve as curves
from benchmarks.curves import given, jpeg_ai
from benchmarks.curves.bd import Method
from benchmarks.curves.curve import Curve
from benchmarks.figures import naming
from benchmarks.figures.rd import metric_axis
from benchmarks.measure import complexity
from benchmarks.measure.metrics import find_metric
from benchmarks.store import Store
from benchmarks.store.names import label_name, set_name, stem_of
from benchmarks.tables import files, results
from core import commandline
from core.codec import TesseraError
from core.places import default_results

DEFAULTS = {
    "anchor": "vtm18",
    "dataset": "kodak",
    "metric": "psnr",
    "method": "pchip",  # pchip, akima or cubic
    "curves": "",  # labels (default: all), and files of your own: a.csv, or CompressAI's JSON
    "limit": "",  # the limit= of the measurements; default: those without one
    "names": "",  # other names for curves: LABEL:NAME,LABEL:NAME
    "columns": "",  # those to show, in that order; a beginning of their names is enough
    "width": "auto",  # of the LaTeX table: column, page, or the first of them that holds it
    "title": "",  # the caption; default: what is compared and how
    "results": default_results(),
    "bootstrap": "1000",
}


def bd_table(options: dict[str, str]) -> None:
    """Print the table and write it as CSV, Markdown and LaTeX."""
    wanted, own = given.asked(options["curves"])
    frame, caption, name = make(options, wanted, own)
    names = naming.parsed(options["names"], frame["curve"])
    columns = curves.listed(options["columns"])
    frame, caption = files.chosen(files.renamed(frame, names), columns), options["title"] or caption
    folder = Path(options["results"]) / (given.FOLDER if own else "")
    written = files.to_files(frame, folder / "tables" / name, caption, options["width"], whole=bool(columns))
    print(files.for_screen(frame, caption))
    print(*written, sep="\n")


def make(
    options: dict[str, str], wanted: Sequence[str] = (), own: Sequence[Path] = ()
) -> tuple[pd.DataFrame, str, str]:
    """The table of the curves of these labels (default: all that are not lossless) and of files of a user's own, its
    caption and its file's name.
    """
    dataset, metric, store = options["dataset"], options["metric"], Store(options["results"])
    axis = "" if metric == jpeg_ai.NAME else metric_axis(find_metric(metric).name).text
    found, title, aside = one_set(store, dataset, parse_limit(options["limit"]), bool(own))
    found = [with_images(curve, metric, store) for curve in found]
    mine = given.read(own, dataset, title, any(c.subset for c in found))
    _refuse_aside([options["anchor"], *wanted], found, aside)
    anchor = curves.find([*found, *mine], options["anchor"])
    chosen = given.chosen(found, wanted, mine)
    if aside and not wanted:
        if all(curve is anchor for curve in chosen):
            raise TesseraError(curves.pictures_differ([anchor, *aside]))
        print(f"left out, of other pictures: {', '.join(c.label for c in aside)}", file=sys.stderr)
    method = cast(Method, options["method"])
    if axis:
        frame = results.bd_table(chosen, anchor, metric, method, bootstrap=int(options["bootstrap"]))
        said = f"BD-rate against {anchor.label} at equal {axis}"
    else:
        frame = jpeg_ai.table(chosen, anchor, method)
        said = f"against {anchor.label}, {jpeg_ai.caption(jpeg_ai.there(anchor, chosen))}"
    frame = complexity.beside(frame, store, chosen)
    caption = f"{_sentence(dataset, title)}: {said}, {method} interpolation."
    if mine:
        caption += " Curves marked [given] are the user's own numbers, taken to be of these images."
    pictures = next((c.pictures for c in found if c.source == "measured"), "")
    labels = [c.label for c in chosen] if wanted else [c.label for c in mine]
    return frame, caption, file_stem(set_name(dataset, title, pictures), metric, anchor.label, method, labels)


def file_stem(name: str, metric: str, anchor: str, method: str, labels: Sequence[str] = ()) -> str:
    """The name of a table's files, without their endings; ``name`` is that of the set of pictures."""
    stem = f"bd_{name}_{metric}_vs_{label_name(anchor)}_{method}"
    return stem_of(stem + (f"_of_{'+'.join(map(label_name, labels))}" if labels else ""))


def _refuse_aside(labels: Sequence[str], found: Sequence[Curve], aside: Sequence[Curve]) -> None:
    """Raise TesseraError for a label that only pictures other than those of the table have."""
    known = {curve.label for curve in found}
    for curve in (c for c in aside if c.label in labels and c.label not in known):
        raise TesseraError(curves.pictures_differ([curve, *(c for c in found if c.source == "measured")]))


def one_set(
    store: Store, dataset: str, limit: int | None, may_be_empty: bool = False
) -> tuple[list[Curve], str, list[Curve]]:
    """The curves of one set of images; its title; and the curves that only other pictures have.

    Of several sets it is the whole data set, and of several of those the one measured last. Published curves join a
    whole set. Raises TesseraError where nothing was measured with that limit, unless it ``may_be_empty``.
    """
    cells = store.cells(dataset=dataset, limit=limit)
    latest = {r.pictures: str(r.provenance.get("started", "")) for r in sorted(cells, key=curves.measured_at)}
    measured = curves.of_cells(cells, by_title=True)
    first = max(measured, key=lambda c: (not c.subset, latest[c.pictures]), default=None)
    title = first.title if first else dataset
    subset = limit is not None or bool(first and first.subset)
    mine = [c for c in measured if c.title == title]
    labels = {c.label for c in mine}
    aside = [c for c in measured if c.title != title and c.label not in labels and not c.lossless]
    found = mine + ([] if subset else curves.published(dataset))
    if not found and not may_be_empty:
        known = ", ".join(dict.fromkeys(c.title for c in curves.measured(store, dataset)))
        what = f"{dataset} with limit={limit}" if limit else dataset
        more = f"measured is {known}" if known else "measure some with python benchmarks/rd_curve.py"
        raise TesseraError(f"there are no curves of {what}: {more}.")
    return found, title, aside


def with_images(curve: Curve, metric: str, store: Store) -> Curve:
    """The curve with the metric per image, as intervals need it, where the cells have it."""
    if curve.images is None or metric in curve.images or metric not in curve.points:
        return curve
    parts = [curves.read_columns(store.read(key), (metric,)) for key in curve.cells]
    if not all(metric in part for part in parts):
        return curve
    points = curve.points["point"].tolist()
    rows = [
        (point, *row)
        for point, part in zip(points, parts, strict=True)
        for row in zip(part["image"], part[metric], strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["point", "image", metric])
    return replace(curve, images=curve.images.merge(frame, on=["point", "image"]))


def _sentence(dataset: str, title: str) -> str:
    """'first 4 images of kodak' for the title 'kodak, first 4', other titles as they are."""
    found = re.fullmatch(rf"{re.escape(dataset)}, first (\d+)(?: (\w+))?", title)
    return f"first {found[1]} images of {' '.join(filter(None, (dataset, found[2])))}" if found else title


def parse_limit(text: str) -> int | None:
    """The limit= of measurements: None where none is given; TesseraError for what is no whole number above 0."""
    if text and not (text.isdigit() and int(text)):
        raise TesseraError(f"limit={text} must be a whole number of at least 1.")
    return int(text) if text else None


if __name__ == "__main__":
    sys.exit(commandline.run("bd_table.py", __doc__, DEFAULTS, bd_table, sys.argv[1:]))
