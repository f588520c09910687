"""Groups of curves that may be compared: those of one data set or one subset, with BD-rates of all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.curves import curve as rd
from benchmarks.curves.bd import BDResult
from benchmarks.curves.bd_pairs import METHOD, RESAMPLES, all_pairs
from benchmarks.curves.curve import Curve
from benchmarks.measure.metrics import METRICS
from benchmarks.store import CellResult
from benchmarks.store.names import set_name


@dataclass(frozen=True)
class Pairs:
    """BD-rates of all ordered pairs (anchor, test) among the named curves; ``anchor`` is the one shown first."""

    names: tuple[str, ...]
    results: Mapping[tuple[str, str], BDResult]
    anchor: str
    method: str = ""  # a sentence on how they were computed


@dataclass(frozen=True)
class Group:
    """What is compared: the curves of one data set, or of one subset of it, and their BD-rates by metric."""

    name: str  # part of file names
    title: str
    curves: tuple[Curve, ...]
    subset: bool = False
    note: str = ""
    bd: Mapping[str, Pairs] = field(default_factory=dict)


PUBLISHED = ("vtm18", "qarv-paper", "qres34m-paper", "bpg444", "mbt2018-mean", "bmshj2018-hyperprior")
ANCHORS = ("vtm18", "jpeg")  # the first of these that has the metric is the anchor shown first
SUBSET_NOTE = "Published curves are of whole data sets, so none stands beside a subset."
BD_NOTE = (
    f"{METHOD.upper()} of log rate over the common range; 95 % intervals from {RESAMPLES} resamples of the images."
)


def drawn_metrics() -> tuple[str, ...]:
    """The metrics that have a figure: the registered ones in dB, in order of registration."""
    return tuple(name for name, metric in METRICS.items() if metric.unit == "dB")


def group_curves(cells: Sequence[CellResult], leading: Sequence[str] = PUBLISHED) -> list[Group]:
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
        name = set_name(dataset, title, mine[0].pictures)
        groups.append(Group(name, title, every, subset, note, bd))
    return sorted(groups, key=lambda g: (g.subset, -len(g.curves), g.name, g.title))


def _distinct(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """The curves without published ones whose label a measured curve bears: two rows of one name mislead."""
    taken = {c.label for c in curves if c.source == "measured"}
    return tuple(c for c in curves if c.source == "measured" or c.label not in taken)


def _pairs(curves: Sequence[Curve], metric: str) -> Pairs:
    lossy = [c for c in curves if not c.lossless]
    results = all_pairs(lossy, metric)
    names = tuple(c.label for c in lossy if any(c.label in pair for pair in results))
    return Pairs(names, results, first_anchor(names), BD_NOTE)


def first_anchor(names: Sequence[str]) -> str:
    """The anchor shown first among curves that have the metric: one of ``ANCHORS``, else the first ('' for none)."""
    return next((a for a in (*ANCHORS, *names) if a in names), "")
