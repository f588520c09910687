"""The coders of iREC that search: importance sampling and beam search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from core.frequencies import Tables, categorical_table
from rec.coders.contract import CODERS, Coded, Symbols
from rec.coders.irec.search import Batch, Singles, replay, search
from rec.coders.irec.stepwise import Stepwise, check_symbols
from rec.gaussian import Floats, Gaussian, kl, log_ratio, standardised
from rec.randomness import Key, exponentials

MAX_SAMPLES = 2**20
_WORK = 2**18  # numbers in the candidates and paths of the blocks that are searched together
_POOR_SHARE, _POOR_NATS = 0.4, 12.0  # code length less ln q / p: that of a poor sample exceeds both, 0.4 KL and 12
_MANY_BEAMS = 8  # fewer of them leave more than that share of the KL behind in every block
_NOISE = 1 << 62  # the path of the randomness that only the encoder uses


@dataclass(frozen=True)
class Searching(Stepwise):
    """A coder that scores ``samples`` candidates per step and path, and keeps the best ``beams`` paths."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise TesseraError(
                f"{self.name} cannot try more than 2**20 candidates a step: lower kl_per_partition or what scales it."
            )

    @property
    def samples(self) -> int:
        """Candidates per step and path, n."""
        raise NotImplementedError(f"{type(self).__name__} defines no samples")

    @property
    def beams(self) -> int:
        """Paths kept per step."""
        return 1

    @property
    def step_nats(self) -> float:
        """What the publication counts for an index."""
        return math.log(self.samples)

    @property
    def second_looks(self) -> tuple[float, ...]:
        """Factors of the number of steps for blocks that came out poor."""
        return ()

    def encode(self, target: Gaussian, prior: Gaussian, key: Key) -> Coded:
        """Code one block, Gaussian (D,)."""
        return self.encode_many(_row(target), _row(prior), [key])[0]

    def decode(self, symbols: Symbols, prior: Gaussian, key: Key) -> Floats:
        """The sample of one block, float64 (D,)."""
        sample: Floats = self.decode_many([symbols], _row(prior), [key])[0]
        return sample

    def encode_many(self, target: Gaussian, prior: Gaussian, keys: Sequence[Key]) -> list[Coded]:
        """Code each row of Gaussians (M, D); a row that came out poor is coded again with more steps."""
        nats = kl(target, prior).sum(-1)
        steps = [self.steps(x) for x in nats.tolist()]
        coded = self._encode_in(steps, target, prior, keys)
        for growth in self.second_looks:
            excess = np.array([c.ideal_nats for c in coded]) - log_ratio([c.sample for c in coded], target, prior)
            poor = np.flatnonzero(excess > np.maximum(_POOR_SHARE * nats, _POOR_NATS))
            if not poor.size:
                break
            rows = (target.rows(poor), prior.rows(poor), [keys[i] for i in poor.tolist()])
            again = self._encode_in([self.steps(growth * nats[i]) for i in poor], *rows)
            ratios = log_ratio([c.sample for c in again], rows[0], rows[1])
            for i, other, ratio in zip(poor.tolist(), again, ratios, strict=True):
                if other.ideal_nats - ratio < excess[i]:
                    coded[i] = other
        return coded

    def _encode_in(self, steps: Sequence[int], target: Gaussian, prior: Gaussian, keys: Sequence[Key]) -> list[Coded]:
        """Code rows in given numbers of steps, most first, and as many together as fit into the caches."""
        loc, scale = standardised(target, prior)
        variance, dims = np.square(scale), loc.shape[-1]
        codes = self.codes(loc, variance, steps)
        symbols: list[Symbols] = [()] * len(steps)
        for part in _parts(steps, (self.beams + self.samples) * dims):
            seed, layer, blocks = _streams([keys[i] for i in part])
            shares = [self.shares(codes[i], steps[i], dims) for i in part]
            batch = Batch(loc[part], variance[part], shares, seed, layer, blocks)
            for i, path in zip(part, self._search(batch), strict=True):
                symbols[i] = (codes[i], *path.tolist())
        samples = self.decode_many(symbols, prior, keys)
        return [Coded(z, s, k * self.step_nats) for z, s, k in zip(samples, symbols, steps, strict=True)]

    def decode_many(self, blocks: Sequence[Symbols], prior: Gaussian, keys: Sequence[Key]) -> Floats:
        """The samples, float64 (M, D)."""
        for symbols in blocks:
            check_symbols(symbols, self.samples)
        dims, out = prior.shape[-1], np.empty(prior.shape)
        for part in _parts([len(symbols) for symbols in blocks], dims):
            seed, layer, numbers = _streams([keys[i] for i in part])
            paths = [np.array(blocks[i][1:], dtype=np.int64) for i in part]
            shares = [self.shares(blocks[i][0], len(path), dims) for i, path in zip(part, paths, strict=True)]
            out[part] = replay(paths, shares, dims, seed, layer, numbers)
        sample: Floats = prior.loc + prior.scale * out
        return sample

    def write_indices(self, indices: Sequence[int], encoder: Encoder) -> None:
        """Append indices at log2(n) bits each: the best of n equal candidates can be any of them."""
        encoder.encode(np.array(indices, dtype=np.int32), np.zeros(len(indices), np.int64), self._table)

    def read_indices(self, count: int, decoder: Decoder) -> list[int]:
        found: list[int] = decoder.decode(np.zeros(count, np.int64), self._table).tolist()
        return found

    @cached_property
    def _table(self) -> Tables:
        return categorical_table(np.ones(self.samples, dtype=np.int64))

    def _search(self, batch: Batch) -> list[NDArray[np.int64]]:
        return search(batch, self.samples, self.beams)


