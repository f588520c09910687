"""Metrics of ffmpeg against computations of our own, and metrics added to cells that are stored."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.ndimage import correlate1d
from skimage.color import deltaE_ciede2000, rgb2lab

from benchmarks.datasets import open_dataset
from benchmarks.measure import perceptual
from benchmarks.measure.metrics import METRICS, MetricError, compute, defaults, usable
from benchmarks.store import Store
from core.codec import Image

NAMES = list(perceptual.OF_FFMPEG)
needs_ffmpeg = pytest.mark.skipif(METRICS["vmaf"].missing() is not None, reason=str(METRICS["vmaf"].missing()))


def pair() -> tuple[Image, Image]:
    """A part of a photograph, and the same with steps of 12 levels."""
    part = open_dataset("sample").images[1].read()[60:250, 100:341]
    return part, (part // 12 * 12 + 6).clip(0, 255).astype(np.uint8)


def luma(image: Image) -> np.ndarray:
    """Y' of BT.709 in limited range, whole levels."""
    return np.round(16 + image.astype(float) @ [0.2126, 0.7152, 0.0722] * 219 / 255)


def vif(x: np.ndarray, y: np.ndarray) -> float:
    """Pixel-domain VIF (Sheikh and Bovik, 2006): noise variance 2, four scales; flat places as libvmaf has them."""
    num = den = 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * (size / 5) ** 2))
        taps /= taps.sum()

        def blur(z: np.ndarray, taps: np.ndarray = taps) -> np.ndarray:
            return correlate1d(correlate1d(z, taps, 0), taps, 1)

        if scale:
            x, y = blur(x)[::2, ::2], blur(y)[::2, ::2]
        mx, my = blur(x), blur(y)
        sx, sy, sxy = (
            np.maximum(blur(a * b) - c * d, 0) for a, b, c, d in ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my))
        )
        gain = sxy / (sx + 1e-10)
        noise = np.maximum(sy - gain * sxy, 1e-10)
        num += np.where(sx < 2, 1 - sy * 4 / 255**2, np.log2(1 + gain**2 * sx / (noise + 2))).sum()
        den += np.where(sx < 2, 1, np.log2(1 + sx / 2)).sum()
    return num / den


@needs_ffmpeg
def test_ciede2000_and_vif_are_those_of_other_computations() -> None:
    """libvmaf weighs lightness, chroma and hue of CIEDE2000 by 1/0.65, 1 and 1/4; YCbCr of 8 bits adds some."""
    reference, decoded = pair()
    found = compute(reference, decoded, ["ciede2000", "vif"])
    delta = deltaE_ciede2000(rgb2lab(reference), rgb2lab(decoded), kL=0.65, kC=1, kH=4).mean()
    assert found["ciede2000"] == pytest.approx(delta, rel=0.1)
    assert found["vif"] == pytest.approx(vif(luma(reference), luma(decoded)), abs=2e-3)
    assert 0.1 < found["vif"] < 0.95 and found["ciede2000"] > 0.5


