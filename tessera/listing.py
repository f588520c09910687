"""Lists of what there is: methods by family, data sets, metrics, published curves; what each is and what runs here.

    tessera list                          # all four
    tessera list methods                  # or datasets, metrics, curves
    tessera list methods json=True        # the same as data

Nothing is fetched, and no weights are read: a method runs here where its programs are and weights are shipped or
fetched for some of its points.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core import checkpoint, manual
from core.codec import Method
from core.commandline import options
from core.registry import METHODS, discover, unknown

Row = dict[str, Any]
DEFAULTS = {"json": "False"}  # as data
TOY = "vq, toy sources"


def main(words: Sequence[str]) -> int:
    """Print the lists that are asked for; raises ``TesseraError`` for unknown ones."""
    if any(word in manual.WORDS for word in words):
        print(manual.page(__doc__ or ""))
        return 0
    asked = [word for word in words if "=" not in word and word != "with"]
    given = options("tessera list", DEFAULTS, [word for word in words if "=" in word])
    for word in asked:
        if word not in LISTS:
            raise unknown("list", word, LISTS)
    found = {name: list(rows()) for name, rows in LISTS.items() if not asked or name in asked}
    if given["json"] == "True":
        print(json.dumps(found, indent=1, default=str))
    else:
        print("\n\n".join(TEXTS[name](rows) for name, rows in found.items()))
    return 0


def methods() -> Iterator[Row]:
    """Every method: name, family, what it is, points of its curve, weights, and why it does not run here ('': it does).

    What cannot be imported is among them, with the reason.
    """
    discover()
    entries = checkpoint.manifest()
    for name, cls in sorted(METHODS.items(), key=lambda pair: (_family(pair[1].__module__), pair[0])):
        weights, there = _weights(cls, [entry for entry in entries if entry["method"] == name])
        row = {"name": name, "family": _family(cls.__module__), "what": manual.first_line(cls.__doc__)}
        yield {**row, "points": list(cls.points), "weights": weights, "reason": _reason(cls, there)}
    for name, refusal in sorted(METHODS.refused.items()):
        family = _family(refusal.module)
        yield {"name": name, "family": family, "what": "", "points": [], "weights": "", "reason": str(refusal)}
    yield from _toy()


def _family(module: str) -> str:
    return "classical" if module.startswith("benchmarks.") else module.partition(".")[0]


def _weights(cls: type[Method], entries: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Where weights of a method come from, in words; and whether some are here."""
    if not cls.trains_on:
        return "none needed", True
    shipped = [e for e in entries if e.get("path") and (checkpoint.SHIPPED / e["path"]).exists()]
    official = [e for e in entries if e.get("url")]
    cached = [e for e in official if _cached(e).exists()]
    taken = [other for other in cls.takes if any(e["method"] == other and e.get("path") for e in checkpoint.manifest())]
    words = [f"shipped{_points(shipped)}"] if shipped else []
    words += [f"official, fetched{_points(cached)}"] if cached else []
    words += [f"official, to be fetched{_points(official)}"] if official and len(cached) < len(official) else []
    words += [f"takes those of {', '.join(taken)}"] if taken and not shipped else []
    return "; ".join(words) or "to be trained", bool(shipped or cached)


def _cached(entry: Mapping[str, Any]) -> Path:
    return checkpoint.cache_dir() / "weights" / f"{entry['id']}{Path(str(entry['url'])).suffix}"


def _points(entries: Sequence[Mapping[str, Any]]) -> str:
    points = list(dict.fromkeys(str(e["point"]) for e in entries if e.get("point") is not None))
    return f" ({', '.join(points)})" if points else ""


def _reason(cls: type[Method], there: bool) -> str:
    """Why a method does not run here as it is; '' where it does."""
    try:
        reason = cls().skip("sample")
    except Exception as error:  # of a plug-in: anything
        reason = str(error) or type(error).__name__
    return (reason or ("" if there else "no weights are here")).rstrip(".")


