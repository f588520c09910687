"""Curves as CompressAI's result JSON, which its ``compressai.utils.plot`` draws: one file per curve.

That reader wants ``results`` with ``bpp`` and the metric it is asked for, as lists of one number per point, and turns
``ms-ssim`` into decibels itself. Its versions call PSNR ``psnr`` or ``psnr-rgb`` and MS-SSIM ``ms-ssim`` or
``ms-ssim-rgb``, so both names are written. Other columns keep their own names; a column with a gap is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curves.curve import Curve
from benchmarks.store import StoreError
from benchmarks.store.names import label_name, slug
from core import atomic

NAMES = {
    "psnr": ("psnr-rgb", "psnr"),
    "ms_ssim": ("ms-ssim-rgb", "ms-ssim"),
    "encode_s": ("encoding_time",),
    "decode_s": ("decoding_time",),
}


def document(curve: Curve) -> dict[str, Any]:
    """The curve as JSON values: name, description, results, and where its numbers come from."""
    points = curve.points.sort_values("bpp")
    columns = {str(name): points[name] for name in points if name != "point"}
    if "ms_ssim" not in columns and "ms_ssim_db" in columns:
        columns["ms_ssim"] = 1 - 10 ** (-columns["ms_ssim_db"] / 10)
    results: dict[str, list[float]] = {}
    for name, values in columns.items():
        numbers = values.to_numpy(float)
        if np.isfinite(numbers).all():
            results |= {key: [float(f"{v:.10g}") for v in numbers] for key in NAMES.get(name, (name,))}
    origin = {"dataset": curve.dataset, "title": curve.title, "source": curve.source, "reference": curve.reference}
    facts: dict[str, Any] = {**origin, "points": [str(p) for p in points["point"]], "cells": list(curve.cells)}
    facts |= {"macs_per_pixel": list(curve.macs)} if curve.macs else {}
    said = f"{curve.source}, {curve.title}; {curve.reference}".rstrip("; ")
    return {"name": curve.label, "description": said, "results": results, "tessera": facts}


def export(curves: Iterable[Curve], folder: Path) -> list[Path]:
    """Write a file per curve, named after its label, and one folder per data set below ``folder``; returns the paths.

    Raises StoreError.
    """
    paths = []
    for curve in curves:
        path = folder / slug(curve.dataset) / f"{label_name(curve.label)}{_aside(curve)}.json"
        try:
            atomic.write_text(path, json.dumps(document(curve), indent=1, allow_nan=False) + "\n")
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another folder.") from error
        paths.append(path)
    return paths


def _aside(curve: Curve) -> str:
    """What keeps a published curve apart from a measured one of its name."""
    return "_published" if curve.source == "published" else ""
