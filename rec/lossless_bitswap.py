"""The Markov-chain VAE with bits back, in the order of Bit-Swap or in that of plain BB-ANS: one model, two needs.

Both orders put the same numbers on the stack, under the same distributions, so that a long chain costs the same, the
negative ELBO. A file of one image, and the first of a chain, also carries first bits: those of one level with Bit-Swap,
of all levels without. Streams need the encoder's own machine and libraries, as those of ``rec.lossless_bitsback``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import bitstream
from core.codec import Image
from core.frequencies import Tables
from core.registry import unknown
from rec.bitsback import BitsBack
from rec.gaussian import Gaussian
from rec.latents import exact, repeatable
from rec.lossless import levels_of
from rec.lossless_bitsback import ChainCodec, colour_tables, flat, joined
from rec.models.hierarchy import LN2
from rec.models.markov_vae import MarkovVAE

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ORDERS = {"bit_swap": "bottom_up", "bb_ans": "levels_first"}


class BitSwapCodec(ChainCodec):
    """Compress and decompress with one model; ``order`` is one of ``ORDERS``, ``bits`` those of a latent's cell."""

    def __init__(self, model: MarkovVAE, order: str, bits: int, seed: int, name: str, digest: bytes) -> None:
        if order not in ORDERS:
            raise unknown("order of bits back", order, ORDERS)
        super().__init__(bitstream.fingerprint(name, digest, f"{order}, {bits} bits, seed {seed}"))
        self.model, self.order, self.cell, self.seed = model.eval(), ORDERS[order], bits, seed

    def coder(self, shape: tuple[int, int, int]) -> tuple[BitsBack, int]:
        """See ``ChainCodec.coder``."""
        hierarchy = MarkovHierarchy(self.model, shape)
        return BitsBack(hierarchy, self.order, self.cell, self.seed, grid=True), hierarchy.latents

    @exact
    def negative_elbo(self, image: Image) -> float:
        """In bits, at exact samples of the posteriors (always the same ones); padding has latents but no pixels."""
        height, width, channels = image.shape
        x = levels_of(self.model, image)
        with repeatable():
            drawn = self.model.draw(x)
        masses = self.model.log_likelihood(self.model.pixels(drawn[-1][0]), x)[:, :channels, :height, :width]
        return float(self.model.rates(drawn).double().sum() - masses.double().sum()) / LN2


class MarkovHierarchy:
    """A Markov-chain VAE on images of one shape (H, W, C), as ``rec.bitsback`` sees it: a part is a colour."""

    def __init__(self, model: MarkovVAE, shape: tuple[int, int, int]) -> None:
        self.model, self.shape = model, shape
        self.depth, self.parts = model.levels, shape[2]
        rows, columns = (-(-side // model.stride) for side in shape[:2])
        self.size = 1, model.latents, rows, columns
        self._rendered: tuple[Floats, Tensor] | None = None  # values, and what the network made of them

    @property
    def latents(self) -> int:
        """Of one image, all levels."""
        return self.depth * int(np.prod(self.size))

    def prior(self, level: int, above: Sequence[Floats]) -> Gaussian:
        """p(z_level | values of the level above), (n,)."""
        if level == 0:
            count = int(np.prod(self.size))
            return Gaussian(np.zeros(count), np.ones(count))
        return flat(self.model.prior(level, self._tensor(above[-1])))

    def recognise(self, level: int, below: Sequence[Ints] | Floats) -> Gaussian:
        """q(z_level | level below), (n,): colours for the last level, else values."""
        if isinstance(below, np.ndarray):
            return flat(self.model.recognise(level, self._tensor(below)))
        return flat(self.model.recognise(level, levels_of(self.model, joined(below, self.shape))))

    def marginal(self, level: int) -> Gaussian:
        """The normal of each channel's latents over the training images, (n,)."""
        each = self.size[2] * self.size[3]
        loc, scale = self.model.marginal_loc[level], self.model.marginal_scale[level]
        return Gaussian(*(np.repeat(v.double().cpu().numpy(), each) for v in (loc, scale)))

    def likelihood(self, part: int, latents: Sequence[Floats], known: Sequence[Ints]) -> tuple[Ints, Tables]:
        """The table of each sample of a colour, given the values next to the data and the colours before it."""
        values = latents[-1]
        if self._rendered is None or not np.array_equal(self._rendered[0], values):
            self._rendered = values.copy(), self.model.pixels(self._tensor(values))
        out = self._rendered[1][:, :, : self.shape[0], : self.shape[1]]
        return colour_tables(self.model, out, known)

    def _tensor(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).view(self.size).float().to(self.model.marginal_loc.device)
