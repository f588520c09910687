"""Capabilities of models that training asks for, each a protocol: a model that has none of them trains, too.

``core.train`` and ``experiments.train`` ask with ``isinstance``; ``docs/extending.md`` lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from core.codec import Image


@runtime_checkable
class Strided(Protocol):
    """A model that takes images whose sides are multiples of ``stride``."""

    @property
    def stride(self) -> int:
        """Pixels: the factor between the image and its coarsest latent."""


@runtime_checkable
class ChangesInTime(Protocol):
    """A model whose training changes as it goes."""

    def begin_step(self, step: int, steps: int) -> None:
        """Get ready for a step, counted from 0, of ``steps`` in all; called before each."""


@runtime_checkable
class Freezes(Protocol):
    """A model of which some parameters get no gradient in some steps."""

    @property
    def freezes(self) -> bool:
        """Whether it will, with its present options."""


@runtime_checkable
class HasTrainingOptions(Protocol):
    """A model with options of ``python -m FAMILY train`` that its method has no parameters for."""

    training_options: ClassVar[tuple[str, ...]]  # attributes that the command sets before the first step


@runtime_checkable
class HasLambda(Protocol):
    """A model whose loss weighs distortion by ``lmb``, which may be set before each forward."""

    lmb: float

    @property
    def conditional(self) -> bool:
        """Whether one set of weights serves all lambdas."""


@runtime_checkable
class CountsCodes(Protocol):
    """A model whose entropy coder is made of counts over training images."""

    def calibrate(self, images: Sequence[Image]) -> None:
        """Count with the final weights, once, when training has ended."""

    def monitor(self, images: Sequence[Image]) -> dict[str, float]:
        """Usage of the codebooks over a few images, for the log."""
