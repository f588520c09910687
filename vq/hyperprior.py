"""A hyperprior over codes: side information in the stream, from which all codes get their probabilities at once.

    vectors of the codes -> analysis -> z on a grid four times as coarse, whole numbers, coded with static tables
    z -> synthesis -> a Gaussian over the vectors at each position -> its density at every codeword -> probabilities

After HyperVQ (Niu et al., arXiv 2512.07192), as far as its abstract and reviews say: density at the codewords becomes
the probability of the codes. A Gaussian of diagonal covariance has the logarithm v e - u e**2 / 2 + constant at a
codeword e, with u = 1 / variance and v = mean / variance: linear in (v, u), which the synthesis gives. Analysis runs at
the encoder alone; synthesis runs on whole numbers held in float64, whose sums of products stay below 2**53, so that
every machine finds the same frequency tables (as ``vq.prior``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from core.entropy import Decoder, Encoder, ideal_bits
from core.finite import checked_counts
from core.frequencies import PRECISION, categorical_table
from core.modules import Modules
from vq.prior import COARSE, FINE, LOGIT, fitting, logit_frequencies, row_tables

STRIDE, CHANNELS, HIDDEN = 4, 16, 48  # of the grid of z, its numbers at a place, and the width of the networks
AXES = 16  # of the codewords: the Gaussian is over the principal ones, at most so many
LARGEST = 15  # magnitude of z
PASSES, STEPS = 1, (100, 1000)  # over the codes that it learns from, and the least and most steps
WARM = 0.3  # share of the steps in which the rate of z gains weight
RATE = 5e-3  # of Adam at the start
FAST = 8  # times as fast learns the distribution of z
RANGE = 2.0**20  # activations and weights are cut off here, in whole numbers: sums stay exact whatever the weights

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class Hyperprior(nn.Module):
    """Bits of codes (B, books, h, w) with side information; ``fixed()`` gives the form that codes streams.

    ``words0``, ``words1``, ... are the codewords (K, axes) of each book on their principal axes, centred and scaled,
    whose sum over books is the vector of a code. ``counts`` (CHANNELS, 2 LARGEST + 1) holds how often each z occurs in
    training images.
    """

    counts: Tensor

    def __init__(self, sizes: tuple[int, ...], dim: int) -> None:
        super().__init__()
        dim = min(dim, AXES)
        self.sizes, self.dim = sizes, dim
        for book, size in enumerate(sizes):
            self.register_buffer(f"words{book}", torch.zeros(size, dim))
        self.register_buffer("counts", torch.zeros(CHANNELS, 2 * LARGEST + 1, dtype=torch.int64))
        last = nn.Conv2d(HIDDEN, CHANNELS, 3, padding=1)
        last.weight.data.mul_(3)  # of z, which would be rounded to zero
        layers: list[nn.Module] = []
        for before in (dim, *[HIDDEN] * (STRIDE.bit_length() - 2)):
            layers += [nn.Conv2d(before, HIDDEN, 4, stride=2, padding=1), nn.LeakyReLU()]
        self.analysis = nn.Sequential(*layers, last)
        self.weight = 1.0  # of the rate of z, in training
        self.spread = nn.Parameter(torch.zeros(2, CHANNELS))  # mean and log scale of z over FAST, in training
        self.coarse = nn.Conv2d(CHANNELS, HIDDEN, 3, padding=1)
        self.finer = nn.Conv2d(HIDDEN, STRIDE**2 * HIDDEN, 1)
        self.fine = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.current = Modules(nn.Linear(dim, HIDDEN, bias=False) for _ in sizes[1:])
        self.gaussian = Modules(nn.Linear(HIDDEN, 2 * dim) for _ in sizes)
        self.bias = nn.ParameterList(torch.zeros(size) for size in sizes)
        for head in self.gaussian:
            head.bias.data[dim:] = 0.1

    @property
    def words(self) -> list[Tensor]:
        """The codewords (K, dim) of each book."""
        return [self.get_buffer(f"words{book}") for book in range(len(self.sizes))]

    def forward(self, codes: Tensor) -> Tensor:
        """Nats per position of codes (B, books used, h, w): of each book, and last of z, (books used + 1,).

        In training z is rounded for the probabilities of the codes, with a straight-through gradient, and noisy for
        its own rate under a logistic distribution; in eval mode its rate is that of ``counts``.
        """
        z, positions = self._z(codes), codes[:, 0].numel()
        nats = [
            F.nll_loss(logits.flatten(0, -2), codes[:, book].flatten())
            for book, logits in enumerate(self.log_shares(codes, z + (z.round() - z).detach()))
        ]
        return torch.stack([*nats, self._rate(z) * (self.weight if self.training else 1) / positions])

    def log_shares(self, codes: Tensor, z: Tensor | None = None) -> Iterator[Tensor]:
        """Logarithms (B, h, w, K) of the shares of each book's codes, given z and the books before.

        The z of codes (B, books, h, w) unless another one is given.
        """
        height, width = codes.shape[2:]
        hidden = F.relu(self.coarse(self._z(codes).round() if z is None else z))
        hidden = F.relu(F.pixel_shuffle(self.finer(hidden), STRIDE))[:, :, :height, :width]
        hidden = self.fine(hidden).permute(0, 2, 3, 1)
        for book, (words, head, bias) in enumerate(zip(self.words, self.gaussian, self.bias, strict=True)):
            if book == codes.shape[1]:
                return
            if book:
                hidden = hidden + self.current[book - 1](self.words[book - 1][codes[:, book - 1]])
            v, u = head(F.relu(hidden)).chunk(2, dim=-1)
            yield F.log_softmax(F.linear(torch.cat([v, F.relu(u)], -1), _statistics(words), bias).float(), -1)

    @torch.no_grad()
    def sides(self, codes: Tensor) -> Tensor:
        """The side information of codes (B, books, h, w): int64 (B, CHANNELS, h / STRIDE, w / STRIDE)."""
        return self._z(codes).round().long()

    @torch.no_grad()
    def bits(self, codes: Tensor) -> float:
        """What codes (B, books, h, w) and their z cost, in floats."""
        return float(self(codes).sum()) * codes[:, 0].numel() / math.log(2)

    def fit(self, grids: Sequence[Tensor], tables: Sequence[Tensor]) -> None:
        """Learn from grids of codes (B, books, h, w), and the codewords (K, dim) of each book; the same in every call.

        The weights of codes begin as their shares in the grids.
        """
        centred = [table - table.mean(0) for table in tables]
        axes = torch.linalg.svd(torch.cat(centred), full_matrices=False)[2][: self.dim].T
        scale = (torch.cat(centred) @ axes).square().mean().sqrt().clamp(min=1e-6)
        for book, (words, table, bias) in enumerate(zip(self.words, centred, self.bias, strict=True)):
            words.zero_()[:, : axes.shape[1]] = table @ axes / scale
            counted = torch.stack([torch.bincount(c[:, book].flatten(), minlength=len(bias)) for c in grids]).sum(0)
            bias.data.copy_(_log_shares(counted))
        self.train()
        with torch.random.fork_rng(devices=[]):  # of the noise of z
            torch.manual_seed(0)
            fitting(self, grids, RATE, PASSES, STEPS, self._begin)
        self.eval()
        self.counts.zero_()
        for codes in grids:
            z = self.sides(codes).transpose(0, 1).flatten(1) + LARGEST
            self.counts += torch.stack([torch.bincount(channel, minlength=self.counts.shape[1]) for channel in z])

    def fixed(self) -> FixedHyperprior:
        """The hyperprior in whole numbers, from the weights as they are now."""
        return FixedHyperprior(self)

    def _begin(self, share: float) -> None:
        self.weight = min(1.0, share / WARM)

    def _z(self, codes: Tensor) -> Tensor:
        """Side information before rounding, (B, CHANNELS, h / STRIDE, w / STRIDE), both rounded up."""
        vectors = torch.stack([w[codes[:, book]] for book, w in enumerate(self.words[: codes.shape[1]])]).sum(0)
        height, width = codes.shape[2:]
        padded = F.pad(vectors.permute(0, 3, 1, 2), (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        z: Tensor = self.analysis(padded)
        return z.clamp(-LARGEST, LARGEST)

    def _rate(self, z: Tensor) -> Tensor:
        """Nats of z, summed."""
        if not self.training:
            symbols = z.round().long().transpose(0, 1).flatten(1) + LARGEST
            return -_log_shares(self.counts).gather(1, symbols).sum()
        mean, scale = (FAST * self.spread[i, :, None, None] for i in range(2))
        scale = scale.exp()
        noisy = z + torch.rand_like(z) - 0.5 - mean
        mass = torch.sigmoid((0.5 - noisy.abs()) / scale) - torch.sigmoid((-0.5 - noisy.abs()) / scale)
        return -mass.clamp(min=1e-9).log().sum()


def _log_shares(counts: Tensor) -> Tensor:
    """Logarithms of the shares of counts (..., K), none of which is zero."""
    weights = 2 * counts + 1
    return (weights / weights.sum(-1, keepdim=True)).log()


def _statistics(words: Tensor) -> Tensor:
    """What (v, u) multiply for each codeword (K, dim): (K, 2 dim)."""
    return torch.cat([words, -words.square() / 2], dim=1)


class FixedHyperprior:
    """The same network on whole numbers (held in float64), and the coding of a grid of codes with it."""

    def __init__(self, prior: Hyperprior) -> None:
        self.prior, self.sizes = prior, prior.sizes
        counts = checked_counts(prior.counts, "counts of side information")
        self.sides = categorical_table(2 * counts + 1)  # never zero: any z can be sent
        self.words = [_whole(words, COARSE) for words in prior.words]
        self.coarse, self.fine = _Convolution(prior.coarse), _Convolution(prior.fine)
        self.finer = _Convolution(prior.finer)
        self.current = [_whole(layer.weight.T, FINE) for layer in prior.current]
        self.gaussian = [_layer(head.weight, head.bias) for head in prior.gaussian]
        self.codes = [_layer(_statistics(w), bias) for w, bias in zip(prior.words, prior.bias, strict=True)]

    def encode(self, codes: Codes, encoder: Encoder) -> None:
        """Append codes (books, h, w) to a stream: their z, then book after book."""
        z = self._sides(codes)
        encoder.encode(z + LARGEST, _channels(z.shape), self.sides)
        for symbols, frequencies in self._known(codes, z):
            encoder.encode(symbols, np.arange(len(symbols)), row_tables(frequencies))

    def decode(self, shape: tuple[int, int, int], decoder: Decoder) -> Codes:
        """The next codes (books, h, w) of a stream."""
        books, height, width = shape
        coarse = CHANNELS, -(-height // STRIDE), -(-width // STRIDE)
        z = decoder.decode(_channels(coarse), self.sides).astype(np.int64) - LARGEST
        codes, hidden = np.zeros(shape, np.int64), self._hidden(z, height, width)
        for book in range(books):
            hidden, frequencies = self._frequencies(book, hidden, codes)
            found = decoder.decode(np.arange(height * width), row_tables(frequencies))
            codes[book] = found.reshape(height, width)
        return codes

    def bits(self, codes: Codes) -> float:
        """What codes (books, h, w) cost under the integer tables, their z included."""
        z = self._sides(codes)
        total = ideal_bits(z + LARGEST, _channels(z.shape), self.sides)
        for symbols, frequencies in self._known(codes, z):
            chosen = np.take_along_axis(frequencies, symbols[:, None], axis=1)
            total += PRECISION * len(chosen) - float(np.log2(chosen).sum())
        return total

    def _sides(self, codes: Codes) -> Codes:
        """The z, (CHANNELS, h / STRIDE, w / STRIDE), that the encoder chooses."""
        device = self.prior.counts.device
        z: Codes = self.prior.sides(torch.from_numpy(codes)[None].to(device))[0].cpu().numpy()
        return z

    def _known(self, codes: Codes, z: Codes) -> Iterator[tuple[Codes, Codes]]:
        """Of each book the codes (h w,) and frequencies (h w, K) of all positions."""
        hidden = self._hidden(z, *codes.shape[1:])
        for book, plane in enumerate(codes):
            hidden, frequencies = self._frequencies(book, hidden, codes)
            yield plane.reshape(-1), frequencies

    def _hidden(self, z: Codes, height: int, width: int) -> Floats:
        """What z says at each position, (h, w, HIDDEN), before the books of the positions themselves."""
        hidden = _active(self.coarse(COARSE * z.transpose(1, 2, 0).astype(np.float64)))
        rows, columns = hidden.shape[:2]
        four = _active(self.finer(hidden)).reshape(rows, columns, HIDDEN, STRIDE, STRIDE)
        whole = four.transpose(0, 3, 1, 4, 2).reshape(rows * STRIDE, columns * STRIDE, HIDDEN)
        return self.fine(whole[:height, :width])

    def _frequencies(self, book: int, hidden: Floats, codes: Codes) -> tuple[Floats, Codes]:
        """The hidden layer with the book before this one, whose codes are known, and this book's (h w, K)."""
        if book:
            hidden = hidden + self.words[book - 1][codes[book - 1]] @ self.current[book - 1]
        weight, bias = self.gaussian[book]
        natural = _active(hidden).reshape(-1, HIDDEN) @ weight + bias
        half = natural.shape[1] // 2
        natural[:, half:] = np.maximum(natural[:, half:], 0)
        weight, bias = self.codes[book]
        logits = _cut(natural) @ weight + bias
        return hidden, logit_frequencies(np.floor(logits / (FINE * COARSE / LOGIT)).astype(np.int64))


