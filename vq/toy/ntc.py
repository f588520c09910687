"""Nonlinear transform coding of vectors: learned analysis and synthesis around a scalar quantiser.

    y = g_a(x)     train: s(y) + u, u uniform on (-1/2, 1/2), s soft rounding; rate of it under the prior
                          x^ = g_s(E[y | s(y) + u])
                   test:  q = round(y), coded;  x^ = g_s(q)

Ballé et al., "Nonlinear transform coding" (2020, arXiv:2007.03034); Agustsson and Theis, "Universally quantized neural
compression" (2020, arXiv:2006.09952), for soft rounding and its conditional mean. The prior is a factorized
distribution function made of a small monotone network per latent (Ballé et al. 2018, arXiv:1802.01436, appendix 6.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from core.entropy import finite_symbols
from core.frequencies import PRECISION, Tables, categorical_table
from core.registry import unknown
from core.train import Step
from vq.toy.codes import CodeError, Codes
from vq.toy.sources import LN2, Source

MAX_ALPHA = 4.0
_REACH = 255  # integers to either side of the median that a table holds; others are escaped
_FLOOR = 1e-9  # of a probability in training
ACTIVATIONS = {"softplus": nn.Softplus, "leaky_relu": nn.LeakyReLU}


def soft_round(y: Tensor, alpha: Tensor) -> Tensor:
    """Differentiable rounding that fixes integers and half-integers: the identity for small alpha, round for large."""
    middle = torch.floor(y) + 0.5
    return middle + torch.tanh(alpha * (y - middle)) / (2 * torch.tanh(alpha / 2))


def soft_round_inverse(z: Tensor, alpha: Tensor) -> Tensor:
    """The y with soft_round(y) = z."""
    middle = torch.floor(z) + 0.5
    inner = (2 * (z - middle) * torch.tanh(alpha / 2)).clamp(-1 + 1e-6, 1 - 1e-6)
    return middle + torch.atanh(inner) / alpha


def soft_round_mean(z: Tensor, alpha: Tensor) -> Tensor:
    """E[y | soft_round(y) + u = z] for y uniform where the noise allows it."""
    return soft_round_inverse(z - 0.5, alpha) + 0.5


class FactorizedPrior(nn.Module):
    """A learned distribution function per latent: monotone networks of widths 1, *hidden, 1, then a sigmoid."""

    def __init__(self, latents: int, hidden: Sequence[int] = (3, 3), scale: float = 10.0) -> None:
        super().__init__()
        widths = (1, *hidden, 1)
        step = scale ** (1 / (len(hidden) + 1))
        self.matrices, self.biases, self.factors = (nn.ParameterList() for _ in range(3))
        for i, (low, high) in enumerate(pairwise(widths)):
            level = math.log(math.expm1(1 / step / high))
            self.matrices.append(nn.Parameter(torch.full((latents, high, low), level)))
            self.biases.append(nn.Parameter(torch.rand(latents, high, 1) - 0.5))
            if i < len(hidden):
                self.factors.append(nn.Parameter(torch.zeros(latents, high, 1)))

    def logits(self, y: Tensor) -> Tensor:
        """Logit of the distribution function, for (n, latents) values."""
        h = y.T[:, None, :]  # (latents, 1, n)
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            h = softplus(matrix) @ h + bias
            if i < len(self.factors):
                h = h + torch.tanh(self.factors[i]) * torch.tanh(h)
        return h[:, 0, :].T

    def mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Probability between two values, (n, latents); computed on the side where the difference is exact."""
        a, b = self.logits(torch.cat((low, high))).tensor_split(2)
        sign = -torch.sign(a + b).detach()
        return (torch.sigmoid(sign * b) - torch.sigmoid(sign * a)).abs()


