"""Figures of codebook usage: the share of vectors of each code by rank, and what the most used codes take together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmarks.curves.usage import Counted, Usage, book_text, point_text, with_usages
from benchmarks.figures import looks
from benchmarks.figures.figure import Axis, Figure, Series
from benchmarks.store import CellResult
from benchmarks.store.names import slug


def usage_figures(cells: Iterable[CellResult | Counted], dataset: str, title: str) -> list[Figure]:
    """The share of vectors by the rank of their code, and the share of vectors that the most used codes take."""
    found = [
        (r.cell.method, label, f"{point_text(r)}{book_text(i, levels)}", u)
        for r, label, levels in with_usages(cells)
        for i, u in enumerate(levels)
    ]
    rank = Axis("rank", "rank of the code", log=True)
    share = Axis("share", "share of the vectors", "%", log=True)
    vectors = Axis("vectors", "vectors they code", "%")
    first = Axis("codes", "codes, most used first", "% of the codebook")
    stem, title = slug(dataset), looks.heading(title)
    by_rank = Figure(f"codebook_{stem}_histogram", f"{title}: share of the vectors by code", rank, share, ())
    together = Figure(f"codebook_{stem}_coverage", f"{title}: vectors coded by the most used codes", first, vectors, ())
    return [
        replace(by_rank, series=_series(found, "ranked")),
        replace(together, series=_series(found, "coverage")),
    ]


def _series(found: Sequence[tuple[str, str, str, Usage]], kind: str) -> tuple[Series, ...]:
    styles = looks.line_styles([(method, f"{label} {which}", "measured") for method, label, which, _ in found])
    made = []
    for style, (_, label, which, usage) in zip(styles, found, strict=True):
        x, y = usage.ranked() if kind == "ranked" else usage.coverage()
        shown = f"{looks.readable(label)} {which}".strip()
        if x:  # a book of which nothing is used has no ranks
            made.append(Series(f"{label} {which}".strip(), tuple(x), tuple(y), "measured", style, shown=shown))
    return tuple(made)
