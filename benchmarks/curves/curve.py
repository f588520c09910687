"""Rate-distortion curves: from measured cells, and from other people's published numbers.

A curve never mixes rate kinds, devices, seeds, image sets or kinds of weights: each makes another curve.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.store import CellResult, Store, StoreError, rows
from core.codec import TesseraError
from core.registry import unknown

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
PER_IMAGE = ("image", "point", "bpp", "psnr", "ms_ssim", "ms_ssim_db")
ORIGINS = ("ours", "official", "given")  # what alone in brackets leaves a name plain
PLAIN = {"rate": "file", "device": "cpu", "seed": 0}  # what a label need not say


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a figure.

    ``points`` has a row per operating point, sorted by bpp: point, bpp and whichever of psnr, ms_ssim, ms_ssim_db, bpd,
    encode_s, ... there are (averages over images; 'nan' where a source has none). ``cells`` are the keys in the same
    order (empty for published curves). ``images`` has a row per image and point, or is None.
    ``reference`` is the citation or the checkpoints; ``subset`` says that the images are not the whole data set.
    ``pictures`` is the fingerprint of the images ('' where it is not known, as of published curves). ``macs`` are the
    multiplications per pixel that a publication gives, least and most over the points.
    """

    label: str
    method: str
    dataset: str
    title: str
    source: str  # 'measured', 'published', or 'given' by the user
    reference: str
    points: pd.DataFrame
    cells: tuple[str, ...] = ()
    images: pd.DataFrame | None = field(default=None, repr=False)
    subset: bool = False
    lossless: bool = False
    pictures: str = ""
    macs: tuple[float, float] | None = None


def pictures_differ(curves: Iterable[Curve]) -> str:
    """Why these curves cannot be compared: two of them were measured on different pictures. '' when none were."""
    known = [c for c in curves if c.source == "measured" and c.pictures]
    first, other = known[:1], [c for c in known if c.pictures != known[0].pictures][:1]
    if not other:
        return ""
    said = [f"{c.label} (of {c.title}, pictures {c.pictures[:6]})" for c in (*first, *other)]
    return f"{said[0]} and {said[1]} were measured on different pictures: measure both on the same ones."


def titles(cells: Iterable[CellResult]) -> dict[str, str]:
    """The title of each cell's set of images by key: where one title stands for several sets, the one measured last
    bears it, and the others say which pictures they are.
    """
    listed = list(cells)
    sets: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for result in sorted(listed, key=measured_at):
        mine = sets[_title(result)]
        mine[_set(result)] = mine.pop(_set(result), "")  # in order of the last measurement
    for title, mine in sets.items():
        for dataset, pictures in list(mine)[:-1]:
            elsewhere = any(p == pictures for d, p in mine if d != dataset)
            said = dataset if elsewhere else f"pictures {pictures[:6] or 'unknown'}"
            mine[dataset, pictures] = f"{title} ({said})"
        mine[list(mine)[-1]] = title
    return {result.key: sets[_title(result)][_set(result)] for result in listed}


def _set(result: CellResult) -> tuple[str, str]:
    return result.cell.dataset, result.pictures


def measured(
    store: Store,
    dataset: str | None = None,
    methods: Collection[str] | None = None,
    limit: int | EllipsisType | None = ...,
    pictures: str | None = None,
) -> list[Curve]:
    """The curves of the store's cells, sorted by data set, title and label.

    ``dataset`` and ``methods`` select; ``limit`` selects cells measured with that limit (None: without one),
    ``pictures`` those of that fingerprint. Of two cells of one point (made with different checkpoints) the one measured
    last is used.
    """
    wanted: dict[str, Any] = {} if dataset is None else {"dataset": dataset}
    wanted |= {} if methods is None else {"method": list(methods)}
    wanted |= {} if limit is ... else {"limit": limit}
    return of_cells(r for r in store.cells(**wanted) if pictures is None or r.pictures == pictures)


def of_cells(cells: Iterable[CellResult], by_title: bool = False) -> list[Curve]:
    """The curves of these cells, sorted by data set, title and label.

    Labels differ among all curves of a data set; with ``by_title`` only among those of one title, for figures and
    tables that say the title themselves.
    """
    groups: dict[str, list[CellResult]] = defaultdict(list)
    listed = list(cells)
    for result in listed:
        groups[_identity(result)].append(result)
    for key in [key for key, group in groups.items() if _mixed(group)]:
        for result in groups.pop(key):
            groups[f"{key} {result.cell.checkpoint}"].append(result)
    known = titles(listed)
    labels = _labels([group[0] for group in groups.values()], known if by_title else None)
    curves = [_curve(label, group, known) for label, group in zip(labels, groups.values(), strict=True)]
    return sorted(curves, key=lambda c: (c.dataset, c.title, c.label, c.cells))


