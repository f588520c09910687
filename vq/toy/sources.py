"""Toy sources for which much is known: exact densities, seeded sampling, and the boxes their pictures are drawn in.

A source is a map from independent uniforms to vectors, so pseudo-random and low-discrepancy samples come out of the
same few lines. ``make_source("banana")`` gives one; ``SOURCES`` lists them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.codec import TesseraError
from core.registry import Registry, unknown

TINY = 2.0**-54  # keeps uniforms inside (0, 1): a generator gives multiples of 2**-53, zero included
LN2 = math.log(2)


class SourceError(TesseraError):
    """A source asked for something it is not defined for."""


Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """A memoryless source of vectors in R^dim.

    ``draw`` turns (n, uniforms) numbers in (0, 1) into (n, dim) vectors, float64. ``log_density`` gives natural
    logarithms of the density, (n, dim) -> (n,), or is None where there is none. ``box`` is (low, high) per axis: what
    figures show. ``reach`` is (low, high) per axis: all but about 1e-6 of the mass, for numerical integration.
    """

    name: str
    title: str
    dim: int
    uniforms: int
    draw: Map
    log_density: Map | None = None
    entropy_bits: float | None = None  # differential entropy
    variances: tuple[float, ...] = ()  # eigenvalues of the covariance of a Gaussian, else empty
    box: tuple[tuple[float, float], ...] = ()
    reach: tuple[tuple[float, float], ...] = ()

    def sample(self, n: int, seed: int | np.random.Generator = 0) -> Tensor:
        """Vectors (n, dim), float32, the same for the same seed; a generator is advanced."""
        if n < 1:
            raise SourceError(f"a sample of {self.name} has at least 1 vector, not {n}.")
        rng = np.random.default_rng(seed)
        return self.draw(torch.from_numpy(rng.random((n, self.uniforms)) + TINY)).float()

    def spread(self, n: int, seed: int = 0) -> Tensor:
        """Vectors (n, dim), float32, from a scrambled Sobol sequence: averages over them are far less noisy."""
        engine = torch.quasirandom.SobolEngine(self.uniforms, scramble=True, seed=seed)
        return self.draw(engine.draw(n, dtype=torch.float64).clamp(TINY, 1 - 2.0**-53)).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """Natural logarithm of the density at (n, dim) points; SourceError when the source has no density."""
        if self.log_density is None:
            raise SourceError(f"{self.name} has no density: its vectors lie on a set of lower dimension.")
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise SourceError(f"points of {self.name} are (n, {self.dim}), not {tuple(x.shape)}.")
        return self.log_density(x)


Maker = Callable[..., Source]
SOURCES: Registry[Maker] = Registry("source")


def make_source(name: str, params: Mapping[str, Any] | None = None) -> Source:
    """The source ``name`` with options such as ``width`` of the sphere; unknown names and options are refused."""
    maker = SOURCES[name]
    known = inspect.signature(maker).parameters
    for key in params or {}:
        if key not in known:
            raise unknown(f"option of source {name}", key, known) if known else SourceError(f"{name} has no options.")
    return maker(**(params or {}))


def _normals(u: Tensor) -> Tensor:
    found: Tensor = torch.special.ndtri(u)
    return found


def gaussian(name: str, title: str, covariance: list[list[float]]) -> Source:
    """A zero-mean Gaussian of the given covariance (d x d, positive definite)."""
    matrix = torch.tensor(covariance, dtype=torch.float64)
    root, dim = torch.linalg.cholesky(matrix), len(covariance)
    constant = dim * math.log(2 * math.pi) / 2 + float(root.diagonal().log().sum())

    def log_density(x: Tensor) -> Tensor:
        white: Tensor = torch.linalg.solve_triangular(root, x.double().T, upper=False)
        return -constant - white.square().sum(0) / 2

    return Source(
        name, title, dim, dim, lambda u: _normals(u) @ root.T, log_density, (constant + dim / 2) / LN2,
        tuple(torch.linalg.eigvalsh(matrix).flip(0).tolist()), ((-4.0, 4.0),) * dim, ((-6.0, 6.0),) * dim,
    )  # fmt: skip


@SOURCES.register("normal")
def normal() -> Source:
    """The standard normal distribution, one-dimensional."""
    return gaussian("normal", "normal, 1-D", [[1.0]])


@SOURCES.register("normal2d")
def normal2d() -> Source:
    """Two independent standard normals."""
    return gaussian("normal2d", "normal, 2-D", [[1.0, 0.0], [0.0, 1.0]])


@SOURCES.register("normal2d_rho09")
def normal2d_rho09() -> Source:
    """Two standard normals with correlation 0.9."""
    return gaussian("normal2d_rho09", "normal, 2-D, correlation 0.9", [[1.0, 0.9], [0.9, 1.0]])


@SOURCES.register("laplace")
def laplace() -> Source:
    """The Laplace distribution of location 0 and scale 1 (variance 2)."""

    def draw(u: Tensor) -> Tensor:
        side = u - 0.5
        return -side.sign() * torch.log1p(-2 * side.abs())

    return Source(
        "laplace", "Laplace, 1-D", 1, 1, draw, lambda x: -x.double().abs().sum(1) - math.log(2), math.log2(2 * math.e),
        box=((-7.0, 7.0),), reach=((-20.0, 20.0),),
    )  # fmt: skip


def _turn(degrees: float) -> Tensor:
    """The matrix that turns column vectors by an angle, counterclockwise."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def bend(z: Tensor, curvature: float, level: float, degrees: float, shift: tuple[float, float]) -> Tensor:
    """Bend, turn and shift (n, 2) vectors: z1 += curvature (z0^2 - level), then R(degrees) z + shift; volume stays."""
    bent = torch.stack((z[:, 0], z[:, 1] + curvature * (z[:, 0].square() - level)), 1)
    return bent @ _turn(degrees).T + torch.tensor(shift, dtype=z.dtype)


