"""Codes on toy sources: train what is missing, keep every result, and make the rows that tables and figures show.

A result is one file, ``<results>/toy/<source>/<method>-<point>-s<seed>-<hash of the settings>.json``, that appears
whole or not at all; running a command again computes only what is not there.
"""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from benchmarks.store.names import slug
from core import places
from core.codec import TesseraError
from core.registry import unknown
from experiments.wiring import fail, sequence
from vq.toy.bounds import HIGH_RATE as HIGH_RATE
from vq.toy.bounds import NUMERICAL, Bound, bound
from vq.toy.codes import Codebook, ToyCode, evaluate
from vq.toy.methods import TOY, ToyMethod, Watch, make_toy
from vq.toy.sources import SOURCES, Source, make_source

FIELDS = ("rate", "distortion", "provenance")  # of every stored result


def toy_config() -> None:
    """Options of the toy benchmark (a Sacred config scope: each variable is one)."""
    source = "banana"  # laplace, normal, normal2d, normal2d_rho09, banana, banana_tfc, sphere, sawbridge, ...
    source_params = source_defaults(source)  # source_params.width=0.5 for the sphere
    method = None  # one method, with params.NAME=VALUE; or
    methods = None  # a list: ecvq,vecvq,ntc (default: all)
    params = method_defaults(method)
    points = None  # lambdas (numbers of codewords for vq); default: those of the source
    seeds = 3
    vectors = 1_000_000  # fresh test vectors
    pictures = True  # of density, partition and codewords
    results = places.default_results()


@dataclass(frozen=True)
class Job:
    """One training and its measurement."""

    source: str
    source_params: Mapping[str, Any]
    method: ToyMethod
    seed: int
    vectors: int

    def path(self, results: Path) -> Path:
        """Where its result lives."""
        identity = {
            "source": dict(self.source_params),
            "settings": self.method.variant,
            "vectors": self.vectors,
        }
        name = f"{self.method.name}-{self.method.point:g}-s{self.seed}-{records.digest(identity)[:8]}.json"
        return results / "toy" / self.source / name


def jobs(config: Mapping[str, Any]) -> list[Job]:
    """What a configuration asks for, the quick methods first; wrong names and values are refused in a sentence."""
    source = source_of(config)
    names = sequence(config["methods"]) or sequence(config["method"]) or list(TOY)
    params = changed_params(config)
    if params and len(names) > 1:
        raise TesseraError("params.NAME=VALUE go with method=NAME, one method.")
    for option in ("seeds", "vectors"):
        if config[option] < 1:
            raise TesseraError(f"{option}={config[option]} must be at least 1.")
    found = []
    for name in names:
        method = make_toy(name, params)
        usual = [params[method.curve]] if method.curve in params else method.points(source)
        for point in [_point(p, method) for p in sequence(config["points"]) or usual]:
            made = make_toy(name, {**params, method.curve: point})
            found += [
                Job(config["source"], changed_options(config), made, seed, config["vectors"])
                for seed in range(config["seeds"])
            ]
    return found


def _point(value: Any, method: ToyMethod) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0) or (method.curve == "k" and number != int(number)):
        raise TesseraError(f"points={value} of {method.name} must be positive numbers ({method.curve}).")
    return int(number) if method.curve == "k" else number


def result(job: Job, results: Path, sacred_run: str = "", watch: Watch | None = None) -> dict[str, Any]:
    """The stored result of a job, trained and measured first when it is missing (or when there is a ``watch``)."""
    path = job.path(results)
    if watch is None and (known := records.read(places.find(path, results), FIELDS)) is not None:
        return known
    source = make_source(job.source, job.source_params)
    torch.set_num_threads(1)
    origin, started, cpu = provenance(sacred_run=sacred_run), time.monotonic(), time.process_time()
    code = job.method.train(source, job.seed, watch)
    spent = time.process_time() - cpu
    outcome = evaluate(code, source, job.vectors)
    lmb = job.method.lmb_sse(source)
    record = {
        "source": job.source, "source_params": dict(job.source_params), "dim": source.dim,
        "method": job.method.name, "title": job.method.label, "curve": job.method.curve, "point": job.method.point,
        "settings": job.method.variant, "seed": job.seed, "lmb": lmb,
        **outcome.as_dict(),
        "loss": None if lmb is None else outcome.loss(lmb),
        "code": _stored(code),
        "train_cpu_s": round(spent, 2),
        "provenance": {**origin, "wall_s": round(time.monotonic() - started, 2)},
    }  # fmt: skip
    records.write(path, record)
    return record


def _stored(code: ToyCode) -> dict[str, Any] | None:
    """A codebook as JSON values, words that never occur left out; None for other codes."""
    if not isinstance(code, Codebook) or code.points.shape[1] > 8:
        return None
    return {
        "points": [[round(v, 6) for v in row] for row in code.points.tolist()],
        "probabilities": [float(f"{p:.6g}") for p in code.probabilities.tolist()],
        "lmb": None if math.isinf(code.lmb) else code.lmb,
    }


def codebook(record: Mapping[str, Any]) -> Codebook | None:
    """The codebook of a stored result."""
    stored = record["code"]
    if stored is None:
        return None
    p = torch.tensor(stored["probabilities"], dtype=torch.float64)
    lmb = math.inf if stored["lmb"] is None else stored["lmb"]
    return Codebook(torch.tensor(stored["points"]), p / p.sum(), lmb)