def _identity(result: CellResult) -> str:
    """What all cells of one curve share: everything but the point and its checkpoint."""
    shared = asdict(result.cell)
    del shared["point"], shared["checkpoint"]
    about = {name: result.about.get(name, "") for name in ("legend", "title")}
    return json.dumps([shared | {"pictures": result.pictures}, about], sort_keys=True)


def _mixed(group: Sequence[CellResult]) -> bool:
    """Whether cells whose weights were given by path, and have no other name, are of several for one point."""
    points = {json.dumps(r.cell.point): r.cell.checkpoint for r in group}
    return group[0].about.get("legend") == "path" and any(
        points[json.dumps(r.cell.point)] != r.cell.checkpoint for r in group
    )


def _labels(firsts: Sequence[CellResult], titles: Mapping[str, str] | None = None) -> list[str]:
    """Labels that differ within a data set (or title): the variant, and whatever else tells two curves apart."""
    labels = [_label(result) for result in firsts]
    scopes = [(r.cell.dataset, titles[r.key] if titles else "") for r in firsts]
    for indices in _twins(labels, scopes):
        facts = [_facts(firsts[i]) for i in indices]
        names = [n for n in sorted({n for f in facts for n in f}) if len({str(f.get(n)) for f in facts}) > 1]
        if "title" in names:  # says the split, the data and the limit already
            names = [n for n in names if n not in ("split", "data", "limit")]
        for i, fact in zip(indices, facts, strict=True):
            whole = names == ["title"] and not firsts[i].about.get("subset")
            said = ", ".join(str(fact[n]) if n == "title" else f"{n} {fact[n]}" for n in names if n in fact)
            labels[i] += "" if whole or not said else f" [{said}]"
    for indices in _twins(labels, scopes):  # nothing that a reader knows tells them apart
        for i in indices:
            labels[i] += f" [cell {firsts[i].key[:6]}]"
    return labels


def _twins(labels: Sequence[str], scopes: Sequence[tuple[str, str]]) -> list[list[int]]:
    """The places of labels that stand more than once in their scope."""
    found: dict[tuple[str, tuple[str, str]], list[int]] = defaultdict(list)
    for i, key in enumerate(zip(labels, scopes, strict=True)):
        found[key].append(i)
    return [places for places in found.values() if len(places) > 1]


def _label(result: CellResult) -> str:
    said = [str(result.about["legend"])] if result.about.get("legend") else []
    said += [f"{k} {v}" for k in PLAIN if (v := getattr(result.cell, k)) != PLAIN[k]]
    return f"{result.label} [{', '.join(said)}]" if said else result.label


def _facts(result: CellResult) -> dict[str, Any]:
    """What can tell curves of one label apart (a default that changed between two runs, other images)."""
    data, cell = result.pictures[:6], result.cell
    weights = {"weights": cell.checkpoint} if result.about.get("legend") == "path" else {}
    return {"title": _title(result), "split": cell.split, "data": data, "limit": cell.limit, **weights, **cell.variant}


def _title(result: CellResult) -> str:
    return str(result.about.get("title", result.cell.dataset))


def _curve(label: str, group: Sequence[CellResult], titles: Mapping[str, str]) -> Curve:
    latest = {json.dumps(r.cell.point): r for r in sorted(group, key=measured_at)}
    chosen = sorted(latest.values(), key=lambda r: (r.means.get("bpp", math.nan), str(r.cell.point)))
    first, about = chosen[0], chosen[0].about
    dropped = len(group) - len(chosen)
    return Curve(
        label=label,
        method=first.cell.method,
        dataset=first.cell.dataset,
        title=titles[first.key],
        source="measured",
        reference=_reference(chosen) + (f" ({dropped} older cells left out)" if dropped else ""),
        points=pd.DataFrame([{"point": r.cell.point, **r.means} for r in chosen]),
        cells=tuple(r.key for r in chosen),
        images=_per_image(chosen),
        subset=bool(about.get("subset")),
        lossless=bool(about.get("lossless")),
        pictures=first.pictures,
    )


def measured_at(result: CellResult) -> tuple[str, str]:
    """What puts cells in the order of their measurement: the time, and the key for those of one second."""
    return str(result.provenance.get("started", "")), result.key


def _reference(results: Sequence[CellResult]) -> str:
    checkpoints = list(dict.fromkeys(r.cell.checkpoint for r in results if r.cell.checkpoint))
    return f"checkpoint {', '.join(checkpoints)}" if checkpoints else str(results[0].about.get("method_note", ""))


def _per_image(results: Sequence[CellResult]) -> pd.DataFrame:
    """One row per image and point with the columns of ``PER_IMAGE`` that any of the cells has."""
    wanted = [name for name in PER_IMAGE if name not in ("image", "point")]
    parts = [read_columns(result, wanted) for result in results]
    found: dict[str, list[Any]] = {"image": [name for part in parts for name in part["image"]], "point": []}
    for result, part in zip(results, parts, strict=True):
        found["point"] += [result.cell.point] * len(part["image"])
    for name in wanted:
        if any(name in part for part in parts):
            found[name] = [v for part in parts for v in part.get(name) or [math.nan] * len(part["image"])]
    return pd.DataFrame(found)


