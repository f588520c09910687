"""The codes that run on toy sources, by name: each a frozen dataclass that trains on a source and gives a code.

    TOY["ecvq"](lmb=5).train(make_source("banana"), seed=0)      -> Trained(code, lmb)

``curve`` names the field that moves along the rate-distortion curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from core.codec import Parameters, TesseraError
from core.registry import Registry, unknown
from vq.toy import ecvq, ntc, vecvq
from vq.toy.codes import Codebook, ToyCode
from vq.toy.sources import Source

Watch = Callable[[int, int, Codebook], None]


class ToyMethod(Parameters):
    """Base of the methods: subclass as a frozen dataclass and list it in ``TOY`` with ``@_register(name)``."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    curve: ClassVar[str] = "lmb"

    def train(self, source: Source, seed: int, watch: Watch | None = None) -> ToyCode:
        """A code for the source; ``watch`` (step, steps, code) is called as training goes where there is a codebook."""
        raise NotImplementedError

    def points(self, source: Source) -> tuple[float, ...]:
        """Settings of ``curve`` that a figure shows; beyond two dimensions lambda times the dimension is 16 to 1024."""
        if source.dim > 2:
            return tuple(weight / source.dim for weight in (16, 64, 256, 1024))
        return (0.5, 1, 4, 16, 64) if source.dim == 1 else (1, 2, 5, 16, 64)

    @property
    def point(self) -> float:
        """The setting of the field that moves along the curve."""
        return float(getattr(self, self.curve))

    def lmb_sse(self, source: Source) -> float | None:
        """Lambda in front of the squared error (SSE) of the Lagrangian that is minimised; None without one."""
        return self.point if self.curve == "lmb" else None

    @property
    def label(self) -> str:
        """The title, with the parameters that are not the usual ones: 'VECVQ (k=7, recipe=seed)'."""
        usual = self.parameters()
        said = [f"{k}={v}" for k, v in self.variant.items() if v != usual[k]]
        return f"{self.title} ({', '.join(said)})" if said else self.title


TOY: Registry[type[ToyMethod]] = Registry("method")
M = TypeVar("M", bound=type[ToyMethod])


def _register(name: str) -> Callable[[M], M]:
    """Decorator: name a method and put it into ``TOY``."""

    def add(cls: M) -> M:
        cls.name = name
        TOY.register(name)(cls)
        return cls

    return add


def make_toy(name: str, params: Mapping[str, Any] | None = None) -> ToyMethod:
    """The method ``name`` with parameters; unknown or mistyped ones are refused in a sentence."""
    cls = TOY[name]
    known = cls.parameters()
    for key, value in (params or {}).items():
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
        number = isinstance(known[key], (int, float))
        if number != isinstance(value, (int, float)) or isinstance(value, bool):
            raise TesseraError(f"params.{key}={value} of {name} must be {'a number' if number else 'text'}.")
        if isinstance(known[key], int) and value != int(value):
            raise TesseraError(f"params.{key}={value} of {name} must be a whole number.")
        if number and not (math.isfinite(value) and value >= 0):
            raise TesseraError(f"params.{key}={value} of {name} must be finite and not negative.")
    made = cls(**(params or {}))
    if made.point <= 0:
        raise TesseraError(f"{cls.curve}={made.point:g} of {name} must be positive.")
    return made


@_register("ecvq")
@dataclass(frozen=True)
class ECVQ(ToyMethod):
    """Entropy-constrained vector quantisation; ``start`` is lattice (hexagonal in 2-D), random or merged."""

    lmb: float = 5.0
    start: str = "lattice"
    vectors: int = 2**18
    restarts: int = 4
    k: int = 0  # codewords of a random start; 0: by lambda
    title: ClassVar[str] = "ECVQ"
    paper: ClassVar[str] = "Chou, Lookabaugh, Gray, IEEE Trans. ASSP 37, 1989"

    def train(self, source: Source, seed: int, watch: Watch | None = None) -> Codebook:
        """Lloyd's iteration with a rate term."""
        start = "merged" if source.dim > 2 and self.start == "lattice" else self.start
        step = None if watch is None else (lambda turn, code: watch(turn, self.restarts * 60, code))
        return ecvq.train_ecvq(source, self.lmb, seed, start, self.vectors, max(1, self.restarts), self.k, step)