@CODERS.register("irec_importance")
@dataclass(frozen=True)
class ImportanceSampling(Searching):
    """One path and ``exp(coding_bits ln 2)`` candidates per step; coding_bits is kl_per_partition / ln 2 by default.

    ``alpha`` infinite takes the best candidate; ``alpha`` from 1 on draws one in proportion to (q / p)**alpha.
    """

    alpha: float = math.inf
    coding_bits: float | None = None

    name: ClassVar[str] = "irec_importance"

    def __post_init__(self) -> None:
        if not self.alpha >= 1:
            raise TesseraError(f"alpha={self.alpha} of irec_importance must be 1 or more (inf takes the best).")
        if self.coding_bits is not None and not 0 < self.coding_bits <= 20:
            raise TesseraError(f"coding_bits={self.coding_bits} of irec_importance must be above 0 and at most 20.")
        super().__post_init__()

    @property
    def step_nats(self) -> float:
        """What the publication counts for an index: coding_bits, although ln n is needed."""
        return self.kl_per_partition if self.coding_bits is None else self.coding_bits * math.log(2)

    @property
    def samples(self) -> int:
        """Candidates per step, the next whole number."""
        return math.ceil(math.exp(min(self.step_nats, 100.0)))

    def _search(self, batch: Batch) -> list[NDArray[np.int64]]:
        if self.alpha == math.inf:
            return search(batch, self.samples, 1)

        def gumbel(step: int, blocks: NDArray[np.int64], shape: tuple[int, ...]) -> Singles:
            keys = (Key(batch.seed, batch.layer, int(block), step) for block in blocks)
            rows = np.stack([-np.log(exponentials(key, _NOISE, shape[1])) for key in keys])
            return (rows / self.alpha).astype(np.float32)

        return search(batch, self.samples, 1, gumbel)


@CODERS.register("beam_search")
@dataclass(frozen=True)
class BeamSearch(Searching):
    """``n_beams`` paths, int(exp(kl_per_partition * extra_samples)) candidates per step for each of them."""

    n_beams: int = 20
    extra_samples: float = 1.0

    name: ClassVar[str] = "beam_search"

    def __post_init__(self) -> None:
        if isinstance(self.n_beams, bool) or not isinstance(self.n_beams, int) or not 1 <= self.n_beams <= 2**16:
            raise TesseraError(f"n_beams={self.n_beams} of beam_search must be a whole number from 1 to 65536.")
        if not (math.isfinite(self.extra_samples) and self.extra_samples > 0):
            raise TesseraError(f"extra_samples={self.extra_samples} of beam_search must be above 0.")
        super().__post_init__()

    @property
    def samples(self) -> int:
        return int(math.exp(min(self.kl_per_partition * self.extra_samples, 100.0)))

    @property
    def beams(self) -> int:
        return self.n_beams

    @property
    def spare_nats(self) -> float:
        """Half of what the paths of the last step add to its candidates."""
        return math.log(self.n_beams) / 2

    @property
    def second_looks(self) -> tuple[float, ...]:
        """Up to 60 % more steps, unless the schedule is the published one or the paths are too few to expect better."""
        return (1.1, 1.3, 1.6) if self.schedule == "equal_kl" and self.n_beams >= _MANY_BEAMS else ()


def _row(gaussian: Gaussian) -> Gaussian:
    if len(gaussian.shape) != 1:
        raise TesseraError(f"a block is a Gaussian of shape (D,), not {gaussian.shape}.")
    return Gaussian(gaussian.loc[None], gaussian.scale[None])


def _parts(lengths: Sequence[int], numbers: int) -> list[NDArray[np.int64]]:
    """Blocks in groups worked on together, the longest first; each block needs so many numbers."""
    together = max(1, _WORK // max(numbers, 1))
    order = np.argsort([-length for length in lengths], kind="stable")
    return [order[i : i + together] for i in range(0, len(order), together)]


def _streams(keys: Sequence[Key]) -> tuple[int, int, NDArray[np.int64]]:
    """Seed, layer and block numbers of keys that differ in the block only."""
    first = keys[0]
    if any((k.seed, k.layer, k.step) != (first.seed, first.layer, 0) for k in keys):
        raise TesseraError("blocks coded together share seed and layer, and their keys start at step 0.")
    return first.seed, first.layer, np.array([k.block for k in keys], dtype=np.int64)
