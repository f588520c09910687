"""Search at the encoder of McQuic: the codes of all levels and codebooks together, for the bits and for the picture.

A mixture of codewords is a codeword to decoder and context model alike. Candidates are the codewords nearest to what
the encoder quantises. Bits are those of the context model (in floats) or of the static shares.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.annealing import Places, Searching, anneal, most_candidates
from core.codec import Image, TesseraError
from core.images import as_rgb
from core.similarity import ms_ssim

if TYPE_CHECKING:
    from vq.mcquic.codec import Codes, McQuicCodec

MOST = 32  # candidates of a place
LEAST_SIDE = 161  # of what MS-SSIM can compare
PIXELS = 2**21  # of a padded picture: larger ones are coded plainly, as memory grows with them


class SearchingCodec(Searching):
    """A codec that spends up to ``effort`` gradient steps on each picture; streams are the plain codec's."""

    codec: McQuicCodec

    @torch.inference_mode(False)
    def __init__(self, codec: McQuicCodec, effort: int, weight: float = 1.0) -> None:
        super().__init__(codec, effort, weight)
        if codec.container == "mcq":
            raise TesseraError(f"container=mcq has no search at the encoder: leave search={effort} out.")
        self.model = copy.deepcopy(codec.model).eval().requires_grad_(False)
        self.target = self.model.recipe.target
        self.books = self.model.codebooks()

    @torch.inference_mode(False)
    def found(self, image: Image) -> bytes | None:
        """The stream with the best codes found; None for pictures that are too small or too large for a search."""
        x = self.model.tensor(image)
        small = self.target == "ms_ssim" and min(image.shape[:2]) < LEAST_SIDE
        if small or x.shape[2] * x.shape[3] > PIXELS:
            return None
        height, width = image.shape[:2]
        places = self._places(x)
        grids = [grid[1:] for grid in self.model.grids(*x.shape[2:])]
        flat = [place for level in places for place in level]

        def parts(shares: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            groups, left = [], list(shares)
            for level in places:
                groups.append(left[: len(level)])
                left = left[len(level) :]
            words = [self._words(*these) for these in zip(self.books, places, groups, grids, strict=True)]
            painted = self.model._decoder(self.model._quantizer.restore(words)).float().clamp(-1, 1)
            error = self.model.distortion(painted[:, :, :height, :width], x[:, :, :height, :width])
            return self._bits(words, places, groups), error

        with torch.no_grad():
            hard = [F.one_hot(p.start.argmax(-1), p.start.shape[-1]).to(p.start) for p in flat]
            bits, error = parts(hard)
        lmb = self.weight * float(bits) / max(float(error), 1e-12)

        def loss(shares: Sequence[Tensor]) -> Tensor:
            bits, error = parts(shares)
            return bits + lmb * error

        picked = iter(anneal([p.start for p in flat], loss, self.effort))
        pairs = zip(places, grids, strict=True)
        codes = [self._codes(level, [next(picked) for _ in level], grid) for level, grid in pairs]
        return self.codec.write(codes, image)

    def distortion(self, image: Image, decoded: Image) -> float:
        """The squared error, or 1 - MS-SSIM for models that are trained for it."""
        if self.target == "mse":
            return super().distortion(image, decoded)
        pair = [torch.from_numpy(np.array(as_rgb(i))).permute(2, 0, 1)[None].float() / 255 for i in (decoded, image)]
        return float(1 - ms_ssim(pair[0], pair[1], data_range=1.0))

    @torch.no_grad()
    def _places(self, x: Tensor) -> list[list[Places]]:
        """Candidates (h, w, M) of each codebook in use on each level, finest level first."""
        f, found = self.model._encoder(x), []
        for level, book in zip(self.model._quantizer._encoders, self.books, strict=True):
            z = level._latentStageEncoder(f)
            head = level._quantizationHead(z)
            codes = level._quantizer.codes(head)
            rows = head[0].permute(1, 2, 0).chunk(len(book), -1)
            most = min(MOST, most_candidates(codes.numel()))
            found.append([self._nearest(r, b, c, most) for r, b, c in zip(rows, book, codes[0], strict=False)])
            if level._latentHead is not None:
                f = level._latentHead(z) - level._quantizer.lookup(codes)
        return found

    @staticmethod
    def _nearest(rows: Tensor, book: Tensor, chosen: Tensor, most: int) -> Places:
        """Vectors (h, w, d) among the codewords (K, d) of one codebook."""
        distances = torch.cdist(rows.flatten(0, 1).float(), book.float()).square()
        return Places(distances.view(*chosen.shape, -1), chosen, most)

    @staticmethod
    def _words(book: Tensor, places: Sequence[Places], shares: Sequence[Tensor], grid: tuple[int, ...]) -> Tensor:
        """Mean codewords (1, C, h, w) of a level; those of codebooks that are not in use are 0."""
        parts = [p.mean(s, b) for p, s, b in zip(places, shares, book, strict=False)]
        unused = book.new_zeros(*grid, (len(book) - len(parts)) * book.shape[2])
        return torch.cat([*parts, unused], -1).permute(2, 0, 1)[None]

    def _bits(self, words: Sequence[Tensor], places: list[list[Places]], groups: list[list[Tensor]]) -> Tensor:
        context = self.model.context
        if context is None:
            shares = self.model._quantizer._entropyCoder.shares()
            logs = [[row.clamp(min=2.0**-24).log() for row in level] for level in shares]
        else:
            logs = context.log_shares(words, [len(level) for level in places])
        nats = [
            -(s * p.among(row)).sum()
            for level, shared, rows in zip(places, groups, logs, strict=True)
            for p, s, row in zip(level, shared, rows, strict=False)
        ]
        return torch.stack(nats).sum() / math.log(2)

    @staticmethod
    def _codes(places: Sequence[Places], picked: Sequence[Tensor], grid: tuple[int, ...]) -> Codes:
        if not places:
            return np.zeros((0, *grid), np.int64)
        codes: Codes = torch.stack([p.code(k) for p, k in zip(places, picked, strict=True)]).cpu().numpy()
        return codes
