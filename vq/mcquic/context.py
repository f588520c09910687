"""A context model over the code grids, an option: probabilities from coarser levels and causal neighbours.

    coarser level's codewords (3x3), causal neighbours' codewords (12)
        -> hidden layer (+ this position's earlier codebooks) -> logits of the next code

Levels go from the coarsest to the finest; within one, all positions with the same x + 3 y are coded at once, since
nothing they see is among them. For coding, codewords, weights and activations are whole numbers held in float64: their
sums of products stay below 2**53, where every order of summation gives the same, so that every machine finds the same
frequency tables.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from core.entropy import Decoder, Encoder
from core.frequencies import PRECISION, Tables
from core.modules import Modules, bias_of
from vq.mcquic.quantizer import codewords
from vq.prior import COARSE, FINE, LOGIT, NEIGHBOURS, REACH, logit_tables, waves

HIDDEN = 64
STEPS, BATCH, RATE = 800, 8, 3e-3  # of fitting: Adam, the rate falls to zero on a cosine
RANGE = 2.0**20  # activations are cut off here, in steps of 1 / COARSE: sums stay exact whatever the weights

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Visit = Callable[[int, Tables, Codes, Codes], NDArray[Any]]  # (codebook, tables, rows, columns) -> the codes there


class LevelContext(nn.Module):
    """Logits of the codes of one level. Fields are (B, C + 1, h, w): codewords, and 1 inside the image."""

    scale: Tensor

    def __init__(self, channels: int, m: int, k: int, last: bool) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1))  # of codewords, to unit variance
        self.near = nn.Conv2d(channels + 1, HIDDEN, (REACH + 1, 2 * REACH + 1))
        self.coarse = None if last else nn.Conv2d(channels + 1, 4 * HIDDEN, 3, padding=1, bias=False)
        self.current = Modules(nn.Linear(channels // m, HIDDEN, bias=False) for _ in range(m - 1))
        self.heads = Modules(nn.Linear(HIDDEN, k) for _ in range(m))

    def forward(self, codes: Tensor, field: Tensor, coarser: Tensor | None) -> Tensor:
        """Cross-entropy in nats, summed over the codes (B, m or fewer, h, w)."""
        nats = field.new_zeros(())
        for group, logits in enumerate(self.logits(field, coarser, codes.shape[1])):
            nats = nats + F.cross_entropy(logits.flatten(0, -2), codes[:, group].flatten(), reduction="sum")
        return nats

    def logits(self, field: Tensor, coarser: Tensor | None, groups: int) -> Iterator[Tensor]:
        """Logits (B, h, w, K) of the first ``groups`` codebooks in turn."""
        near = self.near.weight * causal(field.device)
        hidden = F.conv2d(F.pad(field, (REACH, REACH, REACH, 0)), near, self.near.bias)
        if self.coarse is not None and coarser is not None:
            hidden = hidden + F.pixel_shuffle(self.coarse(coarser), 2)
        hidden = hidden.permute(0, 2, 3, 1)
        parts = field[:, :-1].permute(0, 2, 3, 1).chunk(len(self.heads), dim=-1)
        for group, head in enumerate(self.heads[:groups]):
            if group:
                hidden = hidden + self.current[group - 1](parts[group - 1])
            yield head(F.relu(hidden))


def causal(device: torch.device) -> Tensor:
    """Which taps of the kernel (REACH + 1, 2 REACH + 1) are coded before its last row's middle."""
    mask = torch.zeros(REACH + 1, 2 * REACH + 1, device=device)
    for dy, dx in NEIGHBOURS:
        mask[REACH + dy, REACH + dx] = 1
    return mask


