"""Codebook usage as numbers: how many codes are used, how evenly, and what they cost, beside the distortion.

Everything comes from the ``codebook.csv`` of finished cells (the harness adds up the codes of every image as it goes),
so a whole data set is counted and nothing is held in memory but one number per code. A bigger effective codebook is
no better codec: the table has bits and distortion beside the counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from benchmarks.curves.curve import read_columns
from benchmarks.store import CellResult, Store, StoreError
from core.frequencies import entropy_bits

COLUMNS = ("curve", "point", "seed", "level", "codebook", "used", "used (%)", "dead", "perplexity", "entropy (bits)")
ROWS = 65536  # of codebook.csv that are read at once
RANKS = 48  # points of a figure of shares by rank, at most


@dataclass(frozen=True)
class Usage:
    """How often each code of one codebook occurs: ``counts`` int64 (K,), to which more may be added."""

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, size: int) -> Usage:
        """No code seen yet of a codebook of ``size`` codes."""
        return cls(np.zeros(size, dtype=np.int64))

    def add(self, codes: ArrayLike, times: ArrayLike = 1) -> None:
        """Count codes (any shape, integers in [0, K)), each ``times`` times."""
        flat = np.asarray(codes).reshape(-1)
        if flat.size and (flat.dtype.kind not in "iu" or flat.min() < 0 or flat.max() >= self.size):
            raise StoreError(f"codes must be whole numbers from 0 to {self.size - 1}: the cell is damaged, remove it.")
        np.add.at(self.counts, flat, np.broadcast_to(np.asarray(times, dtype=np.int64).reshape(-1), flat.shape))

    @property
    def size(self) -> int:
        """Codes in the codebook, K."""
        return len(self.counts)

    @property
    def total(self) -> int:
        """Vectors counted."""
        return int(self.counts.sum())

    @property
    def used(self) -> int:
        """The effective codebook size: distinct codes that occur at all."""
        return int(np.count_nonzero(self.counts))

    @property
    def entropy_bits(self) -> float:
        """Zero-order entropy of a code in bits; 0 where nothing is counted."""
        return entropy_bits(self.counts)

    @property
    def perplexity(self) -> float:
        """Two to the entropy: the size of an evenly used codebook of the same entropy."""
        return float(2**self.entropy_bits)

    def ranked(self) -> tuple[list[float], list[float]]:
        """Ranks of the codes that occur, 1 the most used, and the % of vectors of each; of many codes some."""
        shares = np.sort(self.counts[self.counts > 0])[::-1] * 100 / max(self.total, 1)
        ranks = np.unique(np.rint(np.geomspace(1, max(len(shares), 1), RANKS)).astype(int))[: len(shares)]
        return [float(r) for r in ranks], [float(v) for v in shares[ranks - 1]]

    def coverage(self, points: int = 21) -> tuple[list[float], list[float]]:
        """% of the codebook, most used codes first, and the % of vectors they code."""
        covered = np.concatenate([[0.0], np.cumsum(np.sort(self.counts)[::-1])]) * 100 / max(self.total, 1)
        share = np.linspace(0, 100, points)
        return share.tolist(), np.interp(share, np.linspace(0, 100, self.size + 1), covered).tolist()


def usages(result: CellResult) -> list[Usage]:
    """Usage of every level (or book) of a cell, read in pieces; empty for a codec without codes."""
    path = result.folder / "codebook.csv"
    sizes: Sequence[int] = result.about.get("codebook_sizes") or ()
    if not path.is_file() or not sizes:
        return []
    found = [Usage.empty(int(size)) for size in sizes]
    try:
        with path.open(encoding="utf-8") as file:
            names = file.readline().strip().split(",")
            level, code, count = (names.index(name) for name in ("level", "code", "count"))
            while lines := list(islice(file, ROWS)):
                rows = np.loadtxt(lines, dtype=np.int64, delimiter=",", ndmin=2)
                if not ((rows[:, level] >= 0) & (rows[:, level] < len(found))).all():
                    raise ValueError(f"a level that is not among its {len(found)}")
                for i, usage in enumerate(found):
                    mine = rows[rows[:, level] == i]
                    usage.add(mine[:, code], mine[:, count])
    except (OSError, ValueError, IndexError) as error:
        raise StoreError(f"{path} cannot be read ({error}): remove the cell and measure again.") from None
    return found


Counted = tuple[CellResult, str, list[Usage]]  # a cell, its label among others, and how its codes are used


def read_usages(cells: Iterable[CellResult]) -> list[Counted]:
    """The cells that have codes, with labels that tell them apart."""
    shown = list(cells)
    read = zip(shown, curve_labels(shown), (usages(r) for r in shown), strict=True)
    return [(result, label, levels) for result, label, levels in read if levels]


def usage_table(cells: Iterable[CellResult | Counted]) -> pd.DataFrame:
    """One row per level of every cell, and above several levels one for all: counts, bits of vector and pixel, quality.

    'ideal bpp' is the zero-order entropy of the codes per pixel, 'coded bpp' the entropy-coded payload and 'file bpp'
    the whole stream. Numbers of the cell stand in its first row.
    """
    rows = [row for counted in with_usages(cells) for row in _rows(*counted)]
    return pd.DataFrame(rows, columns=None if rows else list(COLUMNS))


def with_usages(cells: Iterable[CellResult | Counted]) -> list[Counted]:
    """Cells with their labels and usages: read where they are not given."""
    listed = list(cells)
    read = read_usages(c for c in listed if isinstance(c, CellResult))
    return [c for c in listed if isinstance(c, tuple)] + read


def curve_labels(cells: Sequence[CellResult]) -> list[str]:
    """The cells' labels, and where two cells of one label share point and seed, what tells them apart."""
    labels = [r.label for r in cells]
    facts: tuple[Callable[[CellResult], str], ...] = (
        lambda r: str(r.about.get("legend") or ""),
        lambda r: str(r.about.get("title") or ""),
        lambda r: r.cell.checkpoint,
        lambda r: f"cell {r.key[:6]}",
    )
    for fact in facts:
        places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, r in enumerate(cells):
            places[labels[i], point_text(r)].append(i)
        for twins in places.values():
            if len({fact(cells[i]) for i in twins}) > 1:
                for i in twins:
                    labels[i] += f" [{fact(cells[i])}]" if fact(cells[i]) else ""
    return labels


