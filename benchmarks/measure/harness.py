"""The measurement: every image through compress, bytes, decompress and the metrics, and one cell written at the end.

What the columns mean is written in ``docs/protocol.md``. A cell is all images of the set or nothing.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.measure import meter
from benchmarks.measure.provenance import provenance
from benchmarks.store import Cell, CellResult, Store, StoreError
from benchmarks.store.store import now
from core.codec import Codec, HasCodes, HasEstimate, HasPayload, HasRates, Image, Method, TesseraError

if TYPE_CHECKING:
    from benchmarks.datasets import ImageSet, NamedImage

LONGEST = 400  # characters of a codec's complaint
LINE_S = 30  # without a terminal, a line of progress this often
WEBP_SIDE = 16383  # larger pictures do not fit the format

__all__ = [
    "HarnessError",
    "LeakError",
    "describe",
    "keep_pictures",
    "lacks_pictures",
    "measure",
    "measure_image",
    "provenance",
    "refuse_leaks",
]

T = TypeVar("T")


class HarnessError(TesseraError):
    """A codec that failed or broke its contract on an image."""


class LeakError(TesseraError):
    """Images that the method was trained on."""


def measure(
    cell: Cell,
    codec: Codec,
    images: ImageSet,
    store: Store,
    *,
    about: Mapping[str, Any],
    provenance: Mapping[str, Any],
    train_fingerprints: Collection[str] = (),
    trained_on: Collection[str] = (),
    keep_images: bool = False,
    bar: bool = True,
    warm: Codec | None = None,
) -> CellResult:
    """Measure ``codec`` on all images and write the cell; returns what was written.

    The cell's ``pictures`` become the fingerprint of the images; a cell that names others is refused.

    ``about`` comes from ``describe``; ``about["lossless"]`` demands bit-exact decoding. ``train_fingerprints`` and
    ``trained_on`` are the per-image fingerprints and data-set names of the training data (see ``refuse_leaks``).
    With ``keep_images`` originals and decoded pictures are kept for the report, unless the set is private.
    ``warm`` is what warms up, in the place of a codec that takes minutes.
    Raises LeakError, HarnessError (a codec that fails or breaks its contract), StoreError, or what an image raises.
    """
    if cell.rate not in (known := _rates(codec)):
        raise HarnessError(f"{cell.label} has no rate '{cell.rate}': known are {', '.join(known)}.")
    if not len(images):
        raise HarnessError(f"{images.title} has no images to measure.")
    refuse_leaks(images, train_fingerprints, trained_on)
    cell = replace(cell, pictures=cell.pictures or images.fingerprint)
    started, clock = now(), time.perf_counter()
    if cell.rate == "file":
        first = images.images[0]
        _round_trip(warm or codec, first.read(), first.name, cell.device)  # warm-up: caches, kernels, imports
    rows, usage, digests = [], _Usage(codec), []
    for image in _progress(images, cell.label, bar):
        data = image.data()
        digests.append((hashlib.sha256(data).hexdigest(), image.name))
        original = image.decode(data)
        measured = measure_image if cell.rate == "file" else partial(measure_rated, rate=cell.rate)
        row, decoded = measured(codec, original, image.name, cell.device, bool(about.get("lossless")))
        usage.add(original, image.name)
        rows.append(row)
        if keep_images and not images.private:
            _keep(store, store.picture(cell, image.name), decoded)
            _keep(store, store.original(cell.dataset, image.name, cell.pictures), original)
    _expect(cell, images, digests)
    frame = pd.DataFrame(rows)
    frame = frame[[c for c in frame if frame[c].notna().all()]]  # a metric that some image is too small for
    facts = {**about, "time_note": meter.time_note(cell.device), "memory_note": meter.memory_note(cell.device)}
    facts |= {"codebook_sizes": usage.sizes} if usage.sizes else {}
    record = {**provenance, "started": started, "wall_s": round(time.perf_counter() - clock, 3)}
    return store.write(cell, frame, facts, record, usage.frame())


def _expect(cell: Cell, images: ImageSet, digests: Sequence[tuple[str, str]]) -> None:
    """Refuse digests and names, as they were read for measuring, of other pictures than the cell's."""
    from benchmarks.datasets.base import fingerprint_of

    if fingerprint_of(digests) != cell.pictures:
        raise HarnessError(f"the pictures of {images.title} changed while they were measured: run it again.")


def lacks_pictures(cell: Cell, images: ImageSet, store: Store) -> bool:
    """Whether pictures that may be kept are not there (those too large for the format are never there)."""
    return not images.private and not any(store.picture(cell, image.name).is_file() for image in images)


