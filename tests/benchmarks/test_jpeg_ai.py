"""The mean of BD-rates over the metrics of JPEG AI, and the columns of complexity beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.curves import jpeg_ai
from benchmarks.curves.bd import bd_rate
from benchmarks.curves.curve import Curve
from benchmarks.measure import complexity
from benchmarks.store import Store
from core.codec import TesseraError
from core.registry import METHODS, discover, make_method


def curve(label: str, factor: float, metrics: dict[str, float]) -> Curve:
    """Points whose rate is ``factor`` times the anchor's, for each metric ``metrics[name]`` times that again."""
    quality = np.linspace(1, 2, 5)
    points = {"point": range(5), "bpp": factor * 2**quality}
    points |= {name: quality - np.log2(more) for name, more in metrics.items()}
    return Curve(label, label, "kodak", "kodak", "measured", "", pd.DataFrame(points))


def test_the_mean_is_of_the_metrics_that_both_have() -> None:
    """A quality shifted by log2(k) is a rate of k times as much."""
    anchor = curve("a", 1, {"ms_ssim_db": 1, "vmaf": 1, "vif": 1})
    other = curve("b", 1, {"ms_ssim_db": 1.2, "vmaf": 1.4})
    lacking = curve("c", 1.1, {"vmaf": 1.0})
    frame = jpeg_ai.table([anchor, other, lacking], anchor)
    assert list(frame["curve"]) == ["b", "c"]
    assert frame["MS-SSIM (%)"][0] == pytest.approx(20, abs=0.1) and frame["VMAF (%)"][0] == pytest.approx(40, abs=0.1)
    assert frame["BD-rate (%)"][0] == pytest.approx(30, abs=0.1)
    assert frame["VMAF (%)"][0] == bd_rate(anchor, other, "vmaf", bootstrap=0).rate_percent
    assert frame["BD-rate (%)"][1] == "without MS-SSIM" and frame["VMAF (%)"][1] == pytest.approx(10, abs=0.1)
    assert "VIF (%)" not in frame
    said = jpeg_ai.caption(jpeg_ai.there(anchor, [anchor, other]))
    assert "over 2 of the 7 metrics" in said and "missing: VIF, NLPD, FSIM, IW-SSIM, PSNR-HVS" in said


def test_nothing_in_common_is_a_sentence() -> None:
    anchor, other = curve("a", 1, {"vmaf": 1}), curve("b", 1, {"vif": 1})
    with pytest.raises(TesseraError, match=r"share none of MS-SSIM.*metrics=vmaf,vif,psnr_hvs"):
        jpeg_ai.table([anchor, other], anchor)


def test_multiply_additions_are_counted_and_stand_beside_bd_rate(command, tmp_path) -> None:
    """Of a convolution of 3 to 8 channels, 5x5 with stride 2: 3 * 8 * 25 / 4 multiplications per pixel."""
    torch = pytest.importorskip("torch")

    class Method:
        name, variant, point, lossless = "counted", {"width": 8}, 1, False

        @staticmethod
        def codec(model):
            class Codec:
                def compress(self, image):
                    model(torch.from_numpy(image.copy()).float().permute(2, 0, 1)[None])
                    return b"x"

                def decompress(self, stream):
                    return None

            return Codec()

    model = torch.nn.Conv2d(3, 8, 5, stride=2, padding=2)
    record = complexity.count(Method(), model, np.zeros((64, 96, 3), np.uint8))
    assert (
        record["encode_kmac_per_pixel"] == pytest.approx(3 * 8 * 25 / 4 / 1e3) and record["decode_kmac_per_pixel"] == 0
    )
    assert (record["parameters"], record["size"]) == (8 * 75 + 8, [64, 96, 3])


def test_tables_have_columns_of_what_was_counted(command, tmp_path) -> None:
    ended = command("benchmarks/complexity.py", "with", "method=qres3m_vr", "results=results")
    assert ended.code == 0, ended.err
    discover()
    method = make_method("qres3m_vr", {})
    place = complexity.path(tmp_path / "results", "qres3m_vr", method.variant)
    assert place.is_file() and "qres3m_vr" in METHODS
    assert complexity.path(tmp_path / "results", "qres3m_vr", {**method.variant, "search": 4}) == place
    refused = command("benchmarks/complexity.py", "with", "method=jpeg", "results=results")
    assert refused.code == 2 and "jpeg has no network" in refused.sentence
    frame = pd.DataFrame({"curve": ["a", "b"], "BD-rate (%)": [1.0, 2.0], "note": ["", ""]})
    curves = [curve("a", 1, {}), curve("b", 1, {})]
    store = Store(tmp_path / "results")
    assert complexity.beside(frame, store, curves) is frame

    def known(store: Store, one: Curve) -> dict[str, float]:
        return dict.fromkeys(complexity.COLUMNS, 7.0) if one.label == "b" else {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(complexity, "of_curve", known)
        beside = complexity.beside(frame, store, curves)
    assert list(beside) == ["curve", "BD-rate (%)", *complexity.COLUMNS, "note"]
    assert beside["parameters (M)"].tolist() == ["", 7.0]
