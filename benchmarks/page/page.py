"""The report page: one HTML file that works offline, drawn from the same figures as the paper.

The page carries its data as JSON, its style, its scripts and one copy of Plotly; it loads nothing from anywhere (its
content security policy forbids it) and only shows pictures that lie beside it in ``images`` of the results. All text
reaches the page as text nodes, never as HTML.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from benchmarks.curves.groups import PUBLISHED, Group, Pairs
from benchmarks.figures import choice, looks
from benchmarks.figures.comparisons import SPEEDS, images_figure, mean_seconds
from benchmarks.figures.figure import Figure, as_data, look, plain
from benchmarks.figures.rd import metric_axis, rd_figure, styles
from benchmarks.page.sections import made_by, stored, toy_cells, usage_sections
from benchmarks.store import CellResult, Store, StoreError
from core import atomic, places

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.curves.bd import BDResult
    from benchmarks.curves.curve import Curve

HERE = Path(__file__).resolve().parent
SCRIPTS = ("base.js", "chart.js", "bd.js", "panel.js", "images.js", "page.js")  # in the order they run
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
IMAGES = 60  # images of a data set that the page shows one by one
DOTS = 100  # images of a curve in the page's figure of all images: a browser draws each as an element


def page_data(
    groups: Sequence[Group],
    cells: Sequence[CellResult],
    lossless: pd.DataFrame,
    store: Store,
    metrics: Sequence[str],
    folder: Path,
    hidden: Iterable[str] = (),
    own: Collection[str] = (),
    leading: Sequence[str] = PUBLISHED,
) -> dict[str, Any]:
    """Everything the page shows, as JSON values; pictures are linked relative to ``folder``, the page's own.

    ``lossless`` is ``tables.lossless_table``; ``hidden`` are the labels of published curves that are off until
    the reader ticks them, ``leading`` those that may be drawn at first; ``own`` are the names of stored figures and
    tables that the page has already.
    """
    kept = pictures(store)
    usage = usage_sections(cells)
    parts = tuple(f"{one['table']['name']}{end}" for one in usage for end in "_-")  # of some methods alone
    columns = {"bpp": "bits per pixel"} | {m: metric_axis(m).text for m in metrics}
    return {
        "groups": [_group(g, metrics, store, kept, folder, leading) for g in groups],
        "cells": {c.key: _cell(c) for c in sorted(cells, key=_order)} | toy_cells(store.root),
        "lossless": _lossless(lossless),
        "metrics": list(metrics),
        "columns": columns,
        "hidden": [f"published:{label}" for label in hidden],
        "stats": _stats(groups, cells),
        "usage": usage,
        "stored": stored(store.root, folder, {*own, *(one["table"]["name"] for one in usage)}, parts),
    }


def write_page(data: Mapping[str, Any], folder: Path) -> Path:
    """Write ``index.html`` into the folder; the same data gives the same bytes. Raises StoreError."""
    style = (HERE / "page.css").read_text(encoding="utf-8")
    code = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{code}}})();'
    plotly = (HERE / "vendor" / "plotly-basic.min.js").read_text(encoding="utf-8")
    html = Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        policy=_policy(plotly, script), style=style, script=script, plotly=plotly, data=embed(data)
    )
    path = folder / "index.html"
    try:
        atomic.write_text(path, html)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another folder.") from error
    return path


def embed(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element: no character of it can end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def shown_cells(path: Path) -> set[str]:
    """The keys of the cells that a page shows; empty for a file that is no page."""
    found = DATA.search(path.read_text(encoding="utf-8", errors="replace"))
    try:
        cells = json.loads(found[1])["cells"] if found else {}
    except (ValueError, KeyError):
        return set()
    return {key for key in cells if "/" not in key}  # the others are results on toy sources


def pictures(store: Store) -> frozenset[Path]:
    """The pictures that were kept in the results folder."""
    return frozenset(places.listed(store.root, "images/**/*.webp"))


def _policy(*scripts: str) -> str:
    """A content security policy: these scripts and pictures on disk, and no connection to anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src 'self' file: data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _stats(groups: Sequence[Group], cells: Sequence[CellResult]) -> str:
    commits = sorted({str(c.provenance.get("commit", ""))[:10] for c in cells} - {""})
    methods, variants = {c.cell.method for c in cells}, {c.label for c in cells}
    parts = [
        _count(len(methods), "method") + (f" in {_count(len(variants), 'variant')}" if variants != methods else "")
    ]
    parts.append(_count(len(cells), "cell"))
    parts.append(_count(len({c.about.get("title", c.cell.dataset) for c in cells}), "data set"))
    if commits:
        parts.append(f"commit {commits[0]}" if len(commits) == 1 else _count(len(commits), "commit"))
    newest = max((str(c.provenance.get("started", "")) for c in cells), default="")
    parts += [f"measured up to {newest[:10]}"] if newest else []
    published = {curve.label for g in groups for curve in g.curves if curve.source == "published"}
    return ", ".join(parts) + (f"; {_count(len(published), 'published curve')}" if published else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _lossless(frame: pd.DataFrame) -> dict[str, Any]:
    columns = [str(c) for c in frame.columns if c not in ("method", "source", "note")]
    rows = [
        {
            "label": str(r["method"]),
            "name": looks.readable(str(r["method"])),
            "source": str(r["source"]),
            "note": str(r["note"]),
        }
        | {"values": [plain(r[c]) for c in columns]}
        for r in frame.to_dict("records")
    ]
    return {"columns": columns, "rows": rows}


def _group(
    group: Group, metrics: Sequence[str], store: Store, kept: frozenset[Path], folder: Path, leading: Sequence[str]
) -> dict[str, Any]:
    names = {label: name for (_, label), name in looks.names(group.curves).items()}
    return {
        "name": group.name,
        "title": looks.heading(group.title),
        "names": {label: name for label, name in names.items() if name != label},
        "chosen": {m: _chosen(group, m, leading) for m in metrics},
        "subset": group.subset,
        "note": group.note,
        "figures": {m: _figure(rd_figure(group.curves, m, name=group.name)) for m in metrics},
        "bd": {m: _pairs(pairs) for m, pairs in group.bd.items()},
        "series": _measured(group.curves),
        "scatter": {m: as_data(images_figure(group.curves, m, group.name, most=DOTS)) for m in metrics},
        "images": _images(group.curves, metrics, store, kept, folder),
    }


def _chosen(group: Group, metric: str, leading: Sequence[str]) -> list[str]:
    """The curves that are drawn until the reader ticks others, as on paper: source and label."""
    pairs = group.bd[metric]
    rates = {test: r.rate_percent for (anchor, test), r in pairs.results.items() if anchor == pairs.anchor}
    able = [c for c in group.curves if not c.lossless and metric in c.points]
    known = [c for c in able if c.source == "measured" or c.label in leading]
    picked = choice.chosen(known, rates | {pairs.anchor: 0.0}, leading)
    return [f"{c.source}:{c.label}" for c in picked]


def _figure(figure: Figure) -> dict[str, Any]:
    """The figure with the result rows behind its points."""
    data = as_data(figure)
    for shown, series in zip(data["series"], figure.series, strict=True):
        shown |= {"rows": series.rows, "x": series.x, "y": series.y}
    return data


def _measured(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """The measured curves with their cells, as the image view offers them; a lossless method is one of one point."""
    style, names = styles(curves), looks.names(curves)
    measured = [c for c in curves if c.source == "measured" and c.cells and c.images is not None]
    measured.sort(key=lambda c: c.lossless)
    return [
        {
            "label": c.label,
            "legend": names[c.source, c.label],
            "source": c.source,
            "look": look(style[f"{c.source}:{c.label}"]),
        }
        | {"reference": c.reference, "cells": list(c.cells), "lossless": c.lossless}
        | {column: _round5(mean_seconds(c, column)) for column in SPEEDS}
        for c in measured
    ]


def _pairs(pairs: Pairs) -> dict[str, Any]:
    index = {name: i for i, name in enumerate(pairs.names)}
    rows = [_pair(index[a], index[t], r) for (a, t), r in pairs.results.items() if a != t]
    return {"names": list(pairs.names), "rows": rows, "anchor": index.get(pairs.anchor, 0), "method": pairs.method}


def _pair(anchor: int, test: int, result: BDResult) -> list[Any]:
    """One row in the order of ``BD_COLUMNS`` of page/bd.js."""
    lo, hi = result.interval or (None, None)
    numbers = (result.rate_percent, result.psnr_db, result.low, result.high)
    counts = (result.points_anchor, result.points_test)
    rounded = [_round(v) for v in (*numbers, *counts, lo, hi)]
    return [anchor, test, *rounded, result.overlap, result.note]


def _round(value: Any) -> Any:
    value = plain(value)
    return round(value, 4) if isinstance(value, float) else None if value in ("inf", "-inf") else value


def _images(
    curves: Sequence[Curve], metrics: Sequence[str], store: Store, kept: frozenset[Path], folder: Path
) -> dict[str, Any]:
    """Names, numbers by cell and column (aligned with the names) and links to the pictures that were kept."""
    measured = [c for c in curves if c.images is not None and c.cells]
    every = list(dict.fromkeys(name for c in measured for name in c.images["image"]))  # type: ignore[index]
    names = every[:IMAGES]
    numbers, links, folders = {}, {}, {p.parent.name for p in kept}
    for curve in measured:
        for key, rows in _by_cell(curve):
            numbers[key] = _columns(rows, names, ("bpp", *metrics))
            if key in folders:
                links[key] = {n: _link(p, folder) for n in names if (p := store.picture(key, n)) in kept}
    for dataset, shown in dict.fromkeys((c.dataset, c.pictures) for c in measured):
        own, older = (
            {n: _link(p, folder) for n in names if (p := store.original(dataset, n, which)) in kept}
            for which in (shown, "")
        )
        if own or links:  # older ones belong to the decoded pictures that were kept beside them
            links["original"] = own or older
    return {
        "names": names,
        "total": len(every),
        "numbers": numbers,
        "pictures": {k: found for k, found in links.items() if found},
    }


def _by_cell(curve: Curve) -> Iterable[tuple[str, dict[str, list[Any]]]]:
    """The per-image columns of each of a curve's cells."""
    assert curve.images is not None
    keys = {str(point): key for point, key in zip(curve.points["point"], curve.cells, strict=True)}
    columns = {str(name): curve.images[name].tolist() for name in curve.images}
    points = [str(point) for point in columns["point"]]
    starts = [i for i, point in enumerate(points) if i == 0 or point != points[i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(points)], strict=True):  # rows of a point stand together
        if points[start] in keys:
            yield keys[points[start]], {name: values[start:stop] for name, values in columns.items()}


def _columns(rows: Mapping[str, list[Any]], names: Sequence[str], columns: Sequence[str]) -> dict[str, list[Any]]:
    placed = {name: i for i, name in enumerate(rows["image"])}
    found = {}
    for column in columns:
        if column in rows:
            values = rows[column]
            found[column] = [_round5(plain(values[placed[n]])) if n in placed else None for n in names]
    return {c: v for c, v in found.items() if any(x is not None for x in v)}


def _round5(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def _link(path: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def _order(result: CellResult) -> tuple[str, str, float, str]:
    return str(result.about.get("title", "")), result.label, float(result.means.get("bpp", 0.0)), result.key


def _cell(result: CellResult) -> dict[str, Any]:
    """What the provenance table and the hovers say of a cell."""
    cell, about = result.cell, result.about
    return {
        "label": result.label,
        "point": "" if cell.point is None else cell.point,
        "title": str(about.get("title") or cell.dataset),
        "checkpoint": " ".join(filter(None, (cell.checkpoint, str(about.get("legend") or "")))),
        "note": str(about.get("method_note") or ""),
        "paper": str(about.get("paper") or ""),
        "pictures": pictures_command(result),
        "means": {k: plain(v) for k, v in result.means.items()},
    } | made_by(result.provenance)


def pictures_command(result: CellResult) -> str:
    """The shell command that keeps a cell's pictures; '' where they must not be kept."""
    if result.about.get("private"):
        return ""
    cell = result.cell
    options: dict[str, Any] = {"method": cell.method, "dataset": cell.dataset}
    options |= {f"params.{name}": value for name, value in _changed(result)}
    usual = {"points": None, "limit": None, "device": "cpu", "seed": 0}
    chosen = {"points": cell.point, "limit": cell.limit, "device": cell.device, "seed": cell.seed}
    options |= {name: value for name, value in chosen.items() if value != usual[name]}
    words = " ".join(shlex.quote(f"{name}={value}") for name, value in options.items())
    return f"python benchmarks/rd_curve.py with {words} keep_images=True"


def _changed(result: CellResult) -> list[tuple[str, Any]]:
    defaults = result.about.get("defaults") or {}
    return [(k, v) for k, v in sorted(result.cell.variant.items()) if k not in defaults or defaults[k] != v]
