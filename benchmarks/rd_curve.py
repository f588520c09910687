"""Rate-distortion curves of one or several methods on a data set: cells, a figure per metric, and the numbers.

    python benchmarks/rd_curve.py with method=qres3m_vr                          # embedded images, weights we ship
    python benchmarks/rd_curve.py with method=qres34m dataset=kodak points=16,64
    python benchmarks/rd_curve.py with methods=qres3m_vr,jpeg,webp dataset=kodak
    python benchmarks/rd_curve.py with method=qres3m_vr dataset=kodak curves=vtm18,webp,mine.csv names=mine:Ours
    python benchmarks/rd_curve.py with method=qres34m dataset=kodak device=cuda limit=4 weights=PATH
    python benchmarks/rd_curve.py with smoke                                  # two small images, two points
    python benchmarks/rd_curve.py print_config with method=jpeg params.subsampling=4:4:4

Cells that exist are not computed again. Where a method has no weights here, its published curve is drawn, the answer
says how to get them, and the exit code is 2. Files of your own curves: docs/own_curves.md. Named configs: smoke, paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.classical.base import Anchor
from benchmarks.curves import curve as curves
from benchmarks.curves import given
from benchmarks.curves.curve import Curve
from benchmarks.figures import naming, paper, style
from benchmarks.figures.rd import rd_figure
from benchmarks.store import Store
from benchmarks.store.names import label_name, set_name, slug, stem_of
from benchmarks.tables.files import for_screen
from benchmarks.tables.results import rd_table
from core.codec import TesseraError
from core.registry import METHODS
from experiments.evaluate import Outcome, drawing_config, evaluate, evaluation_config, say
from experiments.request import Evaluation
from experiments.wiring import experiment, guarded, run, sequence

NAMED: dict[str, dict[str, Any]] = {
    "smoke": {"methods": "qres3m_vr,jpeg", "dataset": "sample", "limit": 2, "points": None},
    "paper": {"dataset": "kodak", "limit": None, "weights": "official"},
}
METRICS = ("psnr", "ms_ssim_db")
PUBLISHED = ("vtm18", "qres34m-paper")  # drawn beside the curves where they exist for the data set


ex = experiment(__file__, "rd_curve", evaluation_config, NAMED, drawing_config)


@ex.main
@guarded
def rd_curve(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure, draw, and print where everything is."""
    request, wishes = Evaluation.of(config), Wishes.of(config)
    wishes.check(request.dataset)
    outcome = evaluate(request, str(sacred_run._id or ""))
    if outcome.cells:
        _draw_measured(request, outcome, wishes)
    elif outcome.lacking:
        _draw_published(request, outcome, wishes)
    say(outcome)
    return outcome.code


@dataclass(frozen=True)
class Wishes:
    """What the figures are to show beside the measured curves, and how."""

    labels: Sequence[str]
    own: Sequence[Path]
    names: str
    title: str
    width: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """The wishes in a configuration."""
        beside, names = (",".join(map(str, sequence(config[name]) or ())) for name in ("curves", "names"))
        return cls(*given.asked(beside), names, str(config["title"] or ""), str(config["width"]))

    def check(self, dataset: str) -> None:
        """Raise TesseraError for files that cannot be read and a width that is none, before anything is measured."""
        given.read(self.own, dataset)
        if self.width not in style.WIDTHS:
            raise TesseraError(f"width={self.width} of a figure must be {' or '.join(style.WIDTHS)}.")


def _draw_measured(request: Evaluation, outcome: Outcome, wishes: Wishes) -> None:
    """Print what was measured and draw it, with the published curves of its methods or those that were asked for."""
    wanted, first = {result.key for result in outcome.cells}, outcome.cells[0].cell
    found = curves.measured(Store(request.results), first.dataset, None, first.limit, outcome.pictures)
    mine = {_without_rate(curve.label) for curve in found if wanted & set(curve.cells)}
    drawn = [c for c in found if _without_rate(c.label) in mine and c.method in request.names]  # files, ideal rates
    print(for_screen(rd_table(drawn), f"Measured on {drawn[0].title}"))
    _draw(drawn, _beside(drawn[0], [*PUBLISHED, *_of_methods(request.names)], found, wishes), request, wishes)


def _draw_published(request: Evaluation, outcome: Outcome, wishes: Wishes) -> None:
    """Draw what is published of methods that have no weights here, with the classical curves that are stored."""
    name = outcome.images.name if outcome.images else request.dataset
    labels = _of_methods(outcome.lacking)
    cited = [curve for curve in curves.published(name) if curve.label in labels]
    if cited and request.limit is None:
        stored = curves.measured(Store(request.results), name, None, None, outcome.pictures)
        classical = [c for c in stored if not c.lossless and _is_classical(c.method)]
        print(f"nothing was measured; drawn is what is published of {', '.join(outcome.lacking)}:")
        beside = [*classical, *_beside(cited[0], PUBLISHED, stored, wishes)]
        _draw(cited, [curve for curve in beside if curve.label not in labels], request, wishes)


def _beside(first: Curve, usual: Sequence[str], stored: Sequence[Curve], wishes: Wishes) -> list[Curve]:
    """What stands beside the curves of a figure: the published ones of these labels, or what was asked for."""
    cited = [] if first.subset else curves.published(first.dataset)
    own = given.read(wishes.own, first.dataset, first.title, first.subset)
    if wishes.labels:
        return given.chosen([*stored, *cited], wishes.labels, own)
    return [*(curve for curve in cited if curve.label in usual), *own]


def _draw(drawn: Sequence[Curve], beside: Sequence[Curve], request: Evaluation, wishes: Wishes) -> None:
    """Draw a figure per metric and say where they are; the first curves name the files."""
    every = list({(curve.source, curve.label): curve for curve in (*drawn, *beside)}.values())
    names = naming.parsed(wishes.names, [curve.label for curve in every])
    own = [curve for curve in every if curve.source == "given"]
    folder = request.folder / (given.FOLDER if own else "") / "figures"
    stem = _stem([*drawn, *(beside if wishes.labels else own)])
    wanted = dict.fromkeys((*METRICS, *request.metrics))
    for metric in (name for name in wanted if any(name in curve.points for curve in drawn)):
        figure = naming.named(rd_figure(every, metric, name=stem), names, wishes.title)
        for path in paper.render(figure, folder, width=wishes.width):
            print(path)


def _of_methods(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The labels of published curves of methods."""
    return [label for name in names if name in METHODS for label in METHODS[name].published]


def _is_classical(name: str) -> bool:
    return name in METHODS and issubclass(METHODS[name], Anchor)


def _stem(drawn: Sequence[Curve]) -> str:
    """What names the figures: the images and every curve, whatever its rates."""
    first = drawn[0]
    where = set_name(first.dataset, first.title, first.pictures) if first.cells else slug(first.dataset)
    named = dict.fromkeys(label_name(_without_rate(curve.label)) for curve in drawn)
    return stem_of(f"{where}_{'+'.join(named)}")


def _without_rate(label: str) -> str:
    return re.sub(r"(, )?rate \w+", "", label)


if __name__ == "__main__":
    run(ex)
