"""Rate saved by a search at the encoder against its seconds: a figure and a table, from measured cells only.

    python benchmarks/rd_curve.py with method=qres3m_vr dataset=kodak limit=4             # the curve without a search
    python benchmarks/rd_curve.py with method=qres3m_vr dataset=kodak limit=4 search=100  # and with, for each N
    python benchmarks/search_gain.py with dataset=kodak limit=4
    python benchmarks/search_gain.py with dataset=kodak limit=4 metric=ms_ssim_db

Every curve with search=N stands beside the one of the same method, parameters, weights and device without: its BD-rate,
and the mean seconds of encoding at the points that both have. Writes results/figures/search_*.{pdf,png} and
results/tables/search_*.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from benchmarks.bd_table import parse_limit
from benchmarks.curves import curve as curves
from benchmarks.curves.bd import bd_rate
from benchmarks.curves.curve import Curve
from benchmarks.figures.comparisons import mean_seconds
from benchmarks.figures.figure import Axis, Figure, Series
from benchmarks.figures.paper import render
from benchmarks.figures.rd import metric_axis
from benchmarks.store import CellResult, Store
from benchmarks.store.names import set_name
from benchmarks.tables import files
from core import commandline
from core.codec import TesseraError
from core.places import default_results

DEFAULTS = {
    "dataset": "kodak",
    "metric": "psnr",
    "limit": "",  # the limit= of the measurements; default: those without one
    "results": default_results(),
}


@dataclass(frozen=True)
class Gain:
    """A curve with a search beside the one without: mean seconds of encoding, and the BD-rate in per cent."""

    title: str
    place: str  # the set of pictures in names of files
    plain: str  # labels
    searched: str
    effort: int
    plain_s: float
    searched_s: float
    rate_percent: float
    points: int


def gains(cells: Sequence[CellResult], metric: str) -> list[Gain]:
    """The gain of every searched curve whose plain one is among the cells and overlaps it, by label and effort."""
    effort = {r.key: r.cell.variant.get("search", 0) for r in cells}
    shared = {r.key: _without_search(r) for r in cells}
    families: dict[str, dict[int, Curve]] = defaultdict(dict)
    for curve in curves.of_cells(cells, by_title=True):
        families[shared[curve.cells[0]]][effort[curve.cells[0]]] = curve
    found = [gain for family in families.values() for gain in _family(family, metric)]
    return sorted(found, key=lambda g: (g.title, g.plain, g.effort))


def _without_search(result: CellResult) -> str:
    """What a searched cell and its plain one share, but for the point and its weights."""
    cell = asdict(result.cell)
    del cell["point"], cell["checkpoint"]
    cell["pictures"] = result.pictures  # cells of before keys had it say it beside them
    cell["variant"] = {name: value for name, value in cell["variant"].items() if name != "search"}
    return json.dumps([cell, result.about.get("legend", "")], sort_keys=True)


def _family(family: dict[int, Curve], metric: str) -> Iterator[Gain]:
    plain = family.pop(0, None)
    if plain is None:
        return
    for effort, curve in sorted(family.items()):
        result = bd_rate(plain, curve, metric, bootstrap=0)
        same = replace(plain, points=plain.points[plain.points["point"].isin(curve.points["point"])])
        before, after = mean_seconds(same, "encode_s"), mean_seconds(curve, "encode_s")
        if result.overlap and before and after:
            place = set_name(plain.dataset, plain.title, plain.pictures)
            facts = plain.label, curve.label, effort, before, after, result.rate_percent, len(curve.points)
            yield Gain(plain.title, place, *facts)


def gain_figure(found: Sequence[Gain], metric: str) -> Figure:
    """Rate saved over seconds of encoding, a line per method, from no search on; all gains are of one set."""
    series = []
    for style, label in enumerate(dict.fromkeys(g.plain for g in found)):
        mine = [g for g in found if g.plain == label]
        series.append(
            Series(
                label,
                (mine[0].plain_s, *(g.searched_s for g in mine)),
                (0.0, *(-g.rate_percent for g in mine)),
                "measured",
                style,
                names=("search=0", *(f"search={g.effort}" for g in mine)),
            )
        )
    seconds = Axis("encode_s", "encoding", "s", log=True)
    saved = Axis("saved_percent", f"rate saved at equal {metric_axis(metric).label}", "%")
    heading = f"{found[0].title}: search at the encoder, {metric_axis(metric).label}"
    return Figure(f"search_{found[0].place}_{metric}", heading, seconds, saved, tuple(series))


def gain_table(found: Sequence[Gain]) -> pd.DataFrame:
    """One row per searched curve."""
    return pd.DataFrame(
        {
            "curve": g.searched,
            "search": g.effort,
            "points": g.points,
            "BD-rate (%)": g.rate_percent,
            "encode (s)": g.searched_s,
            "encode without (s)": g.plain_s,
            "times": g.searched_s / g.plain_s,
        }
        for g in found
    )


def search_gain(options: dict[str, str]) -> None:
    """Print the table; write it and the figure."""
    dataset, metric, limit = options["dataset"], options["metric"], parse_limit(options["limit"])
    found = gains(Store(options["results"]).cells(dataset=dataset, limit=limit), metric)
    if not found:
        what = f"{dataset} with limit={limit}" if limit else dataset
        raise TesseraError(
            f"{what} has no curve with search=N beside the same one without, two points each: "
            "measure both with python benchmarks/rd_curve.py."
        )
    root = Path(options["results"])
    for place in dict.fromkeys(g.place for g in found):
        mine = [g for g in found if g.place == place]
        caption = f"{mine[0].title}: rate saved by a search at the encoder at equal {metric_axis(metric).text}."
        print(files.for_screen(gain_table(mine), caption))
        paths = render(gain_figure(mine, metric), root / "figures")
        paths += files.to_files(gain_table(mine), root / "tables" / f"search_{place}_{metric}", caption)
        print(*paths, sep="\n")


if __name__ == "__main__":
    sys.exit(commandline.run("search_gain.py", __doc__, DEFAULTS, search_gain, sys.argv[1:]))
