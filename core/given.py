"""Weights given by path: which file is meant, what is known of it, and whether it is what the method asks for.

A path is a file, a run folder, or a folder of several: of run folders, or of published files under their own names. Of
a file one knows its ``meta.json``, or the manifest's entry with its checksum or its name.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.atomic import sha256
from core.codec import Method, MissingWeights, Point, TesseraError
from core.registry import METHODS, make_method

OWN = "weights.safetensors"  # in a run folder, beside its meta.json
KINDS = (".safetensors", ".pt", ".pth", ".ckpt", ".mcquic")
PLAIN = ("", "runs", "checkpoints")  # folders whose names say nothing
Entries = Sequence[Mapping[str, Any]]


class CheckpointError(TesseraError):
    """Weights that are there but cannot be used: damaged, of another model, or not what the manifest says."""


@dataclass(frozen=True)
class Weights:
    """Where weights are and what is known of them. ``id`` names them in cells; ``origin`` is official, ours or path.

    ``name`` tells weights given by path apart, and says whose those are that a method takes; ``verified`` says that the
    file has a checksum somebody vouches for.
    """

    path: Path
    id: str
    origin: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    verified: bool = True

    @property
    def legend(self) -> str:
        """What curves and tables say of the weights."""
        name = (self.name or self.id) if self.origin == "path" else ", ".join(filter(None, (self.origin, self.name)))
        return name if self.verified else f"{name}, not verified"


def find(path: Path, method: Method, entries: Entries, any_point: bool = False) -> Weights:
    """The weights at a path for a method at its point; with ``any_point`` not compared with either.

    Raises ``MissingWeights`` where there are none for the point, ``CheckpointError`` for those of something else.
    """
    if path.is_dir() and not (path / OWN).is_file():
        return _named(opened(_chosen(path, method, entries), entries), path, None)
    weights = opened(path / OWN if path.is_dir() else path, entries)
    if not any_point:
        compare(method, weights)
    point = weights.meta.get("point")
    if point is None or method.variable_rate:
        return weights
    place = weights.path.parent if weights.path.name == OWN else weights.path.with_suffix("")
    return _named(weights, place, point)


def points(path: Path, method: Method, entries: Entries) -> tuple[Point, ...]:
    """The points that the weights at a path are for, in the order of the method's; () when they say none."""
    if method.curve is None or method.variable_rate or not path.exists():
        return ()
    file = path / OWN if path.is_dir() else path
    found = {_known(file, entries).get("point")} if file.is_file() else set(_inside(path, method, entries))
    order = {point: i for i, point in enumerate(method.points)}
    return tuple(sorted((p for p in found if p is not None), key=lambda p: (order.get(p, len(order)), str(p))))


def opened(path: Path, entries: Entries, origin: str = "path") -> Weights:
    """A file of weights with what is known of it; ``CheckpointError`` when it is not what its description says.

    Raises ``MissingWeights`` where there is no file.
    """
    if not path.is_file():
        raise MissingWeights(f"no weights at {path}: give a run folder, a .safetensors or a .pt file.")
    digest, meta = sha256(path), _meta(path)
    if meta:
        if meta.get("sha256") != digest:
            raise CheckpointError(
                f"{path} is not what its meta.json describes (SHA-256 differs): fetch or train it again."
            )
        return Weights(path, meta.get("id") or f"{path.stem}-{digest[:8]}", origin, meta)
    entry = next((e for e in entries if e.get("sha256") and digest.startswith(e["sha256"])), None)
    known = entry if entry is not None else _entry_named(path, entries)
    if entry is None and known.get("sha256"):
        raise CheckpointError(
            f"{path} has the name of a published file and other contents (SHA-256 {digest[:12]}, "
            f"expected {known['sha256'][:12]}): fetch it again, or rename it."
        )
    return Weights(path, f"{path.stem}-{digest[:8]}", origin, dict(known), verified=entry is not None)


def compare(method: Method, weights: Weights) -> None:
    """Raise unless weights are of the method, with its parameters and at its point, as far as they say."""
    meta, name = weights.meta, weights.meta.get("method", method.name)
    if name in method.takes:
        _check_taken(method, name, meta)
        return
    if name != method.name:
        raise CheckpointError(f"{weights.path} holds weights of {name}, not of {method.name}: ask for method={name}.")
    if other := differences(method, meta):
        have, want = (", ".join(f"{k}={_shown(pair[i])}" for k, pair in other.items()) for i in (0, 1))
        ask = " ".join(f"params.{k}={_shown(pair[0])}" for k, pair in other.items())
        raise CheckpointError(f"{weights.path} holds {name} with {have}, not with {want}: ask for {ask}.")
    trained = meta.get("point")
    if trained is not None and not method.variable_rate and trained != method.point:
        raise MissingWeights(
            f"{weights.path} was trained for {method.curve}={trained}, not {method.point}: ask for points={trained}"
        )


