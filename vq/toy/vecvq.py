"""VECVQ: a codebook and its prior trained together by plain gradient descent through the hard minimum.

    p = softmax(logits)      i(x) = argmin_i -log2 p_i + lambda d(x, c_i)      loss = mean of that minimum

No relaxation, no temperature, no straight-through estimator: the winning codeword alone gets a gradient of the
distortion, every logit gets p minus its indicator. ``docs/methods/vecvq.md`` has the published schedules and what ours
changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from core.registry import Registry, unknown
from core.train import Step
from vq.toy.codes import Codebook, CodeError, nearest
from vq.toy.ecvq import lattice_start, lloyd, merged, start_size, with_frequencies
from vq.toy.sources import LN2, Source

Watch = Callable[[int, int, Codebook], None]  # called with the step, the number of steps, and the code
DISTORTIONS = ("sse", "mse")


class VECVQ(nn.Module):
    """Parameters ``codebook`` (K, d) and ``_logits`` (K,); ``lmb`` weighs the distortion, SSE or its mean over d."""

    def __init__(self, codebook: Tensor, logits: Tensor, lmb: float, distortion: str = "sse") -> None:
        super().__init__()
        if codebook.ndim != 2 or logits.shape != codebook.shape[:1] or len(codebook) < 2:
            raise CodeError(
                f"VECVQ needs codewords (K, d) and K logits, K at least 2, not {tuple(codebook.shape)} and "
                f"{tuple(logits.shape)}."
            )
        if distortion not in DISTORTIONS:
            raise unknown("distortion", distortion, DISTORTIONS)
        if not (math.isfinite(lmb) and lmb > 0):
            raise CodeError(f"lmb={lmb} must be positive and finite.")
        self.codebook = nn.Parameter(codebook.detach().clone())
        self._logits = nn.Parameter(logits.detach().clone())
        self.lmb, self.distortion = lmb, distortion

    @property
    def costs(self) -> Tensor:
        """-log2 of the prior, (K,)."""
        return torch.log_softmax(self._logits, 0) / -LN2

    @property
    def lmb_sse(self) -> float:
        """Lambda in front of the squared error summed over dimensions."""
        return self.lmb / (self.codebook.shape[1] if self.distortion == "mse" else 1)

    def forward(self, x: Tensor) -> Step:
        """Loss in bits per vector, rate in bits, distortion in its own measure, and the indices, for vectors (n, d)."""
        costs = self.costs
        with torch.no_grad():
            index, _ = nearest(x, self.codebook, costs, self.lmb_sse)
        rate = costs[index].mean()
        error = (x - self.codebook[index]).square().sum(1).mean()
        loss = rate + self.lmb_sse * error
        return Step(loss, rate, error * (self.lmb_sse / self.lmb), (index,))

    @torch.no_grad()
    def code(self) -> Codebook:
        """The trained code, with the prior of the logits."""
        p = torch.softmax(self._logits.double(), 0)
        return Codebook(self.codebook.detach().clone(), p, self.lmb_sse)


@dataclass(frozen=True)
class Recipe:
    """How to start and train. ``codebook``: sample, sample-STD (noise added), uniform-WIDTH, lattice, or
    merged (samples whose cells are merged while that pays).

    ``logits``: normal-STD, or frequencies (of the start's cells). ``schedule``: plateau (a tenth of the rate when
    the validation loss rests, best epoch kept), stairs (x 1, .1, .01, .001 from 0, 1/2, 3/4, 7/8), or cosine. ``pool``
    vectors are drawn once and visited epoch by epoch; 0 draws fresh ones at every step.
    """

    codebook: str
    logits: str
    schedule: str
    steps: int
    batch: int
    lr: float
    lr_logits: float
    pool: int = 0
    k: int = 0  # codewords; 0: as ``default_size`` says


RECIPES: Registry[Recipe] = Registry("recipe of vecvq")
# 100 epochs over 1e6 vectors in batches of 250, validated on 1e5; stops early
RECIPES.register("seed")(Recipe("sample", "normal-1", "plateau", 400_000, 250, 1e-3, 1e-3, pool=1_000_000))
RECIPES.register("tfc")(Recipe("sample", "normal-0.1", "stairs", 100_000, 1024, 1e-3, 1e-3))
RECIPES.register("ours")(Recipe("lattice", "frequencies", "cosine", 3000, 1024, 2e-2, 2e-2))


def initial(recipe: Recipe, source: Source, lmb_sse: float, k: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Codewords (K, d) and logits (K,) to start from; a lattice decides K itself unless ``k`` is given (the likeliest
    are kept then, and missing ones are samples)."""
    kind, _, argument = recipe.codebook.partition("-")
    spread = _number(argument, 0.0, f"codebook={recipe.codebook}")
    size = k or recipe.k or default_size(lmb_sse, source.dim)
    if kind == "sample":
        points = source.sample(size, rng)
        points = points + spread * torch.from_numpy(rng.standard_normal(points.shape)).float()
    elif kind == "uniform":
        points = torch.from_numpy((rng.random((size, source.dim)) - 0.5) * spread).float()
    elif kind == "merged":
        x = source.sample(max(2048, 2**20 // source.dim), rng)
        points = merged(lloyd(x, with_frequencies(x, x[:size], lmb_sse), 5)[0]).points
    elif kind == "lattice":
        points = _lattice(source, lmb_sse, k, rng)
    else:
        raise unknown("codebook start", recipe.codebook, ("sample", "sample-STD", "uniform-WIDTH", "lattice", "merged"))
    return points, _logits(recipe.logits, points, source, rng)


def _lattice(source: Source, lmb_sse: float, k: int, rng: np.random.Generator) -> Tensor:
    x = source.sample(2**16, rng)
    code = with_frequencies(x, lattice_start(x, lmb_sse, rng), lmb_sse)
    if not k:
        return code.points
    likeliest = code.points[code.probabilities.argsort(descending=True)[:k]]
    return torch.cat((likeliest, x[: k - len(likeliest)]))


def _logits(text: str, points: Tensor, source: Source, rng: np.random.Generator) -> Tensor:
    kind, _, argument = text.partition("-")
    if kind == "normal":
        return torch.from_numpy(rng.standard_normal(len(points))).float() * _number(argument, 1.0, f"logits={text}")
    if kind != "frequencies":
        raise unknown("start of the logits", text, ("normal-STD", "frequencies"))
    x = source.sample(2**16, rng)
    index, _ = nearest(x, points, torch.zeros(len(points)), 1.0)
    return (torch.bincount(index, minlength=len(points)).float() + 0.5).log()


def _number(text: str, default: float, option: str) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        raise CodeError(f"{option} must end in a number, such as sample-0.1.") from None


def default_size(lmb_sse: float, dim: int) -> int:
    """Codewords unless told: about twice as many as live in the end."""
    if dim > 2:
        return start_size(lmb_sse, dim)
    return max(16, round(12 * math.sqrt(lmb_sse))) if dim == 1 else max(24, round(50 * math.sqrt(lmb_sse)))


def train_vecvq(
    source: Source, lmb: float, seed: int, recipe: Recipe, k: int = 0, distortion: str = "sse",
    watch: Watch | None = None,
) -> VECVQ:  # fmt: skip
    """Train on a source; ``watch`` sees the code at the start and then about 60 times."""
    if k and k < 2:
        raise CodeError(f"k={k} codewords are too few: at least 2.")
    if recipe.steps < 1 or recipe.batch < 1:
        raise CodeError(f"steps={recipe.steps} and batch={recipe.batch} must be at least 1.")
    rng = np.random.default_rng([seed, 1])
    lmb_sse = lmb / (source.dim if distortion == "mse" else 1)
    model = VECVQ(*initial(recipe, source, lmb_sse, k, rng), lmb, distortion)
    if watch is not None:
        watch(0, recipe.steps, model.code())
    if recipe.schedule == "plateau":
        return _plateau(model, source, recipe, rng, watch)
    optimizer = _adam(model, recipe)
    every = max(1, recipe.steps // 60)
    for step, x in enumerate(_batches(source, recipe, rng)):
        for group in optimizer.param_groups:
            group["lr"] = group["initial"] * rate(recipe.schedule, step / recipe.steps)
        _descend(model, optimizer, x)
        if watch is not None and (step + 1) % every == 0:
            watch(step + 1, recipe.steps, model.code())
    return model


def rate(schedule: str, done: float) -> float:
    """The factor of the learning rate when a share ``done`` of the training is over."""
    if schedule == "cosine":
        return 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * done)) / 2
    if schedule != "stairs":
        raise unknown("schedule", schedule, ("plateau", "stairs", "cosine"))
    return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01 if done < 0.875 else 0.001


def _adam(model: VECVQ, recipe: Recipe) -> torch.optim.Adam:
    # A codeword moves on the scale of the cells' side, which falls with the root of lambda.
    scale = 1 / math.sqrt(max(1.0, model.lmb_sse)) if recipe.schedule == "cosine" else 1.0
    rates = (recipe.lr * scale, recipe.lr_logits)
    groups = [{"params": [p], "lr": r, "initial": r} for p, r in zip(model.parameters(), rates, strict=True)]
    return torch.optim.Adam(groups, fused=True)


def _descend(model: VECVQ, optimizer: torch.optim.Adam, x: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    model(x).loss.backward()
    optimizer.step()


def _batches(source: Source, recipe: Recipe, rng: np.random.Generator) -> Iterator[Tensor]:
    """One batch (batch, d) per step: fresh vectors, or a shuffled pool epoch by epoch."""
    size, left = recipe.batch, recipe.steps
    if recipe.pool < size:
        while left > 0:
            block = min(left, max(1, 2**16 // size))
            yield from source.sample(block * size, rng).split(size)
            left -= block
        return
    pool = source.sample(recipe.pool, rng)
    while left > 0:
        whole = torch.from_numpy(rng.permutation(recipe.pool))[: recipe.pool // size * size]
        yield from (pool[part] for part in whole.split(size)[:left])
        left -= recipe.pool // size


def _plateau(
    model: VECVQ, source: Source, recipe: Recipe, rng: np.random.Generator, watch: Watch | None
) -> VECVQ:  # fmt: skip
    """The published loop: reduce on plateau (factor 0.1, patience 10), stop after 10 epochs without 1e-6 gained."""
    optimizer = _adam(model, recipe)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    pool, held_out = source.sample(recipe.pool, rng), source.sample(max(2000, recipe.pool // 10), rng)
    per_epoch = max(1, recipe.pool // recipe.batch)
    epochs, best, rested, kept = max(1, recipe.steps // per_epoch), math.inf, 0, model.state_dict()
    for epoch in range(epochs):
        order = torch.from_numpy(rng.permutation(recipe.pool))
        for part in order.split(recipe.batch)[:per_epoch]:
            _descend(model, optimizer, pool[part])
        with torch.no_grad():
            loss = float(model(held_out).loss)
        plateau.step(loss)
        if watch is not None:
            watch((epoch + 1) * per_epoch, epochs * per_epoch, model.code())
        rested = 0 if loss < best - 1e-6 else rested + 1
        if loss < best:
            best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
        if rested >= 10:
            break
    model.load_state_dict(kept)
    return model


def recipe_of(name: str, **changes: object) -> Recipe:
    """A registered recipe with changes; changes that are None are left out."""
    return replace(RECIPES[name], **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