def _toy() -> Iterator[Row]:
    from vq.toy.methods import TOY as known

    for name, cls in known.items():
        row = {"name": name, "family": TOY, "what": manual.first_line(cls.__doc__), "points": []}
        yield {**row, "weights": "trained in seconds to minutes", "reason": ""}


def datasets() -> Iterator[Row]:
    """Every data set: the name to type, what it is, its splits with their number of images, and where it is here."""
    from benchmarks.datasets import DATASETS, data_roots

    for name, facts in sorted(DATASETS.items()):
        roots = [root / facts.folder for root in (*data_roots(), *facts.roots())]
        here = next((place for place in roots if place.is_dir() and any(os.scandir(place))), None)
        where = f"in {here}" if here else "" if facts.argument else "not here"
        yield {
            "name": f"{name}:{facts.argument}" if facts.argument else name,
            "what": manual.first_line(inspect.getdoc(inspect.getmodule(facts.find))),
            "splits": {split: s.count for split, s in facts.splits.items()},
            "here": "installed" if facts.embedded else where,
            "get": "" if facts.embedded or here or facts.argument else _get(name, bool(facts.downloads), facts.manual),
        }


def _get(name: str, fetched: bool, manual_steps: str) -> str:
    return f"python -m experiments.prepare with dataset={name}" if fetched else manual_steps


def metrics() -> Iterator[Row]:
    """Every metric: unit, whether higher or lower is better, the smallest side, and what it is."""
    from benchmarks.measure.metrics import METRICS

    for name, metric in METRICS.items():
        what = manual.first_line(metric.function.__doc__)
        yield {"name": name, "unit": metric.unit, "better": metric.better, "min_side": metric.min_side, "what": what}


def curves() -> Iterator[Row]:
    """Every published curve: its label, data set and reference."""
    folder = checkpoint.SHIPPED.parent / "results" / "published"
    for path in sorted(folder.glob("*.json")):
        for curve in json.loads(path.read_text(encoding="utf-8")).get("curves", []):
            where = {"dataset": curve["dataset"], "name": curve["name"], "metrics": sorted(curve["points"])}
            yield {**where, "what": curve.get("reference", ""), "file": path.name}


def _methods_text(rows: Sequence[Row]) -> str:
    parts = []
    for family in dict.fromkeys(row["family"] for row in rows):
        lines = []
        for row in (row for row in rows if row["family"] == family):
            runs = f"NOT HERE: {row['reason']}" if row["reason"] else ""
            needs = "" if row["weights"] in ("", "none needed") else f"weights {row['weights']}"
            lines.append((row["name"], "; ".join(filter(None, (row["what"], needs, runs)))))
        parts.append(f"methods, {family}:\n{manual.columns(lines)}")
    return "\n\n".join(parts)


def _datasets_text(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        splits = ", ".join(f"{split} {count or ''}".strip() for split, count in row["splits"].items())
        lines.append((row["name"], "; ".join(filter(None, (row["what"], splits, row["here"], row["get"])))))
    return f"data sets:\n{manual.columns(lines)}"


def _metrics_text(rows: Sequence[Row]) -> str:
    return "metrics:\n" + manual.columns(
        (r["name"], f"{r['what']}; {r['better']} is better{'; ' + r['unit'] if r['unit'] else ''}") for r in rows
    )


def _curves_text(rows: Sequence[Row]) -> str:
    sets = dict.fromkeys(row["dataset"] for row in rows)
    lines = [(s, ", ".join(sorted(row["name"] for row in rows if row["dataset"] == s))) for s in sets]
    return f"published curves, by data set:\n{manual.columns(lines)}"


LISTS: Mapping[str, Callable[[], Iterator[Row]]] = {
    "methods": methods,
    "datasets": datasets,
    "metrics": metrics,
    "curves": curves,
}
TEXTS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "methods": _methods_text,
    "datasets": _datasets_text,
    "metrics": _metrics_text,
    "curves": _curves_text,
}