def keep_pictures(cell: Cell, codec: Codec, images: ImageSet, store: Store) -> None:
    """Keep originals and decoded pictures of a cell that was measured without them."""
    for image in _progress(images, f"pictures of {cell.label}", True):
        original = image.read()
        decoded = codec.decompress(codec.compress(original))
        _keep(store, store.picture(cell, image.name), decoded)
        _keep(store, store.original(cell.dataset, image.name, cell.pictures), original)


def measure_image(
    codec: Codec, original: Image, name: str, device: str = "cpu", lossless: bool = False
) -> tuple[dict[str, Any], Image]:
    """One row of ``images.csv`` and the decoded image; ``original`` is uint8 (H, W, C). Raises HarnessError."""
    height, width, channels = original.shape
    meter.reset_peak(device)
    stream, decoded, encode_s, decode_s = _round_trip(codec, original, name, device)
    peak = meter.peak_mb(device)
    _check(decoded, original, name, lossless)
    quality = _quality(original, decoded)
    bits = 8 * len(stream)
    row: dict[str, Any] = {"image": name, "height": height, "width": width, "channels": channels, "bytes": len(stream)}
    with _blaming(name, "count the payload of"):
        row["payload_bits"] = int(codec.payload_bits(stream)) if isinstance(codec, HasPayload) else bits
    with _blaming(name, "estimate the bits of"):
        if isinstance(codec, HasEstimate):
            row["estimate_bits"] = float(codec.bits(original))
    row |= {"bpp": bits / (height * width), "bpd": bits / original.size}
    return row | quality | {"encode_s": encode_s, "decode_s": decode_s, "peak_memory_mb": peak}, decoded


def measure_rated(
    codec: Codec, original: Image, name: str, device: str = "cpu", lossless: bool = False, *, rate: str
) -> tuple[dict[str, Any], Image]:
    """As ``measure_image``, with the bits and the decoded image of another way to count them (``HasRates``)."""
    assert isinstance(codec, HasRates)
    (bits, decoded), seconds = _timed(device, name, f"count the {rate} bits of", lambda: codec.rated(rate, original))
    _check(decoded, original, name, lossless)
    height, width, channels = original.shape
    row: dict[str, Any] = {"image": name, "height": height, "width": width, "channels": channels}
    row |= {"bytes": math.ceil(bits / 8), "payload_bits": math.ceil(bits)}
    row |= {"bpp": bits / (height * width), "bpd": bits / original.size}
    return row | _quality(original, decoded) | {"encode_s": seconds}, decoded


def _rates(codec: Codec) -> tuple[str, ...]:
    return ("file", *(codec.rates if isinstance(codec, HasRates) else ()))


def describe(method: Method, images: ImageSet, legend: str = "", note: str = "") -> dict[str, Any]:
    """The ``about`` of a cell: what a table must say of the images and of the method (JSON values).

    ``legend`` tells apart weights of one method ('official', 'ours'); ``note`` is appended to the method's own.
    """
    return {
        "title": images.title,
        "subset": images.subset,
        "license": images.license,
        "data_fingerprint": images.fingerprint,
        "data_note": images.note,
        "private": images.private,
        "left_out": list(images.left_out),
        "method_note": " ".join(filter(None, (method.note, note))),
        "paper": method.paper,
        "lossless": method.lossless,
        "curve": method.curve,
        "defaults": method.parameters(),
        "legend": legend,
    }


def refuse_leaks(images: ImageSet, train_fingerprints: Collection[str], trained_on: Collection[str] = ()) -> None:
    """Raise LeakError when any image was trained on.

    ``train_fingerprints`` are SHA-256 digests as ``benchmarks.datasets.fingerprints`` gives them, one per training
    image; ``trained_on`` names training data sets, for sets that show the same pictures in another size.
    """
    same = sorted(set(images.overlaps) & set(trained_on))
    if same:
        raise LeakError(f"{images.title} shows pictures of {', '.join(same)}, which the weights were trained on.")
    if not train_fingerprints:
        return
    from benchmarks.datasets import fingerprints

    seen = frozenset(train_fingerprints)
    lengths = {len(digest) for digest in seen}
    digests = ((image.name, fingerprints([image])[0]) for image in images.images)
    names = [name for name, digest in digests if any(digest[:n] in seen for n in lengths)]
    if names:
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        what = f"{len(names)} of {len(images)} images of {images.title} ({some})"
        raise LeakError(f"{what} are in the training data of these weights: measure on other images.")