def read_columns(result: CellResult, names: Collection[str]) -> dict[str, list[Any]]:
    """Some columns of a cell's images, those that it has: texts of 'image' (always), numbers of the others.

    A data frame per file would take most of the time that a report needs. Raises StoreError for a damaged file.
    """
    path = result.folder / "images.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            head = next(lines)
            cells = [row for row in lines if row]
        texts = dict(zip(head, zip(*cells, strict=True), strict=True))
        images = list(texts["image"])

        def kept(name: str) -> NDArray[Any] | None:
            return np.array([float(v or "nan") for v in texts[name]]) if name in texts else None

        there = set(result.layout.columns or head) - {"image"}
        found = {n: rows.column(n, kept, result.layout, len(images)) for n in names if n in there}
    except (OSError, ValueError, KeyError, StopIteration, csv.Error) as error:
        raise StoreError(f"{path} cannot be read ({error}): remove the cell and measure again.") from None
    if lost := [name for name, values in found.items() if values is None]:
        raise StoreError(f"{path} cannot be read (no column {lost[0]}): remove the cell and measure again.")
    return {"image": images, **{name: values.tolist() for name, values in found.items() if values is not None}}


def published(dataset: str, names: Collection[str] | None = None, folder: Path = PUBLISHED) -> list[Curve]:
    """Published curves of a data set (all, or those named, in that order); an unknown name raises UnknownName.

    MS-SSIM in dB is that of the published mean MS-SSIM, which is lower than the mean over images of MS-SSIM in dB.
    """
    known = {entry["name"]: entry for entry in _documents(folder, "curves") if entry["dataset"] == dataset}
    for name in names or ():
        if name not in known:
            raise unknown(f"published curve of {dataset}", name, known)
    return [_published_curve(known[name]) for name in (known if names is None else names)]


def published_lossless(folder: Path = PUBLISHED) -> list[dict[str, Any]]:
    """Published bits per dimension: entries with name, title, kind, bpd (a mapping from data set) and source."""
    return _documents(folder, "lossless")


@cache
def _parsed(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document
    except (OSError, ValueError) as error:
        raise StoreError(f"the published numbers in {path} cannot be read ({error}): restore the file.") from error


def _documents(folder: Path, part: str) -> list[dict[str, Any]]:
    documents = [_parsed(path) for path in sorted(folder.glob("*.json"))]
    return [{**entry, "source": d["source"]} for d in documents for entry in d.get(part, [])]


def _published_curve(entry: Mapping[str, Any]) -> Curve:
    points = pd.DataFrame(entry["points"])
    points = points.astype({str(name): float for name in points if name != "point"})
    if "ms_ssim" in points and "ms_ssim_db" not in points:
        points["ms_ssim_db"] = -10 * np.log10(1 - points["ms_ssim"])
    return Curve(
        label=entry["name"],
        method=entry["name"],
        dataset=entry["dataset"],
        title=entry["title"],
        source="published",
        reference=f"{entry['reference']} {entry['source']}",
        points=points.sort_values("bpp", ignore_index=True),
        macs=(float(macs[0]), float(macs[1])) if (macs := entry.get("macs_per_pixel")) else None,
    )


def find(curves: Iterable[Curve], label: str) -> Curve:
    """The curve with that label, or with that bare name: 'qres3m_vr' for 'qres3m_vr [ours]'.

    UnknownName with the nearest labels when there is none, TesseraError where several have the name and none is plain.
    """
    known = {curve.label: curve for curve in curves}
    if label in known:
        return known[label]
    named = [name for name in known if name.partition(" [")[0] == label]
    plain = [name for name in named if name.removeprefix(f"{label} ").strip("[]") in ORIGINS]
    found = named if len(named) == 1 else plain
    if len(found) == 1:
        return known[found[0]]
    if named:
        raise TesseraError(f"several curves are called {label}: write one of {', '.join(named)}.")
    raise unknown("curve", label, known)


def listed(text: str) -> list[str]:
    """The words of ``a,b [ours, rate ideal],c``: commas in brackets do not divide."""
    return [word.strip() for word in re.split(r",(?![^\[(]*[\])])", text) if word.strip()]


def of_mean(curve: Curve) -> Curve:
    """The curve with MS-SSIM in dB recomputed from its mean MS-SSIM, as published curves have it."""
    if "ms_ssim" not in curve.points:
        raise TesseraError(f"the curve {curve.label} has no linear MS-SSIM to compare with published numbers.")
    db = -10 * np.log10(1 - curve.points["ms_ssim"].where(curve.points["ms_ssim"] < 1))
    return replace(curve, points=curve.points.assign(ms_ssim_db=db))
