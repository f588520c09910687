"""McQuic: encoder, cascade of multi-codebook quantisers, decoder; strictly the published state-dict names.

    x -> encoder -> codes of level 0, residual -> codes of level 1, ...
    codes -> levels from the coarsest up -> decoder -> x

Paper: Zhu et al., CVPR 2022, arXiv 2203.10897. Images are RGB in (-1, 1); code grids have 1/16, 1/32, .. of the sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import parallel
from core.codec import Image, TesseraError
from core.frequencies import entropy_bits
from core.images import as_rgb, pad
from core.modules import Modules
from core.similarity import ms_ssim
from core.train import Step
from vq.mcquic import augment
from vq.mcquic.blocks import decoder, encoder
from vq.mcquic.context import Context
from vq.mcquic.quantizer import Frequencies, LevelDecoder, LevelEncoder, count, revive
from vq.mcquic.recipe import Recipe

WATCHED = 16  # images whose codes are counted for the log
COUNTED = 500  # images that tables and context model are made of
UPWARD = 2048  # counts are stored up to here: whole numbers that 16-bit floats hold too


class Cascade(nn.Module):
    """All levels of quantisation: features (B, C, h, w) to codes and back."""

    def __init__(self, channels: int, m: int, k: Sequence[int]) -> None:
        super().__init__()
        last = len(k) - 1
        self._encoders = Modules(LevelEncoder(channels, m, size, i == last) for i, size in enumerate(k))
        books = [level._quantizer._codebook for level in self._encoders]
        self._decoders = Modules(LevelDecoder(channels, book, i == last) for i, book in enumerate(books))
        self._entropyCoder = Frequencies(m, k)

    def codes(self, x: Tensor) -> list[Tensor]:
        """Codes (B, m, h', w') per level, finest first, of features (B, C, h, w)."""
        found = []
        for level in self._encoders:
            z = level._latentStageEncoder(x)
            found.append(level._quantizer.codes(level._quantizationHead(z)))
            if level._latentHead is not None:
                x = level._latentHead(z) - level._quantizer.lookup(found[-1])
        return found

    def restore(self, vectors: Sequence[Tensor]) -> Tensor:
        """Features (B, C, h, w) from the codewords (B, C, h', w') of every level."""
        f: Tensor | None = None
        for level, found in zip(reversed(self._decoders), reversed(vectors), strict=True):
            f = level(found, f)
        assert f is not None
        return f

    def lookup(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """Codewords (B, C, h', w') of the codes of every level."""
        return [level._quantizer.lookup(c) for level, c in zip(self._encoders, codes, strict=True)]


class McQuic(nn.Module):
    """The network; ``forward`` is a training step, ``encode`` and ``decode`` are what a codec needs.

    ``channels`` is a multiple of ``m``, the number of codebooks of each level; ``k`` are their sizes, finest level
    first. Features in front of the levels have 1 / 2**``shift`` of the sides: 3 as published.
    """

    def __init__(
        self,
        channels: int,
        m: int,
        k: Sequence[int],
        recipe: Recipe | None = None,
        context: bool = False,
        shift: int = 3,
    ) -> None:
        super().__init__()
        if not (m >= 1 and channels >= 1 and channels % m == 0):
            raise TesseraError(f"channel={channels} must be a multiple of m={m}, both at least 1.")
        if not k or min(k) < 2 or max(k) > 2**16:
            raise TesseraError(f"k={tuple(k)} must list the codebook sizes of the levels, 2 to 65536 each.")
        self.channels, self.m, self.k, self.recipe = channels, m, tuple(k), recipe or Recipe()
        self.shift, self.stride = shift, 2 ** (shift + len(k))
        self._encoder, self._decoder = encoder(channels, shift - 1), decoder(channels, shift - 1)
        self._quantizer = Cascade(channels, m, k)
        for level in self._quantizer._encoders:
            level._quantizer.mode, level._quantizer.permute = self.recipe.mode, self.recipe.permute
        self.context = Context(channels, m, k) if context else None
        self._step, self._steps = 0, 1

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._encoder.parameters()).device

    def encode(self, x: Tensor) -> list[Tensor]:
        """Codes (B, m, h, w) per level, finest first, of images (B, 3, H, W) whose sides are multiples of stride."""
        return self._quantizer.codes(self._encoder(x))

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Images (B, 3, H, W), not clamped, from codes."""
        return self._decoder(self._quantizer.restore(self._quantizer.lookup(codes)))

    def grids(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(codebooks in use, h, w) of every level for an image whose sides are multiples of ``stride``."""
        shifts = range(self.shift + 1, self.shift + 1 + len(self.k))
        return [
            (level._quantizer.kept, height >> shift, width >> shift)
            for level, shift in zip(self._quantizer._encoders, shifts, strict=True)
        ]

    def begin_step(self, step: int, steps: int) -> None:
        """Tell the model where training is: step ``step`` of ``steps`` comes next."""
        self._step, self._steps = step, steps
        recipe = self.recipe
        if recipe.revive and step > recipe.free and step % recipe.revive == 0:
            self.revive()

    @torch.no_grad()
    def revive(self) -> int:
        """Revive dead codes on every level, the same on every process; returns how many there were."""
        found = 0
        for level, shares in zip(self._quantizer._encoders, self._quantizer._entropyCoder._freqEMA, strict=True):
            book = level._quantizer._codebook
            found += sum(revive(rows, used) for rows, used in zip(book.data, shares.data, strict=True))
            parallel.broadcast(book.data)
            parallel.broadcast(shares.data)
        return found

    def forward(self, images: Tensor) -> Step:
        """One training step on images (B, 3, H, W) in [0, 1], sides multiples of ``stride``.

        Distortion is 1 - MS-SSIM or the squared error in (-1, 1); the loss of the published mode is nothing else. Bits
        are the cross-entropy of the codes under their running frequencies, per pixel.
        """
        if self.recipe.colour:
            images = augment.planckian(augment.gamma(images))
        x = 2 * images - 1
        erased = augment.erase(x) if self._step < self.recipe.erase * self._steps else x
        vectors, codes, auxiliary = self._quantise(self._encoder(erased))
        out = self._decoder(self._quantizer.restore(vectors)).float()
        distortion = self.distortion(out, x)
        if codes:
            self._quantizer._entropyCoder.update(codes)
        bits = self.information(codes) / (x.shape[0] * x.shape[2] * x.shape[3])
        return Step(distortion + self.recipe.weight * auxiliary, bits, distortion, tuple(codes))

    def distortion(self, out: Tensor, x: Tensor) -> Tensor:
        """What training minimises, of an output against its reference, both (B, 3, H, W) around (-1, 1)."""
        if self.recipe.target == "mse":
            return F.mse_loss(out, x)
        return 1 - ms_ssim(x + 1, out + 1, data_range=2.0).mean()

    def _quantise(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Codewords and codes of every level, with gradients; without quantisation in the free steps.

        ``masks`` (B, m) per level say whose codewords are in use; the others are zero.
        """
        vectors, codes, loss = [], [], x.new_zeros((), dtype=torch.float32)
        for i, level in enumerate(self._quantizer._encoders):
            z = level._latentStageEncoder(x)
            head = level._quantizationHead(z)
            if self._step < self.recipe.free:
                found = head + 0 * (level._quantizer._codebook.sum() + level._quantizer._temperature.sum())
            else:
                if self.recipe.free and self._step == self.recipe.free:
                    level._quantizer.start(head)
                found, code, auxiliary = level._quantizer(head)
                codes.append(code)
                loss = loss + auxiliary / len(self.k)
            if masks is not None:
                found = found * masks[i].repeat_interleave(self.channels // self.m, 1)[:, :, None, None]
            vectors.append(found)
            if level._latentHead is not None:
                x = level._latentHead(z) - found
        return vectors, codes, loss

    @torch.no_grad()
    def information(self, codes: Sequence[Tensor], masks: Sequence[Tensor] | None = None) -> Tensor:
        """Bits of codes (B, m, h, w) under the shares of the codes, where ``masks`` (B, m) per level say so."""
        total = self._quantizer._entropyCoder._freqEMA[0].new_zeros(())
        for i, (shares, found) in enumerate(zip(self._quantizer._entropyCoder.shares(), codes, strict=False)):
            for j, (group, row) in enumerate(zip(found.unbind(1), shares.clamp(min=1e-9), strict=True)):
                total = total - torch.log2(row)[group if masks is None else group[masks[i][:, j]]].sum()
        return total

    def tensor(self, image: Image) -> Tensor:
        """uint8 (H, W, 1 or 3) -> (1, 3, H', W') in (-1, 1), continued by its last row and column to the stride."""
        padded = torch.from_numpy(pad(as_rgb(image), self.stride))
        return padded.permute(2, 0, 1)[None].to(self.device).float() / 127.5 - 1

    @torch.no_grad()
    def calibrate(self, images: Sequence[Image]) -> None:
        """Count the codes of images with the final weights, for the static tables, and fit the context model to them.

        Of more than ``COUNTED`` images, every so manieth is taken.
        """
        taken = images[:: -(-len(images) // COUNTED)]
        found = [[c.cpu() for c in self.encode(self.tensor(image))] for image in taken]
        per_level = zip(self._quantizer._entropyCoder._freqEMA, self.k, zip(*found, strict=True), strict=True)
        for stored, k, codes in per_level:
            stored.copy_(stored_counts(sum((count(c, k) for c in codes), start=torch.zeros(stored.shape))))
        if self.context is not None:
            self.context.fit([[c.to(self.device) for c in codes] for codes in found], self.codebooks())

    def codebooks(self) -> list[Tensor]:
        """The codebooks (m, K, d) per level."""
        return [level._quantizer._codebook.detach() for level in self._quantizer._encoders]

    def frequencies(self) -> list[Tensor]:
        """How often codes occur, any multiple of it, (m, K) per level."""
        return [f.detach() for f in self._quantizer._entropyCoder._freqEMA]

    @torch.inference_mode()
    def monitor(self, images: Sequence[Image]) -> dict[str, float]:
        """Perplexity of the codes per level (mean of its codebooks) over a few images, and codes used at all."""
        totals = [np.zeros((self.m, k)) for k in self.k]
        for image in images[:WATCHED]:
            for total, codes, k in zip(totals, self.encode(self.tensor(image)), self.k, strict=True):
                total += count(codes.cpu(), k).numpy()
        values = {}
        for level, total in enumerate(totals):
            values[f"perplexity{level}"] = float(2 ** np.mean([entropy_bits(counts) for counts in total]))
            values[f"live{level}"] = float((total > 0).mean())
        return values


def stored_counts(counts: Tensor) -> Tensor:
    """Counts (m, K) as weights keep them: whole numbers from 1 to ``UPWARD``, none of them 0."""
    total = counts.double() + 0.5
    return torch.clamp(torch.round(total * (UPWARD / total.max())), min=1)
