"""BD-rate of every curve of a data set against an anchor, from results only: measured curves and published ones.

    python benchmarks/bd_table.py with anchor=vtm18 dataset=kodak
    python benchmarks/bd_table.py with anchor=jpeg dataset=sample metric=ms_ssim_db
    python benchmarks/bd_table.py with anchor=vtm18 dataset=kodak method=akima curves=qres3m_vr,webp,qres34m-paper
    python benchmarks/bd_table.py with anchor=jpeg dataset=kodak limit=4        # of what was measured with limit=4

Every row prints its common quality range, the points used, the interpolation and a 95 % interval over images. A table
is of one set of images, which its caption and its file name say where it is not a whole data set; published curves, of
whole sets, stand in tables of whole sets only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import cast

from benchmarks import arguments, curves, tables
from benchmarks.bd import Method
from benchmarks.curves import Curve
from benchmarks.figures import metric_axis, slug
from benchmarks.store import Store
from core.codec import TesseraError

DEFAULTS = {
    "anchor": "vtm18",
    "dataset": "kodak",
    "metric": "psnr",
    "method": "pchip",  # pchip, akima or cubic
    "curves": "",  # labels; default: all
    "limit": "",  # the limit= of the measurements; default: those without one
    "results": "results",
    "bootstrap": "1000",
}


def bd_table(options: dict[str, str]) -> None:
    """Print the table and write it as CSV, Markdown and LaTeX."""
    dataset, metric = options["dataset"], options["metric"]
    found, title, subset = one_set(Store(options["results"]), dataset, parse_limit(options["limit"]))
    anchor = curves.find(found, options["anchor"])
    wanted = [label.strip() for label in options["curves"].split(",") if label.strip()]
    chosen = [curves.find(found, label) for label in wanted] or [c for c in found if not c.lossless]
    method = cast(Method, options["method"])
    frame = tables.bd_table(chosen, anchor, metric, method, bootstrap=int(options["bootstrap"]))
    axis = metric_axis(metric).text
    caption = f"{_sentence(dataset, title)}: BD-rate against {anchor.label} at equal {axis}, {method} interpolation."
    print(tables.to_markdown(frame, caption))
    name = slug(title if subset else dataset)
    stem = Path(options["results"]) / "tables" / f"bd_{name}_{metric}_vs_{slug(anchor.label)}_{method}"
    for path in tables.to_files(frame, stem, caption):
        print(path)


def one_set(store: Store, dataset: str, limit: int | None) -> tuple[list[Curve], str, bool]:
    """The curves of one set of images, the whole data set if there are several; its title; whether it is a subset.

    Published curves join a whole set. Raises TesseraError where nothing was measured with that limit.
    """
    measured = curves.of_cells(store.cells(dataset=dataset, limit=limit), by_title=True)
    first = min(measured, key=lambda c: c.subset, default=None)
    title = first.title if first else dataset
    subset = limit is not None or bool(first and first.subset)
    found = [c for c in measured if c.title == title] + ([] if subset else curves.published(dataset))
    if not found:
        known = ", ".join(dict.fromkeys(c.title for c in curves.measured(store, dataset)))
        what = f"{dataset} with limit={limit}" if limit else dataset
        more = f"measured is {known}" if known else "measure some with python benchmarks/rd_curve.py"
        raise TesseraError(f"there are no curves of {what}: {more}.")
    return found, title, subset


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
    sys.exit(arguments.run("bd_table.py", __doc__, DEFAULTS, bd_table, sys.argv[1:]))
