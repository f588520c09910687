"""Rate-distortion curves of one or several methods on a data set: cells, a figure per metric, and the numbers.

    python benchmarks/rd_curve.py with method=qres3m_vr                          # embedded images, weights we ship
    python benchmarks/rd_curve.py with method=qres34m dataset=kodak points=16,64
    python benchmarks/rd_curve.py with methods=qres3m_vr,jpeg,webp dataset=kodak
    python benchmarks/rd_curve.py with method=qres34m dataset=kodak device=cuda limit=4 weights=PATH
    python benchmarks/rd_curve.py with smoke                                  # two small images, two points
    python benchmarks/rd_curve.py print_config with method=jpeg params.subsampling=4:4:4

Cells that exist are not computed again. Named configs: smoke, paper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from benchmarks.curves import curve as curves
from benchmarks.curves.curve import Curve
from benchmarks.figures import paper
from benchmarks.figures.rd import rd_figure
from benchmarks.store import Store
from benchmarks.store.names import label_name, set_name, stem_of
from benchmarks.tables.files import for_screen
from benchmarks.tables.results import rd_table
from experiments.evaluate import evaluate, evaluation_config, say
from experiments.request import Evaluation
from experiments.wiring import experiment, guarded, run

NAMED: dict[str, dict[str, Any]] = {
    "smoke": {"methods": "qres3m_vr,jpeg", "dataset": "sample", "limit": 2, "points": None},
    "paper": {"dataset": "kodak", "limit": None, "weights": "official"},
}
METRICS = ("psnr", "ms_ssim_db")

ex = experiment(__file__, "rd_curve", evaluation_config, NAMED)


@ex.main
@guarded
def rd_curve(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure, draw, and print where everything is."""
    request = Evaluation.of(config)
    outcome = evaluate(request, str(sacred_run._id or ""))
    if outcome.cells:
        wanted = {result.key for result in outcome.cells}
        store, names = Store(request.results), request.names
        first = outcome.cells[0].cell
        found = curves.measured(store, first.dataset, names, first.limit, outcome.pictures)
        mine = {_without_rate(curve.label) for curve in found if wanted & set(curve.cells)}
        drawn = [curve for curve in found if _without_rate(curve.label) in mine]  # files beside ideal rates
        print(for_screen(rd_table(drawn), f"Measured on {drawn[0].title}"))
        stem = _stem(drawn)
        labels = [*PUBLISHED, *(IREC if any(name.startswith("irec") for name in names) else ())]
        cited = [curve for curve in curves.published(drawn[0].dataset) if curve.label in labels]
        for metric in dict.fromkeys((*METRICS, *request.metrics)):
            figure = rd_figure([*drawn, *cited], metric, name=stem)
            for path in paper.render(figure, request.folder / "figures"):
                print(path)
    say(outcome)
    return outcome.code


def _stem(drawn: Sequence[Curve]) -> str:
    """What names the figures: the images and every curve, whatever its rates."""
    where = set_name(drawn[0].dataset, drawn[0].title, drawn[0].pictures)
    named = dict.fromkeys(label_name(_without_rate(curve.label)) for curve in drawn)
    return stem_of(f"{where}_{'+'.join(named)}")


def _without_rate(label: str) -> str:
    return re.sub(r"(, )?rate \w+", "", label)


PUBLISHED = ("vtm18", "qres34m-paper")  # drawn beside the measured curves where they exist for the data set
IREC = ("irec-paper", "irec-ideal-paper", "irec-ms-ssim-paper")  # and beside irec1, irec2, ...

if __name__ == "__main__":
    run(ex)
