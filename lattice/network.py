"""The LL-VQ-VAE network (Khalil et al., arXiv 2310.09382, official configuration) around any quantiser of the family.

State-dict names follow the official layers: ``_encoder.0.0.weight``, ``_quantizer.embedding.weight``, ... Images are
floats in [0, 1] here; ``shift`` is what the published data pipeline subtracts (0.5 for Fashion-MNIST). The published
network has a LeakyReLU behind the latent and one behind the image; without ``ends`` both are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.codec import Image, TesseraError
from core.finite import checked_latents
from core.frequencies import entropy_bits
from core.planes import batches, to_planes
from core.train import Step
from lattice.points_coder import Coder
from lattice.published import DIM, Backbone
from lattice.quantizers import RowQuantizer
from lattice.trained import BlockLattice

BATCH_PIXELS = 2**15  # of images that are encoded together where there are many
CALIBRATION = 2**20  # vectors of training images, evenly spread, whose symbols are counted


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(x))), without biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resblock = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(width, width, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> the same."""
        added: Tensor = self.resblock(x)
        return x + added


def _leaky(layer: nn.Module, active: bool = True) -> nn.Sequential:
    return nn.Sequential(layer, nn.LeakyReLU() if active else nn.Identity())


def encoder(backbone: Backbone, ends: bool) -> nn.Sequential:
    """(B, channels, H, W) -> (B, 64, H / 2**n, W / 2**n) with n = len(hidden)."""
    hidden, last = backbone.hidden, backbone.hidden[-1]
    pairs = zip((backbone.channels, *hidden[:-1]), hidden, strict=True)
    layers: list[nn.Module] = [_leaky(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in pairs]
    layers += [_leaky(nn.Conv2d(last, last, 3, padding=1)), Residual(last), Residual(last), nn.LeakyReLU()]
    return nn.Sequential(*layers, _leaky(nn.Conv2d(last, DIM, 1), ends))


def decoder(backbone: Backbone, ends: bool) -> nn.Sequential:
    """(B, 64, h, w) -> (B, channels, h * 2**n, w * 2**n)."""
    hidden, last = backbone.hidden[::-1], backbone.hidden[-1]
    layers: list[nn.Module] = [_leaky(nn.Conv2d(DIM, last, 3, padding=1)), Residual(last), Residual(last)]
    layers.append(nn.LeakyReLU())
    for i, (a, b) in enumerate(zip(hidden, (*hidden[1:], backbone.channels), strict=True)):
        layers.append(_leaky(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), ends or i < len(hidden) - 1))
    return nn.Sequential(*layers)


class LatticeVAE(nn.Module):
    """Encoder, quantiser, decoder, and the counts its entropy coder is made of.

    The loss is ``weight`` times the mean squared error plus the quantiser's own plus ``rate`` times bits per pixel.
    Where the rate is trained, it is for free at the start and has its weight after the share ``rate_warmup`` of the
    steps; with ``straight_through`` a fixed lattice trains its decoder on points (``lattice.trained``).
    """

    def __init__(
        self, backbone: Backbone, quantizer: RowQuantizer, ends: bool = True, weight: float = 1.0, rate: float = 0.0
    ) -> None:
        super().__init__()
        if quantizer.dim != DIM:
            raise TesseraError(f"the latent has {DIM} dimensions, not {quantizer.dim}.")
        self.channels, self.shift = backbone.channels, backbone.shift
        self.stride, self.weight, self.rate = 2 ** len(backbone.hidden), weight, rate
        self._warm, self.rate_warmup, self.straight_through = 1.0, 0.0, False
        fixed = type(quantizer) is BlockLattice  # a learned basis gets its gradient from the dither
        self.training_options = (*(["rate_warmup"] if rate else []), *(["straight_through"] if fixed else []))
        self._encoder, self._quantizer = encoder(backbone, ends), quantizer
        self._decoder = decoder(backbone, ends)
        self.coder = Coder(quantizer.blocks, quantizer.chain, quantizer.window)

    @property
    def quantizer(self) -> RowQuantizer:
        """The quantiser, under a public name."""
        return self._quantizer

    def begin_step(self, step: int, steps: int) -> None:
        """Told by the training loop: what the rate weighs in this step."""
        warmup = self.rate_warmup * steps
        self._warm = min(1.0, step / warmup) if warmup else 1.0

    def forward(self, x: Tensor) -> Step:
        """One training step's loss on images (B, channels, H, W) in [0, 1]; bits are per pixel."""
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        latent = self._encoder(padded - self.shift).permute(0, 2, 3, 1)  # (B, h, w, 64)
        if isinstance(self._quantizer, BlockLattice):
            self._quantizer.straight_through = self.straight_through
        out = self._quantizer(latent.reshape(-1, DIM))
        decoded = self._decoder(out.vectors.view(latent.shape).permute(0, 3, 1, 2)) + self.shift
        distortion = F.mse_loss(decoded[:, :, :height, :width], x)
        bits = out.bits / (len(x) * height * width)
        loss = self.weight * distortion + out.loss + (self._warm * self.rate * bits if self.rate else 0.0)
        return Step(loss, bits, distortion)

    @torch.inference_mode()
    def latent(self, x: Tensor) -> Tensor:
        """Images of sides divisible by the stride -> encoder output (B, h, w, 64), before quantisation."""
        return checked_latents(self._encoder(x - self.shift)).permute(0, 2, 3, 1)

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Tensor:
        """Images of sides divisible by the stride -> whole numbers, int64 (B, h, w, blocks, rank)."""
        z = self.latent(x)
        k = self._quantizer.encode(z.reshape(-1, DIM))
        return k.view(*z.shape[:3], self._quantizer.blocks, self._quantizer.rank)

    @torch.inference_mode()
    def decode(self, k: Tensor) -> Tensor:
        """Whole numbers (B, h, w, blocks, rank) -> images in about [0, 1]; not clipped."""
        rows = self._quantizer.decode(k.flatten(0, 2))
        latent = rows.reshape(*k.shape[:3], DIM).permute(0, 3, 1, 2).contiguous()  # one layout, so one rounding
        image: Tensor = self._decoder(latent)
        return image + self.shift

    def planes(self, image: Image) -> Tensor:
        """uint8 (H, W, C) -> padded float (B, channels, H', W'): a grey model takes each colour as an image."""
        return to_planes(image, self.channels, self.stride).to(next(self.parameters()).device)

    def calibrate(self, images: Sequence[Image]) -> None:
        """Settle the quantiser and count the symbols of training images; call it when training has ended."""
        self.eval()
        self._quantizer.settle()
        self.coder.settle(self._quantizer.chain)
        pixels = sum(image.shape[0] * image.shape[1] for image in images)
        some = images[:: max(1, round(pixels / self.stride**2 / CALIBRATION))]
        self.coder.count([k.flatten(0, 2).int().cpu().numpy() for k in self.points(some)])

    def monitor(self, images: Sequence[Image]) -> dict[str, float]:
        """For the log of a training run: distinct vectors and their zero-order entropy in bits, over images."""
        rows = np.concatenate([k.flatten(0, 2).flatten(1).cpu().numpy() for k in self.points(images)])
        _, counts = np.unique(rows, axis=0, return_counts=True)
        return {"distinct": float(len(counts)), "entropy": entropy_bits(counts)}

    def points(self, images: Sequence[Image]) -> Iterator[Tensor]:
        """Whole numbers (B, h, w, blocks, rank) of images, neighbours of one size together."""
        for some in batches(images, BATCH_PIXELS):
            yield self.encode(torch.cat([self.planes(image) for image in some]))
