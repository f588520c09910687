"""Damaged streams against a decoder: nothing but ``BitstreamError`` may come of them.

    python benchmarks/fuzz.py with method=qres3m_vr mutations=100000
    python benchmarks/fuzz.py with method=qres3m_vr mutations=100000 weights=PATH     # or weights=fresh: untrained ones
    python benchmarks/fuzz.py with methods=fsq,rvae_small,mcquic_small mutations=20000 side=16 signed=0.2
    python benchmarks/fuzz.py with method=jpeg mutations=2000

Streams of small parts of photographs are cut, flipped, overwritten, extended, spliced, emptied. A share of those in our
container is signed again (``signed``), so that the damage gets past its CRC32 to the entropy decoder. Allowed are
``BitstreamError`` (``DecodeMismatch`` is one), the undamaged picture, and, for formats without checksums, any picture.
Mutation k depends on (seed, k) alone; the outcome is written into ``<results>/fuzz/<method>.json`` as it goes, and the
same command resumes. The table ``<results>/tables/fuzz`` has all outcomes there. Exit code 1: there were problems.
"""

# ruff: noqa: F841  (Sacred reads the local variables of config scopes)
from __future__ import annotations

import json
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from benchmarks.measure.damage import Target, make_target, mutate
from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from benchmarks.store.cell import plain, variant_label
from benchmarks.store.names import slug
from benchmarks.tables.files import for_screen, to_files
from core import places
from core.codec import Method, TesseraError
from core.registry import make_method
from experiments.wiring import changed, default_params, experiment, guarded, run, sequence

SAVE_S = 10.0  # seconds between two writes of the outcome
KEPT = 20  # problems described in full
CAPTION = "Damaged streams and what the decoders made of them (signed again: the file's checksum was made right)"


def fuzz_config() -> None:
    """Options (a Sacred config scope)."""
    method = "qres3m_vr"  # whose decoder; params.NAME=VALUE sets its hyper-parameters
    methods = None  # several, one after the other (then without params)
    params = default_params(method)
    weights = "auto"  # auto, official, ours, a path, or fresh: untrained ones
    mutations = 100_000
    signed = 0.05  # share of mutations whose CRC32 is made right again; these decode in full
    side = 64  # of the largest part of a photograph, in pixels
    limit_s = 20.0  # seconds that one decode may take
    seed = 0
    results = places.default_results()


def attack(
    target: Target, config: Mapping[str, Any], identity: Mapping[str, Any], path: Path, known: Path | None = None
) -> dict[str, Any]:
    """Decode all mutations, resuming what ``known`` (default: ``path``) holds of the same ones; returns what was
    written to ``path``."""
    record = _begun(known or path, identity)
    told = saved = time.monotonic()
    bar = tqdm(total=config["mutations"], initial=record["done"], unit="stream", disable=not sys.stderr.isatty())
    while record["done"] < config["mutations"]:
        number = record["done"]
        _one(target, config, number, record)
        bar.update()
        record["done"] += 1
        now = time.monotonic()
        if now - saved > SAVE_S or record["done"] == config["mutations"]:
            record["seconds"] = round(record["seconds"] + now - saved, 1)
            saved = now
            records.write(path, record)
        if now - told > 3 * SAVE_S and bar.disable:
            told = now
            print(f"{record['done']} of {config['mutations']} mutations", flush=True)
    bar.close()
    return record


def _one(target: Target, config: Mapping[str, Any], number: int, record: dict[str, Any]) -> None:
    """Decode one mutation and count what came of it."""
    which = number % len(target.streams)
    mutation = mutate(target.streams, which, config["seed"], number, config["signed"])
    word, seconds, text = target.outcome(mutation, which)
    if word == "too slow":  # so is whatever a busy or suspended machine does: once more
        word, seconds, text = target.outcome(mutation, which)
    counts = record["counts"].setdefault(f"{mutation.kind}, signed" if mutation.signed else mutation.kind, {})
    counts[word] = counts.get(word, 0) + 1
    record["slowest_s"] = max(record["slowest_s"], round(seconds, 3))
    if not target.allows(word):
        record["problems"] += 1
        if len(record["described"]) < KEPT:
            record["described"].append({"mutation": number, "kind": mutation.kind, "outcome": word, "text": text})


def _begun(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run of the same mutations wrote, or a record of nothing."""
    try:
        known = json.loads(path.read_text())
        if all(known[name] == value for name, value in identity.items()):
            return dict(known)
    except (OSError, ValueError, KeyError):
        pass
    start = {"done": 0, "problems": 0, "counts": {}, "described": [], "seconds": 0.0, "slowest_s": 0.0}
    return {**identity, **start, "provenance": provenance()}


ex = experiment(__file__, "fuzz", fuzz_config, {"smoke": {"mutations": 200}})


@ex.main
@guarded
def fuzz(config: dict[str, Any], sacred_run: Any) -> int:
    """Mutate, decode, count, write the table of all outcomes."""
    params = changed(config["params"], config["method"])
    several = sequence(config["methods"])
    if several and params:
        raise TesseraError("params.NAME=... go with method=NAME, not with methods=...: run it by itself.")
    problems = sum(_fuzzed(make_method(str(name), params), params, config) for name in several or [config["method"]])
    frame = outcomes(config["results"])
    print(for_screen(frame, CAPTION))
    print(*to_files(frame, Path(config["results"]) / "tables" / "fuzz", CAPTION), sep="\n")
    return 1 if problems else 0


def _fuzzed(method: Method, params: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """The number of problems of one method's decoder."""
    target, weights = make_target(method, config["weights"], config["limit_s"], config["seed"], config["side"])
    identity = {
        "method": method.name,
        "variant": json.loads(json.dumps(method.variant)),
        "point": method.point,
        "checkpoint": weights,
        "streams": [len(stream) for stream in target.streams],
        "crc": [zlib.crc32(stream) for stream in target.streams],
        **{name: config[name] for name in ("seed", "signed", "limit_s", "mutations")},
    }
    label = slug(variant_label(method.name, plain(params), {}))
    path = Path(config["results"]) / "fuzz" / f"{label}.json"
    record = attack(target, config, identity, path, places.find(path, config["results"]))
    words = [f"{kind}: {', '.join(f'{n} {word}' for word, n in c.items())}" for kind, c in record["counts"].items()]
    print("\n".join(sorted(words)))
    print(f"{record['done']} mutations, {record['problems']} problems, slowest {record['slowest_s']} s: {path}")
    return int(record["problems"])


def outcomes(results: str | Path) -> pd.DataFrame:
    """A row per stored outcome: how many mutations, how many passed the checksum of the file, what came of them."""
    rows = []
    for path in places.listed(results, "fuzz/*.json"):
        record = records.read(path, ("method", "checkpoint", "done", "counts", "problems", "slowest_s")) or {}
        total: dict[str, int] = {}
        for counts in record["counts"].values():
            for word, n in counts.items():
                total[word] = total.get(word, 0) + n
        signed = sum(sum(c.values()) for kind, c in record["counts"].items() if kind.endswith(", signed"))
        rows.append(
            {"decoder": path.stem, "weights": record["checkpoint"] or "none", "mutations": record["done"],
             "signed again": signed, "refused": total.get("refused", 0), "mismatch": total.get("mismatch", 0),
             "same picture": total.get("same picture", 0), "problems": record["problems"],
             "slowest (s)": record["slowest_s"]}
        )  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    run(ex)
