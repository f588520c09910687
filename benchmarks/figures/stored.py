"""Figures of what commands stored: pictures of QRes-VAE, codebook sizes of LL-VQ-VAE, and data of whole figures.

They are drawn by the report from ``<results>/qres_pictures``, ``<results>/llvq`` and ``<results>/figures/*.json``, as
all its figures are: from results alone, the same records giving the same bytes. A record that cannot be read is passed
over with a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.curves.curve import PUBLISHED
from benchmarks.figures import gallery, looks
from benchmarks.figures.figure import Axis, Figure, Series, from_data
from benchmarks.store.names import slug
from benchmarks.store.records import AGAIN, read_json
from core import places
from core.images import open_image

log = logging.getLogger("tessera.report")


def picture_figures(root: Path) -> list[Path]:
    """Draw every record of ``root``/qres_pictures into ``root``/figures as PDF and PNG; returns the paths."""
    paths = []
    for path in places.listed(root, "qres_pictures/*.json"):
        record = read_json(path, ("kind", "method", "title", "rows"))
        if record is None:
            continue
        files = [path.parent / one["file"] for row in record["rows"] for one in row["pictures"]]
        lost = [file.name for file in files if not file.is_file()]
        if lost:
            log.warning("%s has no picture %s: %s.", path, lost[0], AGAIN)
            continue
        parts = (path.read_bytes(), *(file.read_bytes() for file in files), Path(gallery.__file__).read_bytes())
        versions = "".join(version(name) for name in ("matplotlib", "pillow")).encode()
        digest = hashlib.sha256(b"\0".join((*parts, versions))).hexdigest()
        rows = [
            (row["name"], [(open_image(path.parent / one["file"]), one["caption"]) for one in row["pictures"]])
            for row in record["rows"]
        ]
        # Two records of one kind (other weights, another seed) keep apart by the hash in their own names.
        name = f"pictures_{slug(record['method'])}_{record['kind']}_{path.stem.rpartition('-')[2]}"
        paths += gallery.save_captioned(rows, root / "figures" / name, record["title"], digest)
    return paths


def data_figures(folder: Path, own: Collection[str]) -> list[Figure]:
    """Figures of which a command stored the data in a folder; not those of the names in ``own``."""
    found = []
    for path in sorted(folder.glob("*.json")):
        if path.stem in own or (data := read_json(path, ("name", "title", "kind", "series"))) is None:
            continue
        try:
            figure = from_data(data)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("%s has no data of a figure (%s: %s): %s.", path, type(error).__name__, error, AGAIN)
            continue
        if figure.name == path.stem:
            found.append(looks.applied(figure))
    return found


def codebook_size_figures(root: Path) -> list[Figure]:
    """Bars of effective codebook sizes, a figure per data set of ``root``/llvq: measured beside published.

    A data set with one bar has nothing to compare and no figure.
    """
    records = [record for path in places.listed(root, "llvq/*.json") if (record := _size(path)) is not None]
    entries = json.loads((PUBLISHED / "llvq.json").read_text(encoding="utf-8"))["codebook"]
    found = []
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        bars = list(_bars([r for r in records if r["dataset"] == dataset], entries))
        rows = {source: [i for i, bar in enumerate(bars) if bar[2] == source] for source in ("measured", "published")}
        series = tuple(
            Series(
                label=source,
                x=tuple(float(bars[i][1]) for i in mine),
                y=tuple(float(i) for i in mine),
                source=source,
                style=style,
                names=tuple(bars[i][0] for i in mine),
            )
            for style, (source, mine) in enumerate(rows.items())
            if mine
        )
        if len(bars) < 2:
            continue
        counted = dict.fromkeys(str(r["counted"]) for r in records if r["dataset"] == dataset)
        found.append(
            Figure(
                name=f"codebook_sizes_llvq_{slug(dataset)}",
                title=f"{looks.heading(dataset)}: effective codebook size of LL-VQ-VAE",
                x=Axis("distinct", "distinct vectors", log=True),
                y=Axis("quantizer", "quantiser"),
                series=series,
                kind="bar",
                notes=(f"measured: counted on {', '.join(counted)}",),
            )
        )
    return found


def _bars(records: list[dict[str, Any]], entries: list[Mapping[str, Any]]) -> Iterator[tuple[str, int, str]]:
    """Name, distinct vectors and source of each bar: a quantiser's measurements and then what was published."""
    dataset, order = records[0]["dataset"], [e["quantizer"] for e in entries if e["dataset"] == records[0]["dataset"]]
    for quantizer in dict.fromkeys([*order, *(r["quantizer"] for r in records)]):
        for r in (r for r in records if r["quantizer"] == quantizer):
            yield f"{quantizer}, of {r['vectors']:,}", int(r["distinct"]), "measured"
        for e in (e for e in entries if (e["dataset"], e["quantizer"]) == (dataset, quantizer)):
            said = "asserted" if e.get("asserted") else "published"
            yield f"{quantizer}, {said}, of {e['vectors']:,}", int(e["distinct"]), "published"


def _size(path: Path) -> dict[str, Any] | None:
    return read_json(path, ("dataset", "quantizer", "distinct", "vectors", "counted"))
