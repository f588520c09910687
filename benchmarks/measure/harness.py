"""The measurement: every image through compress, bytes, decompress and the metrics, and one cell written at the end.

What the columns mean is written in ``docs/protocol.md``. A cell is all images of the set or nothing.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.measure import meter, single
from benchmarks.measure.provenance import provenance
from benchmarks.measure.single import HarnessError, measure_image, measure_rated
from benchmarks.store import Cell, CellResult, Store, StoreError
from benchmarks.store.store import now
from core.codec import Codec, HasCodes, HasRates, Image, Method, TesseraError

if TYPE_CHECKING:
    from benchmarks.datasets import ImageSet, NamedImage

LINE_S = 30  # without a terminal, a line of progress this often
WEBP_SIDE = 16383  # larger pictures do not fit the format

__all__ = [
    "HarnessError",
    "LeakError",
    "add_metrics",
    "describe",
    "keep_pictures",
    "lacks_metrics",
    "lacks_pictures",
    "measure",
    "measure_image",
    "provenance",
    "refuse_leaks",
]


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
    metrics: Sequence[str] = (),
) -> CellResult:
    """Measure ``codec`` on all images and write the cell; returns what was written.

    The cell's ``pictures`` become the fingerprint of the images; a cell that names others is refused.

    ``about`` comes from ``describe``; ``about["lossless"]`` demands bit-exact decoding. ``train_fingerprints`` and
    ``trained_on`` are the per-image fingerprints and data-set names of the training data (see ``refuse_leaks``).
    With ``keep_images`` originals and decoded pictures are kept for the report, unless the set is private.
    ``warm`` is what warms up, in the place of a codec that takes minutes. ``metrics`` come beside the default ones.
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
        single.round_trip(warm or codec, first.read(), first.name, cell.device)  # warm-up: caches, kernels, imports
    rows, usage, digests = [], _Usage(codec), []
    for image in _progress(images, cell.label, bar):
        data = image.data()
        digests.append((hashlib.sha256(data).hexdigest(), image.name))
        original = image.decode(data)
        measured = measure_image if cell.rate == "file" else partial(measure_rated, rate=cell.rate)
        measured = partial(measured, metrics=metrics)
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
    if programs := _programs(metrics):
        record["metrics"] = programs
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


def lacks_metrics(result: CellResult, names: Sequence[str]) -> list[str]:
    """Which of these metrics a stored cell could have and has not: none that its smallest image is too small for."""
    from benchmarks.measure.metrics import METRICS

    lacking = [name for name in names if name not in result.means]
    side = result.images[["height", "width"]].to_numpy().min() if lacking else 0
    return [name for name in lacking if METRICS[name].min_side <= side]


def add_metrics(
    result: CellResult,
    codec: Codec,
    images: ImageSet,
    store: Store,
    names: Sequence[str],
    provenance: Mapping[str, Any],
) -> CellResult:
    """Add metrics to a stored cell from pictures coded and decoded again; nothing that it has is measured again.

    Size and squared error of every picture must be those of the cell, else HarnessError names the first that differs
    and nothing is changed. The cell's provenance notes what was added, when and by what (``added``).
    """
    from benchmarks.measure.metrics import compute

    if images.fingerprint != result.pictures:
        raise HarnessError(f"the pictures of {images.title} here are not those of the cell: no metric can be added.")
    values: dict[str, list[float]] = {name: [] for name in names}
    kept = result.images.to_dict("records")
    for row, image in zip(kept, _progress(images, f"metrics of {result.label}", True), strict=True):
        original = image.read()
        size, decoded = _again(codec, original, result.cell.rate, image.name, result.cell.device)
        found = compute(original, decoded, ("mse", *names))
        if size != row["bytes"] or not math.isclose(found["mse"], row["mse"], rel_tol=1e-5):
            raise HarnessError(
                f"{image.name} has {size} bytes and MSE {found['mse']:.6g} when it is coded again, {row['bytes']:.0f} "
                f"and {row['mse']:.6g} in the cell: measure again with results= another folder."
            )
        for name in names:
            values[name].append(float(found[name]))
    return store.extend(result, values, {**provenance, "names": list(names), "metrics": _programs(names)})


def _again(codec: Codec, original: Image, rate: str, name: str, device: str) -> tuple[int, Image]:
    """The size of a stream, or of a rate that is none, in bytes, and the checked decoded image."""
    if rate == "file":
        stream, decoded, _, _ = single.round_trip(codec, original, name, device)
        size = len(stream)
    else:
        assert isinstance(codec, HasRates)
        with single.blaming(name, f"count the {rate} bits of"):
            bits, decoded = codec.rated(rate, original)
        size = math.ceil(bits / 8)
    single.check(decoded, original, name, False)
    return size, decoded


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


def _programs(metrics: Sequence[str]) -> dict[str, Any]:
    """Versions of what metrics were computed by, where it is not our own code."""
    from benchmarks.measure.perceptual import versions

    return versions(tuple(metrics))


class _Usage:
    """Counts of the codes used, per level, over all images; empty for a codec without codes."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec if isinstance(codec, HasCodes) else None
        self.sizes = [int(n) for n in self.codec.codebook_sizes] if self.codec else []
        self.counts = [np.zeros(n, np.int64) for n in self.sizes]

    def add(self, image: Image, name: str) -> None:
        with single.blaming(name, "list the codes of"):
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
