"""Base of the toy codes, and how they are measured: cross-entropy, real entropy-coded bits, distortion.

Distortion is the squared error summed over the dimensions of a vector (SSE), rates are bits per vector, and the
Lagrangian is L = R + lambda D throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from core.frequencies import Tables, categorical_table, entropy_bits
from vq.toy.sources import Source

TEST_SEED = 82913749
TEST_VECTORS = 1_000_000
_SCORES = 2**18  # scores held at once by the search
_VALUES = 2**24  # floats of a chunk of test vectors, and 64 of those in all for sources of many dimensions


class CodeError(TesseraError):
    """A codebook or setting that cannot be used."""


Codes = NDArray[np.int32]  # (n, s): s symbols per vector


class ToyCode(Protocol):
    """A code for vectors: symbols in columns, each column coded with a table of its own."""

    @property
    def tables(self) -> Tables:
        """Integer frequency tables, one per column of the symbols."""

    def quantize(self, x: Tensor) -> Codes:
        """Symbols (n, s) of vectors (n, d)."""

    def dequantize(self, codes: Codes) -> Tensor:
        """Reconstructions (n, d), float32, of symbols (n, s)."""

    def bits(self, codes: Codes) -> Tensor:
        """The model's own cost of each vector's symbols in bits, (n,), float64."""


def nearest(x: Tensor, codebook: Tensor, costs: Tensor, lmb: float) -> tuple[Tensor, Tensor]:
    """argmin_i costs_i + lmb |x - c_i|^2 for vectors (n, d) and codewords (K, d): indices int64 (n,) and minima (n,).

    Exact up to the rounding of float32; memory stays at a few megabytes whatever n is.
    """
    weights = (codebook * (-2 * lmb)).T.contiguous()
    bias = costs + lmb * codebook.square().sum(1)
    index = torch.empty(len(x), dtype=torch.int64)
    value = torch.empty(len(x), dtype=x.dtype)
    rows = max(1, _SCORES // len(codebook))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        torch.min(torch.addmm(bias, x[part], weights), 1, out=(value[part], index[part]))
    return index, value.add_(x.square().sum(1), alpha=lmb)


@dataclass(frozen=True, eq=False)
class Codebook:
    """Codewords (K, d) float32 with probabilities (K,) float64 that sum to one.

    Vectors go to argmin_i -log2 p_i + lmb |x - c_i|^2; with ``lmb`` infinite to the nearest codeword.
    """

    points: Tensor
    probabilities: Tensor
    lmb: float

    def __post_init__(self) -> None:
        shapes = self.points.ndim == 2 and self.probabilities.shape == self.points.shape[:1]
        if not shapes or not len(self.points):
            raise CodeError("a codebook has codewords (K, d) and as many probabilities, K at least 1.")
        if not (torch.isfinite(self.points).all() and (self.probabilities >= 0).all() and self.lmb > 0):
            raise CodeError("a codebook needs finite codewords, probabilities of at least 0 and a positive lambda.")

    @cached_property
    def costs(self) -> Tensor:
        """-log2 p, float64 (K,)."""
        return -self.probabilities.log2()

    @cached_property
    def tables(self) -> Tables:
        """One frequency table over the K codewords."""
        return categorical_table(self.probabilities.numpy())

    def quantize(self, x: Tensor) -> Codes:
        """Indices of the chosen codewords, (n, 1)."""
        if x.ndim != 2 or x.shape[1] != self.points.shape[1]:
            raise CodeError(f"vectors of this codebook are (n, {self.points.shape[1]}), not {tuple(x.shape)}.")
        if not torch.isfinite(x).all():
            raise CodeError("vectors to quantise must be finite: there are infinities or NaNs among them.")
        plain = math.isinf(self.lmb)
        costs = torch.zeros(len(self.points)) if plain else self.costs.float().clamp(max=1e30)
        index, _ = nearest(x, self.points, costs, 1.0 if plain else self.lmb)
        return index[:, None].int().numpy()

    def dequantize(self, codes: Codes) -> Tensor:
        """The codewords of indices (n, 1)."""
        return self.points[torch.from_numpy(codes[:, 0].astype(np.int64))]

    def bits(self, codes: Codes) -> Tensor:
        """-log2 p of each index."""
        return self.costs[torch.from_numpy(codes[:, 0].astype(np.int64))]


@dataclass(frozen=True)
class Outcome:
    """Averages over the test vectors of a source; ``*_se`` are standard errors of the means.

    ``rate`` is the cross-entropy under the model, ``entropy`` the empirical entropy of the symbols (columns summed),
    ``coded_rate`` the length of the entropy-coded stream, all in bits per vector; ``live`` counts distinct code
    vectors that occur.
    """

    rate: float
    distortion: float
    entropy: float
    coded_rate: float
    live: int
    vectors: int
    rate_se: float
    distortion_se: float

    def loss(self, lmb: float) -> float:
        """R + lambda D."""
        return self.rate + lmb * self.distortion

    def as_dict(self) -> dict[str, Any]:
        """The numbers as JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def evaluate(code: ToyCode, source: Source, vectors: int = TEST_VECTORS, seed: int = TEST_SEED) -> Outcome:
    """Measure a code on fresh vectors of a source; the stream is decoded again and must give the same symbols.

    For sources of many dimensions fewer vectors are drawn (2**26 values in all); ``Outcome.vectors`` says how many.
    """
    vectors = max(1, min(vectors, 2**26 // source.dim))
    sums, parts = torch.zeros(4, dtype=torch.float64), []
    for x in _chunks(source, vectors, seed):
        codes = code.quantize(x)
        error = (x - code.dequantize(codes)).double().square().sum(1)
        bits = code.bits(codes)
        sums += torch.stack((bits.sum(), error.sum(), bits.square().sum(), error.square().sum()))
        parts.append(codes)
    symbols = np.concatenate(parts)
    mean = (sums / vectors).tolist()
    return Outcome(
        rate=mean[0],
        distortion=mean[1],
        entropy=sum(entropy_bits(np.bincount(column - column.min())) for column in symbols.T),
        coded_rate=coded_bits(symbols, code.tables) / vectors,
        live=_distinct(symbols),
        vectors=vectors,
        rate_se=math.sqrt(max(0.0, mean[2] - mean[0] ** 2) / vectors),
        distortion_se=math.sqrt(max(0.0, mean[3] - mean[1] ** 2) / vectors),
    )


def coded_bits(symbols: Codes, tables: Tables) -> int:
    """Bits of the entropy-coded stream of symbols (n, s), column j under table j, decoded again to be sure."""
    index = np.broadcast_to(np.arange(symbols.shape[1]), symbols.shape)
    encoder = Encoder()
    encoder.encode(symbols, index, tables)
    payload = encoder.finish()
    if not np.array_equal(Decoder(payload).decode(index, tables), symbols):
        raise CodeError("the entropy-coded stream did not decode to the symbols it was made from.")
    return 8 * len(payload)


def frequencies(code: Codebook, x: Tensor) -> Codebook:
    """The same codewords with the probabilities that the vectors x give them."""
    counts = np.bincount(code.quantize(x)[:, 0], minlength=len(code.points))
    return replace(code, probabilities=torch.from_numpy(counts / counts.sum()))


def _chunks(source: Source, vectors: int, seed: int) -> Iterator[Tensor]:
    rng = np.random.default_rng(seed)
    size = max(1, min(2**17, _VALUES // source.dim))
    for start in range(0, vectors, size):
        yield source.sample(min(size, vectors - start), rng)


def _distinct(symbols: Codes) -> int:
    low = symbols.min(0).astype(np.int64)
    widths = symbols.max(0).astype(np.int64) - low + 1
    if float(np.prod(widths.astype(float))) > 2**62:
        return len(np.unique(symbols, axis=0))
    flat = np.zeros(len(symbols), dtype=np.int64)
    for column, width, start in zip(symbols.T, widths, low, strict=True):
        flat = flat * width + (column - start)
    return len(np.unique(flat))
