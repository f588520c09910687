"""Seconds and megabytes of a measurement: of the processor and its children, or of a device."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.measure import meter
from benchmarks.measure.harness import describe, measure
from benchmarks.store import Cell, Store
from tests.support.toy_codec import Zip, ZipMethod, image_set, run


class Busy(Zip):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def compress(self, image):
        self.calls += 1
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        time.sleep(0.4)
        return super().compress(image)

    def decompress(self, stream):
        code = "import time\nwhile time.process_time() < 0.3: pass"
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
        return super().decompress(stream)


def test_seconds_are_cpu_time_with_children_and_without_waiting(tmp_path):
    codec = Busy()
    frame = run(tmp_path, codec, image_set([(8, 8, 3)])).images
    assert codec.calls == 2  # the warm-up and the measurement
    assert 0.1 <= frame["encode_s"][0] < 0.4
    assert frame["decode_s"][0] >= 0.3


class Hungry(Zip):
    def compress(self, image):
        if image.shape[0] == 9:
            np.ones(200_000_000, np.uint8).sum()
        return super().compress(image)


@pytest.mark.skipif(not meter._can_reset(), reason="the kernel cannot reset the peak")
def test_peak_memory_is_of_the_image(tmp_path):
    peaks = run(tmp_path, Hungry(), image_set([(8, 8, 3), (9, 8, 3), (8, 8, 3)])).images["peak_memory_mb"]
    assert peaks[1] > peaks[0] + 150 and peaks[2] < peaks[1] - 150


class Device:
    """What the harness asks of ``torch.cuda``."""

    def __init__(self) -> None:
        self.waits = self.resets = 0

    def synchronize(self):
        self.waits += 1

    def reset_peak_memory_stats(self):
        self.resets += 1

    def max_memory_allocated(self):
        return 5_000_000


def test_on_a_device_time_is_wall_clock_and_memory_is_the_device_s(tmp_path, monkeypatch):
    device = Device()
    monkeypatch.setattr(meter, "cuda", lambda: device)
    images = image_set([(8, 8, 3), (8, 8, 3)])
    cell = Cell("zip", {}, 0, "toy", "test", device="cuda")
    about = describe(ZipMethod(), images)
    result = measure(cell, Busy(), images, Store(tmp_path), about=about, provenance={})
    frame = result.images
    assert (frame["encode_s"] > 0.45).all() and (frame["peak_memory_mb"] == 5).all()
    assert device.waits == 12 and device.resets == 2
    assert "device" in Store(tmp_path).read(result.cell).about["time_note"]
