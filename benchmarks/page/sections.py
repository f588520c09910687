"""Sections of the page beside curves and cells: use of codebooks, toy sources, overheads, and all that commands stored.

A stored figure is the JSON that ``paper.render`` writes beside its PDF; a picture is a PNG or GIF without one; a table
is a CSV with its caption in the Markdown file beside it. Names decide the section, by the command that writes them.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.curves.curve import titles
from benchmarks.curves.usage import read_usages, usage_table
from benchmarks.figures import looks
from benchmarks.figures.figure import as_data, from_data, plain
from benchmarks.figures.usage import usage_figures
from benchmarks.store import CellResult, listing
from benchmarks.store.names import slug
from benchmarks.store.records import AGAIN, log, read_json
from core import places

SECTIONS = {
    "toy": ("toy_", "lattice_gap"),
    "overhead": ("rec_",),
    "speed": ("speed_",),
    "codebook": ("codebook_",),
    "pictures": ("pictures_",),
}
REST = "other"
METHOD_WORDS = {"vecvq": "VECVQ", "ecvq": "ECVQ", "ntc": "NTC", "vq": "VQ", "llvq": "LL-VQ-VAE"}


def usage_sections(cells: Iterable[CellResult]) -> list[dict[str, Any]]:
    """Use of codebooks by image set: the table of all cells with codes, and figures of what each checkpoint codes."""
    groups: dict[str, list[CellResult]] = defaultdict(list)
    listed = list(cells)
    known = titles(listed)
    for result in sorted(listed, key=lambda r: (r.label, r.cell.seed, float(r.means.get("bpp", 0.0)), r.key)):
        if result.about.get("codebook_sizes"):
            groups[known[result.key]].append(result)
    found = []
    for title, group in sorted(groups.items()):
        counted = read_usages(group)
        marks = [(r.cell.checkpoint or r.key, str(r.cell.point)) for r, _, _ in counted]
        first = {mark: i for i, mark in reversed(list(enumerate(marks)))}
        once = [counted[i] for i in sorted(first.values())]
        if counted:
            figures = [as_data(figure) for figure in usage_figures(once, title, title)]
            name, frame = f"codebook_{slug(title)}", usage_table(counted)
            rows = [[plain(v) for v in row] for row in frame.itertuples(index=False)]
            table = {"name": name, "caption": title, "columns": [str(c) for c in frame], "rows": rows}
            found.append({"title": title, "figures": figures, "table": table})
    return found


def stored(root: Path, folder: Path, own: Collection[str], parts: tuple[str, ...] = ()) -> dict[str, Any]:
    """What commands left in figures and tables of the results in ``root``, by section, without files of the names in
    ``own``, those that begin as ``parts`` do, and those that the report of the shipped results made.

    Links are relative to ``folder``, the page's own. A file that cannot be read is passed over with a warning.
    """
    found: dict[str, dict[str, list[Any]]] = {
        name: {"figures": [], "pictures": [], "tables": []} for name in (*SECTIONS, REST)
    }
    own = {*own, *_shipped_report(root)}
    names = [p for p in places.listed(root, "figures/*") if p.stem not in own and not p.stem.startswith(parts)]
    drawn, moving = ({p.stem for p in names if p.suffix == suffix} for suffix in (".json", ".gif"))
    for path in names:
        if path.suffix == ".json" and (figure := read_json(path)) is not None and "series" in figure:
            found[_section(path.stem)]["figures"].append(_today(figure))
        elif (
            path.suffix in (".png", ".gif")
            and path.stem not in drawn
            and not (
                path.suffix == ".png" and path.stem in moving  # a still beside its animation shows less
            )
        ):
            link = quote(Path(os.path.relpath(path, folder)).as_posix())
            found[_section(path.stem)]["pictures"].append(
                {"name": path.stem, "title": picture_title(root, path), "url": link}
            )
    for path in places.listed(root, "tables/*.csv"):
        if path.stem not in own and not path.stem.startswith(("bd_", *parts)) and (table := _table(path)) is not None:
            found[_section(path.stem)]["tables"].append(table)
    return found


def _shipped_report(root: Path) -> set[str]:
    """What the report of the shipped results made of fewer cells: this one has made its own."""
    return {
        Path(name).stem for shipped in places.roots(root)[1:] for name in listing.names(shipped / "report_files.json")
    }


def _today(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A stored figure with the looks of today; one that does not say enough stays as it is."""
    try:
        return as_data(looks.applied(from_data(figure)))
    except (KeyError, TypeError, ValueError):
        return dict(figure)


