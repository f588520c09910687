"""A learned autoregressive prior over codes, evaluated in whole numbers.

    causal neighbours' codes -> embeddings -> hidden layer (+ this position's earlier books) -> logits of the next code

Each position sees twelve neighbours: two rows above (two to either side) and two to the left. All positions with the
same x + 3 y are coded at once, since nothing they see is among them. For coding, weights and activations are rounded
to fixed point; products of whole numbers below 2**53 are exact in float64 in any order of summation, so every machine
and every library gets the same frequency tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from core.entropy import Decoder, Encoder, Tables
from core.tables import PRECISION

REACH = 2
NEIGHBOURS = (*((dy, dx) for dy in (-2, -1) for dx in range(-2, 3)), (0, -2), (0, -1))
WIDTH, HIDDEN = 12, 64
FINE = 2.0**10  # of weights
COARSE = 2.0**8  # of activations
LOGIT = 64  # steps per nat
FLOOR = 14 * LOGIT  # a code further below the best one than this counts as if it were here

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Visit = Callable[[int, Tables, Codes, Codes], NDArray[Any]]  # (book, tables, rows, columns) -> the codes there


class Prior(nn.Module):
    """Nats per code of codes (B, books, h, w); ``fixed()`` gives the form that codes streams."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed = nn.ModuleList(nn.Embedding(size + 1, WIDTH) for size in sizes)  # the last: outside the image
        self.context = nn.Linear(len(NEIGHBOURS) * WIDTH, HIDDEN)
        self.current = nn.ModuleList(nn.Linear(WIDTH, HIDDEN, bias=False) for _ in sizes[1:])
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, size) for size in sizes)

    def forward(self, codes: Tensor) -> Tensor:
        """Cross-entropy in nats of codes (B, books used, h, w), the mean per book, (books used,); no gradient to them.

        Fewer books than the prior knows are its first ones; the others still get a (zero) gradient.
        """
        codes = codes.detach()
        hidden = self.context(self._neighbourhood(codes))
        nats = []
        for book, head in enumerate(self.heads[: codes.shape[1]]):
            if book:
                hidden = hidden + self.current[book - 1](self.embed[book - 1](codes[:, book - 1]))
            logits = head(F.relu(hidden)).float()
            nats.append(F.cross_entropy(logits.flatten(0, -2), codes[:, book].flatten()))
        idle = sum((p.sum() for p in self.parameters()), start=torch.zeros((), device=codes.device)) * 0
        return torch.stack(nats) + idle

    def _neighbourhood(self, codes: Tensor) -> Tensor:
        """(B, books, h, w) -> (B, h, w, neighbours * WIDTH), books summed."""
        height, width = codes.shape[2:]
        framed = torch.stack([
            self.embed[b](F.pad(codes[:, b], (REACH, REACH, REACH, 0), value=self.sizes[b]))
            for b in range(codes.shape[1])
        ]).sum(0)  # fmt: skip
        seen = [framed[:, REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width] for dy, dx in NEIGHBOURS]
        return torch.cat(seen, dim=-1)

    def fixed(self) -> FixedPrior:
        """The prior in whole numbers, from the weights as they are now."""
        return FixedPrior(self)


