"""Weights on disk: safetensors beside a ``meta.json``, the manifest of what is shipped or published, and loading.

``find(method, weights)`` answers where the weights of a method at its point are::

    auto      official ones when they are cached or can be fetched, else ours if we ship them (a method's own, or those
              of another one that it takes: the legend says 'ours, of NAME')
    official  the authors' files, from the manifest: fetched, their SHA-256 verified (or recorded on first use)
    ours      the small ones in checkpoints/
    PATH      a run folder, a .safetensors file with its meta.json, an official .pt / .pth file, or a folder of such
              (see core.given)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from core import devices, fingerprints, first_use, foreign, given
from core.atomic import sha256, write_text, writing
from core.codec import Codec, Method, MissingWeights, Point, TesseraError
from core.download import DownloadError, Unreachable, fetch
from core.given import CheckpointError as CheckpointError
from core.given import Weights as Weights
from core.given import listed
from core.registry import METHODS

if TYPE_CHECKING:
    from torch import Tensor, nn

PLACES = ("auto", "official", "ours")
SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
State = Mapping[str, "Tensor"]
_unreachable: dict[str, Unreachable] = {}  # hosts that gave no connection to this process: waited for once
_offline = False


class NotFetched(MissingWeights):
    """Official weights that nobody has asked the network for."""


@contextmanager
def offline() -> Iterator[None]:
    """Look for weights without the network: official ones that are not in the cache are ``NotFetched``."""
    global _offline
    before, _offline = _offline, True
    try:
        yield
    finally:
        _offline = before


def save(folder: Path, model: nn.Module, meta: Mapping[str, Any], half: bool = False) -> Weights:
    """Write ``weights.safetensors`` and ``meta.json`` into ``folder`` (the latter last); returns what was written.

    ``half`` stores floats in float16, for shipping: half the bytes, relative error below 5e-4; tensors with values
    beyond its range stay as they are. Many fingerprints of training images go to a file of their own.
    """
    path = folder / "weights.safetensors"
    # Copies, because a file cannot hold one tensor under several names, as models may.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    if half:
        state = {name: _halved(value) for name, value in state.items()}
    _save_tensors(state, path)
    digest = sha256(path)
    full = {**meta, "id": f"{meta['method']}-{digest[:8]}", "sha256": digest, "bytes": path.stat().st_size}
    if "data" in meta:
        full["data"] = fingerprints.stored(meta["data"], folder)
    write_text(folder / "meta.json", json.dumps(full, indent=1, sort_keys=True) + "\n")
    return Weights(path, full["id"], "path", full)


def find(method: Method, weights: str = "auto", any_point: bool = False) -> Weights | None:
    """The weights of a method at its point; None for a method that needs none. Raises ``MissingWeights``.

    ``any_point`` takes a PATH also when it was trained as something else: a start for training.
    """
    if not method.trains_on:
        return None
    if not any_point:
        method.check_point()
    if weights not in PLACES:
        return given.find(Path(weights), method, manifest(), any_point)
    reason, kind, brief = "", MissingWeights, ""
    if weights in ("auto", "official"):
        try:
            return _official(method)
        except (MissingWeights, DownloadError) as error:
            reason, kind = str(error).rstrip("."), NotFetched if isinstance(error, NotFetched) else MissingWeights
            brief = _briefly(method, error)
    ours, other = (None, "") if weights == "official" else _ours(method, any_point)
    if ours is not None:
        return ours
    where = f"{method.name} at {method.curve}={method.point}" if method.curve else method.name
    family = type(method).__module__.partition(".")[0]
    point = f" params.{method.curve}={method.point}" if method.curve else ""
    lack = other or ("none are shipped" if weights != "official" else "")
    raise kind(
        f"there are no weights for {where}: "
        + "; ".join(filter(None, (lack, f"official ones: {reason}" if reason else "")))
        + f". Give weights=PATH, or train: python -m {family} train with method={method.name}{point}",
        "; ".join(filter(None, (lack, brief))),
    )


def _ours(method: Method, any_point: bool) -> tuple[Weights | None, str]:
    """The weights we ship for a method at its point, its own or ones that it takes; or None, and what there is."""
    other = ""
    if (entry := _entry(method, "ours")) is not None:
        found = given.opened(_shipped(entry), (), origin="ours")
        differences = {} if any_point else given.differences(method, found.meta)
        if not differences:
            return found, ""
        other = ", ".join(f"{name}={trained}, not {asked}" for name, (trained, asked) in differences.items())
        other = f"those shipped have {other}"
    if (entry := _taken(method)) is not None:
        found = replace(given.opened(_shipped(entry), (), origin="ours"), name=f"of {entry['method']}")
        try:
            given.compare(method, found)
        except TesseraError as error:
            return None, other or str(error).rstrip(".")
        return found, ""
    return None, other


def _taken(method: Method) -> dict[str, Any] | None:
    """The entry of weights we ship of another method that this one takes, made as that method is by default."""
    for entry in manifest():
        if entry["origin"] != "ours" or entry["method"] not in method.takes or not _shipped(entry).is_file():
            continue
        usual = METHODS[entry["method"]].parameters()
        if all(listed(usual.get(name)) == value for name, value in entry.get("params", {}).items()):
            return entry
    return None


def _briefly(method: Method, error: TesseraError) -> str:
    """Why there are no official weights, in few words."""
    entry = _entry(method, "official")
    if entry is None:
        return "no official ones are published for this point"
    if isinstance(error, NotFetched):
        return "official ones have not been fetched"
    if isinstance(error, Unreachable):
        return f"official ones cannot be fetched ({urlsplit(entry['url']).netloc} cannot be reached)"
    return f"official ones: {str(error).rstrip('.')}"


def official(name: str, points: Sequence[Point | None] | None = None) -> list[tuple[str, Path]]:
    """Address and place in the cache of the official weights of a method (at these points) that are not here."""
    entries = [e for e in manifest() if e["method"] == name and e["origin"] == "official"]
    wanted = [e for e in entries if points is None or e.get("point") in (None, *points)]
    return [(str(e["url"]), _cached(e)) for e in wanted if not _cached(e).exists()]


def fetch_official(name: str) -> Iterator[Weights]:
    """Fetch and verify every official file of weights of a method; raises MissingWeights where none is published."""
    entries = [e for e in manifest() if e["method"] == name and e["origin"] == "official"]
    if not entries:
        known = ", ".join(sorted({e["method"] for e in manifest() if e["origin"] == "official"}))
        raise MissingWeights(f"no official weights of {name} are published; there are some of {known}.")
    yield from map(_fetched, entries)


def points(method: Method, weights: str) -> tuple[Point, ...]:
    """The points that weights given by path are for; () when they serve all or do not say, and for names of places."""
    return () if weights in PLACES else given.points(Path(weights), method, manifest())


def load(method: Method, weights: Weights) -> nn.Module:
    """The method's model with these weights, in eval mode; every name and shape must match, every number be usable."""
    from core.finite import check_weights

    model: nn.Module = method.model()
    stored = read(weights.path)
    try:
        state = method.read_state(stored)
        check_weights(state, weights.path)
        model.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        )
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{weights.path} {foreign.sentence(method, model, stored)}") from error
    return model.eval()