@needs_ffmpeg
def test_equal_pictures_and_directions() -> None:
    reference, decoded = pair()
    equal, near = (compute(reference, other, NAMES) for other in (reference, decoded))
    worse = compute(reference, (decoded // 40 * 40 + 20).astype(np.uint8), NAMES)
    assert (equal["psnr_hvs"], equal["xpsnr"], equal["ciede2000"]) == (math.inf, math.inf, 0.0)
    assert equal["vif"] == pytest.approx(1, abs=1e-3) and equal["vmaf"] > 90
    for name in NAMES:
        sign = 1 if METRICS[name].better == "higher" else -1
        assert sign * equal[name] > sign * near[name] > sign * worse[name], name


@needs_ffmpeg
def test_luma_alone_counts_and_grey_is_equal_channels() -> None:
    """Metrics of luma do not see a change of colour that keeps it; CIEDE2000 does."""
    reference, decoded = pair()
    grey, other = reference[:, :, :1], decoded[:, :, :1]
    assert compute(grey, other, NAMES) == compute(np.repeat(grey, 3, 2), np.repeat(other, 3, 2), NAMES)
    flat = np.full((64, 64, 3), 120, np.uint8)
    tinted = flat.copy()
    tinted[..., 0], tinted[..., 2] = 120 + 7, 120 - 21  # 0.2126 * 7 = 0.0722 * 21
    found = compute(flat, tinted, NAMES)
    assert found["ciede2000"] > 2 and found["xpsnr"] > 50 and found["psnr_hvs"] > 50


def test_they_are_off_by_default_and_small_pictures_have_none() -> None:
    assert defaults() == ["mse", "psnr", "ms_ssim", "ms_ssim_db"] and not any(METRICS[n].default for n in NAMES)
    small = np.zeros((31, 40, 3), np.uint8)
    assert compute(small, small, ["psnr", *NAMES]) == {"psnr": math.inf}


def test_what_is_not_here_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = METRICS["vmaf"]
    monkeypatch.setitem(METRICS._items, "vmaf", type(entry)(**{**vars(entry), "missing": lambda: "no libvmaf"}))
    with pytest.raises(MetricError, match=r"^vmaf cannot be measured here: no libvmaf\.$"):
        usable(["psnr", "vmaf"])
    assert perceptual._absent("package_that_is_absent") == (
        "package_that_is_absent is not installed; run pip install 'tessera-bench[metrics]'"
    )


@pytest.mark.parametrize("name", ["fsim", "iw_ssim", "ssimulacra2"])
def test_metrics_of_packages(name: str) -> None:
    if lack := METRICS[name].missing():
        pytest.skip(lack)
    reference, decoded = pair()
    assert METRICS[name](reference, reference) == pytest.approx(100 if name == "ssimulacra2" else 1)
    assert METRICS[name](reference, decoded) < METRICS[name](reference, reference)


RUN = ("with", "method=jpeg", "points=20", "dataset=sample", "limit=1", "keep_images=False", "results=results")


@needs_ffmpeg
def test_stored_cells_gain_metrics_without_being_measured_again(command, tmp_path) -> None:
    assert command("benchmarks/rd_curve.py", *RUN).code == 0
    (before,) = Store(tmp_path / "results").cells()
    ended = command("benchmarks/rd_curve.py", *RUN, "metrics=vmaf,psnr")
    assert ended.code == 0, ended.err
    (after,) = Store(tmp_path / "results").cells()
    assert (before.key, set(after.means) - set(before.means)) == (after.key, {"vmaf"})
    assert {k: after.means[k] for k in before.means} == before.means  # seconds too
    assert after.images.drop(columns="vmaf").equals(before.images)
    (added,) = after.provenance.pop("added")
    assert before.provenance == after.provenance and added["columns"] == ["vmaf"]
    assert "ffmpeg" in added["metrics"] and added["commit"] and added["started"]
    original = open_dataset("sample").images[0].read()
    from core.registry import make_method

    codec = make_method("jpeg", {"quality": 20}).codec(None)
    expected = METRICS["vmaf"](original, codec.decompress(codec.compress(original)))
    assert after.images["vmaf"].tolist() == [pytest.approx(expected, rel=1e-5)]
    stamp = (after.folder / "cell.json").stat().st_mtime_ns
    assert command("benchmarks/rd_curve.py", *RUN, "metrics=vmaf").code == 0
    assert (after.folder / "cell.json").stat().st_mtime_ns == stamp


@needs_ffmpeg
def test_a_cell_of_other_bytes_gains_nothing(command, tmp_path) -> None:
    """A codec that does not give the stored sizes again did not make the stored pictures."""
    assert command("benchmarks/rd_curve.py", *RUN).code == 0
    (cell,) = Store(tmp_path / "results").cells()
    path = cell.folder / "images.csv"
    text = path.read_text()
    path.write_text(text.replace(f",{int(cell.images['bytes'][0])},", ",12345,"))
    assert path.read_text() != text
    ended = command("benchmarks/rd_curve.py", *RUN, "metrics=vmaf")
    assert ended.code == 2 and "12345" in ended.err and "measure again" in ended.err
    assert "vmaf" not in json.loads((cell.folder / "cell.json").read_text())["means"]
    assert not list((tmp_path / "results").glob("failures/*"))