class NTC(nn.Module):
    """Analysis, synthesis and prior. ``hidden`` are widths of the two networks' inner layers."""

    def __init__(self, dim: int, latents: int, hidden: Sequence[int], activation: str, lmb: float) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        if not (math.isfinite(lmb) and lmb > 0) or latents < 1:
            raise CodeError(f"lmb={lmb} must be positive and finite, latents={latents} at least 1.")
        self.analyse = _network((dim, *hidden, latents), activation)
        self.synthesise = _network((latents, *hidden, dim), activation)
        # of each latent in quantiser steps: one number to adapt to lambda, while the networks stay at unit scale
        self.log_gain = nn.Parameter(torch.zeros(latents))
        self.prior = FactorizedPrior(latents)
        self.logit_alpha = nn.Parameter(torch.tensor(-3.0))
        self.forced_alpha: float | None = None  # set in the first quarter of the training
        self.lmb = lmb

    @property
    def alpha(self) -> Tensor:
        """Sharpness of soft rounding in training, below 4; at least 1e-2, where it is the identity already."""
        if self.forced_alpha is not None:
            return torch.tensor(max(self.forced_alpha, 1e-2))
        return (MAX_ALPHA * torch.sigmoid(self.logit_alpha)).clamp(min=1e-2)

    def analysis(self, x: Tensor) -> Tensor:
        """Latents (n, latents), in quantiser steps, of vectors (n, d)."""
        found: Tensor = self.analyse(x) * self.log_gain.exp()
        return found

    def synthesis(self, y: Tensor) -> Tensor:
        """Vectors (n, d) of latents (n, latents)."""
        found: Tensor = self.synthesise(y * torch.exp(-self.log_gain))
        return found

    def forward(self, x: Tensor) -> Step:
        """Training loss, rate in bits and squared error of vectors (n, d)."""
        alpha = self.alpha
        y = self.analysis(x)
        z = soft_round(y, alpha) + torch.rand_like(y) - 0.5
        mean = soft_round_mean(z, alpha)
        # s(y) + u = z for y on an interval of length one around the mean, whatever the sharpness: s(y + 1) = s(y) + 1
        rate = -self.prior.mass(mean - 0.5, mean + 0.5).clamp(min=_FLOOR).log2().sum(1).mean()
        error = (x - self.synthesis(mean)).square().sum(1).mean()
        return Step(rate + self.lmb * error, rate, error)

    @torch.no_grad()
    def code(self) -> TransformCode:
        """The code with hard rounding."""
        self.eval()
        latents = self.prior.matrices[0].shape[0]
        centre = torch.zeros(1, latents)
        for _ in range(60):  # the median of each latent, by damped steps down its logits
            centre = centre - self.prior.logits(centre).clamp(-8, 8)
        centre = centre.clamp(-1e6, 1e6).round()
        grid = centre + torch.arange(-_REACH, _REACH + 1.0)[:, None]
        return TransformCode(self, centre[0].long().numpy(), self.prior.mass(grid - 0.5, grid + 0.5).double())


@dataclass(frozen=True, eq=False)
class TransformCode:
    """A trained transform code; ``masses`` are probabilities of the integers around ``centres``, (2 reach + 1, s)."""

    model: NTC
    centres: np.ndarray[tuple[int], np.dtype[np.int64]]
    masses: Tensor

    @cached_property
    def tables(self) -> Tables:
        """A table with escape per latent."""
        rest = (1 - self.masses.sum(0)).clamp(min=0)
        rows = torch.cat((self.masses, rest[None])).T.numpy()
        return Tables(categorical_table(rows).frequencies, self.centres - _REACH, PRECISION, escape=True)

    @torch.no_grad()
    def quantize(self, x: Tensor) -> Codes:
        """Rounded latents (n, s)."""
        return finite_symbols(torch.round(self.model.analysis(x)).numpy())

    @torch.no_grad()
    def dequantize(self, codes: Codes) -> Tensor:
        """The synthesis of rounded latents."""
        return self.model.synthesis(torch.from_numpy(codes.astype(np.float32)))

    def bits(self, codes: Codes) -> Tensor:
        """-log2 of the prior's mass of each latent's bin, summed."""
        place = torch.from_numpy(codes - self.centres + _REACH).clamp(0, 2 * _REACH)
        return -torch.gather(self.masses, 0, place).clamp(min=2.0**-40).log2().sum(1)


def _network(widths: Sequence[int], activation: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for low, high in pairwise(widths):
        layers += [nn.Linear(low, high), ACTIVATIONS[activation]()]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers[:-1])


def shape_of(source: Source) -> tuple[int, tuple[int, int], str]:
    """The published networks: latents, hidden widths and activation for a source."""
    if source.dim == 1:
        return 1, (50, 50), "softplus"
    return (2, (100, 100), "softplus") if source.dim == 2 else (10, (100, 100), "leaky_relu")


def train_ntc(source: Source, lmb: float, seed: int, steps: int = 3000, batch: int = 256, lr: float = 1e-2) -> NTC:
    """Train with fresh vectors; the sharpness is forced up in the first quarter and learned afterwards.

    The analysis starts scaled to the root of lambda, about one quantiser step per cell of the final code.
    """
    if steps < 1 or batch < 1:
        raise CodeError(f"steps={steps} and batch={batch} must be at least 1.")
    torch.manual_seed(seed)
    latents, hidden, activation = shape_of(source)
    model = NTC(source.dim, latents, hidden, activation, lmb)
    rng = np.random.default_rng([seed, 2])
    _scale(model, source.sample(4096, rng))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    for step in range(steps):
        done = step / steps
        model.forced_alpha = 12 * done if done < 0.25 else None
        if done == 0.25 or (done > 0.25 and (step - 1) / steps < 0.25):
            with torch.no_grad():
                model.logit_alpha.fill_(math.log(3 / (MAX_ALPHA - 3)))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100) * (1e-3 + (1 + math.cos(math.pi * done)) / 2)
        optimizer.zero_grad(set_to_none=True)
        model(source.sample(batch, rng)).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    model.forced_alpha = None
    return model.eval()


@torch.no_grad()
def _scale(model: NTC, x: Tensor) -> None:
    """Centre the latents, and let them spread as far as a uniform quantiser of this lambda would need."""
    wanted = x.std() / math.sqrt(6 / (model.lmb * LN2))
    y, last = model.analyse(x), model.analyse[-1]
    assert isinstance(last, nn.Linear)
    last.bias.sub_(y.mean(0))
    model.log_gain.copy_((wanted.clamp(min=0.3) / y.std(0).clamp(min=1e-3)).log())
