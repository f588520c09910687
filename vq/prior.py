"""A learned autoregressive prior over codes, evaluated in whole numbers.

    causal neighbours' codes -> embeddings -> hidden layer (+ this position's earlier books) -> logits of the next code

Each position sees twelve neighbours: two rows above (two to either side) and two to the left. All positions with the
same x + 3 y are coded at once, since nothing they see is among them. For coding, weights and activations are rounded
to fixed point; products of whole numbers below 2**53 are exact in float64 in any order of summation, so every machine
and every library gets the same frequency tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from core.entropy import Decoder, Encoder
from core.finite import NumbersError
from core.frequencies import PRECISION, Tables
from core.modules import Modules

REACH = 2
NEIGHBOURS = (*((dy, dx) for dy in (-2, -1) for dx in range(-2, 3)), (0, -2), (0, -1))
WIDTH, HIDDEN = 12, 64
FINE = 2.0**10  # of weights
COARSE = 2.0**8  # of activations
LOGIT = 64  # steps per nat
PASSES, STEPS = 1, (100, 1000)  # over the codes that the prior learns from, and the least and most steps
POSITIONS, WINDOW = 4096, 32  # codes of one step, and the largest side of a window that is cut from a grid
RATE = 5e-3  # of Adam at the start; it falls to zero in a straight line
EXACT = 2.0**53  # below it float64 has every whole number
FLOOR = 14 * LOGIT  # a code further below the best one than this counts as if it were here

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class Prior(nn.Module):
    """Nats per code of codes (B, books, h, w); ``fixed()`` gives the form that codes streams."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed = Modules(nn.Embedding(size + 1, WIDTH) for size in sizes)  # the last: outside the image
        self.context = nn.Linear(len(NEIGHBOURS) * WIDTH, HIDDEN)
        self.current = nn.ModuleList(nn.Linear(WIDTH, HIDDEN, bias=False) for _ in sizes[1:])
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, size) for size in sizes)

    def forward(self, codes: Tensor) -> Tensor:
        """Cross-entropy in nats of codes (B, books used, h, w), the mean per book, (books used,); no gradient to them.

        Fewer books than the prior knows are its first ones.
        """
        codes = codes.detach()
        hidden = self.context(self._neighbourhood(codes))
        nats = []
        for book, head in enumerate(self.heads[: codes.shape[1]]):
            if book:
                hidden = hidden + self.current[book - 1](self.embed[book - 1](codes[:, book - 1]))
            logits = head(F.relu(hidden)).float()
            nats.append(F.cross_entropy(logits.flatten(0, -2), codes[:, book].flatten()))
        return torch.stack(nats)

    @torch.no_grad()
    def bits(self, codes: Tensor) -> float:
        """What codes (B, books used, h, w) cost, in floats."""
        return float(self(codes).sum()) * codes[:, 0].numel() / math.log(2)

    def fit(self, grids: Sequence[Tensor]) -> None:
        """Learn from grids of codes (B, books, h, w), of one or more sizes; the same in every call."""
        fitting(self, grids, RATE, PASSES, STEPS)

    def _neighbourhood(self, codes: Tensor) -> Tensor:
        """(B, books, h, w) -> (B, h, w, neighbours * WIDTH), books summed."""
        height, width = codes.shape[2:]
        framed = torch.stack([
            self.embed[b](F.pad(codes[:, b], (REACH, REACH, REACH, 0), value=self.sizes[b]))
            for b in range(codes.shape[1])
        ]).sum(0)  # fmt: skip
        return seen(framed, height, width)

    def fixed(self) -> FixedPrior:
        """The prior in whole numbers, from the weights as they are now."""
        return FixedPrior(self)