def picture_title(root: Path, path: Path) -> str:
    """What a menu calls a stored picture: the title of its record, or the words of its file name."""
    kept = places.listed(root, f"qres_pictures/*-{path.stem.rpartition('_')[2]}.json")
    for record in (read_json(record, ("kind", "title")) for record in kept):
        if record and f"_{record['kind']}_" in path.stem:
            return str(record["title"])
    first, *words = path.stem.split("_")
    rate = {"low": "low rate", "medium": "medium rate", "high": "high rate"}
    said = " ".join(
        rate.get(word, METHOD_WORDS.get(word, looks.readable(word)))
        for word in (words if first == "toy" else [first, *words])
    )
    return f"{said}: training as an animation" if path.suffix == ".gif" else said.replace(" pictures", ": pictures")


def _section(stem: str) -> str:
    return next((name for name, starts in SECTIONS.items() if stem.startswith(starts)), REST)


def _table(path: Path) -> dict[str, Any] | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        caption = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()[0].strip("*")
    except (OSError, ValueError, IndexError, csv.Error) as error:
        log.warning("%s cannot be read (%s): %s.", path, error, AGAIN)
        return None
    table = {"name": path.stem, "caption": caption, "columns": head, "rows": [[_value(v) for v in r] for r in rows]}
    record = path.parents[1] / "records" / f"{path.stem}.json"
    made = made_by((read_json(record, ("provenance",)) or {}).get("provenance", {})) if record.is_file() else {}
    facts = (made.get("started"), made.get("machine"), made.get("versions"), made.get("command"))
    said = "; ".join((f"commit {made['commit'][:11]}", *(str(fact) for fact in facts if fact))) if made else ""
    return {**table, "made": said}


def _value(text: str) -> Any:
    """A number where the text is one; what is empty is missing."""
    try:
        number = float(text)
    except ValueError:
        return text or None
    return int(text) if text.lstrip("-").isdigit() else plain(number)


def toy_cells(results: Path) -> dict[str, dict[str, Any]]:
    """Commit, command and numbers of every result on a toy source, as of cells, by its path below ``toy``."""
    found = {}
    for path in places.listed(results, "toy/*/*-s*.json"):
        record = read_json(path)
        if record is not None and isinstance(record.get("provenance"), Mapping):
            found[f"{path.parent.name}/{path.stem}"] = _toy_cell(record)
    return found


def _toy_cell(record: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {"bits per vector": record.get("rate"), "squared error": record.get("distortion")}
    return {
        "label": str(record.get("title") or record.get("method") or ""),
        "point": f"{record.get('curve', '')} {record.get('point', '')} seed {record.get('seed', '')}".strip(),
        "title": f"toy: {record.get('source', '')}",
        "checkpoint": "",
        "note": ", ".join(f"{v:.5g} {k}" for k, v in numbers.items() if isinstance(v, float)),
        "paper": "",
    } | made_by(record["provenance"])


def made_by(made: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of a result's provenance: commit, time, machine, versions and command."""
    versions, threads = made.get("versions") or {}, made.get("threads")
    counted = f"{int(threads):,} thread{'' if int(threads) == 1 else 's'}" if threads else ""
    machine = (str(made.get("cpu") or ""), str(made.get("gpu") or ""), counted)
    return {
        "commit": str(made.get("commit") or "unknown"),
        "dirty": bool(made.get("dirty")),
        "started": str(made.get("started") or ""),
        "wall_s": plain(made.get("wall_s", "")),
        "machine": ", ".join(filter(None, machine)),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        "command": str(made.get("command") or ""),
    }
