"""Do streams decode elsewhere? Every setting encodes, every setting decodes what every other one encoded.

    python benchmarks/cross_decode.py with method=qres34m                       # 12 crops of 256x256 of Kodak
    python benchmarks/cross_decode.py with method=qres34m dataset=kodak limit=24 crop=0 weights=PATH
    python benchmarks/cross_decode.py with method=qres34m devices=cpu,cuda      # and from a GPU to a CPU and back
    python benchmarks/cross_decode.py with smoke                                # two small crops

Settings: threads, oneDNN on or off, memory format, batch size, device. A decoded image is wrong when a value differs by
more than one grey level from what its encoder's own setting decodes (for a lossless method: when it is not the
original). Images go through in groups of four; each group's counts are stored in results/cross_decode, and the same
command goes on after the last one. The table goes to results/tables/cross_decode_<method and parameters>, with _whole
behind it for whole images and _<legend> for weights that are not ours.
"""

# ruff: noqa: F841 (Sacred reads the local variables of a config scope)

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.datasets import open_dataset
from benchmarks.measure.provenance import provenance
from benchmarks.measure.settings import Tally, groups, measure, settings
from benchmarks.store import records
from benchmarks.store.cell import variant_label
from benchmarks.store.names import slug
from benchmarks.tables.files import for_screen, to_files
from core import checkpoint, devices, places
from core.codec import Image
from core.registry import discover
from experiments.evaluate import say_refused
from experiments.wiring import changed, configured, default_params, experiment, guarded, run, sequence

NAMED = {"smoke": {"method": "qres3m_vr", "dataset": "sample", "limit": 2, "crop": 64, "threads": 1}}


def cross_decode_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"  # auto, official, ours, or a path
    dataset = "kodak"
    limit = 12  # only the first images
    crop = 256  # side of the square cut from the middle of each image; 0: whole images
    threads = 2  # runs with 1 and with so many
    devices = "cpu"  # cpu,cuda adds the GPU as encoder and as decoder
    results = places.default_results()
    data_root = None


ex = experiment(__file__, "cross_decode", cross_decode_config, NAMED)


def stored(
    config: dict[str, Any],
    what: dict[str, Any],
    images: list[Image],
    measured: Callable[[list[Image]], list[Tally]],
) -> list[Tally]:
    """The counts of a group, measured first when they are missing."""
    pixels = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
    facts = {**what, "images": pixels}
    path = Path(config["results"]) / "cross_decode" / f"{what['method']}_{records.digest(facts)[:16]}.json"
    if (known := records.read(places.find(path, config["results"]), ("settings", "provenance"))) is None:
        tallies = dict(zip(what["ways"], map(asdict, measured(images)), strict=True))
        known = {**facts, "settings": tallies, "provenance": provenance()}
        records.write(path, known)
    return [Tally(**known["settings"][way]) for way in what["ways"]]


def crops(config: dict[str, Any]) -> list[Image]:
    """The images, or a square from the middle of each."""
    out = []
    pictures = open_dataset(config["dataset"], config["limit"], config["data_root"])
    say_refused(pictures)
    for named in pictures:
        image, side = named.read(), config["crop"] or 2**30
        top, left = (max(n - side, 0) // 2 for n in image.shape[:2])
        out.append(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return sorted(out, key=lambda image: image.shape)  # a batch needs one size


@ex.main
@guarded
def cross_decode(config: dict[str, Any], sacred_run: Any) -> int:
    """Encode, decode, count, write the table."""
    discover()
    method = configured(config)
    own = {} if method.curve is None or method.point == config["params"][method.curve] else {method.curve: method.point}
    params = {**changed(config["params"], config["method"]), **own}
    weights = checkpoint.find(method, config["weights"])
    model = checkpoint.load(method, weights) if weights else None
    places = [devices.available(name) for name in sequence(config["devices"]) or ["cpu"]]
    ways = settings(places, sorted({1, config["threads"]}))
    images, totals = crops(config), [Tally() for _ in ways]
    what: dict[str, Any] = {"method": method.name, "params": {**config["params"], **own}}
    what |= {"weights": weights.id if weights else None, "ways": [str(way) for way in ways]}
    for group in groups(images):
        found = stored(config, what, group, lambda part: measure(method, model, part, ways))
        totals = [a + b for a, b in zip(totals, found, strict=True)]
    frame = pd.DataFrame([tally.row(str(way)) for way, tally in zip(ways, totals, strict=True)])
    shape = f"crops of {config['crop']}x{config['crop']}" if config["crop"] else "whole images"
    source = f", weights {weights.id}" if weights else ""
    label = variant_label(method.name, params, {})
    caption = f"Streams of {label} across settings: {len(images)} {shape} of {config['dataset']}{source}"
    origin = f"_{slug(weights.legend)}" if weights and weights.origin != "ours" else ""
    stem = f"cross_decode_{slug(label)}{'' if config['crop'] else '_whole'}{origin}"
    print(for_screen(frame, caption))
    for path in to_files(frame, Path(config["results"]) / "tables" / stem, caption):
        print(path)
    failures = int(frame["decoder: wrong"].sum() + frame["decoder: errors"].sum())
    return 1 if failures else 0


if __name__ == "__main__":
    run(ex)
