"""Looks and names of methods in every figure, on paper and on the page: one colour, one marker and one name each.

Colours and markers of methods here, and names of published curves, are data (``looks.json``); a method's name is
its ``title``. What is in neither gets a colour and a marker by its own name, the same in every figure.
Variants of a method differ in their dashes; a published curve has the colour and marker of its method, lighter.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures.figure import COLORS, DASHES, MARKERS, Figure, Series, style_of
from core.registry import METHODS, discover

if TYPE_CHECKING:
    from benchmarks.curves.curve import Curve

LABEL = re.compile(r"(?P<name>[^(\[]+?)(?:\((?P<params>.*)\))?(?P<rest>(?: \[.*\])*)")
SUFFIX = "-paper"  # of names of published curves


@cache
def _known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("looks.json").read_text(encoding="utf-8"))
    return found


def base(method: str, source: str) -> str:
    """The method that a curve's colour and marker stand for: 'qres34m' for the published 'qres34m-paper'."""
    if source != "published":
        return method
    known = _known()["published"].get(method)
    return str(known[1]) if known else method.removesuffix(SUFFIX)


def color_and_marker(method: str, source: str = "measured") -> tuple[int, int]:
    """The numbers of a method's colour and marker, wherever it is drawn."""
    name = base(method, source)
    if name in (known := _known()["methods"]):
        color, marker = known[name]
        return color, marker
    number = zlib.crc32(name.encode())
    return number % COLORS, number // COLORS % MARKERS


def line_styles(lines: Sequence[tuple[str, str, str]]) -> list[int]:
    """A style for each (method, label, source): its colour and marker, and a dash that tells its variants apart.

    The variant whose label is the shortest has the first dash. Past the fourth of one look the marker changes, too.
    """
    order = sorted(range(len(lines)), key=lambda i: (len(lines[i][1]), i))
    seen: Counter[tuple[int, int, bool]] = Counter()
    styles = [0] * len(lines)
    for i in order:
        method, _, source = lines[i]
        color, marker = color_and_marker(method, source)
        count = seen[color, marker, source == "published"]
        seen[color, marker, source == "published"] += 1
        styles[i] = style_of(color, (marker + count // DASHES) % MARKERS, count % DASHES)
    return styles


def heading(title: str) -> str:
    """The title of a set of images as figures write it: 'Fashion-MNIST, first 1000 test' for 'fashion_mnist, ...'."""
    name = re.match(r"\w*", title)
    known: dict[str, str] = _known()["sets"]
    return known.get(name[0], name[0]) + title[name.end() :] if name else title


def shown(curve: Curve) -> str:
    """What figures call a curve: 'QRes 4M, MS-SSIM [ours]' for the label 'qres3m_vr(target=ms_ssim) [ours]'."""
    if curve.source == "published":
        known = _known()["published"].get(curve.label)
        return str(known[0]) if known else curve.label
    return readable(curve.label)


def readable(label: str) -> str:
    """The label of a measured curve with the method's title and its parameters in words."""
    discover()
    found = LABEL.fullmatch(label)
    method = METHODS.get(found["name"]) if found else None
    if not found or method is None or not method.title:
        return label
    words = [_words(pair) for pair in re.split(r", (?=\w+=)", found["params"] or "") if pair]
    return ", ".join((method.title, *words)) + found["rest"]


def _words(pair: str) -> str:
    from benchmarks.measure.metrics import METRICS

    name, _, value = pair.partition("=")
    said = name.replace("_", " ")
    if value in METRICS:
        return value.removesuffix("_db").replace("_", "-").upper()
    return {"True": said, "False": f"no {said}"}.get(value, f"{said} {value.replace('_', ' ')}")


def names(curves: Iterable[Curve]) -> dict[tuple[str, str], str]:
    """What figures call these curves, by (source, label); where two would have one name, both keep their labels."""
    found = {(c.source, c.label): shown(c) for c in curves}
    counts = Counter((source, name) for (source, _), name in found.items())
    return {key: name if counts[key[0], name] == 1 else key[1] for key, name in found.items()}


def applied(figure: Figure) -> Figure:
    """A stored figure with the looks and names of today, where its lines are of methods that are known.

    Lines of anything else keep their style.
    """
    named = [_method(s) if s.source != "bound" else "" for s in figure.series]
    mine = [(name, s.label, s.source) for name, s in zip(named, figure.series, strict=True) if name]
    styles = iter(line_styles(mine))
    series = (
        replace(s, style=next(styles), shown=s.shown or _called(s)) if name else s
        for name, s in zip(named, figure.series, strict=True)
    )
    return replace(figure, title=heading(figure.title), series=tuple(series))


def _method(series: Series) -> str:
    """The method of a stored line: a registered one, a published curve, or a known name that the label begins with."""
    if series.source == "published" and series.label in _known()["published"]:
        return series.label
    discover()
    found = LABEL.fullmatch(series.label)
    return found["name"] if found and found["name"] in METHODS else _first(series.label, _known()["methods"])


def _called(series: Series) -> str:
    known = _known()["published"].get(series.label) if series.source == "published" else None
    said = str(known[0]) if known else readable(series.label)
    return "" if said == series.label else said


def _first(label: str, known: Iterable[str]) -> str:
    """The longest known name that a label begins with, up to the end of a word."""
    fits = [n for n in known if label == n or label.startswith((f"{n} ", f"{n},", f"{n}("))]
    return max(fits, key=len, default="")
