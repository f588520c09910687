"""Space partitioning (He, Flamich, Hernandez-Lobato, 2024): PFR and ORC with fewer candidates.

The prior is cut into 2^B bins of equal mass by the leading quantile bits of its dimensions, and each bin has candidates
of its own. The encoder proposes bins with masses w near those the target has in them, which the decoder need not know,
and for each the bin's next candidate; the message is the bin and the rank of the chosen candidate in it. Proposals have
the density p' = p 2^B w(bin), so the search is one for Q against p', which are closer than Q and P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError
from rec.coders.base import MOST_NUMBERS, Found, IndexCoder, private, too_many
from rec.coders.codes import Code, FlatCode, OctaveCode, checked
from rec.coders.contract import CODERS
from rec.coders.ratio import LN2, Ratio
from rec.quantiles import normal_quantile_at
from rec.randomness import Key, exponentials, uniforms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_BINS, MOST_CELLS = 30, 12  # bits: of a block's bin, and of one dimension of it
RANKS = 1.0  # mean octaves of the rank
MIXES = (0.02, 0.1, 0.3, 1.0)  # of equal masses in the proposal; with 1 it is the prior
FIRST, LARGEST = 32, 2**16  # numbers made at once
LIMIT = 2**22


def cuts(budget: int, dims: int) -> Ints:
    """The bits of each dimension, int64 (D,): the budget in equal shares, what is left over to the first dimensions."""
    shares = np.full(dims, budget // dims, dtype=np.int64)
    shares[: budget % dims] += 1
    return np.minimum(shares, MOST_CELLS)


@dataclass(frozen=True, eq=False)
class Proposal:
    """Masses w of each dimension's cells (as cumulative sums), gains ln 2^b w(cell), and D_inf and KL of Q and p'."""

    cumulative: list[Floats]
    gains: list[Floats]
    top: float
    kl: float

    @classmethod
    def of(cls, ratio: Ratio, shares: Ints, mix: float) -> Proposal:
        """Cells with a share ``1 - mix`` of Q's masses and ``mix`` of equal ones, which bounds q / p' in the tails."""
        from scipy.special import ndtr

        cumulative, gains, top, kl = [], [], ratio.top, ratio.kl
        for d, bits in enumerate(shares.tolist()):
            cells = 1 << bits
            edges = np.concatenate([[-np.inf], normal_quantile_at(np.arange(1, cells) / cells), [np.inf]])
            true = np.diff(ndtr((edges - ratio.loc[d]) / ratio.scale[d]))
            mass = (1 - mix) * true + mix / cells
            gain = np.log(mass * cells)
            beyond = np.maximum(np.maximum(edges[:-1] - ratio.centre[d], ratio.centre[d] - edges[1:]), 0.0)
            cumulative.append(np.cumsum(mass))
            gains.append(gain)
            top -= float((ratio.curvature[d] * np.square(beyond) + gain).min())
            kl -= float((true * gain).sum())
        return cls(cumulative, gains, top, max(0.0, kl))


@dataclass(frozen=True)
class Partitioned(IndexCoder):
    """A coder whose message is a bin and a rank in it."""

    def codes(self, budget: int) -> tuple[Code, ...]:
        """The bin at its bits, and octaves of the rank."""
        return FlatCode(min(budget, MOST_BINS)), OctaveCode(RANKS)

    def place(self, numbers: Sequence[int], key: Key, budget: int, dims: int) -> Floats:
        """The candidate of that rank in the bin."""
        bins = min(budget, MOST_BINS)
        number, rank = checked(numbers[0], 1 << bins) - 1, checked(numbers[1], 2 * LIMIT)
        sample: Floats = _candidates(key, np.array([number]), np.array([rank]), cuts(bins, dims))[0]
        return sample

    def effort(self, proposal: Proposal) -> float:
        """What the encoder keeps small when it chooses its proposal, in nats."""
        raise NotImplementedError(f"{type(self).__name__} defines no effort")

    def count(self, proposal: Proposal) -> tuple[int, bool]:
        """How many candidates to look at, at most, and whether all of them."""
        raise NotImplementedError(f"{type(self).__name__} defines no count")

    def search(self, ratio: Ratio, key: Key, budget: int) -> Found:
        """The least of ln T + energy under the proposal, T being arrivals or a fixed number of ordered ones."""
        dims = len(ratio.loc)
        shares = cuts(min(budget, MOST_BINS), dims)
        proposal = min((Proposal.of(ratio, shares, mix) for mix in MIXES), key=self.effort)
        last, every = self.count(proposal)
        if every and last * dims > MOST_NUMBERS:
            raise too_many(self.name, MOST_NUMBERS // dims, ratio)
        last = min(last, max(1, MOST_NUMBERS // dims))
        seen: dict[int, int] = {}
        best, least, now, first, size = (1, 1), math.inf, 0.0, 0, FIRST
        while first < last:
            count = min(max(1, size // dims), last - first)
            cells = _cells(proposal, key, first, count, dims)
            bins = _number(cells, shares)
            ranks = _ranks(bins, seen)
            gaps = exponentials(private(key), 0, count, first)
            times = now + np.cumsum(gaps * (last / (last - first - np.arange(count)) if every else 1.0))
            costs = np.log(times) + ratio.energy(_candidates(key, bins, ranks, shares))
            costs += sum(gain[cells[:, d]] for d, gain in enumerate(proposal.gains)) + proposal.top - ratio.top
            if costs.min() < least:
                i = int(costs.argmin())
                best, least = (int(bins[i]) + 1, int(ranks[i])), float(costs[i])
            now, first, size = float(times[-1]), first + count, min(2 * size, LARGEST)
            if not every and math.log(now) >= least:
                return Found(best, first)
        if every:
            return Found(best, last)
        raise too_many(self.name, last, ratio)


@CODERS.register("sp_pfr")
@dataclass(frozen=True)
class PartitionedPfr(Partitioned):
    """Exact: the Poisson functional representation under the proposal."""

    name = "sp_pfr"

    def effort(self, proposal: Proposal) -> float:
        """Its D_inf: the search takes about as many candidates as its exponential."""
        return proposal.top

    def count(self, proposal: Proposal) -> tuple[int, bool]:
        """Until no later candidate can be chosen."""
        if proposal.top > math.log(LIMIT):
            raise TesseraError(
                f"sp_pfr would look at about 2**{proposal.top / LN2:.0f} candidates, and {LIMIT} is the limit: use "
                "smaller blocks, sp_orc, or beam_search."
            )
        return LIMIT, False


@CODERS.register("sp_orc")
@dataclass(frozen=True)
class PartitionedOrc(Partitioned):
    """Nearly exact, in fixed time: ordered random coding under the proposal, of 2^(KL(Q || p') + extra_bits)."""

    name = "sp_orc"
    extra_bits: float = 2.0

    def effort(self, proposal: Proposal) -> float:
        return proposal.kl

    def count(self, proposal: Proposal) -> tuple[int, bool]:
        """Fixed by the KL that is left."""
        bits = math.ceil(proposal.kl / LN2 + self.extra_bits)
        if not 0 <= bits <= math.log2(LIMIT):
            raise TesseraError(
                f"sp_orc would look at 2**{bits} candidates, and {LIMIT} is the limit: use smaller blocks, or "
                "beam_search."
            )
        return 1 << bits, True


def _cells(proposal: Proposal, key: Key, first: int, count: int, dims: int) -> Ints:
    """Cells of each dimension as proposed: int64 (count, D); the encoder's own randomness."""
    chance = uniforms(private(key), np.arange(first, first + count) + 1, dims)
    drawn = [np.searchsorted(c[:-1], chance[:, d] * c[-1]) for d, c in enumerate(proposal.cumulative)]
    return np.stack(drawn, axis=1).astype(np.int64)


def _number(cells: Ints, shares: Ints) -> Ints:
    """Cells (count, D) as one number, the first dimension in the highest bits."""
    number = np.zeros(len(cells), dtype=np.int64)
    for d, bits in enumerate(shares.tolist()):
        number = number << bits | cells[:, d]
    return number


def _ranks(bins: Ints, seen: dict[int, int]) -> Ints:
    """How many times each bin was proposed, this one included; ``seen`` is kept up to date."""
    ranks = []
    for number in bins.tolist():
        seen[number] = seen.get(number, 0) + 1
        ranks.append(seen[number])
    return np.array(ranks, dtype=np.int64)


def _candidates(key: Key, bins: Ints, ranks: Ints, shares: Ints) -> Floats:
    """Candidates in the units of the prior: float64 (count, D); the quantile bits of a bin, then random ones."""
    inside = uniforms(key, bins << 32 | ranks, len(shares))
    below = np.cumsum(shares[::-1])[::-1] - shares
    cells = bins[:, None] >> below & (1 << shares) - 1
    return normal_quantile_at((cells + inside) / (1 << shares))
