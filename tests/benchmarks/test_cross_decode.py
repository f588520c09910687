"""Cross decoding: a codec that depends on the setting is found out, and a second run measures nothing again."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.cross_decode import stored
from benchmarks.measure.settings import Setting, Tally, groups, measure, settings
from core.codec import TesseraError

IMAGES = [np.full((2, 3, 3), level, dtype=np.uint8) for level in (10, 20, 30)]
WAYS = [Setting("cpu", threads, True, "contiguous", 1) for threads in (1, 2)]


class Fragile:
    """Decodes, with two threads, ``off`` grey levels too much of what one thread encoded; fails on level 30."""

    def __init__(self, off: int) -> None:
        self.off = off
        self.portable = True

    def compress(self, image: np.ndarray) -> bytes:
        return bytes([image[0, 0, 0], torch.get_num_threads()]) + b"nudge" * self.portable

    def decompress(self, stream: bytes) -> np.ndarray:
        if stream[0] == 30 and stream[1] != torch.get_num_threads():
            raise TesseraError("damaged")
        more = self.off if stream[1] == 1 and torch.get_num_threads() == 2 else 0
        return np.full((2, 3, 3), stream[0] + more, dtype=np.uint8)


@pytest.mark.parametrize(("off", "wrong", "ones"), [(0, 0, 0), (1, 0, 36), (2, 2, 0)])
def test_wrong_images_errors_and_bytes_are_counted(off: int, wrong: int, ones: int) -> None:
    method: Any = SimpleNamespace(lossless=False, codec=lambda _: Fragile(off))
    before = torch.get_num_threads(), torch.backends.mkldnn.enabled
    one, two = measure(method, None, IMAGES, [WAYS[0], replace(WAYS[1], onednn=False)])
    assert (torch.get_num_threads(), torch.backends.mkldnn.enabled) == before, "other tests run in this process"
    assert one == Tally(21, 6, 6, wrong, 1, 6, 0, 1, 0)
    assert two == Tally(21, 6, 6, 0, 1, 6, wrong, 1, ones)
    assert (one + two).row("all")["extra bytes (%)"] == 250


def test_groups_are_of_one_size() -> None:
    images = [np.zeros((n, 1, 3), dtype=np.uint8) for n in (1, 1, 1, 1, 1, 2)]
    assert [len(group) for group in groups(images)] == [4, 1, 1]


def test_a_second_run_reads_the_first(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    params = {"method": "jpeg", "params": {}, "weights": None, "ways": [str(WAYS[0])]}
    config = {"results": str(tmp_path)}
    assert stored(config, params, IMAGES, lambda _: [Tally(7, 6)]) == [Tally(7, 6)]
    assert stored(config, params, IMAGES, pytest.fail) == [Tally(7, 6)]
    assert stored(config, params, IMAGES[:1], lambda _: [Tally(1, 1)]) == [Tally(1, 1)]
    for path in (tmp_path / "cross_decode").iterdir():
        assert json.loads(path.read_text())["provenance"]["commit"]


def test_settings_cover_threads_kernels_layouts_and_batches() -> None:
    assert len({str(way) for way in settings(["cpu"], [1, 2])}) == 16
    assert len(settings(["cpu", "cuda"], [1, 2])) == 20


def test_the_command_writes_a_table_for_each_method_and_its_parameters(command: Any, tmp_path: Any) -> None:
    smoke = ("benchmarks/cross_decode.py", "with", "smoke")
    assert command(*smoke).code == 0
    assert command(*smoke, "method=jpeg", "params.quality=30", "params.subsampling=4:4:4").code == 0
    names = ("cross_decode_qres3m_vr", "cross_decode_jpeg_quality_30_subsampling_4_4_4")
    model, jpeg = (pd.read_csv(tmp_path / "results" / "tables" / f"{name}.csv") for name in names)
    assert model["encoder: decodes"].tolist() == [16] * 8 and jpeg["extra bytes (%)"].tolist() == [0] * 8
    assert not model["decoder: wrong"].any() and not model["decoder: errors"].any()
    assert 0 < model["extra bytes (%)"].max() < 30, "crops this small carry few symbols"
