"""Coders that look at a fixed number of candidates: minimal and ordered random coding, and the best of all.

Of n = 2^(KL + extra) shared candidates of the prior, one is chosen by its weight r = dQ/dP. Time and memory are fixed;
the sample follows the target only nearly, the nearer the larger ``extra_bits``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError
from rec.coders.base import MOST_NUMBERS, Found, IndexCoder, candidates, private, too_many
from rec.coders.codes import Code, FlatCode, OctaveCode, checked
from rec.coders.contract import CODERS
from rec.coders.ratio import Ratio
from rec.randomness import Key, exponentials, uniforms

Floats = NDArray[np.float64]
LIMIT_BITS = 22  # candidates of one block, at most 2**22
CHUNK = 2**17  # numbers made at once
BATCHES = 2**16  # of ensemble rejection, at most


@dataclass(frozen=True)
class RandomCoder(IndexCoder):
    """Chooses one of ``2**ceil(KL + extra_bits)`` candidates, at most 2**22."""

    extra_bits: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.extra_bits <= LIMIT_BITS:
            raise TesseraError(f"extra_bits={self.extra_bits} of {self.name} must be from 0 to {LIMIT_BITS}.")

    def width(self, budget: int) -> int:
        """The bits that number the candidates; a budget beyond 2**22 candidates is refused."""
        bits = int(np.ceil(budget + self.extra_bits))
        if bits > LIMIT_BITS:
            raise TesseraError(
                f"{self.name} would need 2**{bits} candidates for one block, and 2**{LIMIT_BITS} is the limit: use "
                "smaller blocks, a smaller extra_bits, or beam_search."
            )
        return bits

    def codes(self, budget: int) -> tuple[Code, ...]:
        """Each candidate at the same number of bits."""
        return (FlatCode(self.width(budget)),)

    def place(self, numbers: Sequence[int], key: Key, budget: int, dims: int) -> Floats:
        sample: Floats = candidates(key, checked(numbers[0], 1 << self.width(budget)) - 1, 1, dims)[0]
        return sample

    def costs(self, energies: Floats, first: int, key: Key, count: int) -> Floats:
        """What the chosen candidate has the least of, for candidates ``first``, ``first + 1``, ... of ``count``."""
        raise NotImplementedError(f"{type(self).__name__} defines no costs")

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The candidate of least cost among all."""
        count = 1 << self.width(budget)
        if count * len(ratio.loc) > MOST_NUMBERS:
            raise too_many(self.name, MOST_NUMBERS // len(ratio.loc), ratio)
        found, least = 0, np.inf
        arrivals = 0.0
        for first, energies in _energies(ratio, key, count):
            costs, arrivals = self._costs(energies, first, key, count, arrivals)
            best = int(costs.argmin())
            if costs[best] < least:
                found, least = first + best, float(costs[best])
        return Found((found + 1,), count)

    def _costs(self, energies: Floats, first: int, key: Key, count: int, arrivals: float) -> tuple[Floats, float]:
        """``costs`` with what must be carried from one part of the candidates to the next."""
        return self.costs(energies, first, key, count), arrivals


@CODERS.register("argmax")
@dataclass(frozen=True)
class Argmax(RandomCoder):
    """The candidate of largest weight: no longer a sample, but the cheapest where only its likelihood matters."""

    name = "argmax"

    def costs(self, energies: Floats, first: int, key: Key, count: int) -> Floats:
        """How far below its top the log ratio is."""
        return energies


@CODERS.register("mrc")
@dataclass(frozen=True)
class MinimalRandomCoding(RandomCoder):
    """Candidate i with probability r_i / sum_j r_j (Havasi, Peharz, Hernandez-Lobato, ICLR 2019).

    The index is uniform, so it costs log2 n bits, whatever the law of the index is taken for.
    """

    name = "mrc"

    def costs(self, energies: Floats, first: int, key: Key, count: int) -> Floats:
        """ln E_i - ln r_i with E_i exponential: the least belongs to i with probability r_i / sum r (Gumbel-max)."""
        noise = exponentials(private(key), 0, len(energies), first)
        costs: Floats = np.log(noise) + energies
        return costs


@CODERS.register("orc")
@dataclass(frozen=True)
class OrderedRandomCoding(RandomCoder):
    """The choice of MRC with its exponentials in ascending order (Theis and Yosri, ICML 2022).

    The sample has the law of MRC's, and small indices are likelier, which an entropy code uses.
    """

    name = "orc"

    def codes(self, budget: int) -> tuple[Code, ...]:
        """Octaves with the KL as their mean."""
        self.width(budget)
        return (OctaveCode(float(budget)),)

    def _costs(self, energies: Floats, first: int, key: Key, count: int, arrivals: float) -> tuple[Floats, float]:
        noise = exponentials(private(key), 0, len(energies), first)
        rising = arrivals + np.cumsum(noise * count / (count - first - np.arange(len(energies))))
        return np.log(rising) + energies, float(rising[-1])


@CODERS.register("ers")
@dataclass(frozen=True)
class EnsembleRejection(OrderedRandomCoding):
    """Ensemble rejection sampling (Deligiannidis et al., 2020; as a coder: Phan and Khisti, arXiv 2510.05552).

    The choice K of ``orc`` among n candidates is accepted with probability sum r / (sum r - r_K + sup r), else another
    n are looked at: exact, with a probability of n / (n - 1 + sup r) or more for each batch.
    """

    name = "ers"

    def codes(self, budget: int) -> tuple[Code, ...]:
        """The number of the batch, nearly always 1, and octaves."""
        return (OctaveCode(0.0), *super().codes(budget))

    def place(self, numbers: Sequence[int], key: Key, budget: int, dims: int) -> Floats:
        return super().place(numbers[1:], _batch(key, checked(numbers[0], BATCHES)), budget, dims)

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The first batch whose choice is accepted."""
        count = 1 << self.width(budget)
        last = max(1, MOST_NUMBERS // (count * len(ratio.loc)))
        if ratio.top > np.log(count) + np.log(last):
            raise too_many(self.name, last * count, ratio)
        for number in range(1, min(last, BATCHES) + 1):
            batch = _batch(key, number)
            (chosen,), _ = super().search(ratio, batch, budget)
            total = sum(float(np.exp(-energies).sum()) for _, energies in _energies(ratio, batch, count))
            energy = ratio.energy(candidates(batch, chosen - 1, 1, len(ratio.loc)))[0]
            if uniforms(private(batch), 1, 1)[0] * (total - np.exp(-energy) + 1) <= total:
                return Found((number, chosen), number * count)
        raise too_many(self.name, last * count, ratio)


def _batch(key: Key, number: int) -> Key:
    """The key of a batch's candidates; the one after it is the encoder's own."""
    return Key(key.seed, key.layer, key.block, key.step + 2 * (number - 1))


def _energies(ratio: Ratio, key: Key, count: int) -> Iterator[tuple[int, Floats]]:
    """The energies of all candidates, part by part, each with the number of its first (from 0)."""
    dims = len(ratio.loc)
    step = max(1, CHUNK // dims)
    for first in range(0, count, step):
        yield first, ratio.energy(candidates(key, first, min(step, count - first), dims))