def _check_taken(method: Method, name: str, meta: Mapping[str, Any]) -> None:
    """Raise unless weights of another method, which this one takes, are trained for the point."""
    other = METHODS[name]
    known = {k: v for k, v in meta.get("params", {}).items() if k in other.parameters()}
    if other.curve == method.curve:
        make_method(name, known).at(method.point).check_point()


def differences(method: Method, meta: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Parameters that bind weights and differ: (those of the weights, the method's own), by name.

    What a ``meta.json`` does not list has its default: the parameter is younger than the weights. Entries of the
    manifest list what matters to them.
    """
    if "params" not in meta:
        return {}
    stated, whole = meta["params"], "url" not in meta
    trained = {**(method.parameters() if whole else {}), **stated}
    asked = {k: v for k, v in method.variant.items() if k not in method.unbound and k in trained}
    return {k: (trained[k], v) for k, v in asked.items() if listed(trained[k]) != listed(v)}


def listed(value: Any) -> Any:
    """Tuples as JSON has them."""
    return list(value) if isinstance(value, tuple) else value


def read_json(path: Path) -> dict[str, Any]:
    """The names and values in a JSON file; ``CheckpointError`` for anything else."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): restore it or delete it.") from None
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path} holds no names and values: restore it or delete it.")
    return entries


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _meta(path: Path) -> dict[str, Any]:
    """The description beside a file of ours; empty for others."""
    beside = path.with_name("meta.json")
    return read_json(beside) if path.suffix == ".safetensors" and beside.exists() else {}


def _known(path: Path, entries: Entries) -> Mapping[str, Any]:
    """What is known of a file without reading it."""
    return _meta(path) or _entry_named(path, entries)


def _entry_named(path: Path, entries: Entries) -> Mapping[str, Any]:
    """The entry of the published file with this name; empty where there is none, or more than one."""
    urls = [e for e in entries if e.get("url")]
    same = [e for e in urls if path.name in (Path(e["url"]).name, f"{e['id']}{Path(e['url']).suffix}")]
    return same[0] if len(same) == 1 else {}


def _inside(folder: Path, method: Method, entries: Entries) -> dict[Any, list[Path]]:
    """The files in a folder of several that are of a method and its parameters, by their points."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in KINDS and p.is_file()]
    found = defaultdict(list)
    for path in [*files, *sorted(folder.glob(f"*/{OWN}"))]:
        known = _known(path, entries)
        if known.get("method") == method.name and not differences(method, known):
            found[known.get("point")].append(path)
    return found


def _chosen(folder: Path, method: Method, entries: Entries) -> Path:
    """The one file in a folder of several that is for a method at its point."""
    found = _inside(folder, method, entries)
    files = found.get(None if method.variable_rate else method.point, [])
    at = "" if method.curve is None or method.variable_rate else f" at {method.curve}={method.point}"
    if len(files) > 1:
        names = ", ".join(str(f.relative_to(folder)).removesuffix(f"/{OWN}") for f in files)
        raise CheckpointError(f"{folder} holds several weights of {method.name}{at} ({names}): give one of them.")
    if not files:
        there = ", ".join(str(p) for p in found)
        raise MissingWeights(
            f"no weights at {folder} of {method.name}{at}"
            + (f" (there are: {there})." if there else ": give a run folder, or files under their published names.")
        )
    return files[0]


def _named(weights: Weights, place: Path, point: Point | None) -> Weights:
    """The weights with the name of a folder or file, without the point: what is of one curve has one name."""
    name = place.name if point is None else _without(place.name, point)
    above = place.parent.name
    name = above if not name else name if above in PLAIN else f"{above}/{name}"
    return Weights(weights.path, weights.id, weights.origin, weights.meta, name, weights.verified)


def _without(name: str, point: Point) -> str:
    """A name without the point in it: as a word of its own, else behind the letters of one."""
    for before in (r"(?:^|(?<=[-_ ]))", r"(?<=[A-Za-z])"):
        cut, times = re.subn(rf"{before}{re.escape(str(point))}(?=$|[-_ ])", "", name, count=1)
        if times:
            return re.sub(r"[-_ ]{2,}", "-", cut).strip("-_ ")
    return name
