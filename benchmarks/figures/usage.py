"""Figures of codebook usage: how often codes are used, and the share of vectors that the most used ones take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.curves.usage import REACH, Counted, Usage, book_text, point_text, with_usages
from benchmarks.figures.figure import Axis, Figure, Series
from benchmarks.store import CellResult
from benchmarks.store.names import slug


def usage_figures(cells: Iterable[CellResult | Counted], dataset: str, title: str) -> list[Figure]:
    """The histogram of use over codes, and the share of vectors that the most used codes take."""
    found = [
        (f"{label} {point_text(r)}{book_text(i, levels)}", u)
        for r, label, levels in with_usages(cells)
        for i, u in enumerate(levels)
    ]
    codes = Axis("codes", "codes", "% of the codebook")
    share = Axis("share", f"use in doublings: {REACH} is an even share", f"0: dead, or 1/{2**REACH} of it")
    vectors = Axis("vectors", "vectors they code", "%")
    first = Axis("codes", "codes, most used first", "% of the codebook")
    stem = slug(dataset)
    return [
        Figure(f"codebook_{stem}_histogram", f"{title}: use of the codes", share, codes, _series(found, "histogram")),
        Figure(f"codebook_{stem}_coverage", f"{title}: few codes or all", first, vectors, _series(found, "coverage")),
    ]


def _series(found: Sequence[tuple[str, Usage]], kind: str) -> tuple[Series, ...]:
    made = []
    for style, (label, usage) in enumerate(found):
        x, y = usage.histogram() if kind == "histogram" else usage.coverage()
        made.append(Series(label, tuple(x), tuple(y), "measured", style))
    return tuple(made)
