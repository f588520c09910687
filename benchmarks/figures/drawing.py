"""Many figures at once, drawn on as many processors as there are.

A figure of curves takes a quarter of a second or more, nearly all of it in matplotlib; the files do not depend on the
process that writes them.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import paper
from benchmarks.figures.figure import Figure

RARELY = 100_000  # new objects between two looks for garbage: drawing makes many, and most of them go by themselves


def render_all(figures: Sequence[Figure], folder: Path, processes: int = 1, data: bool = True) -> list[Path]:
    """``paper.render`` of every figure, by up to ``processes`` processes; the paths in the order of the figures.

    Without ``data`` no JSON is written.

    Raises StoreError when a file cannot be written.
    """
    missing = [figure for figure in figures if figure.series and not (folder / f"{figure.name}.pdf").is_file()]
    with _seldom_collecting():
        if processes > 1 and len(missing) > 1 and "fork" in multiprocessing.get_all_start_methods():
            _share(missing, folder, min(processes, len(missing)), data)
        return [
            path for figure in figures for path in paper.render(figure, folder, data)
        ]  # one that changed is drawn here


def _share(figures: Sequence[Figure], folder: Path, processes: int, data: bool) -> None:
    paper.render(figures[0], folder, data)  # imports matplotlib, once for all
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        rest = len(figures) - 1
        list(pool.map(paper.render, figures[1:], [folder] * rest, [data] * rest))


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Leave what is there already out of the collector's rounds, and let them be rare (in forked processes, too)."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(RARELY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