def opened(method: Method, weights: str = "auto", device: object = "cpu") -> tuple[Codec, Weights | None]:
    """The codec of a method at its point, with its weights on a device; and what these are, None without any.

    Raises what ``find``, ``load`` and ``devices.available`` do.
    """
    name, found = devices.available(device), find(method, weights)
    return method.codec(None if found is None else load(method, found).to(name)), found


def read(path: Path) -> State:
    """The tensors in a safetensors file, or in an official pickle (``weights_only``; its model or state_dict)."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path} cannot be read as weights ({reason}): fetch it again.") from None
    except Exception as error:  # pickle errors, among them refused globals
        raise CheckpointError(f"{path} is not a plain dictionary of tensors ({type(error).__name__}).") from None
    for entry in ("model", "state_dict", "trainer", "_model"):  # where files of Lightning and of trainers keep it
        if isinstance(state, dict) and isinstance(state.get(entry), dict):
            state = state[entry]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path} is not a plain dictionary of tensors.")
    return state


def digest(model: nn.Module) -> bytes:
    """SHA-256 over names and values of a model's state: what a stream's fingerprint says of the checkpoint."""
    hasher = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        hasher.update(name.encode())
        hasher.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hasher.digest()


def seen(weights: Weights) -> frozenset[str]:
    """Fingerprints of the images that the weights were trained on, as far as their ``meta.json`` tells."""
    return fingerprints.read(weights.meta.get("data", {}), weights.path.parent)


def inherited(data: Mapping[str, Any], start: Weights | None) -> dict[str, Any]:
    """What ``meta.json`` says of training data, with what the weights it began with had seen already."""
    if start is None:
        return dict(data)
    before = seen(start)
    own = list(data.get("fingerprints", ()))
    if before:
        own = sorted({*before, *(d for d in own if d[: 2 * fingerprints.BYTES] not in before)})
    names = [*data.get("names", ()), *start.meta.get("data", {}).get("names", ())]
    return {**data, "names": list(dict.fromkeys(names)), "fingerprints": own}


def manifest() -> list[dict[str, Any]]:
    """The entries of checkpoints/manifest.json."""
    path = SHIPPED / "manifest.json"
    return list(json.loads(path.read_text())["checkpoints"]) if path.exists() else []


def cache_dir() -> Path:
    """Where fetched weights are kept: TESSERA_CACHE, else ~/.cache/tessera."""
    return Path(os.environ.get("TESSERA_CACHE") or Path.home() / ".cache" / "tessera")


def _save_tensors(state: dict[str, Tensor], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with writing(path, also=(SafetensorError,)) as part:
        save_file(state, part)


def _halved(value: Tensor) -> Tensor:
    import torch

    half = value.half() if value.is_floating_point() else value
    return half if not value.is_floating_point() or torch.equal(half.isfinite(), value.isfinite()) else value


def _entry(method: Method, origin: str) -> dict[str, Any] | None:
    """The manifest entry for a method at its point; one without a point, or without ``params``, serves them all."""
    for entry in manifest():
        same = entry["method"] == method.name and entry["origin"] == origin
        wanted = entry.get("params", {})
        same = same and all(listed(method.variant.get(name)) == value for name, value in wanted.items())
        if same and entry.get("point") in (None, method.point):
            return entry
    return None


def _shipped(entry: Mapping[str, Any]) -> Path:
    path: Path = SHIPPED / entry["path"]
    return path / given.OWN if path.is_dir() else path


def _official(method: Method) -> Weights:
    entry = _entry(method, "official")
    if entry is None:
        raise MissingWeights(f"none are published for this point (there are: {_points(method)})")
    return _fetched(entry)


def _cached(entry: Mapping[str, Any]) -> Path:
    return cache_dir() / "weights" / f"{entry['id']}{Path(entry['url']).suffix}"


def _fetched(entry: Mapping[str, Any]) -> Weights:
    """The official file of an entry of the manifest, from the cache or the network, verified."""
    path = _cached(entry)
    published, fetched = entry.get("sha256"), not path.exists()
    if fetched:
        _fetch(entry["url"], path, published or first_use.known(path.parent, entry["id"]))
        print(f"{entry['id']}: {entry['licence']}")
    found = sha256(path)
    if fetched and not published:
        first_use.note(path.parent, entry["id"], found)
    expected = published or first_use.known(path.parent, entry["id"]) or ""
    if not found.startswith(expected):
        raise CheckpointError(
            f"{path} is not the published file (SHA-256 {found[:12]}, expected {expected[:12]}): delete it."
        )
    meta = {**entry, "sha256": found}
    place, name = _converted(path, found), f"{entry['id']}-{found[:8]}"
    return Weights(place, name, "official", meta, verified=bool(published))


def _converted(path: Path, digest: str) -> Path:
    """The tensors of a verified official file as safetensors: written beside it once, so that it is unpickled once."""
    target = path.with_name(f"{path.stem}-{digest[:8]}.safetensors")
    if path.suffix != ".safetensors" and not target.exists():
        _save_tensors({name: value.contiguous().clone() for name, value in read(path).items()}, target)
    return path if path.suffix == ".safetensors" else target


def _fetch(url: str, path: Path, digest: str | None) -> None:
    if _offline:
        raise NotFetched(f"{url} has not been fetched")
    host = urlsplit(url).netloc
    if host in _unreachable:
        raise _unreachable[host]
    try:
        fetch(url, path, sha256=digest)
    except Unreachable as error:
        _unreachable[host] = error
        raise


def _points(method: Method) -> str:
    official = [e for e in manifest() if e["method"] == method.name and e["origin"] == "official"]
    return ", ".join(str(e.get("point") or "one for all") for e in official) or "none"
