"""Origin of a stream: the method, parameters and weights that the fingerprint in its header stands for.

A fingerprint is computed from weights, so weights have to be loaded to be compared: those that are shipped, that were
fetched, and that lie below ``runs/``. What is learned is kept in the cache folder (``fingerprints.json``), and so is
the origin of every stream that is made here, so that nothing is loaded twice for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core import atomic, bitstream, checkpoint
from core.codec import Codec, HasFingerprint, Method, TesseraError
from core.given import listed
from core.registry import discover, make_method

FIRST = "qres3m_vr"  # what streams are made with by default, so what is looked at first


@dataclass(frozen=True)
class Origin:
    """What made a stream: a method at its point, and the file or folder of its weights."""

    method: Method
    weights: str

    @property
    def params(self) -> dict[str, Any]:
        """All hyper-parameters, as options have them."""
        return {name: listed(value) for name, value in asdict(self.method).items()}  # type: ignore[call-overload]


def remember(codec: Codec, method: Method, weights: checkpoint.Weights | None) -> None:
    """Keep what the fingerprint of a codec stands for; a cache that cannot be written is none."""
    if weights is None or not isinstance(codec, HasFingerprint):
        return
    found = codec.fingerprint
    entry, stored = _entry(method, weights), _stored()
    if stored.get(found.hex()) != entry:
        try:
            atomic.write_text(_path(), json.dumps({**stored, found.hex(): entry}, indent=1, sort_keys=True) + "\n")
        except OSError:
            return


def _entry(method: Method, weights: checkpoint.Weights) -> dict[str, Any]:
    origin = Origin(method, str(weights.path.resolve()))
    return {"method": method.name, "params": origin.params, "weights": origin.weights, "id": weights.id}


def find(fingerprint: bytes) -> Origin:
    """The origin of streams with this fingerprint; ``TesseraError`` where no weights that are here have made them."""
    discover()
    known = _remembered(fingerprint)
    if known is not None:
        return known
    known_ones = list(_stored().values())
    for method, weights in _candidates():
        if _entry(method, weights) in known_ones:
            continue  # its fingerprint is another one
        try:
            codec = method.codec(checkpoint.load(method, weights))
        except TesseraError:
            continue
        remember(codec, method, weights)
        if isinstance(codec, HasFingerprint) and codec.fingerprint == fingerprint:
            return Origin(method, str(weights.path))
    raise TesseraError(
        f"nothing that is here made this stream (fingerprint {fingerprint.hex()}): shipped and fetched weights and "
        "those below runs/ were compared at their own parameters; say with what it was made, as in python -m FAMILY "
        "decompress with method=NAME params.NAME=VALUE weights=PATH input=FILE."
    )


def setting(origin: Origin, stream: bytes) -> str:
    """The point of the curve that a stream was made at, 'lmb=64'; '' where there is none."""
    method = origin.method
    point = method.stream_point(stream)
    return (
        "" if point is None else f"{method.curve}={point:g}" if isinstance(point, float) else f"{method.curve}={point}"
    )


def _remembered(fingerprint: bytes) -> Origin | None:
    entry = _stored().get(fingerprint.hex())
    if entry is None or not Path(entry["weights"]).is_file():
        return None
    try:
        return Origin(make_method(entry["method"], entry["params"]), entry["weights"])
    except TesseraError:
        return None


def _candidates() -> Iterator[tuple[Method, checkpoint.Weights]]:
    """Methods with the weights that are here, without the network, the likeliest first."""
    folders = [path.parent for root in (checkpoint.SHIPPED, Path("runs")) for path in sorted(root.glob("**/meta.json"))]
    described = [(_json(folder / "meta.json"), folder) for folder in folders]
    for meta, folder in sorted(described, key=lambda pair: (pair[0].get("method") != FIRST, pair[0].get("bytes", 0))):
        yield from _opened(meta, str(folder))
    for entry in checkpoint.manifest():
        if entry.get("url"):
            yield from _opened(entry, "official")


def _opened(meta: Mapping[str, Any], weights: str) -> Iterator[tuple[Method, checkpoint.Weights]]:
    """The methods that a description names, with its weights, where these are here and fit.

    Parameters that weights do not bind may have been the defaults, as is usual, or those of training.
    """
    methods: list[Method] = []
    try:
        base = make_method(meta["method"])
        stated = {k: v for k, v in meta.get("params", {}).items() if k in base.parameters()}
        for params in ({k: v for k, v in stated.items() if k not in base.unbound}, stated):
            method = make_method(meta["method"], params)
            methods.append(method if meta.get("point") is None else method.at(meta["point"]))
    except (TesseraError, KeyError):
        return
    for method in dict.fromkeys(methods):
        with suppress(TesseraError), checkpoint.offline():
            found = checkpoint.find(method, weights)
            if found is not None:
                yield method, found


def _path() -> Path:
    return checkpoint.cache_dir() / "fingerprints.json"


def _stored() -> dict[str, dict[str, Any]]:
    return _json(_path())


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def fingerprint_of(data: bytes) -> bytes:
    """The fingerprint in a stream of our container; ``BitstreamError`` for damaged and foreign ones."""
    return bitstream.unpack(data, None).fingerprint
