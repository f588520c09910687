"""The cascade of multi-codebook quantisers: a level's codes, and what is left for the next, coarser one.

    z = stage(x)    code = nearest codeword of head(z), in m groups of channels    next x = latent head(z) - codeword

The residual is that of a second head of z, not of what was quantised (so in the published code). Decoding goes from
the coarsest level up: f = restore(dequantised code + side head(f of the coarser level)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core import parallel
from core.finite import checked_latents
from vq.mcquic.blocks import Attention, Conv3, LowerBound, Residual, ResidualDown, ResidualUp
from vq.search import nearest

ROWS = 256  # vectors compared with a codebook at once: the products stay in the cache, and memory is bounded
DECAY = 0.9  # of the moving average of code frequencies
DEAD = 1e-6  # a code used less often than this is dead
JITTER = 0.05  # of a revived codeword, in standard deviations of the codebook's entries


class _Sample(torch.autograd.Function):
    """One codeword per vector by a hard Gumbel-softmax draw, gradients through the soft one, a few rows at a time.

    Vectors (n, d), codebook (K, d), scale () -> codewords (n, d), drawn codes (n,), most probable codes (n,).
    Logits are -scale |x - c|^2. Only seeds and codes are kept for the backward pass; it computes the logits again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, codebook: Tensor, scale: Tensor, permute: float) -> tuple[Tensor, Tensor, Tensor]:
        seeds = torch.randint(2**62, (max(1, -(-len(x) // ROWS)),)).tolist()
        drawn, likely = [], []
        for part, seed in zip(x.split(ROWS), seeds, strict=True):
            logits = _logits(part, codebook, scale)
            likely.append(logits.argmax(1))
            drawn.append((logits + _gumbel(logits, seed)).argmax(1))
        codes, best = torch.cat(drawn), torch.cat(likely)
        replaced = torch.rand(codes.shape, device=x.device) < permute
        codes = torch.where(replaced, torch.randint_like(codes, len(codebook)), codes)
        ctx.save_for_backward(x, codebook, scale, codes, replaced)
        ctx.seeds = seeds
        ctx.mark_non_differentiable(codes, best)
        return codebook[codes], codes, best

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, codebook, scale, codes, replaced = ctx.saved_tensors
        to_codebook = torch.zeros_like(codebook).index_add_(0, codes, grads[0])
        to_x, to_scale = [], torch.zeros_like(scale)
        passing = grads[0] * ~replaced[:, None]
        for part, grad, seed in zip(x.split(ROWS), passing.split(ROWS), ctx.seeds, strict=True):
            logits = _logits(part, codebook, scale)
            soft = torch.softmax(logits + _gumbel(logits, seed), dim=1)
            change = grad @ codebook.T
            change = soft * (change - (soft * change).sum(1, keepdim=True))  # of the logits; each row sums to 0
            to_x.append(2 * scale * change @ codebook)
            to_codebook += 2 * scale * (change.T @ part - change.sum(0)[:, None] * codebook)
            to_scale += (change * logits).sum() / scale
        return torch.cat(to_x), to_codebook, to_scale, None


def _logits(x: Tensor, codebook: Tensor, scale: Tensor) -> Tensor:
    norms = codebook.square().sum(1) - 2 * x @ codebook.T
    return -scale * (norms + x.square().sum(1, keepdim=True))


def _gumbel(like: Tensor, seed: int) -> Tensor:
    """Gumbel noise that a seed gives again."""
    generator = torch.Generator(like.device).manual_seed(seed)
    eps = torch.finfo(like.dtype).eps
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype).clamp_(eps, 1 - eps)
    return u.log_().neg_().log_().neg_()


class Quantized(NamedTuple):
    """What training sees of a level: codewords (B, C, h, w), most probable codes (B, m, h, w), auxiliary loss ()."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module):
    """A codebook (m, K, d) for m groups of d channels, and how it is trained.

    ``mode`` gumbel samples as published (logits -distance / sqrt(K), a learned temperature); nearest takes the
    nearest codeword, straight-through, with the squared distances of both sides as losses. Coding uses the first
    ``kept`` groups; the codewords of the others are zero.
    """

    def __init__(self, channels: int, m: int, k: int) -> None:
        super().__init__()
        d = channels // m
        self._codebook = nn.Parameter(torch.randn(m, k, d) * math.sqrt(2 / (5 * d)))
        self._temperature = nn.Parameter(torch.ones(m, 1, 1, 1))
        self._bound = LowerBound(1e-6)
        self.mode, self.permute, self.commitment = "gumbel", 0.0, 0.25
        self.kept = m

    def codes(self, x: Tensor) -> Tensor:
        """The nearest codewords of (B, C, h, w): int64 (B, kept, h, w); NaN is near to none."""
        b, _, h, w = checked_latents(x).shape
        pairs = zip(_rows(x, len(self._codebook))[: self.kept], self._codebook[: self.kept], strict=True)
        found = [nearest(rows, book).view(b, h, w) for rows, book in pairs]
        return torch.stack(found, dim=1) if found else torch.zeros((b, 0, h, w), dtype=torch.int64, device=x.device)

    def lookup(self, codes: Tensor) -> Tensor:
        """The codewords of codes (B, m or fewer, h, w): (B, C, h, w)."""
        return codewords(codes, self._codebook).permute(0, 3, 1, 2)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Draw the codewords from vectors (B, C, h, w) of a batch, a little apart, the same on every process."""
        for rows, book in zip(_rows(x.float(), len(self._codebook)), self._codebook.data, strict=True):
            drawn = rows[torch.randint(len(rows), (len(book),), device=rows.device)]
            book.copy_(drawn + JITTER * rows.std() * torch.randn_like(drawn))
        parallel.broadcast(self._codebook.data)

    def forward(self, x: Tensor) -> Quantized:
        """The training pass over (B, C, h, w)."""
        b, _, h, w = x.shape
        with torch.autocast(x.device.type, enabled=False):
            groups = zip(_rows(x.float(), len(self._codebook)), self._codebook, strict=True)
            made = [self._nearest(r, c) if self.mode == "nearest" else self._sample(i, r, c)
                    for i, (r, c) in enumerate(groups)]  # fmt: skip
            vectors = torch.cat([v for v, _, _ in made], dim=1).view(b, h, w, -1).permute(0, 3, 1, 2)
            codes = torch.stack([c.view(b, h, w) for _, c, _ in made], dim=1)
            return Quantized(vectors, codes, torch.stack([loss for _, _, loss in made]).mean())

    def _sample(self, group: int, rows: Tensor, book: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = self._bound(self._temperature[group]).view(()) / math.sqrt(len(book))
        vectors, _, likely = _Sample.apply(rows, book, scale, self.permute)
        return vectors, likely, vectors.new_zeros(())

    def _nearest(self, rows: Tensor, book: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            codes = nearest(rows, book)
        chosen = book[codes]
        loss = (chosen - rows.detach()).square().mean() + self.commitment * (rows - chosen.detach()).square().mean()
        return rows + (chosen - rows).detach(), codes, loss + 0 * self._temperature.sum()


def codewords(codes: Tensor, books: Tensor) -> Tensor:
    """The codewords (B, h, w, m d) of codes (B, n, h, w) of the first n books (m, K, d); those of the others are 0."""
    missing = len(books) - codes.shape[1]
    parts = [book[index] for book, index in zip(books, codes.unbind(1), strict=False)]
    if missing:
        b, _, h, w = codes.shape
        parts.append(books.new_zeros(b, h, w, missing * books.shape[2]))
    return torch.cat(parts, dim=-1)


def _rows(x: Tensor, m: int) -> Sequence[Tensor]:
    """(B, C, h, w) -> m groups of vectors (B h w, C / m)."""
    flat = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return [part.contiguous() for part in flat.chunk(m, dim=1)]


class Dequantizer(nn.Module):
    """The quantiser's codebook under another name, which published state dicts hold too."""

    def __init__(self, codebook: nn.Parameter) -> None:
        super().__init__()
        self._codebook = codebook


class LevelEncoder(nn.Module):
    """Half the resolution, what is quantised, and (unless it is the last level) what the residual is taken of."""

    def __init__(self, channels: int, m: int, k: int, last: bool) -> None:
        super().__init__()
        self._quantizer = Quantizer(channels, m, k)
        self._dequantizer = Dequantizer(self._quantizer._codebook)
        self._latentStageEncoder = nn.Sequential(ResidualDown(channels), Residual(channels), Attention(channels))
        self._quantizationHead = _head(channels)
        self._latentHead = None if last else _head(channels)


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(Residual(channels), Attention(channels), Conv3(channels, channels))


class LevelDecoder(nn.Module):
    """From codewords and (unless it is the last level) the coarser level's features to twice the resolution."""

    def __init__(self, channels: int, codebook: nn.Parameter, last: bool) -> None:
        super().__init__()
        self._dequantizer = Dequantizer(codebook)
        self._dequantizationHead = _tail(channels)
        self._sideHead = None if last else _tail(channels)
        self._restoreHead = nn.Sequential(Attention(channels), Residual(channels), ResidualUp(channels))

    def forward(self, vectors: Tensor, coarser: Tensor | None) -> Tensor:
        """(B, C, h, w) of codewords, and of the coarser level -> (B, C, 2 h, 2 w)."""
        hidden = self._dequantizationHead(vectors)
        if self._sideHead is not None and coarser is not None:
            hidden = hidden + self._sideHead(coarser)
        return self._restoreHead(hidden)


def _tail(channels: int) -> nn.Sequential:
    return nn.Sequential(Attention(channels), Conv3(channels, channels), Residual(channels))


class Frequencies(nn.Module):
    """How often each code occurs, per level (m, K): any positive multiple of the shares, as in published files."""

    def __init__(self, m: int, k: Sequence[int]) -> None:
        super().__init__()
        shares = (nn.Parameter(torch.full((m, size), 1 / size), requires_grad=False) for size in k)
        self._freqEMA = nn.ParameterList(shares)

    def shares(self) -> list[Tensor]:
        """Probabilities per level, (m, K)."""
        return [f / f.sum(1, keepdim=True) for f in self._freqEMA]

    @torch.no_grad()
    def update(self, codes: Sequence[Tensor]) -> None:
        """Move the averages towards the shares of the codes (B, m, h, w) of one step, summed over all processes."""
        for average, found in zip(self._freqEMA, codes, strict=True):
            counts = parallel.all_sum(count(found, average.shape[1]).float())
            average.copy_(DECAY * average + (1 - DECAY) * counts / counts.sum(1, keepdim=True))


def count(codes: Tensor, k: int) -> Tensor:
    """Occurrences (m, K) of codes (B, m, h, w)."""
    return torch.stack([torch.bincount(group.reshape(-1), minlength=k) for group in codes.unbind(1)])


@torch.no_grad()
def revive(codebook: Tensor, frequencies: Tensor) -> int:
    """Put every dead codeword (K, d) near a live one, in place, whatever share of them is dead; returns how many.

    Live codewords serve as often as they are used: a frequent one is split before a rare one. Each split shares its
    frequency (K,), which keeps a revived codeword from being dead at once.
    """
    dead = torch.nonzero(frequencies < DEAD).view(-1)
    alive = torch.nonzero(frequencies >= DEAD).view(-1)
    if not len(dead) or not len(alive):
        return 0
    parents = alive[torch.multinomial(frequencies[alive], len(dead), replacement=True)]
    spread = codebook[alive].std() if len(alive) > 1 else codebook.std()
    codebook[dead] = codebook[parents] + JITTER * spread * torch.randn_like(codebook[dead])
    uses = torch.bincount(parents, minlength=len(frequencies)) + 1
    shared = frequencies / uses
    frequencies.copy_(shared)
    frequencies[dead] = shared[parents]
    return len(dead)
