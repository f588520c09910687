"""BD-rate of every curve of a data set against an anchor, from results only: measured curves and published ones.

    python benchmarks/bd_table.py with anchor=vtm18 dataset=kodak
    python benchmarks/bd_table.py with anchor=jpeg dataset=sample metric=ms_ssim_db
    python benchmarks/bd_table.py with anchor=vtm18 dataset=kodak method=akima curves=qres3m_vr,webp,qres34m-paper

Every row prints its common quality range, the points used, the interpolation and a 95 % interval over images.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from benchmarks import arguments, curves, tables
from benchmarks.bd import Method
from benchmarks.figures import metric_axis, slug
from benchmarks.store import Store
from core.codec import TesseraError

DEFAULTS = {
    "anchor": "vtm18",
    "dataset": "kodak",
    "metric": "psnr",
    "method": "pchip",  # pchip, akima or cubic
    "curves": "",  # labels; default: all
    "results": "results",
    "bootstrap": "1000",
}


def bd_table(options: dict[str, str]) -> None:
    """Print the table and write it as CSV, Markdown and LaTeX."""
    dataset, metric = options["dataset"], options["metric"]
    found = [*curves.measured(Store(options["results"]), dataset), *curves.published(dataset)]
    if not found:
        raise TesseraError(f"there are no curves of {dataset}: measure some with python benchmarks/rd_curve.py.")
    anchor = curves.find(found, options["anchor"])
    wanted = [label.strip() for label in options["curves"].split(",") if label.strip()]
    chosen = [curves.find(found, label) for label in wanted] or [c for c in found if not c.lossless]
    method = cast(Method, options["method"])
    frame = tables.bd_table(chosen, anchor, metric, method, bootstrap=int(options["bootstrap"]))
    caption = f"{dataset}: BD-rate against {anchor.label} at equal {metric_axis(metric).text}, {method} interpolation."
    print(tables.to_markdown(frame, caption))
    stem = Path(options["results"]) / "tables" / f"bd_{slug(dataset)}_{metric}_vs_{slug(anchor.label)}_{method}"
    for path in tables.to_files(frame, stem, caption):
        print(path)


if __name__ == "__main__":
    sys.exit(arguments.run("bd_table.py", __doc__, DEFAULTS, bd_table, sys.argv[1:]))