def fitting(
    prior: nn.Module,
    grids: Sequence[Tensor],
    rate: float,
    passes: int,
    least_most: tuple[int, int],
    begin: Callable[[float], None] = lambda share: None,
) -> None:
    """Minimise the sum of what ``prior`` gives for codes cut from grids (B, books, h, w), of one or more sizes.

    Adam, whose rate falls to zero in a straight line; ``least_most`` bounds the steps that ``passes`` over all codes
    take, and ``begin`` is told before each which share of them is done. The same in every call.
    """
    positions = sum(len(codes) * codes[0, 0].numel() for codes in grids)
    steps = int(np.clip(passes * positions // POSITIONS, *least_most))
    draw = torch.Generator().manual_seed(0)
    order = torch.multinomial(torch.tensor([float(c[:, 0].numel()) for c in grids]), steps, True, generator=draw)
    prior.requires_grad_(True)
    optimizer = torch.optim.Adam(prior.parameters(), lr=rate)
    for step, place in enumerate(order.tolist()):
        begin(step / steps)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        prior(_sample(grids[place], draw)).sum().backward()
        optimizer.step()
    prior.requires_grad_(False)


def seen(framed: Tensor, height: int, width: int) -> Tensor:
    """What each position sees of embeddings (B, h + REACH, w + 2 REACH, c): (B, h, w, neighbours * c)."""
    parts = [framed[:, REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width] for dy, dx in NEIGHBOURS]
    return torch.cat(parts, dim=-1)


class FixedPrior:
    """The same network on whole numbers (held in float64), and the coding of a grid of codes with it."""

    def __init__(self, prior: Prior) -> None:
        self.sizes = prior.sizes
        self.embed = [_whole(e.weight, COARSE) for e in prior.embed]
        self.context, self.bias = _whole(prior.context.weight, FINE).T, _whole(prior.context.bias, FINE * COARSE)
        self.current = [_whole(c.weight, FINE).T for c in prior.current]
        self.heads = [(_whole(h.weight, FINE).T, _whole(h.bias, FINE * COARSE)) for h in prior.heads]
        if not self._largest() < EXACT:
            raise NumbersError("the weights of the prior are too large for exact arithmetic: use others.")

    def _largest(self) -> float:
        """No number of a pass is above this in magnitude."""
        codes = [float(np.abs(e).max()) for e in self.embed]
        steps = [top * float(np.abs(c).sum(0).max()) for top, c in zip(codes, self.current, strict=False)]
        hidden = sum(codes) * float(np.abs(self.context).sum(0).max()) + float(np.abs(self.bias).max()) + sum(steps)
        return max(
            hidden, *(hidden / FINE * float(np.abs(w).sum(0).max()) + float(np.abs(b).max()) for w, b in self.heads)
        )

    def encode(self, codes: Codes, encoder: Encoder) -> None:
        """Append codes (books, h, w) to a stream: wave after wave, the books of a wave one after the other."""
        order = np.concatenate([np.full(len(ys), i) for i, (ys, _) in enumerate(waves(*codes.shape[1:]))])
        found = list(self._known(codes))
        rows = [row for _, frequencies in found for row in frequencies]
        places = np.argsort(np.tile(order, len(found)), kind="stable")
        symbols = np.concatenate([chosen for chosen, _ in found])[places]
        encoder.encode(symbols, np.arange(len(rows)), row_tables([rows[place] for place in places]))

    def decode(self, shape: tuple[int, int, int], decoder: Decoder) -> Codes:
        """The next codes (books, h, w) of a stream."""
        books, height, width = shape
        framed = self._framed(shape)
        for ys, xs in waves(height, width):
            hidden = self._hidden(framed, ys, xs)
            for book in range(books):
                hidden, frequencies = self._frequencies(book, hidden, framed, ys, xs)
                framed[book, ys + REACH, xs + REACH] = decoder.decode(np.arange(len(ys)), row_tables(frequencies))
        grid: Codes = framed[:, REACH:, REACH : REACH + width]
        return grid

    def bits(self, codes: Codes) -> float:
        """What codes (books, h, w) cost under the integer tables."""
        costs = (
            PRECISION * len(chosen) - np.log2(np.take_along_axis(frequencies, chosen[:, None], axis=1)).sum()
            for chosen, frequencies in self._known(codes)
        )
        return float(sum(costs))

    def _known(self, codes: Codes) -> Iterator[tuple[Codes, Codes]]:
        """Of each book the codes (n,) and frequencies (n, K) of all positions, in the order of the waves."""
        framed = self._framed(codes.shape)
        framed[:, REACH:, REACH:-REACH] = codes
        ys, xs = (np.concatenate(sides) for sides in zip(*waves(*codes.shape[1:]), strict=True))
        hidden = self._hidden(framed, ys, xs)
        for book, plane in enumerate(codes):
            hidden, frequencies = self._frequencies(book, hidden, framed, ys, xs)
            yield plane[ys, xs], frequencies

    def _framed(self, shape: tuple[int, ...]) -> Codes:
        """A grid (books, h, w) with the code for 'outside' everywhere, and above and beside it as far as is seen."""
        books, height, width = shape
        return np.stack([np.full((height + REACH, width + 2 * REACH), size) for size in self.sizes[:books]])

    def _hidden(self, framed: Codes, ys: Codes, xs: Codes) -> Floats:
        """What the neighbours of positions (n,) say, (n, HIDDEN), before the books of the positions themselves."""
        dy, dx = np.array(NEIGHBOURS).T
        rows, columns = REACH + ys[:, None] + dy, REACH + xs[:, None] + dx  # (n, neighbours)
        seen = sum(self.embed[b][plane[rows, columns]] for b, plane in enumerate(framed))
        hidden: Floats = np.reshape(seen, (len(ys), -1)) @ self.context + self.bias
        return hidden

    def _frequencies(self, book: int, hidden: Floats, framed: Codes, ys: Codes, xs: Codes) -> tuple[Floats, Codes]:
        """The hidden layer with the book before this one, whose codes are known, and this book's frequencies (n, K)."""
        if book:
            before = self.embed[book - 1][framed[book - 1, ys + REACH, xs + REACH]]
            hidden = hidden + before @ self.current[book - 1]
        weight, bias = self.heads[book]
        logits = np.floor(np.maximum(hidden, 0) / FINE) @ weight + bias
        return hidden, logit_frequencies(np.floor(logits / (FINE * COARSE / LOGIT)).astype(np.int64))


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


def logit_frequencies(logits: Codes) -> Codes:
    """Frequencies (n, K), at least 1 and of sum 2**24, of whole logits (n, K) in steps of 1 / LOGIT nats.

    Integer arithmetic throughout.
    """
    weights = exponentials()[np.minimum(logits.max(1, keepdims=True) - logits, FLOOR)]
    cumulative = np.concatenate([np.zeros((len(weights), 1), np.int64), np.cumsum(weights, axis=1)], axis=1)
    shared = cumulative * ((1 << PRECISION) - weights.shape[1]) // cumulative[:, -1:]  # below 2**20 K 2**24 < 2**63
    frequencies: Codes = np.diff(shared, axis=1) + 1
    return frequencies


def logit_tables(logits: Codes) -> Tables:
    """Tables of whole logits (n, K), see ``logit_frequencies``."""
    return row_tables(logit_frequencies(logits))


def row_tables(rows: Iterable[Codes]) -> Tables:
    """A table for each row of frequencies."""
    each = tuple(rows)
    return Tables(each, np.zeros(len(each), np.int64))


def _sample(codes: Tensor, draw: torch.Generator) -> Tensor:
    """A window at one place of some of the grids codes (B, books, h, w): about ``POSITIONS`` positions."""
    sides = [min(WINDOW, side) for side in codes.shape[2:]]
    y, x = (
        int(torch.randint(side - cut + 1, (), generator=draw)) for side, cut in zip(codes.shape[2:], sides, strict=True)
    )
    chosen = torch.randint(len(codes), (max(1, POSITIONS // math.prod(sides)),), generator=draw)
    return codes[chosen.to(codes.device), :, y : y + sides[0], x : x + sides[1]]


def _whole(weight: Any, scale: float) -> Floats:
    whole: Floats = np.rint(weight.detach().cpu().double().numpy() * scale)
    return whole