def known_bound(source: Source, results: Path) -> Bound | None:
    """The bound of a source; the numerical part, which takes seconds, is kept beside the results."""
    if source.name not in NUMERICAL:
        return bound(source)
    path = results / "toy" / source.name / "bound.json"
    try:
        stored = json.loads(places.find(path, results).read_text(encoding="utf-8"))
        return bound(source, tuple((float(d), float(r), float(s)) for d, r, s in stored["knots"]))
    except (OSError, ValueError, KeyError, TypeError):
        found = bound(source)
    if found is not None:
        records.write(path, {"kind": found.kind, "knots": found.knots})
    return found


def excess(record: Mapping[str, Any], limit: Bound | None) -> tuple[float, float]:
    """Bits above the bound: of the rate at equal distortion, and of R + lambda D (NaN without a lambda or bound)."""
    if limit is None:
        return math.nan, math.nan
    rate = record["rate"] - limit.rate(record["distortion"])
    return rate, math.nan if record["loss"] is None else record["loss"] - limit.lagrangian(record["lmb"])


def run_all(
    config: Mapping[str, Any], sacred_run: str = "", say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """The results of every job of a configuration, in order, with a line for each."""
    found, todo = [], jobs(config)
    results = Path(config["results"])
    for number, job in enumerate(todo, 1):
        new = records.read(places.find(job.path(results), results), FIELDS) is None
        record = result(job, results, sacred_run)
        if new:
            text = f"{job.source} {job.method.name} {job.method.curve}={job.method.point:g} seed {job.seed}"
            say(
                f"[{number}/{len(todo)}] {text}: {record['rate']:.4f} bits, D {record['distortion']:.5f}, "
                f"{record['live']} live"
            )
        found.append(record)
    return found


def summary(records: Sequence[Mapping[str, Any]], limit: Bound | None) -> list[dict[str, Any]]:
    """One row per method and point: means over seeds, with the standard deviation of what matters."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["method"], record["point"]), []).append(record)
    rows = []
    for (_, point), group in groups.items():
        pairs = [excess(record, limit) for record in group]
        rows.append({
            "method": group[0]["title"], "setting": f"{group[0]['curve']} {point:g}", "seeds": len(group),
            "R (bits)": _mean(r["rate"] for r in group), "D (SSE)": _mean(r["distortion"] for r in group),
            "coded (bits)": _mean(r["coded_rate"] for r in group), "entropy (bits)": _mean(r["entropy"] for r in group),
            "L": _mean(math.nan if r["loss"] is None else r["loss"] for r in group),
            "excess of L": _mean(b for _, b in pairs), "spread of L": _deviation([b for _, b in pairs]),
            "excess of R": _mean(a for a, _ in pairs), "spread of R": _deviation([a for a, _ in pairs]),
            "live": f"{round(_mean(r['live'] for r in group), 1):g}",
        })  # fmt: skip
    return rows


def _mean(values: Any) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation over seeds (n - 1); NaN for a single one."""
    if len(values) < 2:
        return math.nan
    mean = _mean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def source_of(config: Mapping[str, Any]) -> Source:
    """The source that a configuration names."""
    return make_source(config["source"], changed_options(config))


def stem_of(config: Mapping[str, Any]) -> str:
    """The stem of figures and tables: the source, and whatever is not the usual of its options, methods, parameters."""
    names = sequence(config.get("methods")) or sequence(config["method"]) or []
    said = [*(f"{k}{v}" for k, v in changed_options(config).items()), *map(str, names)]
    said += [f"{k}{v}" for k, v in sorted(changed_params(config).items())]
    return "_".join(["toy", slug(config["source"]), *map(slug, said)])


def method_defaults(name: str | None) -> dict[str, Any]:
    """Hyper-parameters of a method with their defaults, for config scopes; empty when there is no such method."""
    return TOY[name].parameters() if name is not None and name in TOY else {}


def source_defaults(name: str) -> dict[str, Any]:
    """Options of a source with their defaults, for config scopes; empty when there is no such source."""
    if name not in SOURCES:
        return {}
    return {key: p.default for key, p in inspect.signature(SOURCES[name]).parameters.items()}


def changed_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters that a user set to something else."""
    defaults = method_defaults(config["method"])
    return {k: v for k, v in config["params"].items() if k not in defaults or v != defaults[k]}


def changed_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the source that a user set to something else."""
    defaults = source_defaults(config["source"])
    return {k: v for k, v in config["source_params"].items() if k not in defaults or v != defaults[k]}


def refuse_unknown(words: Sequence[str]) -> None:
    """End with a sentence when a command line names a parameter or option that its method or source does not have.

    Sacred would end with a message of its own.
    """
    given = dict(word.split("=", 1) for word in words if "=" in word)
    try:
        for word in given:
            group, dot, name = word.partition(".")
            if dot and group == "params":
                method = given.get("method", "vecvq" if "train" in words else "")
                if not method:
                    raise TesseraError("params.NAME=VALUE go with method=NAME, one method.")
                check_parameter(method, name)
            elif dot and group == "source_params":
                check_option(given.get("source", "banana"), name)
    except TesseraError as error:
        fail(error)


def check_parameter(method: str, name: str) -> None:
    """Refuse a hyper-parameter that a method does not have."""
    check_method(method)
    if name not in method_defaults(method):
        raise unknown(f"parameter of {method}", name, method_defaults(method))


def check_option(source: str, name: str) -> None:
    """Refuse an option that a source does not have."""
    if source in SOURCES and name not in source_defaults(source):
        make_source(source, {name: None})


def check_method(name: str) -> None:
    """Refuse a method that is not one for toy sources."""
    if name not in TOY:
        raise unknown("method for toy sources", name, TOY)
