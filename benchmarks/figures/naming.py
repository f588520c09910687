"""Names and titles that a user gives to curves and figures: ``names=qres3m_vr:Ours,vtm18:VTM``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from benchmarks.curves.curve import find, listed
from benchmarks.figures.figure import Figure
from core.codec import TesseraError

if TYPE_CHECKING:
    from benchmarks.curves.curve import Curve


def parsed(text: str, labels: Iterable[str]) -> dict[str, str]:
    """The names by whole label; bare labels do. TesseraError for what is not LABEL:NAME or for an unknown label."""
    known = [cast("Curve", SimpleNamespace(label=label)) for label in labels]
    found = {}
    for part in listed(text):
        label, colon, name = part.rpartition(":")
        if not colon or not label.strip() or not name.strip():
            raise TesseraError(f"names={part} must be written LABEL:NAME, several with commas.")
        found[find(known, label.strip()).label] = name.strip()
    return found


def named(figure: Figure, names: Mapping[str, str], title: str = "") -> Figure:
    """The figure with other names of its lines and another title; published ones still say that they are."""
    series = tuple(replace(s, shown=names.get(s.label, s.shown)) for s in figure.series)
    return replace(figure, series=series, title=title or figure.title)
