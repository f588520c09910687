"""A McQuic of many rates in one set of weights, on grids twice as fine: ours.

The published encoder keeps ``channels`` numbers for each 16 x 16 pixels at the most, which at 32 channels bounds the
picture near 25 dB whatever the codebooks. Here the levels have 1/8, 1/16, 1/32, .. of the sides. Of all codebooks the
first ``books`` are in use, those of coarser levels before those of finer ones; the codewords of the others are zero.
Training draws ``books`` for each image (nested dropout: Rippel, Gelbart, Adams, ICML 2014, arXiv 1402.0915), so that
the codebooks are ordered by what they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from core.codec import Image, TesseraError
from core.similarity import ms_ssim
from core.train import Step
from vq.mcquic.network import COUNTED, McQuic, stored_counts
from vq.mcquic.quantizer import count
from vq.mcquic.recipe import Recipe

GAIN = (
    2.0  # the loss with all codebooks counts so many times that with the fewest: its distortion is several times less
)


class VariableMcQuic(McQuic):
    """The network; ``books`` codebooks are in use, from ``m`` + 1 to all of them."""

    def __init__(
        self, channels: int, m: int, k: Sequence[int], recipe: Recipe, books: int, context: bool = True
    ) -> None:
        super().__init__(channels, m, k, recipe, context, shift=2)
        self.use(books)

    @property
    def range(self) -> tuple[int, int]:
        """The fewest and the most codebooks in use: more than the coarsest level's, and all."""
        return self.m + 1, self.m * len(self.k)

    def use(self, books: int) -> None:
        """Choose how many codebooks encoding and decoding use."""
        low, high = self.range
        if not low <= books <= high:
            raise TesseraError(f"books={books} must be {low} to {high} for m={self.m} and {len(self.k)} levels.")
        self.books = books
        levels: Any = self._quantizer._encoders
        for level, kept in zip(levels, self.kept(torch.tensor(books)).tolist(), strict=True):
            level._quantizer.kept = kept

    def kept(self, books: Tensor) -> Tensor:
        """How many codebooks of each level (finest first) are among the first ``books``: (..., levels)."""
        above = self.m * torch.arange(len(self.k) - 1, -1, -1, device=books.device)
        return (books.unsqueeze(-1) - above).clamp(0, self.m)

    def forward(self, images: Tensor) -> Step:
        """One training step; each image has a number of codebooks of its own in training, ``books`` otherwise."""
        low, high = self.range
        books = torch.full((len(images),), self.books, device=images.device)
        if self.training:
            books = torch.randint(low, high + 1, books.shape, device=images.device)
        x = 2 * images - 1
        groups = torch.arange(self.m, device=images.device)
        masks = [groups < kept[:, None] for kept in self.kept(books).unbind(-1)]  # (B, m) per level
        vectors, codes, auxiliary = self._quantise(self._encoder(x), masks)
        errors = self.errors(self._decoder(self._quantizer.restore(vectors)).float(), x)
        if codes and self.training:
            self._quantizer._entropyCoder.update(codes)
        weights = GAIN ** ((books - low) / (high - low)) if self.training else torch.ones_like(errors)
        bits = self.information(codes, masks) / (len(x) * x.shape[2] * x.shape[3])
        loss = (weights * errors).mean() / weights.mean() + self.recipe.weight * auxiliary
        return Step(loss, bits, errors.mean().detach(), tuple(codes))

    def errors(self, out: Tensor, x: Tensor) -> Tensor:
        """The distortion of each image, (B,), of an output against its reference, both (B, 3, H, W) around (-1, 1)."""
        if self.recipe.target == "mse":
            return (out - x).square().mean((1, 2, 3))
        return 1 - ms_ssim(x + 1, out + 1, data_range=2.0)

    @torch.no_grad()
    def calibrate(self, images: Sequence[Image]) -> None:
        """Count codes and fit the context model as ``McQuic.calibrate``, with all numbers of codebooks in turn."""
        taken, (low, high), before = images[:: -(-len(images) // COUNTED)], self.range, self.books
        found = []
        for i, image in enumerate(taken):
            self.use(low + i % (high + 1 - low))
            found.append([codes.cpu() for codes in self.encode(self.tensor(image))])
        self.use(before)
        for stored, k, codes in zip(
            self._quantizer._entropyCoder._freqEMA, self.k, zip(*found, strict=True), strict=True
        ):
            counts = torch.zeros(stored.shape)
            for some in codes:
                if some.shape[1]:
                    counts[: some.shape[1]] += count(some, k)
            stored.copy_(stored_counts(counts))
        if self.context is not None:
            device = next(self.parameters()).device
            self.context.fit([[c.to(device) for c in codes] for codes in found], self.codebooks())
