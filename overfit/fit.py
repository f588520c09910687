"""Fitting latents and weights to one image by gradient descent: soft rounding with noise, then rounding.

The recipe is C3's (arXiv 2312.02753, section 3.1 and appendix) in fewer steps: temperature and noise anneal, the
learning rate follows a cosine, and in the last tenth latents are rounded. Weights begin from ``start.txt``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import cos, isfinite, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import kernels
from core.codec import TesseraError
from overfit import layout, plain

NOISES = 4096  # values that a distribution of noise is tabled with
BOTH, RATE, ERROR = 3, 1, 2
BETAS = (0.9, 0.99)
PACE = {"context1": 0.5, "context3": 0.5, "mix1": 0.5, "mix_bias1": 0.5, "mix2": 0.1, "mix_bias2": 0.1,
    "filter1": 0.1, "filter_bias1": 0.1, "filter2": 0.1, "filter_bias2": 0.1}  # fmt: skip
FRESH = {"context1": 0.075, "context2": 0.125, "context3": 0.05, "mix1": 0.19, "mix2": 0.1, "filter1": 0.01,
    "filter2": 0.01}  # fmt: skip  # deviations of fresh weights
Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: ``steps`` in all; learning rates at the start, their last steps' share of it."""

    steps: int
    latents_lr: float = 0.1
    weights_lr: float = 0.01
    hard: float = 0.1  # share of steps with rounded latents
    hard_latents: float = 0.01  # of the first learning rates, at the start of that share
    hard_weights: float = 0.1
    warm: float = 0.3  # temperature at the start and the end of soft rounding
    cold: float = 0.1
    spread: float = 2.0  # parameter a of Kumaraswamy's distribution at the start; 1, uniform noise, at the end


@dataclass(frozen=True)
class Loss:
    """Bits, mean squared error (range 1), and gradients of error + lambda x bits per pixel."""

    bits: float
    error: float
    latents: Tensor
    weights: Tensor


LossFunction = Callable[[Tensor, Tensor, float, Floats32, int, int], Loss]


@lru_cache
def noise_table(spread: float) -> Floats32:
    """Values of Kumaraswamy's distribution in [-0.5, 0.5] with its mode at 0, in equal shares, ascending."""
    b = (2**spread * (spread - 1) + 1) / spread
    share = (np.arange(NOISES) + 0.5) / NOISES
    return ((1 - (1 - share) ** (1 / b)) ** (1 / spread) - 0.5).astype(np.float32)


def loss_of(target: Floats32, lmb: float) -> LossFunction:
    """The loss of latents for a target (3, H, W) in [0, 1]: compiled where that is possible, else by torch.

    Called with latents (N,), weights, temperature, noise, seed, and which parts to compute.
    """
    library = kernels.library("overfit_train")
    return torch_loss(target, lmb) if library is None else _compiled_loss(library, target, lmb)


def _compiled_loss(library: ctypes.CDLL, target: Floats32, lmb: float) -> LossFunction:
    sides = np.array(layout.grid_sides(*target.shape[1:]), dtype=np.int32)
    target, result = np.ascontiguousarray(target, dtype=np.float32), np.zeros(2)

    def place(array: Any) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.data_ptr() if isinstance(array, Tensor) else array.ctypes.data)

    def loss(latents: Tensor, weights: Tensor, temperature: float, noise: Floats32, seed: int, parts: int) -> Loss:
        slopes = torch.empty_like(latents), torch.empty_like(weights)
        library.overfit_loss(
            *map(place, (sides, latents, weights, target)), ctypes.c_float(lmb), ctypes.c_float(temperature),
            place(noise), ctypes.c_uint32(seed), ctypes.c_int32(parts), *map(place, (*slopes, result)),
        )  # fmt: skip
        return Loss(float(result[0]), float(result[1]), *slopes)

    return loss