def _round_trip(codec: Codec, image: Image, name: str, device: str) -> tuple[bytes, Image, float, float]:
    """The stream, the decoded image (unchecked), and the seconds of either way; the codec gets a copy of the image."""
    image = image.copy()
    stream, encode_s = _timed(device, name, "compress", lambda: codec.compress(image))
    if not isinstance(stream, bytes):
        raise HarnessError(f"compressing {name} gave {type(stream).__name__} instead of bytes.")
    decoded, decode_s = _timed(device, name, "decompress", lambda: codec.decompress(stream))
    return stream, decoded, encode_s, decode_s


def _timed(device: str, name: str, verb: str, work: Callable[[], T]) -> tuple[T, float]:
    """The result of ``work`` and its seconds (see ``meter.time_note``)."""
    with _blaming(name, verb):
        before = meter.clock(device)
        result = work()
        return result, max(meter.clock(device) - before, 0.0)


@contextmanager
def _blaming(name: str, verb: str) -> Iterator[None]:
    """Turn whatever a codec raises on an image into a HarnessError of one line."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, TesseraError) else f"{type(error).__name__}: "
        text = " ".join(str(error).split())[:LONGEST]
        raise HarnessError(f"cannot {verb} {name}: {kind}{text}") from error


def _check(decoded: Any, original: Image, name: str, lossless: bool) -> None:
    """The decoded image must be uint8 of the original's shape, and equal to it when the method is lossless."""
    if not isinstance(decoded, np.ndarray) or decoded.dtype != np.uint8:
        raise HarnessError(f"{name} was decoded as {getattr(decoded, 'dtype', type(decoded).__name__)}, not uint8.")
    if decoded.shape != original.shape:
        raise HarnessError(f"{name} was decoded with shape {decoded.shape} instead of {original.shape}.")
    if lossless and not np.array_equal(decoded, original):
        wrong = int(np.count_nonzero(decoded != original))
        raise HarnessError(f"the method says it is lossless, but {wrong} samples of {name} differ after decoding.")


def _quality(original: Image, decoded: Image) -> dict[str, float]:
    """All registered metrics that the image is large enough for."""
    from benchmarks.measure.metrics import compute

    return {name: float(value) for name, value in compute(original, decoded).items()}


class _Usage:
    """Counts of the codes used, per level, over all images; empty for a codec without codes."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec if isinstance(codec, HasCodes) else None
        self.sizes = [int(n) for n in self.codec.codebook_sizes] if self.codec else []
        self.counts = [np.zeros(n, np.int64) for n in self.sizes]

    def add(self, image: Image, name: str) -> None:
        with _blaming(name, "list the codes of"):
            levels = self.codec.codes(image) if self.codec else []
        if len(levels) != len(self.counts):
            raise HarnessError(
                f"{name} has codes on {len(levels)} levels, but {len(self.counts)} codebooks are declared."
            )
        for codes, counts in zip(levels, self.counts, strict=True):
            flat = np.asarray(codes).ravel()
            if flat.size and (flat.min() < 0 or flat.max() >= counts.size):
                raise HarnessError(f"{name} has codes outside [0, {counts.size}).")
            counts += np.bincount(flat, minlength=counts.size)

    def frame(self) -> pd.DataFrame | None:
        """Columns level, code, count; codes never used have no row (the sizes are in ``about``)."""
        if self.codec is None:
            return None
        rows = [(i, int(c), int(n[c])) for i, n in enumerate(self.counts) for c in np.flatnonzero(n)]
        return pd.DataFrame(rows, columns=["level", "code", "count"])


def _keep(store: Store, path: Path, image: Image) -> None:
    """Write a picture as lossless WebP unless it is there; pictures too large for the format are left out."""
    from core.images import as_rgb, open_image, save_image

    if max(image.shape[:2]) > WEBP_SIDE:
        return
    try:
        if path.is_file() and np.array_equal(as_rgb(open_image(path)), as_rgb(image)):
            return
        save_image(store.own(path), image)
    except TesseraError as error:
        raise StoreError(f"the picture cannot be kept: {error}") from error


def _progress(images: ImageSet, label: str, bar: bool) -> Iterator[NamedImage]:
    """The images, with a bar on a terminal and a line now and then without one."""
    shown = bar and sys.stderr.isatty()  # which it is not for one of several at work
    last = time.monotonic()
    for done, image in enumerate(tqdm(images.images, desc=label, unit="image", leave=False, disable=not shown)):
        if bar and not shown and time.monotonic() - last > LINE_S:
            last = time.monotonic()
            print(f"{label}: {done} of {len(images)} images", file=sys.stderr, flush=True)
        yield image
