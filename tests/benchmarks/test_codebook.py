"""Codebook usage from stored counts: numbers by hand, damaged cells, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.curves.usage import RANKS, ROWS, Usage, counted, usage_table, usages
from benchmarks.figures.usage import usage_figures
from benchmarks.store import Cell, CellResult, Store, StoreError


def of(counts: list[int]) -> Usage:
    return Usage(np.array(counts, dtype=np.int64))


def write(store: Store, codebook: pd.DataFrame, sizes: list[int], **changes: Any) -> CellResult:
    """A cell of two images of 10 x 10 pixels with these counts."""
    identity: dict[str, Any] = {"method": "m", "variant": {}, "point": 4, "dataset": "d", "split": "test"}
    identity |= {"limit": None, "seed": 0, "checkpoint": "c", **changes}
    images = pd.DataFrame({"image": ["a", "b"], "height": 10, "width": 10, "payload_bits": [50, 150]})
    images = images.assign(bpp=[1.0, 2.0], psnr=[30.0, 32.0], mse=[1.0, 2.0])
    about = {"title": "d test", "codebook_sizes": sizes, "defaults": {}}
    return store.write(Cell(**identity), images, about, {}, codebook)


def frame(*rows: tuple[int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["level", "code", "count"])


def test_numbers_by_hand() -> None:
    usage = of([2, 1, 1, 0])
    assert (usage.size, usage.total, usage.used) == (4, 4, 3)
    assert usage.entropy_bits == pytest.approx(1.5) and usage.perplexity == pytest.approx(2**1.5)
    assert of([5, 0]).entropy_bits == 0 and of([5, 0]).perplexity == 1
    assert of([0, 0]).entropy_bits == 0 and of([0, 0]).used == 0
    assert of([7] * 64).perplexity == pytest.approx(64)


def test_counting_in_pieces_is_counting_at_once() -> None:
    codes = np.random.default_rng(0).integers(0, 50, (7, 11, 13))
    usage = Usage.empty(50)
    for part in codes:
        usage.add(part)
    assert np.array_equal(usage.counts, np.bincount(codes.ravel(), minlength=50))
    for bad in (np.array([50]), np.array([-1]), np.array([0.5])):
        with pytest.raises(StoreError, match="whole numbers from 0 to 49"):
            usage.add(bad)


def test_shares_by_rank_and_coverage() -> None:
    assert of([4, 0, 8, 4]).ranked() == ([1, 2, 3], [50, 25, 25])  # a dead code has no rank
    ranks, shares = of(list(range(1, 3001))).ranked()
    assert len(ranks) <= RANKS and (ranks[0], ranks[-1]) == (1, 3000) and shares == sorted(shares, reverse=True)
    assert of([0, 0]).ranked() == ([], [])
    share, covered = of([8, 4, 4, 0]).coverage(points=5)
    assert share == [0, 25, 50, 75, 100] and covered == [0, 50, 75, 100, 100]


def test_table(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = write(store, frame((0, 0, 50), (0, 3, 50)), [4])
    two = write(store, frame((0, 1, 100), (1, 0, 50), (1, 1, 50)), [2, 2], seed=1)
    table = usage_table([one, two])
    assert table["level"].tolist() == ["0", "all", "0", "1"] and table["seed"].tolist() == [0, 1, 1, 1]
    assert table["used"].tolist() == [2, 3, 1, 2] and table["dead"].tolist() == [2, 1, 1, 0]
    assert table["entropy (bits)"].tolist() == pytest.approx([1, 1, 0, 1])
    assert table["ideal bpp"].dropna().tolist() == pytest.approx([0.5, 0.5]), "100 bits over 200 pixels"
    assert table["coded bpp"].dropna().tolist() == [1.0, 1.0] and table["file bpp"].dropna().tolist() == [1.5, 1.5]
    assert table["PSNR (dB)"].dropna().tolist() == [31.0, 31.0]
    assert usage_table([]).empty


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    size = 2 * ROWS + 5
    counts = pd.DataFrame({"level": 0, "code": np.arange(size), "count": 3})
    (usage,) = usages(write(Store(tmp_path), counts, [size + 1]))
    assert usage.used == size and usage.total == 3 * size


def test_damaged_cells_are_sentences(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, bad in enumerate((frame((0, 4, 1)), frame((1, 0, 1)), frame((-1, 0, 1)))):
        with pytest.raises(StoreError, match="remove"):
            usages(write(store, bad, [4], seed=number))
    cell = write(store, frame((0, 0, 1)), [4], seed=9)
    (cell.folder / "codebook.csv").write_text("level,code\n0,x\n")
    with pytest.raises(StoreError, match="cannot be read"):
        usages(cell)


def test_chosen_cells_and_figures(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, point in (("b", 8), ("a", 4), ("a", 16)):
        write(store, frame((0, 0, 5), (0, 1, 5)), [2, 2] if name == "b" else [4], method=name, point=point)
    plain = counted(store, "d", ["a", "b"])
    assert [(r.cell.method, r.cell.point) for r in plain][-1] == ("b", 8) and len(plain) == 3
    assert counted(store, "elsewhere") == [] and len(counted(store, "d", ["a"])) == 2
    histogram, coverage = usage_figures(plain, "d", "d test")
    assert (len(histogram.series), len(coverage.series)) == (3, 4)  # a book of which nothing is used has no ranks
    assert all(sum(s.y) == pytest.approx(100) for s in histogram.series) and histogram.x.log and histogram.y.log
    assert all(list(s.y) == sorted(s.y) and s.y[-1] in (0, 100) for s in coverage.series)


def test_several_methods_are_asked_for_without_parameters(command):
    """The defaults of parameters follow the script's own default method."""
    shown = command("benchmarks/codebook_usage.py", "print_config", "with", "methods=fsq,vqvae")
    assert shown.code == 0 and "size = 256" in shown.out and "lmb_range" not in shown.out, shown.err
