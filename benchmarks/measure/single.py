"""The measurement of a single image: compress, bytes, decompress, the checks of the contract, and the metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from benchmarks.measure import meter
from core.codec import Codec, HasEstimate, HasPayload, HasRates, Image, TesseraError

LONGEST = 400  # characters of a codec's complaint
T = TypeVar("T")


class HarnessError(TesseraError):
    """A codec that failed or broke its contract on an image."""


def measure_image(
    codec: Codec,
    original: Image,
    name: str,
    device: str = "cpu",
    lossless: bool = False,
    metrics: Sequence[str] = (),
) -> tuple[dict[str, Any], Image]:
    """One row of ``images.csv`` and the decoded image; ``original`` is uint8 (H, W, C). Raises HarnessError."""
    height, width, channels = original.shape
    meter.reset_peak(device)
    stream, decoded, encode_s, decode_s = round_trip(codec, original, name, device)
    peak = meter.peak_mb(device)
    check(decoded, original, name, lossless)
    quality = _quality(original, decoded, metrics)
    bits = 8 * len(stream)
    row: dict[str, Any] = {"image": name, "height": height, "width": width, "channels": channels, "bytes": len(stream)}
    with blaming(name, "count the payload of"):
        row["payload_bits"] = int(codec.payload_bits(stream)) if isinstance(codec, HasPayload) else bits
    with blaming(name, "estimate the bits of"):
        if isinstance(codec, HasEstimate):
            row["estimate_bits"] = float(codec.bits(original))
    row |= {"bpp": bits / (height * width), "bpd": bits / original.size}
    return row | quality | {"encode_s": encode_s, "decode_s": decode_s, "peak_memory_mb": peak}, decoded


def measure_rated(
    codec: Codec,
    original: Image,
    name: str,
    device: str = "cpu",
    lossless: bool = False,
    metrics: Sequence[str] = (),
    *,
    rate: str,
) -> tuple[dict[str, Any], Image]:
    """As ``measure_image``, with the bits and the decoded image of another way to count them (``HasRates``)."""
    assert isinstance(codec, HasRates)
    (bits, decoded), seconds = _timed(device, name, f"count the {rate} bits of", lambda: codec.rated(rate, original))
    check(decoded, original, name, lossless)
    height, width, channels = original.shape
    row: dict[str, Any] = {"image": name, "height": height, "width": width, "channels": channels}
    row |= {"bytes": math.ceil(bits / 8), "payload_bits": math.ceil(bits)}
    row |= {"bpp": bits / (height * width), "bpd": bits / original.size}
    return row | _quality(original, decoded, metrics) | {"encode_s": seconds}, decoded


def round_trip(codec: Codec, image: Image, name: str, device: str) -> tuple[bytes, Image, float, float]:
    """The stream, the decoded image (unchecked), and the seconds of either way; the codec gets a copy of the image."""
    image = image.copy()
    stream, encode_s = _timed(device, name, "compress", lambda: codec.compress(image))
    if not isinstance(stream, bytes):
        raise HarnessError(f"compressing {name} gave {type(stream).__name__} instead of bytes.")
    decoded, decode_s = _timed(device, name, "decompress", lambda: codec.decompress(stream))
    return stream, decoded, encode_s, decode_s


def _timed(device: str, name: str, verb: str, work: Callable[[], T]) -> tuple[T, float]:
    """The result of ``work`` and its seconds (see ``meter.time_note``)."""
    with blaming(name, verb):
        before = meter.clock(device)
        result = work()
        return result, max(meter.clock(device) - before, 0.0)


@contextmanager
def blaming(name: str, verb: str) -> Iterator[None]:
    """Turn whatever a codec raises on an image into a HarnessError of one line."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, TesseraError) else f"{type(error).__name__}: "
        text = " ".join(str(error).split())[:LONGEST]
        raise HarnessError(f"cannot {verb} {name}: {kind}{text}") from error


def check(decoded: Any, original: Image, name: str, lossless: bool) -> None:
    """Refuse a decoded image that is not uint8 of the original's shape, or differs although the method is lossless."""
    if not isinstance(decoded, np.ndarray) or decoded.dtype != np.uint8:
        raise HarnessError(f"{name} was decoded as {getattr(decoded, 'dtype', type(decoded).__name__)}, not uint8.")
    if decoded.shape != original.shape:
        raise HarnessError(f"{name} was decoded with shape {decoded.shape} instead of {original.shape}.")
    if lossless and not np.array_equal(decoded, original):
        wrong = int(np.count_nonzero(decoded != original))
        raise HarnessError(f"the method says it is lossless, but {wrong} samples of {name} differ after decoding.")


def _quality(original: Image, decoded: Image, more: Sequence[str]) -> dict[str, float]:
    """The default metrics and these, as far as the image is large enough for them."""
    from benchmarks.measure.metrics import compute, defaults

    names = dict.fromkeys((*defaults(), *more))
    return {name: float(value) for name, value in compute(original, decoded, names).items()}
