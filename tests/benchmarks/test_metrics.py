"""Metrics against numbers worked out by hand, SciPy and the published definition."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from benchmarks.measure import metrics
from benchmarks.measure.metrics import METRICS, Metric, MetricError, compute
from core.registry import UnknownName

RNG = np.random.default_rng(7)
SMOOTH = np.clip(
    np.add.outer(np.arange(170), np.arange(181))[:, :, None] * 0.7 + RNG.normal(0, 12, (170, 181, 3)), 0, 255
)
IMAGE = SMOOTH.astype(np.uint8)
NOISY = np.clip(IMAGE + RNG.normal(0, 9, IMAGE.shape), 0, 255).astype(np.uint8)


def test_mse_and_psnr_by_hand() -> None:
    black, near = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    near[0, 0] = 1, 2, 3
    assert compute(black, near, ["psnr", "mse"]) == {"psnr": pytest.approx(47.46134, abs=1e-5), "mse": 14 / 12}
    assert METRICS["mse"](black, black + 255) == 65025 and METRICS["psnr"](black, black + 255) == 0
    assert METRICS["psnr"](black, black) == math.inf


def test_psnr_does_not_wrap_around() -> None:
    dark, bright = np.full((1, 1, 1), 3, np.uint8), np.full((1, 1, 1), 250, np.uint8)
    assert METRICS["mse"](dark, bright) == METRICS["mse"](bright, dark) == 247**2


def reference_ms_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """MS-SSIM as Wang et al. (2003) define it, for even sizes at every scale but the last, written with SciPy."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(x, taps, 0), taps, 1)[5:-5, 5:-5]

    def channel(x: np.ndarray, y: np.ndarray) -> float:
        value = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mx, my = blur(x), blur(y)
            contrast = (2 * (blur(x * y) - mx * my) + 58.5225) / (blur(x * x) - mx**2 + blur(y * y) - my**2 + 58.5225)
            luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
            value *= (contrast if scale < 4 else contrast * luminance).mean() ** weight
            x, y = (z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2).mean((1, 3)) if scale < 4 else z for z in (x, y))
        return value

    return float(np.mean([channel(first[:, :, c].astype(float), second[:, :, c].astype(float)) for c in range(3)]))


def test_ms_ssim_follows_the_definition() -> None:
    first, second = np.tile(IMAGE, (2, 2, 1))[:192, :208], np.tile(NOISY, (2, 2, 1))[:192, :208]
    expected = reference_ms_ssim(first, second)
    found = compute(first, second, ["ms_ssim", "ms_ssim_db"])
    assert 0.8 < expected < 0.999
    assert found["ms_ssim"] == pytest.approx(expected, abs=2e-6)
    assert found["ms_ssim_db"] == pytest.approx(-10 * math.log10(1 - expected), abs=1e-3)


def test_ms_ssim_of_grey_equals_that_of_three_equal_channels() -> None:
    grey, other = IMAGE[:, :, :1], NOISY[:, :, :1]
    rgb = METRICS["ms_ssim"](np.repeat(grey, 3, 2), np.repeat(other, 3, 2))
    assert METRICS["ms_ssim"](grey, other) == pytest.approx(rgb, abs=1e-6)


def test_ms_ssim_extremes_are_numbers() -> None:
    equal = compute(IMAGE, IMAGE, ["ms_ssim", "ms_ssim_db"])
    assert equal == {"ms_ssim": 1.0, "ms_ssim_db": math.inf}
    inverted = compute(IMAGE, 255 - IMAGE, ["ms_ssim", "ms_ssim_db"])  # negative contrast terms
    assert inverted == {"ms_ssim": 0.0, "ms_ssim_db": 0.0}


@pytest.mark.parametrize("sample", [(90, 90, 0), (0, 0, 1), (180, 199, 2)])
def test_one_different_sample_is_not_inf(sample: tuple[int, int, int]) -> None:
    """In float32 these have MS-SSIM 1 and inf dB."""
    image = np.tile(IMAGE, (4, 4, 1))[:608, :608]
    other = image.copy()
    other[sample] ^= 1
    found = compute(image, other, ["ms_ssim", "ms_ssim_db"])
    assert 0.999999 < found["ms_ssim"] < 1 and 60 < found["ms_ssim_db"] < 160
    assert found["ms_ssim"] == pytest.approx(reference_ms_ssim(image, other), abs=1e-9)


def test_ms_ssim_near_one_is_of_float64_and_below_stays_as_published() -> None:
    """Stored numbers are of float32; above 0.999 its rounding would be seen in dB."""
    import torch
    from pytorch_msssim import ms_ssim as score

    rng = np.random.default_rng(0)
    smooth = np.clip(IMAGE.astype(int) + rng.integers(-1, 2, IMAGE.shape), 0, 255).astype(np.uint8)
    for other, kind, above in ((NOISY, torch.float32, False), (smooth, torch.float64, True)):
        pair = [torch.from_numpy(x.copy()).to(kind).permute(2, 0, 1)[None] for x in (IMAGE, other)]
        expected = float(score(*pair, data_range=255))
        assert (expected > 0.999) == above and METRICS["ms_ssim"](IMAGE, other) == expected


def test_small_images_have_no_ms_ssim() -> None:
    small = IMAGE[:160, :181]
    assert list(compute(small, small)) == ["mse", "psnr"]
    assert "ms_ssim" in compute(IMAGE[:161, :161], NOISY[:161, :161])
    with pytest.raises(MetricError, match="ms_ssim needs 161 pixels on the shorter side, not 181x160"):
        METRICS["ms_ssim"](small, small)


def test_derived_metrics_share_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(reference: np.ndarray, decoded: np.ndarray) -> float:
        calls.append("ms_ssim")
        return 0.9

    counted = Metric("ms_ssim", "", "higher", 161, count)
    monkeypatch.setitem(metrics.METRICS._items, "ms_ssim", counted)
    found = compute(IMAGE, NOISY, ["ms_ssim_db", "ms_ssim"])
    assert found == {"ms_ssim_db": pytest.approx(10), "ms_ssim": 0.9} and calls == ["ms_ssim"]


def test_what_the_table_says() -> None:
    rows = {name: (m.name, m.unit, m.better, m.min_side) for name, m in METRICS.items()}
    mine = {name: rows[name] for name, entry in METRICS.items() if entry.default}
    assert mine == {
        "mse": ("mse", "levels²", "lower", 1),
        "psnr": ("psnr", "dB", "higher", 1),
        "ms_ssim": ("ms_ssim", "", "higher", 161),
        "ms_ssim_db": ("ms_ssim_db", "dB", "higher", 161),
    }


def test_bad_pairs_and_names() -> None:
    with pytest.raises(MetricError, match="one shape"):
        compute(IMAGE, IMAGE[:, :, :1], ["psnr"])
    with pytest.raises(MetricError, match="uint8"):
        compute(SMOOTH, SMOOTH, ["mse"])
    with pytest.raises(UnknownName, match="did you mean psnr"):
        compute(IMAGE, IMAGE, ["psnrr"])


def test_import_leaves_torch_alone() -> None:
    code = "import benchmarks.measure.metrics, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
