"""Curves that a panel shows where there are more than a reader can tell apart: eight, of each kind the best.

The best are those with the lowest BD-rate. Of variants of one method the best stands for all, and other seeds, devices
and kinds of rates stand back; of one family of methods one comes before a second. The rest is drawn on request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from core.registry import METHODS, discover

if TYPE_CHECKING:
    from benchmarks.curves.curve import Curve

MOST = 8
SHARES = {"classical": 2, "published": 3, "learned": 3}  # of MOST; what one kind lacks goes to the others
FEW = 4  # points below which a curve stands behind those that have more
ASIDE = re.compile(r"\[[^\]]*\b(rate|seed|device) ")  # of labels


def kind(curve: Curve) -> str:
    """'published', 'classical' (measured, without weights) or 'learned'."""
    if curve.source == "published":
        return "published"
    discover()
    method = METHODS.get(curve.method)
    return "classical" if method is not None and not method.trains_on else "learned"


def chosen(
    curves: Sequence[Curve], rates: Mapping[str, float], leading: Sequence[str] = (), most: int = MOST
) -> list[Curve]:
    """At most so many of the curves, in their order: all where they are few.

    ``rates`` are BD-rates in per cent by label, against one anchor; a curve without one comes after those that have
    it. Published curves go by ``leading``, labels in order.
    """
    if len(curves) <= most:
        return list(curves)
    place = {label: i for i, label in enumerate(leading)}
    order = sorted(
        curves, key=lambda c: (place.get(c.label, len(place)) if kind(c) == "published" else 0, *_rank(c, rates))
    )
    kinds = {name: _spread([c for c in order if kind(c) == name]) for name in SHARES}
    picked = [c for name, share in SHARES.items() for c in kinds[name][: share * most // MOST]]
    rest = [c for name in reversed(SHARES) for c in kinds[name] if c not in picked]
    mine = {id(c) for c in [*picked, *sorted(rest, key=lambda c: bool(ASIDE.search(c.label)))][:most]}
    return [c for c in curves if id(c) in mine]


def _rank(curve: Curve, rates: Mapping[str, float]) -> tuple[bool, bool, float, str]:
    rate = rates.get(curve.label, math.nan)
    return (
        bool(ASIDE.search(curve.label)),
        len(curve.points) < FEW,
        rate if math.isfinite(rate) else math.inf,
        curve.label,
    )


def _spread(curves: Sequence[Curve]) -> list[Curve]:
    """The best of every family, then of every further method, then the rest; the order within each stays."""
    first = _first_of(curves, lambda c: _family(c.method))
    second = _first_of([c for c in curves if c not in first], lambda c: c.method)
    second = [c for c in second if c.method not in {f.method for f in first}]
    taken = {id(c) for c in (*first, *second)}
    return [*first, *second, *(c for c in curves if id(c) not in taken)]


def _first_of(curves: Sequence[Curve], key: Callable[[Curve], str]) -> list[Curve]:
    found: dict[str, Curve] = {}
    for curve in curves:
        found.setdefault(key(curve), curve)
    return list(found.values())


def _family(method: str) -> str:
    """The package of a learned method; every other method is a family of its own."""
    known = METHODS.get(method)
    return known.__module__.rpartition(".")[0] if known is not None and known.trains_on else method