@_register("ecvq_random")
@dataclass(frozen=True)
class RandomECVQ(ECVQ):
    """ECVQ from random codewords."""

    start: str = "random"
    restarts: int = 1
    title: ClassVar[str] = "ECVQ, random start"


@_register("vecvq")
@dataclass(frozen=True)
class VECVQMethod(ToyMethod):
    """VECVQ by gradient descent. ``recipe`` is ours, seed or tfc; the other fields replace parts of it when set."""

    lmb: float = 5.0
    recipe: str = "ours"
    k: int = 0
    distortion: str = "sse"
    codebook: str = ""
    logits: str = ""
    steps: int = 0
    batch: int = 0
    lr: float = 0.0
    title: ClassVar[str] = "VECVQ"
    paper: ClassVar[str] = "Ballé et al., Nonlinear transform coding, arXiv:2007.03034"

    def lmb_sse(self, source: Source) -> float:
        """``lmb`` itself, or its share for each dimension when it weighs the mean."""
        return self.lmb / (source.dim if self.distortion == "mse" else 1)

    def points(self, source: Source) -> tuple[float, ...]:
        """The same points as other methods have, in the scale of its own lambda."""
        return tuple(point * self.lmb / self.lmb_sse(source) for point in super().points(source))

    def train(self, source: Source, seed: int, watch: Watch | None = None) -> Codebook:
        """Stochastic gradient descent through the hard minimum."""
        names = ("codebook", "logits", "steps", "batch", "lr")
        changes: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name)}
        if self.lr:
            changes["lr_logits"] = self.lr
        recipe = vecvq.recipe_of(self.recipe, **changes)
        if recipe.codebook == "lattice" and source.dim > 2:
            recipe = replace(recipe, codebook="merged")
        return vecvq.train_vecvq(source, self.lmb, seed, recipe, self.k, self.distortion, watch).code()


@_register("ntc")
@dataclass(frozen=True)
class NTCMethod(ToyMethod):
    """Nonlinear transform code with dither and soft rounding."""

    lmb: float = 5.0
    steps: int = 3000
    batch: int = 256
    lr: float = 1e-2
    title: ClassVar[str] = "NTC"
    paper: ClassVar[str] = "Ballé et al., Nonlinear transform coding, arXiv:2007.03034"

    def train(self, source: Source, seed: int, watch: Watch | None = None) -> ToyCode:
        """Gradient descent on the dithered, softly rounded code; the code rounds hard."""
        return ntc.train_ntc(source, self.lmb, seed, self.steps, self.batch, self.lr).code()


@_register("ecsq")
@dataclass(frozen=True)
class ECSQ(ToyMethod):
    """Entropy-constrained scalar quantisation, coordinate by coordinate."""

    lmb: float = 5.0
    vectors: int = 2**19
    title: ClassVar[str] = "ECSQ per coordinate"
    paper: ClassVar[str] = "Chou, Lookabaugh, Gray, IEEE Trans. ASSP 37, 1989"

    def train(self, source: Source, seed: int, watch: Watch | None = None) -> ToyCode:
        """Lloyd's iteration on sorted samples."""
        return ecvq.train_ecsq(source, self.lmb, seed, self.vectors)


@_register("vq")
@dataclass(frozen=True)
class VQ(ToyMethod):
    """Vector quantisation without a rate term (k-means); its indices are entropy coded all the same."""

    k: int = 16
    vectors: int = 2**17
    title: ClassVar[str] = "VQ without rate term"
    curve: ClassVar[str] = "k"

    def train(self, source: Source, seed: int, watch: Watch | None = None) -> Codebook:
        """k-means."""
        step = None if watch is None else (lambda turn, code: watch(turn, 60, code))
        return ecvq.train_vq(source, int(self.k), seed, self.vectors, step)

    def points(self, source: Source) -> tuple[float, ...]:
        return (2, 4, 8, 16, 32) if source.dim == 1 else (4, 8, 16, 32, 64, 128)
