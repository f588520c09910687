"""The mean of BD-rates over the seven metrics of JPEG AI's common test conditions, as far as curves have them.

The conditions name MS-SSIM, VMAF, VIF, NLPD, FSIM, IW-SSIM and PSNR-HVS-M. Ours: MS-SSIM in decibels; VMAF, VIF and
PSNR-HVS of libvmaf; FSIM and IW-SSIM of piq where it is installed; NLPD where a plug-in has a metric of that name.
Settings differ from those of the official framework, so its numbers stand beside ours, not in one column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.curves.bd import BDResult, Method, bd_rate
from benchmarks.curves.curve import Curve
from core.codec import TesseraError

NAME = "jpeg_ai"  # what metric= calls it
SEVEN = {
    "MS-SSIM": "ms_ssim_db",
    "VMAF": "vmaf",
    "VIF": "vif",
    "NLPD": "nlpd",
    "FSIM": "fsim",
    "IW-SSIM": "iw_ssim",
    "PSNR-HVS": "psnr_hvs",
}


def there(anchor: Curve, curves: Sequence[Curve]) -> list[str]:
    """Which of the seven the anchor has, and any other curve with it; TesseraError where there is none."""
    others = [curve for curve in curves if curve is not anchor]
    found = [title for title, name in SEVEN.items() if _has(anchor, name) and any(_has(c, name) for c in others)]
    if not found:
        raise TesseraError(
            f"{anchor.label} and the other curves share none of {', '.join(SEVEN)}: measure both with "
            "metrics=vmaf,vif,psnr_hvs."
        )
    return found


def table(curves: Sequence[Curve], anchor: Curve, method: Method = "pchip") -> pd.DataFrame:
    """One row per curve, best first: the mean BD-rate, and that of each metric with its common range.

    Means of one table are over the same metrics: a curve that lacks one of them, or has no overlap in it, has no mean,
    and says so.
    """
    titles = there(anchor, curves)
    rows = [_row(curve, anchor, titles, method) for curve in curves if curve is not anchor]
    rows.sort(key=lambda row: (isinstance(row["BD-rate (%)"], str), row["BD-rate (%)"], row["curve"]))
    return pd.DataFrame(rows)


def caption(titles: Sequence[str]) -> str:
    """Which of the seven a table is of."""
    missing = [title for title in SEVEN if title not in titles]
    said = f"mean of BD-rates over {len(titles)} of the 7 metrics of the JPEG AI conditions ({', '.join(titles)}"
    return f"{said}; missing: {', '.join(missing)})" if missing else f"{said})"


def _row(curve: Curve, anchor: Curve, titles: Sequence[str], method: Method) -> dict[str, object]:
    found = {title: bd_rate(anchor, curve, SEVEN[title], method, bootstrap=0) for title in titles}
    without = [title for title, result in found.items() if not _number(result)]
    mean: float | str = f"without {', '.join(without)}"
    if not without:
        mean = float(np.mean([result.rate_percent for result in found.values()]))
    ranges = [f"{title} {r.low:.3g} to {r.high:.3g}" for title, r in found.items() if _number(r)]
    points = sorted({f"{r.points_anchor}/{r.points_test}" for r in found.values() if _number(r)})
    return {
        "curve": curve.label,
        "BD-rate (%)": mean,
        **{f"{t} (%)": r.rate_percent if _number(r) else r.reason or "no overlap" for t, r in found.items()},
        "ranges": "; ".join(ranges),
        "points (anchor/test)": ", ".join(points),
        "interpolation": method,
        "source": curve.source,
    }


def _number(result: BDResult) -> bool:
    return result.overlap and math.isfinite(result.rate_percent)


def _has(curve: Curve, name: str) -> bool:
    return name in curve.points and bool(np.isfinite(curve.points[name].astype(float)).any())
