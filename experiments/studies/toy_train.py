"""Train one code on one toy source, say how good it is, and draw it: ``python -m vq train with method=vecvq ...``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.figures.toy import Partition, save_animation, save_partition
from core import places
from core.codec import TesseraError
from core.registry import unknown
from experiments.studies.toy import (
    Job,
    changed_options,
    changed_params,
    check_method,
    codebook,
    excess,
    known_bound,
    method_defaults,
    result,
    source_defaults,
    source_of,
    stem_of,
)
from vq.toy.codes import Codebook
from vq.toy.methods import TOY, make_toy
from vq.toy.sources import Source

# lambda (SSE) and codewords of the animations. The seed records them for the normal source at low rate alone
# (lambda 10 on the MSE, 7 codewords); the others are chosen to resemble its pictures. With 0, lambda
# decides how many codewords there are.
REGIMES: dict[str, dict[str, tuple[float, int]]] = {
    "normal2d": {"low": (5, 7), "medium": (9, 17), "high": (16, 0)},
    "banana": {"low": (1, 8), "medium": (8, 0), "high": (40, 0)},
    "laplace": {"low": (1, 9), "medium": (8, 0), "high": (64, 0)},
}
FRAMES = 64
GRID = {1: 1200, 2: 300}


def toy_train_config() -> None:
    """Options of training on a toy source (a Sacred config scope: each variable is one)."""
    method = "vecvq"  # ecvq, ecvq_random, vecvq, ntc, ecsq, vq
    source = "banana"
    source_params = source_defaults(source)
    regime = None  # low, medium or high rate: sets lambda and the number of codewords
    params = method_defaults(method)  # params.lmb=5, params.recipe=seed, params.k=7, ...
    seed = 0
    vectors = 1_000_000  # fresh test vectors
    gif = None  # true: an animation of the training
    results = places.default_results()


def train(config: Mapping[str, Any], run: Any) -> int:
    """Train, measure, store and draw; returns the exit code 0."""
    check_method(config["method"])
    source = source_of(config)
    job = Job(config["source"], changed_options(config), _method(config), config["seed"], config["vectors"])
    if job.vectors < 1:
        raise TesseraError(f"vectors={job.vectors} must be at least 1.")
    results, animated = Path(config["results"]), _yes(config["gif"])
    if animated and (source.dim > 2 or not source.box or job.method.name in ("ntc", "ecsq")):
        raise TesseraError(f"gif=true shows codebooks in 1 or 2 dimensions, not {job.method.name} on {source.name}.")
    frames: list[tuple[int, int, Codebook]] = []
    record = result(job, results, str(run._id or ""), (lambda *seen: frames.append(seen)) if animated else None)
    limit = known_bound(source, results)
    above = excess(record, limit)[0]
    print(
        f"{source.title}, {job.method.name} {job.method.curve}={job.method.point:g}: R {record['rate']:.4f} bits "
        f"(coded {record['coded_rate']:.4f}), D {record['distortion']:.5f}, {record['live']} codewords live"
        + (f", {above:.4f} bits above the bound" if above == above else "")
    )
    print(places.find(job.path(results), results))
    code = codebook(record)
    stem = results / "figures" / f"{stem_of(config)}_{config['regime'] or f'{job.method.point:g}'}"
    title = f"{source.title}, {job.method.title}"
    if code is not None and source.box and source.dim <= 2:
        for path in save_partition(partition(code, source), f"{title}: {record['rate']:.2f} bits", stem):
            print(path)
    if animated:
        print(save_animation(_frames(frames, source, title), stem.with_name(stem.name + ".gif")))
    return 0


COMMANDS = {"train": (toy_train_config, train, {"smoke": {"vectors": 10_000}})}


def _method(config: Mapping[str, Any]) -> Any:
    """The method with the settings of the regime, below those a user gave."""
    params, regime = changed_params(config), config["regime"]
    if regime is not None:
        known = REGIMES.get(config["source"])
        if known is None:
            raise TesseraError(f"regime={regime} is defined for {', '.join(REGIMES)}: set params.lmb instead.")
        if regime not in known:
            raise unknown("regime", str(regime), known)
        lmb, k = known[regime]
        names = TOY[config["method"]].__dataclass_fields__  # type: ignore[attr-defined]
        params = {name: v for name, v in {"lmb": lmb, "k": k}.items() if name in names} | params
        if config["method"] == "vecvq" and 0 < k < 10:  # few codewords find their places from anywhere
            params = {"codebook": "sample", "logits": "normal-0.1", "steps": 2400} | params
    return make_toy(config["method"], params)


def _yes(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise TesseraError(f"gif={value} must be true or false.")


def partition(code: Codebook, source: Source) -> Partition:
    """What a picture of a code on a source shows, over the source's box."""
    n = GRID[source.dim]
    axes = [torch.linspace(low, high, n, dtype=torch.float64) for low, high in source.box]
    # rows along the second dimension, as pictures have them
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1) if source.dim == 2 else axes[0][:, None]
    flat = grid.reshape(-1, source.dim)
    winner = code.quantize(flat.float())[:, 0].reshape(grid.shape[:-1]).astype(np.int64)
    return Partition(
        code.points.double().numpy(), code.probabilities.numpy(), tuple(a.numpy() for a in axes),
        _density(source, flat, n).reshape(winner.shape), winner,
    )  # fmt: skip


def _density(source: Source, flat: torch.Tensor, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The density on the grid, or a histogram of samples for a source without one."""
    if source.log_density is not None:
        return source.log_prob(flat).exp().numpy()
    bins = [np.linspace(low, high, n + 1) for low, high in source.box]
    counts, _ = np.histogramdd(source.sample(300_000, 0).numpy(), bins=bins)
    return counts.T


def _frames(seen: list[tuple[int, int, Codebook]], source: Source, title: str) -> list[tuple[Partition, str]]:
    """At most FRAMES of what was seen, the last one included."""
    every = max(1, -(-len(seen) // FRAMES))
    chosen = seen[::-1][::every][::-1]
    named = [(f"step {step} of {steps}", code) for step, steps, code in chosen[:-1]] + [("final", chosen[-1][2])]
    return [(partition(code, source), f"{title}: {text}") for text, code in named]