class Context(nn.Module):
    """The context model of all levels; ``fit`` trains it on codes, ``fixed`` gives the form that codes streams."""

    def __init__(self, channels: int, m: int, k: Sequence[int]) -> None:
        super().__init__()
        last = len(k) - 1
        self.levels = Modules(LevelContext(channels, m, size, i == last) for i, size in enumerate(k))
        self.requires_grad_(False)  # it learns in ``fit`` alone

    def forward(self, codes: Sequence[Tensor], books: Sequence[Tensor]) -> Tensor:
        """Nats of codes (B, m, h, w) per level with codebooks (m, K, d), summed."""
        fields = [_field(c, b * level.scale) for c, b, level in zip(codes, books, self.levels, strict=True)]
        coarser = [*fields[1:], None]
        nats = [level(*these) for level, *these in zip(self.levels, codes, fields, coarser, strict=True)]
        return torch.stack(nats).sum()

    def log_shares(self, words: Sequence[Tensor], groups: Sequence[int]) -> list[list[Tensor]]:
        """Logarithms of the shares (h, w, K) of the codes of each codebook in use, per level, of one image.

        ``words`` (1, C, h, w) per level may be mixtures of codewords; ``groups`` says how many codebooks are in use.
        """
        levels: Any = self.levels
        fields = [
            torch.cat([w * level.scale, torch.ones_like(w[:, :1])], 1) for w, level in zip(words, levels, strict=True)
        ]
        coarser = [*fields[1:], None]
        return [
            [F.log_softmax(logits[0], -1) for logits in level.logits(*these)]
            for level, *these in zip(levels, fields, coarser, groups, strict=True)
        ]

    def fit(self, grids: Sequence[Sequence[Tensor]], books: Sequence[Tensor], steps: int | None = None) -> float:
        """Train on the codes (1, m, h, w) per level of many images; returns the mean bits per code at the end.

        Images of one size are batched. The result depends on nothing but codes, codebooks and initial weights.
        """
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.requires_grad_(True)
            try:
                return self._fit(grids, books, STEPS if steps is None else steps)
            finally:
                self.requires_grad_(False)

    def _fit(self, grids: Sequence[Sequence[Tensor]], books: Sequence[Tensor], steps: int) -> float:
        for level, book in zip(self.levels, books, strict=True):
            level.scale.fill_(1 / float(book.double().std()))
        sizes: dict[Any, list[Sequence[Tensor]]] = defaultdict(list)
        for grid in grids:
            sizes[tuple(level.shape for level in grid)].append(grid)
        groups = list(sizes.values())
        shares = torch.tensor([float(len(group)) for group in groups])
        optimizer = torch.optim.Adam(self.parameters(), lr=RATE)
        recent: list[float] = []
        for step in range(steps):
            group = groups[int(torch.multinomial(shares, 1))]
            chosen = [group[i] for i in torch.randint(len(group), (min(BATCH, len(group)),)).tolist()]
            codes = [torch.cat(level) for level in zip(*chosen, strict=True)]
            count = sum(c.numel() for c in codes)
            loss = self(codes, books) / count
            optimizer.zero_grad()
            loss.backward()
            for options in optimizer.param_groups:
                options["lr"] = RATE * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.step()
            recent = [*recent[-99:], float(loss.detach()) / math.log(2)]
        return sum(recent) / len(recent)

    def fixed(self, books: Sequence[Tensor]) -> FixedContext:
        """The model in whole numbers, from its weights and the codebooks as they are now."""
        return FixedContext(self, books)


def _field(codes: Tensor, book: Tensor) -> Tensor:
    """Codes (B, m, h, w), codebook (m, K, d) -> codewords and ones (B, C + 1, h, w)."""
    words = codewords(codes, book)
    return torch.cat([words, torch.ones_like(words[..., :1])], dim=-1).permute(0, 3, 1, 2)


class FixedContext:
    """The same network in whole numbers, and the coding of all code grids of an image with it."""

    def __init__(self, context: Context, books: Sequence[Tensor]) -> None:
        self._levels = [_FixedLevel(level, book) for level, book in zip(context.levels, books, strict=True)]

    def encode(self, codes: Sequence[Codes], encoder: Encoder) -> None:
        """Append codes (m, h, w) per level to a stream."""

        def visit(level: int) -> Visit:
            def step(group: int, tables: Tables, ys: Codes, xs: Codes) -> Codes:
                symbols: Codes = codes[level][group, ys, xs]
                encoder.encode(symbols, np.arange(len(ys)), tables)
                return symbols

            return step

        self._walk([c.shape for c in codes], visit)

    def decode(self, grids: Sequence[tuple[int, ...]], decoder: Decoder) -> list[Codes]:
        """The next codes (m, h, w) per level of a stream."""
        return self._walk(grids, lambda _: lambda group, tables, ys, xs: decoder.decode(np.arange(len(ys)), tables))

    def bits(self, codes: Sequence[Codes]) -> float:
        """What codes (m, h, w) per level cost under the integer tables."""
        total = 0.0

        def visit(level: int) -> Visit:
            def step(group: int, tables: Tables, ys: Codes, xs: Codes) -> Codes:
                nonlocal total
                symbols: Codes = codes[level][group, ys, xs]
                chosen = [row[s] for row, s in zip(tables.frequencies, symbols, strict=True)]
                total += PRECISION * len(chosen) - float(np.log2(np.array(chosen)).sum())
                return symbols

            return step

        self._walk([c.shape for c in codes], visit)
        return total

    def _walk(self, grids: Sequence[tuple[int, ...]], visit: Callable[[int], Visit]) -> list[Codes]:
        """Visit the levels from the coarsest; ``visit(level)`` takes tables for some positions and says their codes."""
        found: list[Codes] = []
        coarser: Floats | None = None
        for i in reversed(range(len(self._levels))):
            codes, coarser = self._levels[i].walk(grids[i], coarser, visit(i))
            found.insert(0, codes)
        return found


