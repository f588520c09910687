"""Contract of the coders of relative entropy coding, and the registry they are all in.

A coder turns a sample of a target distribution into symbols, given a coding distribution (the prior) and a key of
shared randomness; prior, key and symbols give back the same sample, bit for bit, without the target.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from core.entropy import Decoder, Encoder
from core.registry import Registry, unknown
from rec.gaussian import Gaussian
from rec.randomness import Key

Floats = NDArray[np.float64]
Symbols = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Coded:
    """A coded sample: float64 (D,), its symbols, and the nats the coder's own analysis counts for them."""

    sample: Floats
    symbols: Symbols
    ideal_nats: float


class BlockCoder(Protocol):
    """What every coder offers. ``encode`` and ``decode`` work on one block, ``write`` and ``read`` on many at once."""

    @property
    def name(self) -> str:
        """The name it is registered by."""

    def encode(self, target: Gaussian, prior: Gaussian, key: Key) -> Coded:
        """Code a sample of the target, Gaussian (D,); the step of the key is the coder's own to count."""

    def decode(self, symbols: Symbols, prior: Gaussian, key: Key) -> Floats:
        """The sample of ``encode``, float64 (D,); ``BitstreamError`` for symbols that no encoder gives."""

    def write(self, blocks: Sequence[Symbols], encoder: Encoder) -> None:
        """Append the symbols of the blocks to an entropy-coded stream, what the decoder needs to part them included."""

    def read(self, count: int, decoder: Decoder) -> list[Symbols]:
        """The symbols of the next ``count`` blocks; ``BitstreamError`` when the data cannot be right."""


@runtime_checkable
class BatchCoder(Protocol):
    """A coder that is faster on many blocks of one size together; the results are those of block by block."""

    def encode_many(self, target: Gaussian, prior: Gaussian, keys: Sequence[Key]) -> list[Coded]:
        """Code a sample of each row of the target, Gaussian (M, D), with the key of that row."""

    def decode_many(self, blocks: Sequence[Symbols], prior: Gaussian, keys: Sequence[Key]) -> Floats:
        """The samples, float64 (M, D)."""


@runtime_checkable
class TracedCoder(Protocol):
    """A coder that counts the candidates it looks at."""

    def trace(self, target: Gaussian, prior: Gaussian, key: Key) -> tuple[Coded, int]:
        """``encode``'s result for one block (D,), and the number of candidates."""


CODERS: Registry[Callable[..., BlockCoder]] = Registry("relative entropy coder")


def make_coder(name: str, **options: Any) -> BlockCoder:
    """The coder ``name``; unknown names and options are answered with the nearest known ones."""
    known = coder_options(name)
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    return CODERS[name](**options)


def coder_options(name: str) -> tuple[str, ...]:
    """The names of the options that the coder ``name`` has."""
    _discover()
    return tuple(inspect.signature(CODERS[name]).parameters)


@cache
def _discover() -> None:
    """Import the modules that register coders."""
    for package in ("rec.coders.irec", "rec.coders"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
