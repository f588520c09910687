"""Lattices with ideal entropy coding on a toy source: bits above Shannon's lower bound, over the rate.

At high rate a lattice with normalised second moment G stays (d/2) log2(2 pi e G) bits above the bound: 0.4537 for the
hexagonal lattice A2 in two dimensions, and 0.5092 for squares, the best that any diagonal lattice can do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.figures import paper
from benchmarks.figures.toy import Line, excess_figure
from benchmarks.store import records
from benchmarks.tables.files import for_screen
from core.codec import TesseraError
from core.frequencies import entropy_bits
from core.places import default_results
from lattice.points import LATTICES
from vq.toy.bounds import HEXAGONAL, SQUARE, bound
from vq.toy.sources import make_source

BITS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)  # rates that the cells are made for
NAMED = {"smoke": {"vectors": 20_000}}


def gap_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    source = "normal2d"  # a source of two dimensions with a density
    vectors = 2**20
    results = default_results()


@dataclass(frozen=True)
class Measured:
    """Entropy of a lattice's points in bits per vector, and squared error per vector, cells decoded at their means."""

    rate: float
    distortion: float


def measured(x: Tensor, lattice: str, sides: Tensor) -> Measured:
    """Vectors (N, 2) on a lattice of unit volume, stretched by ``sides`` (2,); both numbers are bias corrected."""
    kind, n = LATTICES[lattice], len(x)
    k = kind.nearest((x / sides).view(-1, 2 // kind.dim, kind.dim)).view(-1, 2)
    number = k[:, 0] * 2**32 + k[:, 1]  # one per point: sorting these is far faster than sorting pairs
    _, cell, counts = np.unique(number.numpy(), return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(cell.reshape(-1), weights=x[:, i].double().numpy()) for i in range(2)])
    within = float(x.double().square().sum()) - float((sums**2 / counts).sum())
    entropy = entropy_bits(counts) + (len(counts) - 1) / (2 * n * math.log(2))
    return Measured(entropy, within / (n - len(counts)))


def gap(config: Mapping[str, Any], run: Any) -> int:
    """Measure, draw and print; returns the exit code 0."""
    source = make_source(config["source"])
    limit = bound(source)
    if limit is None or source.dim != 2:
        raise TesseraError(f"source={config['source']} must have two dimensions and a density, such as normal2d.")
    if config["vectors"] < 1000:
        raise TesseraError(f"vectors={config['vectors']} are too few to measure entropies: at least 1000.")
    table, x = records.Table(), source.spread(config["vectors"])
    kinds = {"A2 (hexagonal)": ("a2", 1.0), "diagonal, equal spacings": ("z", 1.0), "diagonal, 1 : 2": ("z", 2.0)}
    lines, rows = [], []
    for label, (lattice, ratio) in kinds.items():
        stretch = torch.tensor([ratio**-0.5, ratio**0.5])
        points = [measured(x, lattice, stretch * 2 ** ((limit.entropy_bits - bits) / 2)) for bits in BITS]
        lines.append(Line(label, tuple(p.rate for p in points), tuple(p.distortion for p in points)))
        rows += [
            {"lattice": label, "rate (bits)": p.rate, "squared error": p.distortion,
             "above Shannon's bound (bits)": p.rate - limit.shannon(p.distortion)}
            for p in points
        ]  # fmt: skip
    for label, height in (("A2 at high rate", HEXAGONAL), ("diagonal at high rate", SQUARE)):
        levels = np.geomspace(min(lines[0].distortions), max(lines[0].distortions), 9)
        rates = [limit.shannon(float(d)) + height for d in levels]
        lines.append(Line(f"{label}: {height:.4f}", tuple(rates), tuple(map(float, levels)), "bound"))
    stem, title = f"lattice_gap_{source.name}", f"{source.title}: lattices with ideal entropy coding"
    figure = excess_figure(stem, title, lines, limit.shannon, ("above Shannon's lower bound",))
    frame, results = pd.DataFrame(rows), Path(config["results"])
    print(for_screen(frame, title))
    print(*table.write(frame, results, stem, title), *paper.render(figure, results / "figures"), sep="\n")
    return 0
