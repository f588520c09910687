"""Metrics of a decoded image, each with its unit, direction and smallest image.

A metric compares the 8-bit decoded image with the original, one image at a time; averages over images are taken by
whoever holds the images. To add one, decorate a function:

    @metric("max_error", unit="levels", better="lower")
    def max_error(reference: Image, decoded: Image) -> float:
        return float(np.abs(reference.astype(int) - decoded).max())
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.codec import Image, TesseraError
from core.registry import Registry, discover

FINE = 0.999  # MS-SSIM above which float32 is too coarse for decibels
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A named measure of a decoded image (uint8 (H, W, C)) against its reference of the same shape.

    ``min_side`` is the smallest shorter side, in pixels, on which the metric is defined. ``source`` names the metric
    that this one is a function of, ``derive`` that function: asking for both then computes the source once.
    """

    name: str
    unit: str  # '' for a pure number
    better: Better
    min_side: int
    function: Callable[[Image, Image], float]
    source: str | None = None
    derive: Callable[[float], float] | None = None

    def __call__(self, reference: Image, decoded: Image) -> float:
        """The value; raises ``MetricError`` on images that differ in shape or are too small."""
        _check(self, reference, decoded)
        return self.function(reference, decoded)


class MetricError(TesseraError):
    """Two images that a metric cannot compare."""


METRICS: Registry[Metric] = Registry("metric")

Function = Callable[[Image, Image], float]


def metric(name: str, *, unit: str, better: Better, min_side: int = 1) -> Callable[[Function], Function]:
    """Decorator: register a function of (reference, decoded) as the metric ``name``; the function stays as it is."""

    def add(function: Function) -> Function:
        METRICS.register(name)(Metric(name, unit, better, min_side, function))
        return function

    return add


def derived(name: str, source: str, *, unit: str, better: Better) -> Callable[[Callable[[float], float]], Function]:
    """Decorator: register a function of another metric's value; gives the metric as a function of two images."""

    def add(derive: Callable[[float], float]) -> Function:
        base = METRICS[source]

        def function(reference: Image, decoded: Image) -> float:
            return derive(base.function(reference, decoded))

        function.__doc__ = derive.__doc__
        METRICS.register(name)(Metric(name, unit, better, base.min_side, function, source, derive))
        return function

    return add


def find_metric(name: str) -> Metric:
    """The metric ``name``, also one of a plug-in, which is then loaded; ``UnknownName`` with the nearest names."""
    if name not in METRICS:
        discover()
    return METRICS[name]


def compute(reference: Image, decoded: Image, names: Iterable[str] | None = None) -> dict[str, float]:
    """The named metrics (all by default) of one image, each computed once, in the order of the names.

    A metric whose ``min_side`` exceeds the image's shorter side is left out: a set of small images has no such
    column. Raises ``UnknownName`` for an unknown name and ``MetricError`` when the shapes differ.
    """
    values: dict[str, float] = {}

    def value(name: str) -> float:
        if name not in values:
            entry = METRICS[name]
            derive, source = entry.derive, entry.source
            values[name] = derive(value(source)) if derive and source else entry(reference, decoded)
        return values[name]

    wanted = list(METRICS if names is None else names)
    side = min(reference.shape[:2])
    return {name: value(name) for name in wanted if METRICS[name].min_side <= side}


@metric("mse", unit="levels²", better="lower")
def mse(reference: Image, decoded: Image) -> float:
    """Mean squared error over all pixels and channels, on the scale 0 to 255 (so at most 65025)."""
    difference = reference.astype(np.int64) - decoded
    return float(np.mean(difference * difference))


@derived("psnr", "mse", unit="dB", better="higher")
def psnr(error: float) -> float:
    """Peak signal-to-noise ratio, 10 log10(255² / mse) over the RGB (or grey) samples; inf for equal images."""
    return 10 * math.log10(255**2 / error) if error else math.inf


@metric("ms_ssim", unit="", better="higher", min_side=161)
def ms_ssim(reference: Image, decoded: Image) -> float:
    """Multi-scale structural similarity (Wang et al., 2003) in [0, 1]: 5 scales, 11x11 Gaussian window, data range 255.

    Computed per channel by pytorch-msssim in float32, as published numbers are (its error is below 1e-6), and averaged
    over channels. Above ``FINE``, where that error is 0.002 dB and more, it is computed in float64, so that only equal
    images have 1. The library clamps negative contrast terms at 0 (they would give NaN under a fractional power), so
    an inverted image scores 0.
    """
    if np.array_equal(reference, decoded):
        return 1.0
    rough = _ms_ssim(reference, decoded, np.float32)
    fine = _ms_ssim(reference, decoded, np.float64) if rough > FINE else rough
    return min(fine, math.nextafter(1.0, 0.0))


def _ms_ssim(reference: Image, decoded: Image, kind: type[np.floating[Any]]) -> float:
    import torch
    from pytorch_msssim import ms_ssim as score

    first, second = (torch.from_numpy(np.array(x, kind)).permute(2, 0, 1)[None] for x in (reference, decoded))
    with torch.inference_mode():
        return float(score(first, second, data_range=255, size_average=True))  # (1, C, H, W) each


@derived("ms_ssim_db", "ms_ssim", unit="dB", better="higher")
def ms_ssim_db(score: float) -> float:
    """MS-SSIM on a decibel scale, -10 log10(1 - ms_ssim); inf for equal images."""
    return -10 * math.log10(1 - score) if score < 1 else math.inf


def _check(entry: Metric, reference: Image, decoded: Image) -> None:
    """Refuse images of different shapes, other types, or too small for the metric."""
    if reference.shape != decoded.shape:
        raise MetricError(f"{entry.name} compares images of one shape, not {reference.shape} and {decoded.shape}")
    if reference.ndim != 3 or reference.dtype != np.uint8 or decoded.dtype != np.uint8:
        raise MetricError(f"{entry.name} compares uint8 images (H, W, C), not {reference.dtype} {reference.shape}")
    if min(reference.shape[:2]) < entry.min_side:
        height, width = reference.shape[:2]
        raise MetricError(f"{entry.name} needs {entry.min_side} pixels on the shorter side, not {width}x{height}")
