"""Names of devices: one for each device, and one sentence for what is not here."""

from __future__ import annotations

import pytest

from benchmarks.store import Store
from core import devices
from core.codec import TesseraError


def test_the_cpu_has_one_name():
    assert devices.available("cpu") == devices.available("cpu:0") == "cpu"


@pytest.mark.parametrize("name", ["mps", "cpu:1", "cuda:99", "cuda:-1", "meta", "", None, 0])
def test_what_is_not_here_is_one_sentence(name):
    with pytest.raises(TesseraError, match=f"device={name} is not available here: use device=cpu, or run on"):
        devices.available(name)


def test_a_gpu_has_one_name(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "zeros", lambda *shape, device: None)
    assert [devices.available(name) for name in ("cuda", "cuda:0", "cuda:1")] == ["cuda", "cuda", "cuda:1"]


def test_cpu_0_is_the_same_cell(command, pictures, monkeypatch):
    words = ("benchmarks/rd_curve.py", "with", "method=jpeg", "dataset=folder:pictures", "points=20")
    for device in ("cpu:0", "cpu"):
        assert command(*words, f"device={device}").code == 0
    (cell,) = Store("results").cells()
    assert cell.cell.device == "cpu"


@pytest.mark.parametrize(
    "words",
    [
        ("benchmarks/rd_curve.py", "with", "method=jpeg", "dataset=folder:pictures"),
        ("benchmarks/match_rate.py", "with", "method=jpeg", "dataset=folder:pictures", "target_bpp=1"),
        ("benchmarks/speed.py", "with", "smoke"),
        ("benchmarks/quantizer_speed.py", "with", "smoke"),
        ("qres", "train", "with", "smoke", "dataset=folder:pictures"),
        ("qres", "compress", "with", "input=pictures/0.png"),
        ("qres", "sample", "with", "output=x.png"),
    ],
)
def test_every_command_says_it(command, pictures, words):
    done = command(*words, "device=mps")
    assert done.code == 2 and "device=mps is not available here: use device=cpu" in done.sentence
