"""The cost of a method's networks: parameters, and multiply-additions per pixel to encode and to decode.

Counted once per method and variant at a stated size, and kept in ``complexity`` of the results with provenance, so that
tables need no network. Points of a variant share the record: it says at which one it was counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.measure.provenance import provenance
from benchmarks.store import Store, records
from benchmarks.store.cell import plain
from benchmarks.store.names import slug
from core import places
from core.codec import Image, Method

if TYPE_CHECKING:
    from benchmarks.curves.curve import Curve

FOLDER = "complexity"  # of the results
COLUMNS = {
    "parameters (M)": ("parameters", 1e-6),
    "encode: kMAC/pixel": ("encode_kmac_per_pixel", 1.0),
    "decode: kMAC/pixel": ("decode_kmac_per_pixel", 1.0),
}
NEEDED = ("size", "provenance", *(name for name, _ in COLUMNS.values()))


def path(root: Path, method: str, variant: Mapping[str, Any]) -> Path:
    """Where the record of a method's variant is, below a results folder."""
    facts = {k: v for k, v in plain(dict(variant)).items() if k != "search"}
    return root / FOLDER / f"{slug(method)}-{records.digest({'method': method, 'variant': facts})[:8]}.json"


def count(method: Method, model: Any, image: Image) -> dict[str, Any]:
    """The record of a method with a network, at the size of ``image``, at most 256x256 of it."""
    from benchmarks.measure.speed import multiply_adds  # tables read records and need no entropy coder

    image = np.ascontiguousarray(image[:256, :256])
    encode, decode = multiply_adds(method, model, image)
    height, width, channels = image.shape
    pixels = height * width
    return {
        "method": method.name,
        "variant": plain(dict(method.variant)),
        "point": plain(method.point),
        "size": [height, width, channels],
        "parameters": sum(p.numel() for p in model.parameters()),
        "encode_kmac_per_pixel": encode / pixels / 1e3,
        "decode_kmac_per_pixel": decode / pixels / 1e3,
    }


def write(root: Path, record: Mapping[str, Any]) -> Path:
    """Keep a record with where it comes from; raises TesseraError where that is impossible."""
    place = path(root, record["method"], record["variant"])
    records.write(place, {**record, "provenance": provenance()})
    return place


def of_curve(store: Store, curve: Curve) -> dict[str, float]:
    """The columns of a measured curve's method; empty where nothing was counted."""
    if not curve.cells:
        return {}
    cell = store.read(curve.cells[0]).cell
    found = records.read(places.find(path(store.root, cell.method, cell.variant), store.root), NEEDED)
    return {column: scale * float(found[name]) for column, (name, scale) in COLUMNS.items()} if found else {}


def beside(frame: pd.DataFrame, store: Store, curves: Iterable[Curve]) -> pd.DataFrame:
    """A table of curves with the columns behind BD-rate, as far as any of its curves has been counted."""
    known = {curve.label: of_curve(store, curve) for curve in curves}
    if frame.empty or not any(known.get(label) for label in frame["curve"]):
        return frame
    frame, place = frame.copy(), list(frame).index("BD-rate (%)") + 1
    for i, column in enumerate(COLUMNS):
        frame.insert(place + i, column, [known.get(label, {}).get(column, "") for label in frame["curve"]])
    return frame