class _FixedLevel:
    """One level; fields are (h + margins, w + margins, C + 1) whole numbers, zero outside the image."""

    def __init__(self, level: LevelContext, book: Tensor) -> None:
        scale = float(level.scale) * COARSE
        self.book = np.rint(book.detach().cpu().double().numpy() * scale).clip(-RANGE, RANGE)  # (m, K, d)
        ys, xs = ([REACH + offset for offset in offsets] for offsets in zip(*NEIGHBOURS, strict=True))
        taps = level.near.weight.detach()[:, :, ys, xs]
        self.near = _whole(taps.permute(2, 1, 0).reshape(-1, HIDDEN), FINE)  # (neighbours (C + 1), H)
        self.bias = _whole(bias_of(level.near), FINE * COARSE)
        self.coarse = None
        if level.coarse is not None:  # (9 (C + 1), 4 H), the four positions below a coarse one in turn
            kernel = level.coarse.weight.detach().unflatten(0, (HIDDEN, 4)).permute(3, 4, 2, 1, 0)
            self.coarse = _whole(kernel.reshape(-1, 4 * HIDDEN), FINE)
        self.current = [_whole(layer.weight.T, FINE) for layer in level.current]
        self.heads = [(_whole(layer.weight.T, FINE), _whole(layer.bias, FINE * COARSE)) for layer in level.heads]

    def walk(self, grid: tuple[int, ...], coarser: Floats | None, step: Visit) -> tuple[Codes, Floats]:
        """The codes (m, h, w) that ``step`` says, and the field (h, w, C + 1) they make."""
        m, height, width = grid
        codes = np.zeros(grid, dtype=np.int64)
        field = np.zeros((height + REACH, width + 2 * REACH, self.near.shape[0] // len(NEIGHBOURS)))
        above = self._from_coarser(coarser, height, width)
        for ys, xs in waves(height, width):
            seen = [field[ys + REACH + dy, xs + REACH + dx] for dy, dx in NEIGHBOURS]
            hidden = np.concatenate(seen, axis=1) @ self.near + self.bias + above[ys, xs]
            words: list[Floats] = []
            for group in range(m):
                if group:
                    hidden = hidden + words[-1] @ self.current[group - 1]
                codes[group, ys, xs] = step(group, self._tables(group, hidden), ys, xs)
                words.append(self.book[group][codes[group, ys, xs]])
            unused = np.zeros((len(ys), (len(self.book) - m) * self.book.shape[2]))
            field[ys + REACH, xs + REACH] = np.concatenate([*words, unused, np.full((len(ys), 1), COARSE)], axis=1)
        return codes, field[REACH:, REACH : REACH + width]

    def _from_coarser(self, coarser: Floats | None, height: int, width: int) -> Floats:
        """What the coarser level's field (h / 2, w / 2, C + 1) adds to the hidden layer, (h, w, H)."""
        if self.coarse is None or coarser is None:
            return np.zeros((height, width, HIDDEN))
        h, w = coarser.shape[:2]
        framed = np.pad(coarser, ((1, 1), (1, 1), (0, 0)))
        seen = np.concatenate([framed[dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)], axis=2)
        four = (seen @ self.coarse).reshape(h, w, 2, 2, HIDDEN).transpose(0, 2, 1, 3, 4)
        return four.reshape(2 * h, 2 * w, HIDDEN)[:height, :width]

    def _tables(self, group: int, hidden: Floats) -> Tables:
        weight, bias = self.heads[group]
        active = np.floor(np.clip(hidden, 0, RANGE * FINE) / FINE)
        logits = np.floor((active @ weight + bias) / (FINE * COARSE / LOGIT))
        return logit_tables(logits.astype(np.int64))


def _whole(weight: Tensor, scale: float) -> Floats:
    """Weights as whole numbers of 1 / ``scale``, cut off at 2**20 of them."""
    whole: Floats = np.rint(weight.detach().cpu().double().numpy() * scale)
    return whole.clip(-RANGE, RANGE)