class _Convolution:
    """A convolution with padding that keeps the size, on whole fields (h, w, channels) in steps of 1 / COARSE."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.side = layer.kernel_size[0]
        kernel = layer.weight.permute(0, 2, 3, 1).flatten(1)  # (out, side side in)
        self.weight, self.bias = _layer(kernel, layer.bias)

    def __call__(self, field: Floats) -> Floats:
        """In steps of 1 / (FINE COARSE), (h, w, out)."""
        (height, width), reach = field.shape[:2], self.side // 2
        framed = np.pad(field, ((reach, reach), (reach, reach), (0, 0)))
        seen = [framed[y : y + height, x : x + width] for y in range(self.side) for x in range(self.side)]
        out: Floats = np.concatenate(seen, axis=2) @ self.weight + self.bias
        return out


def _active(x: Floats) -> Floats:
    """Rectified, from steps of 1 / (FINE COARSE) to steps of 1 / COARSE."""
    return _cut(np.maximum(x, 0))


def _cut(x: Floats) -> Floats:
    """From steps of 1 / (FINE COARSE) to steps of 1 / COARSE, cut off at ``RANGE``."""
    cut: Floats = np.floor(x / FINE).clip(-RANGE, RANGE)
    return cut


def _layer(weight: Tensor, bias: Any) -> tuple[Floats, Floats]:
    """Weights (in, out) in steps of 1 / FINE and biases in steps of 1 / (FINE COARSE)."""
    return _whole(weight.T, FINE), _whole(bias, FINE * COARSE)


def _whole(weight: Tensor, scale: float) -> Floats:
    """Numbers as whole ones of 1 / ``scale``, cut off at ``RANGE`` ones of 1 / ``FINE``."""
    whole: Floats = np.rint(weight.detach().cpu().double().numpy() * scale)
    return whole.clip(-RANGE * scale / FINE, RANGE * scale / FINE)


def _channels(shape: tuple[int, ...]) -> Codes:
    """The table of each z, (CHANNELS, h, w)."""
    index: Codes = np.broadcast_to(np.arange(CHANNELS)[:, None, None], shape)
    return index
