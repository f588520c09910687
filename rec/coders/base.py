"""Base of the coders in this folder: how a block's budget travels, and how an index becomes symbols and bits.

Codes of the index depend on the KL that both sides expect. Where the model fixes it (a channel of known mutual
information, an IsoKL VAE), ``kl_bits`` says so; otherwise the block's own KL, rounded up to whole bits, is its first
symbol, coded by what the blocks before it had.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from rec.coders.codes import Code
from rec.coders.contract import Coded, Symbols
from rec.coders.ratio import LN2, Ratio, ratio_of
from rec.gaussian import Gaussian
from rec.randomness import Key, normals
from rec.side_information import read_steps, write_steps

Floats = NDArray[np.float64]
MOST_NUMBERS = 2**28  # random numbers of one search, about ten seconds' worth: candidates times dimensions
MOST_BITS = 4096  # a larger KL is a mistake of the model, not something to search for


class Found(NamedTuple):
    """The numbers that name a sample, and how many candidates were looked at to find it."""

    numbers: tuple[int, ...]
    steps: int


@dataclass(frozen=True)
class IndexCoder:
    """A coder whose message is one or two whole numbers, each with its code.

    ``kl_bits`` is the KL in bits that both sides expect; None: it is sent.
    """

    name: ClassVar[str] = ""
    kl_bits: float | None = None

    def __post_init__(self) -> None:
        if self.kl_bits is not None and not 0 <= self.kl_bits <= MOST_BITS:
            raise TesseraError(f"kl_bits={self.kl_bits} of {self.name} must be from 0 to {MOST_BITS}.")

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """Numbers that name a sample of the target."""
        raise NotImplementedError(f"{type(self).__name__} defines no search")

    def codes(self, budget: int) -> tuple[Code, ...]:
        """The codes of the numbers, which the decoder knows from the budget (whole bits)."""
        raise NotImplementedError(f"{type(self).__name__} defines no codes")

    def place(self, numbers: Sequence[int], key: Key, budget: int, dims: int) -> Floats:
        """The sample (D,) that the numbers name, in the units of the prior; ``BitstreamError`` for impossible ones."""
        raise NotImplementedError(f"{type(self).__name__} defines no place")

    def encode(self, target: Gaussian, prior: Gaussian, key: Key) -> Coded:
        """Code a sample of the target, Gaussian (D,)."""
        return self.trace(target, prior, key)[0]

    def trace(self, target: Gaussian, prior: Gaussian, key: Key) -> tuple[Coded, int]:
        """What ``encode`` gives, and how many candidates it looked at."""
        ratio = ratio_of(target, prior)
        if ratio.kl > MOST_BITS * LN2:
            raise TesseraError(
                f"a block of {ratio.kl:.0f} nats is beyond every coder here: use smaller blocks, or beam_search."
            )
        budget = self._budget(ratio)
        found = self.search(ratio, key, budget)
        codes = self.codes(budget)
        bits = sum(code.bits(number) for code, number in zip(codes, found.numbers, strict=True))
        symbols = self._head(budget) + found.numbers
        return Coded(self.decode(symbols, prior, key), symbols, bits * LN2), found.steps

    def decode(self, symbols: Symbols, prior: Gaussian, key: Key) -> Floats:
        """The sample of ``encode``, float64 (D,); ``BitstreamError`` for symbols that no encoder gives."""
        budget, numbers = self._split(symbols)
        dims = prior.shape[-1]
        if len(numbers) != len(self.codes(budget)) or min(numbers) < 1:
            raise BitstreamError(f"the stream is damaged: its symbols are not those of {self.name}")
        return prior.loc + prior.scale * self.place(numbers, key, budget, dims)

    def write(self, blocks: Sequence[Symbols], encoder: Encoder) -> None:
        """Append the symbols of blocks: the budgets of all, where they are sent, then block by block."""
        parts = [self._split(symbols) for symbols in blocks]
        if self.kl_bits is None:
            write_steps([budget for budget, _ in parts], encoder)
        for budget, numbers in parts:
            for code, number in zip(self.codes(budget), numbers, strict=True):
                code.write(number, encoder)

    def read(self, count: int, decoder: Decoder) -> list[Symbols]:
        """The symbols of the next ``count`` blocks."""
        sent = self.kl_bits is None
        budgets = read_steps(count, decoder, MOST_BITS) if sent else [self._fixed()] * count
        return [self._head(b) + tuple(code.read(decoder) for code in self.codes(b)) for b in budgets]

    def _fixed(self) -> int:
        return math.ceil(self.kl_bits or 0.0)

    def _budget(self, ratio: Ratio) -> int:
        return self._fixed() if self.kl_bits is not None else math.ceil(ratio.kl / LN2)

    def _head(self, budget: int) -> Symbols:
        return (budget,) if self.kl_bits is None else ()

    def _split(self, symbols: Symbols) -> tuple[int, Symbols]:
        if self.kl_bits is not None:
            return self._fixed(), tuple(symbols)
        if not symbols or not 0 <= symbols[0] <= MOST_BITS:
            raise BitstreamError(f"the stream is damaged: its symbols are not those of {self.name}")
        return int(symbols[0]), tuple(symbols[1:])


def candidates(key: Key, first: int, count: int, dims: int) -> Floats:
    """Candidates ``first`` to ``first + count - 1`` (from 0) of the prior in its own units: float64 (count, D)."""
    return normals(key, np.arange(first, first + count), dims)


def private(key: Key) -> Key:
    """The key of random numbers that only the encoder needs: the sequence of the next step."""
    return Key(key.seed, key.layer, key.block, key.step + 1)


def too_many(name: str, limit: int, ratio: Ratio) -> TesseraError:
    """The error of a search that reached its cap."""
    return TesseraError(
        f"{name} found no sample among {limit} candidates (D_inf is {ratio.top / LN2:.1f} bits): use smaller blocks, a "
        "larger limit, or beam_search."
    )
