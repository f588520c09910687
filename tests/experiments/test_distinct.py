"""Distinct vectors counted exactly, through files and in memory, and sketched within the stated error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmarks.figures.gallery import save_gallery
from experiments.studies import distinct
from experiments.studies.distinct import SKETCH_ERROR, CountError, DistinctCounter


@pytest.mark.parametrize("held", [2**20, 500])
def test_exact_counts_and_entropy(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of np.unique, whether everything stays in memory or goes through the partitions."""
    monkeypatch.setattr(distinct, "HELD", held)
    rows = np.random.default_rng(0).integers(-3, 4, (40_000, 5))
    rows[::7] = (2**31 - 1, -(2**31) + 1, 0, 1, 2)
    counter, spilled = DistinctCounter(tmp_path), False
    for part in np.array_split(rows, 9):
        counter.add(part)
        spilled |= any(tmp_path.glob("*/*"))
    found = counter.result()
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    shares = counts / len(rows)
    assert (found.vectors, found.distinct, found.error) == (len(rows), len(unique), 0)
    assert found.entropy_bits == pytest.approx(-(shares * np.log2(shares)).sum())
    assert spilled == (held == 500) and not any(tmp_path.iterdir()), "partitions are used, and removed"


def test_vectors_that_differ_little_are_told_apart() -> None:
    """Neighbours, permutations and signs: nothing that a weak hash would merge."""
    grid = np.stack(np.meshgrid(np.arange(-99, 100), np.arange(-99, 100)), -1).reshape(-1, 2)
    counter = DistinctCounter()
    counter.add(np.concatenate([grid, np.zeros_like(grid)], axis=1))
    counter.add(np.concatenate([np.zeros_like(grid), grid], axis=1))
    assert counter.result().distinct == 2 * len(grid) - 1


@pytest.mark.parametrize("size", [1, 300, 40_000, 200_000])
def test_sketch_within_its_error(size: int) -> None:
    counter = DistinctCounter(sketch=True)
    for _ in range(2):
        counter.add(np.arange(size)[:, None] * [1, -1, 0])
    found = counter.result()
    assert found.vectors == 2 * size and found.entropy_bits is None and found.error == SKETCH_ERROR
    assert abs(found.distinct / size - 1) < 4 * SKETCH_ERROR


def test_nothing_and_wrong_rows() -> None:
    counter = DistinctCounter()
    counter.add(np.zeros((0, 3), int))
    counter.add(np.zeros((4, 3), int))
    for bad in (np.zeros((2, 3)), np.zeros(3, int), np.full((1, 3), 2**31), np.zeros((2, 2), int)):
        with pytest.raises(CountError):
            counter.add(bad)
    assert counter.result().distinct == 1
    assert DistinctCounter().result() == distinct.Distinct(0, 0, 0.0)


def test_gallery_is_written_twice_the_same(tmp_path: Path) -> None:
    rows = [("original", [np.zeros((8, 8, 1), np.uint8)] * 2), ("copy", [np.full((8, 8, 3), 9, np.uint8)] * 2)]
    first, second = (save_gallery(rows, tmp_path / name) for name in ("a", "b"))
    assert [path.suffix for path in first] == [".png", ".pdf"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    with PIL.Image.open(first[0]) as colours, PIL.Image.open(save_gallery(rows[:1], tmp_path / "grey")[0]) as grey:
        assert colours.mode == "RGBA" and grey.mode == "P", "photographs keep their colours"