def unbend(x: Tensor, curvature: float, level: float, degrees: float, shift: tuple[float, float]) -> Tensor:
    """The inverse of ``bend``."""
    flat = (x - torch.tensor(shift, dtype=x.dtype)) @ _turn(degrees)
    return torch.stack((flat[:, 0], flat[:, 1] - curvature * (flat[:, 0].square() - level)), 1)


Bend = tuple[float, float, float, tuple[float, float]]
# A row vector times [[c, s], [-s, c]] at -40 degrees is R(-40 degrees) applied to the column.
BANANA: Bend = (0.1, 9.0, -40.0, (-0.75, -1.0))
BANANA_TFC: Bend = (-0.1, 0.0, -240.0, (-1.0, -1.0))


def _banana(name: str, title: str, shape: Bend, box: tuple[float, float], reach: tuple[float, float]) -> Source:
    scales = torch.tensor([3.0, 0.5], dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        z = unbend(x.double(), *shape) / scales
        return -z.square().sum(1) / 2 - math.log(2 * math.pi * 1.5)

    return Source(
        name, title, 2, 2, lambda u: bend(_normals(u) * scales, *shape), log_density,
        math.log2(2 * math.pi * math.e * 1.5), box=(box, box), reach=(reach, reach),
    )  # fmt: skip


@SOURCES.register("banana")
def banana() -> Source:
    """N(0, diag(9, 1/4)) bent by 0.1 (z0^2 - 9), turned by -40 degrees, shifted: the form of VECVQ and lossyless."""
    return _banana("banana", "banana, 2-D", BANANA, (-5.0, 7.0), (-8.0, 29.0))


@SOURCES.register("banana_tfc")
def banana_tfc() -> Source:
    """N(0, diag(9, 1/4)) bent by -0.1 z0^2, turned by -240 degrees, shifted: the toy source of nonlinear transform
    coding (Balle et al. 2020, arXiv:2007.03034), isometric to ``banana``."""
    return _banana("banana_tfc", "banana of NTC, 2-D", BANANA_TFC, (-6.0, 6.0), (-24.0, 18.0))


@SOURCES.register("sphere")
def sphere(order: int = 2, width: float = 0.0) -> Source:
    """Uniform directions in R^order with radius uniform on 1 - width/2 .. 1 + width/2; without width no density."""
    _check("sphere", "order", order, 2, 64)
    if not 0 <= width < 2:
        raise SourceError(f"width={width} of the sphere must be from 0 to below 2.")
    low, high = 1 - width / 2, 1 + width / 2
    surface = 2 * math.pi ** (order / 2) / math.gamma(order / 2)

    def draw(u: Tensor) -> Tensor:
        direction = torch.nn.functional.normalize(_normals(u[:, :order]), dim=1)
        return direction * (low + width * u[:, order:])

    def log_density(x: Tensor) -> Tensor:
        radius = x.double().norm(dim=1)
        inside = (radius >= low) & (radius <= high)
        value = -math.log(width * surface) - (order - 1) * radius.log()
        return torch.where(inside, value, -torch.inf)

    entropy = None
    if width:
        mean_log = (high * math.log(high) - (low * math.log(low) if low else 0.0)) / width - 1
        entropy = (math.log(width * surface) + (order - 1) * mean_log) / LN2
    edge = 1.15 * high
    return Source(
        "sphere", f"sphere, {order}-D, width {width:g}", order, order + 1, draw, log_density if width else None,
        entropy, box=((-edge, edge),) * order, reach=((-edge, edge),) * order,
    )  # fmt: skip


@SOURCES.register("sawbridge")
def sawbridge(points: int = 1024, order: int = 1, stationary: bool = False) -> Source:
    """B(t) = t - 1(t > Z), Z uniform, at equally spaced t in [0, 1]; of higher order the sum of independent indicators
    against the same t, over sqrt(order); stationary: t is shifted by a uniform phase modulo 1."""
    _check("sawbridge", "order", order, 1, 64)
    time = _times("sawbridge", points)

    def draw(u: Tensor) -> Tensor:
        t = (time + u[:, order:]) % 1 if stationary else time.expand(len(u), points)
        steps = sum((t > u[:, k : k + 1]).double() for k in range(order))
        return (t - steps) / math.sqrt(order)

    title = f"sawbridge of order {order}, {points} points" + (", stationary" if stationary else "")
    return Source("sawbridge", title, points, order + stationary, draw)


@SOURCES.register("ramp")
def ramp(points: int = 1024) -> Source:
    """(t + V) mod 1 - 1/2 at equally spaced t in [0, 1], V uniform."""
    time = _times("ramp", points)
    return Source("ramp", f"ramp, {points} points", points, 1, lambda u: (time + u) % 1 - 0.5)


@SOURCES.register("sinusoid")
def sinusoid(points: int = 1024) -> Source:
    """sin 2 pi (t + V) at equally spaced t in [0, 1], V uniform."""
    time = _times("sinusoid", points)
    return Source("sinusoid", f"sinusoid, {points} points", points, 1, lambda u: torch.sin(2 * math.pi * (time + u)))


def _times(name: str, points: int) -> Tensor:
    _check(name, "points", points, 2, 2**16)
    return torch.linspace(0, 1, points, dtype=torch.float64)


def _check(name: str, option: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise SourceError(f"{option}={value} of {name} must be a whole number from {low} to {high}.")