def _rows(result: CellResult, label: str, levels: Sequence[Usage]) -> list[dict[str, Any]]:
    name = {"curve": label, "point": str(result.cell.point), "seed": result.cell.seed}
    rows = [{**name, "level": str(i), **_numbers(usage)} for i, usage in enumerate(levels)]
    if len(levels) > 1:
        size, used = sum(u.size for u in levels), sum(u.used for u in levels)
        entropy = sum(u.entropy_bits for u in levels)
        both = {"used": used, "used (%)": 100 * used / size, "dead": size - used, "entropy (bits)": entropy}
        rows.insert(0, {**name, "level": "all", "codebook": size, **both})
    rows[0] |= _cell_numbers(result, levels)
    return [{c: row.get(c) for c in (*COLUMNS, *_cell_numbers(result, levels))} for row in rows]


def _numbers(usage: Usage) -> dict[str, Any]:
    return {
        "codebook": usage.size,
        "used": usage.used,
        "used (%)": 100 * usage.used / usage.size,
        "dead": usage.size - usage.used,
        "perplexity": usage.perplexity,
        "entropy (bits)": usage.entropy_bits,
    }


def _cell_numbers(result: CellResult, levels: Sequence[Usage]) -> dict[str, Any]:
    """Rates per pixel and quality of a cell, as means over images; the ideal rate is over all pixels."""
    images = read_columns(result, ("height", "width", "payload_bits"))
    pixels = np.multiply(images["height"], images["width"])
    ideal = sum(u.entropy_bits * u.total for u in levels) / float(pixels.sum())
    payload = float(np.mean(np.divide(images["payload_bits"], pixels)))
    values = {"ideal bpp": ideal, "coded bpp": payload, "file bpp": result.means.get("bpp")}
    return values | {"PSNR (dB)": result.means.get("psnr"), "MSE": result.means.get("mse")}


def point_text(result: CellResult) -> str:
    """A cell's point as labels show it: nothing where the method has none."""
    seed = f" seed {result.cell.seed}" if result.cell.seed else ""
    return f"{'' if result.cell.point is None else result.cell.point}{seed}".strip()


def book_text(level: int, levels: Sequence[Usage]) -> str:
    """A codebook's part of a label: nothing where a cell has one only."""
    return f" book {level}" if len(levels) > 1 else ""


def counted(store: Store, dataset: str, methods: Sequence[str] | None = None) -> list[CellResult]:
    """Finished cells of a data set that have codes, of these methods (default: all), in a stable order."""
    cells = [r for r in store.cells(dataset=dataset) if (r.folder / "codebook.csv").is_file()]
    chosen = [r for r in cells if methods is None or r.cell.method in methods]
    order = {name: i for i, name in enumerate(methods or ())}
    return sorted(chosen, key=lambda r: (order.get(r.cell.method, 0), r.label, r.means.get("bpp", 0.0), r.key))