class FixedPrior:
    """The same network on whole numbers (held in float64), and the coding of a grid of codes with it."""

    def __init__(self, prior: Prior) -> None:
        self.sizes = prior.sizes
        self.embed = [_whole(e.weight, COARSE) for e in prior.embed]
        self.context, self.bias = _whole(prior.context.weight, FINE).T, _whole(prior.context.bias, FINE * COARSE)
        self.current = [_whole(c.weight, FINE).T for c in prior.current]
        self.heads = [(_whole(h.weight, FINE).T, _whole(h.bias, FINE * COARSE)) for h in prior.heads]

    def encode(self, codes: Codes, encoder: Encoder) -> None:
        """Append codes (books, h, w) to a stream."""

        def step(book: int, tables: Tables, ys: Codes, xs: Codes) -> Codes:
            symbols: Codes = codes[book, ys, xs]
            encoder.encode(symbols, np.arange(len(ys)), tables)
            return symbols

        self._walk(codes.shape, step)

    def decode(self, shape: tuple[int, int, int], decoder: Decoder) -> Codes:
        """The next codes (books, h, w) of a stream."""
        return self._walk(shape, lambda book, tables, ys, xs: decoder.decode(np.arange(len(ys)), tables))

    def bits(self, codes: Codes) -> float:
        """What codes (books, h, w) cost under the integer tables."""
        total = 0.0

        def step(book: int, tables: Tables, ys: Codes, xs: Codes) -> Codes:
            nonlocal total
            symbols: Codes = codes[book, ys, xs]
            rows = np.array([row[s] for row, s in zip(tables.frequencies, symbols, strict=True)])
            total += PRECISION * len(rows) - float(np.log2(rows).sum())
            return symbols

        self._walk(codes.shape, step)
        return total

    def _walk(self, shape: tuple[int, ...], step: Visit) -> Codes:
        """Visit the grid wave by wave; ``step`` takes tables for the positions of a wave and says their codes."""
        books, height, width = shape
        framed = np.stack([np.full((height + REACH, width + 2 * REACH), size) for size in self.sizes[:books]])
        for ys, xs in waves(height, width):
            seen = [sum(self.embed[b][framed[b, ys + REACH + dy, xs + REACH + dx]] for b in range(books))
                    for dy, dx in NEIGHBOURS]  # fmt: skip
            hidden = np.concatenate(seen, axis=1) @ self.context + self.bias
            for book in range(books):
                if book:
                    hidden = (
                        hidden + self.embed[book - 1][framed[book - 1, ys + REACH, xs + REACH]] @ self.current[book - 1]
                    )
                weight, bias = self.heads[book]
                logits = np.floor(np.maximum(hidden, 0) / FINE) @ weight + bias
                tables = logit_tables(np.floor(logits / (FINE * COARSE / LOGIT)).astype(np.int64))
                framed[book, ys + REACH, xs + REACH] = step(book, tables, ys, xs)
        grid: Codes = framed[:, REACH:, REACH : REACH + width]
        return grid


def waves(height: int, width: int) -> Iterator[tuple[Codes, Codes]]:
    """Rows and columns of the positions with the same x + 3 y, in ascending order of that sum."""
    for wave in range(width + 3 * (height - 1)):
        ys = np.arange(max(0, -(-(wave - width + 1) // 3)), min(height - 1, wave // 3) + 1)
        if len(ys):
            yield ys, wave - 3 * ys


@cache
def exponentials() -> Codes:
    """round(2**20 exp(-k / LOGIT)) for k = 0..FLOOR, at least 1; no value is near a rounding edge."""
    return np.maximum(np.rint(2.0**20 * np.exp(-np.arange(FLOOR + 1) / LOGIT)), 1).astype(np.int64)


def logit_tables(logits: Codes) -> Tables:
    """Frequency tables of whole logits (n, K) in steps of 1 / LOGIT nats; integer arithmetic throughout."""
    weights = exponentials()[np.minimum(logits.max(1, keepdims=True) - logits, FLOOR)]
    cumulative = np.concatenate([np.zeros((len(weights), 1), np.int64), np.cumsum(weights, axis=1)], axis=1)
    shared = cumulative * ((1 << PRECISION) - weights.shape[1]) // cumulative[:, -1:]  # below 2**20 K 2**24 < 2**63
    return Tables(tuple(np.diff(shared, axis=1) + 1), np.zeros(len(weights), np.int64))


def _whole(weight: Any, scale: float) -> Floats:
    whole: Floats = np.rint(weight.detach().cpu().double().numpy() * scale)
    return whole