def torch_loss(target: Floats32, lmb: float) -> LossFunction:
    """``loss_of`` without a compiled kernel."""
    wanted = torch.from_numpy(target)
    sides = layout.grid_sides(*wanted.shape[1:])

    def loss(latents: Tensor, weights: Tensor, temperature: float, noise: Floats32, seed: int, parts: int) -> Loss:
        y, w = latents.detach().requires_grad_(), weights.detach().requires_grad_()
        picks = torch.randint(NOISES, y.shape, generator=torch.Generator().manual_seed(seed))
        with torch.enable_grad():
            flat = plain.quantised(y, temperature, torch.from_numpy(noise)[picks])
            grids = [p.reshape(side) for p, side in zip(flat.split([h * v for h, v in sides]), sides, strict=True)]
            named, zero = plain.tensors(w), torch.zeros(())
            bits = sum((plain.bits(g, i, named) for i, g in enumerate(grids)), zero) if parts & RATE else zero
            error = (plain.picture(grids, named) - wanted).square().mean() if parts & ERROR else zero
            (error + lmb * bits / wanted[0].numel() + 0 * (y.sum() + w.sum())).backward()
        assert y.grad is not None and w.grad is not None
        return Loss(float(bits.detach()), float(error.detach()), y.grad, w.grad)

    return loss


class _Weights:
    """Adam on the weights in place; tensors whose inputs are large take smaller steps."""

    def __init__(self, weights: Tensor) -> None:
        self.weights, self.mean, self.square, self.count = (
            weights,
            torch.zeros_like(weights),
            torch.zeros_like(weights),
            0,
        )
        pace = [PACE.get(t.name, 1.0) for t in layout.TENSORS]
        self.pace = torch.tensor(pace).repeat_interleave(torch.tensor(layout.SIZES))

    def step(self, slope: Tensor, rate: float) -> None:
        """One step against a gradient."""
        self.count += 1
        self.mean.lerp_(slope, 1 - BETAS[0])
        self.square.lerp_(slope.square(), 1 - BETAS[1])
        size = (self.square / (1 - BETAS[1] ** self.count)).sqrt_().add_(1e-12)
        self.weights -= rate / (1 - BETAS[0] ** self.count) * self.pace * self.mean / size


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: sums do not depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fresh(seed: int) -> Tensor:
    """Random weights (WEIGHTS,) that give a grey picture."""
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for name, shape, _ in layout.TENSORS:
        values = torch.full(shape, 0.5 if name == "mix_bias2" else 0.0)
        parts.append((values + FRESH.get(name, 0.0) * torch.randn(shape, generator=draw)).reshape(-1))
    return torch.cat(parts)


def fit(target: Floats32, lmb: float, recipe: Recipe, begin: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (N,), not rounded yet, and weights for a target (3, H, W) in [0, 1].

    Raises ``TesseraError`` when the loss is no longer a number.
    """
    sides = layout.grid_sides(*target.shape[1:])
    latents, weights = torch.zeros(sum(h * w for h, w in sides)), begin.clone()
    loss = loss_of(target, lmb)
    adam = torch.optim.Adam([latents], betas=BETAS, eps=1e-12, fused=True)
    weighing = _Weights(weights)
    soft = round(recipe.steps * (1 - recipe.hard))
    for step in range(recipe.steps):
        done = step / max(1, soft) if step < soft else (step - soft) / (recipe.steps - soft)
        falling = 0.5 * (1 + cos(pi * done))
        spread = recipe.spread + (1 - recipe.spread) * done
        temperature = recipe.warm + (recipe.cold - recipe.warm) * done if step < soft else 0.0
        found = loss(latents, weights, temperature, noise_table(round(spread, 3)), step, BOTH)
        if not isfinite(found.bits + found.error):
            raise TesseraError(
                f"fitting this image went out of bounds in step {step + 1} of {recipe.steps}: use another lmb or fewer "
                "steps."
            )
        latents.grad = found.latents
        adam.param_groups[0]["lr"] = falling * recipe.latents_lr * (1 if step < soft else recipe.hard_latents)
        adam.step()
        weighing.step(found.weights, falling * recipe.weights_lr * (1 if step < soft else recipe.hard_weights))
    return latents, weights
