"""The VQ-VAE: one small convolutional backbone around any quantiser, with the statistics its entropy coder needs.

The backbone is that of the LL-VQ-VAE comparison (4x4 convolutions of stride 2, two residual layers, 1x1 to the
latent), without the activations there behind the latent and behind the image, which cut their ranges in half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.codec import Image, TesseraError
from core.finite import checked_latents
from core.planes import batches, to_planes
from core.train import Step
from vq.hyperprior import Hyperprior
from vq.prior import Prior
from vq.vqvae.quantizer import Quantizer, codewords, usage

BATCH_PIXELS = 2**16  # of images that are encoded together where there are many
PRIORS = (False, True, "hyper")
PRIOR = "prior."  # in front of the names of its tensors
CALIBRATION = 10_000  # training images, evenly spread, whose codes are counted


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), without biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.narrow = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> the same."""
        added: Tensor = self.narrow(F.relu(self.wide(F.relu(x))))
        return x + added


def encoder(channels: int, hidden: Sequence[int], dim: int) -> nn.Sequential:
    """(B, channels, H, W) -> (B, dim, H / 2**n, W / 2**n) with n = len(hidden)."""
    layers: list[nn.Module] = []
    for before, after in zip((channels, *hidden[:-1]), hidden, strict=True):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU()]
    last = hidden[-1]
    layers += [nn.Conv2d(last, last, 3, padding=1), Residual(last), Residual(last), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Conv2d(last, dim, 1))


def decoder(channels: int, hidden: Sequence[int], dim: int) -> nn.Sequential:
    """(B, dim, h, w) -> (B, channels, h * 2**n, w * 2**n)."""
    last = hidden[-1]
    layers: list[nn.Module] = [nn.Conv2d(dim, last, 3, padding=1), Residual(last), Residual(last), nn.LeakyReLU()]
    sides = (*hidden[::-1][1:], channels)
    for i, (before, after) in enumerate(zip(hidden[::-1], sides, strict=True)):
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        layers += [nn.LeakyReLU()] if i < len(sides) - 1 else []
    return nn.Sequential(*layers)


def priors_own(state: Mapping[str, Tensor], prior: bool | str) -> Mapping[str, Tensor]:
    """The entries of a stored state with this prior; ``TesseraError`` where it holds another one, or none."""
    there = next((PRIORS[1 + (f"{PRIOR}counts" in state)] for name in state if name.startswith(PRIOR)), False)
    if prior and there != prior:
        raise TesseraError(
            f"these weights have {'no prior' if not there else f'prior={there}'}, not prior={prior}: give others, or "
            f"fit one to them by training with params.prior={prior} init=PATH steps=0."
        )
    return state if prior else {name: value for name, value in state.items() if not name.startswith(PRIOR)}


def adopted(model: VQVAE, state: Mapping[str, Tensor]) -> VQVAE:
    """A fresh model with a stored state except for its prior; ``TesseraError`` where that does not fit."""
    own = {name: value for name, value in model.state_dict().items() if name.startswith(PRIOR)}
    floats = {name: v.float() if v.is_floating_point() else v for name, v in priors_own(state, False).items()}
    try:
        model.load_state_dict({**floats, **own})
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise TesseraError(f"the weights that training is to begin with do not fit this model: {why}") from None
    return model


def _prior(kind: bool | str, quantizer: Quantizer) -> Prior | Hyperprior | None:
    """A fresh prior over the codes of a quantiser: none (False), autoregressive (True), or 'hyper'."""
    if kind not in PRIORS:
        raise TesseraError(f"prior={kind} must be one of {', '.join(map(str, PRIORS))}.")
    if not kind:
        return None
    if kind != "hyper":
        return Prior(quantizer.codebook_sizes).requires_grad_(False)
    _, tables = codewords(quantizer, len(quantizer.codebook_sizes))  # refuses what has none
    return Hyperprior(quantizer.codebook_sizes, tables[0].shape[1]).requires_grad_(False)


class VQVAE(nn.Module):
    """Encoder, quantiser, decoder; optionally a prior over the codes. Images are float (B, channels, H, W) in [0, 1].

    The loss is ``weight`` times the mean squared error, plus the quantiser's. ``counts0``, ``counts1``, ... hold how
    often each code of each book occurs in training images (all zero before ``calibrate``): the entropy coder's tables
    come from these integers alone. The prior too learns in ``calibrate``, when codes change no more.
    """

    def __init__(
        self, channels: int, hidden: Sequence[int], quantizer: Quantizer, weight: float, prior: bool | str = False
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise TesseraError(f"channels={channels} must be 1 (grey planes) or 3 (RGB).")
        if not hidden or min(hidden) < 1:
            raise TesseraError(f"hidden={tuple(hidden)} must name one or more widths of at least 1.")
        self.channels, self.stride, self.weight = channels, 2 ** len(hidden), weight
        self.encoder = encoder(channels, hidden, quantizer.dim)
        self.quantizer = quantizer
        self.decoder = decoder(channels, hidden, quantizer.dim)
        self.prior = _prior(prior, quantizer)
        self.books = len(quantizer.codebook_sizes)
        for book, size in enumerate(quantizer.codebook_sizes):
            self.register_buffer(f"counts{book}", torch.zeros(size, dtype=torch.int64))

    @property
    def counts(self) -> list[Tensor]:
        """Counts of codes in training images, int64 (K,) per book."""
        return [self.get_buffer(f"counts{book}") for book in range(self.books)]

    def forward(self, x: Tensor) -> Step:
        """One training step's loss; bits are per pixel, of the batch's own entropy."""
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        latent = self.encoder(padded - 0.5).permute(0, 2, 3, 1)  # (B, h, w, dim)
        out = self.quantizer(latent)
        decoded = self.decoder(out.quantized.permute(0, 3, 1, 2)) + 0.5
        distortion = F.mse_loss(decoded[:, :, :height, :width].float(), x)
        loss = self.weight * distortion + out.loss
        codes = out.codes.permute(0, 3, 1, 2)  # (B, books, h, w)
        bits = out.stats["perplexity"].log2().sum()  # of one vector
        vectors = codes[:, 0].numel() / (len(x) * height * width)  # a pixel
        return Step(loss, bits * vectors, distortion, tuple(codes.detach().unbind(1)))

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Tensor:
        """Images of sides divisible by the stride -> codes, int64 (B, books, h, w)."""
        latent = self.encoder(x - 0.5).permute(0, 2, 3, 1)
        codes: Tensor = self.quantizer(latent).codes  # refuses NaN itself
        checked_latents(latent)
        return codes.permute(0, 3, 1, 2)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, books, h, w) -> images in about [0, 1]; not clipped."""
        vectors = self.quantizer.lookup(codes.permute(0, 2, 3, 1))
        image: Tensor = self.decoder(vectors.permute(0, 3, 1, 2))
        return image + 0.5

    def planes(self, image: Image) -> Tensor:
        """uint8 (H, W, C) -> padded float (B, channels, H', W'): a grey model takes each colour as an image."""
        return to_planes(image, self.channels, self.stride).to(next(self.parameters()).device)

    def calibrate(self, images: Sequence[Image]) -> None:
        """Count the codes of training images with the weights as they are now, and fit the prior to them.

        Call it when training has ended.
        """
        self.eval()
        for counts in self.counts:
            counts.zero_()
        grids = [codes.clone() for codes in self._codes(images[:: -(-len(images) // CALIBRATION)])]
        for codes in grids:
            for book, counts in enumerate(self.counts):
                counts += torch.bincount(codes[:, book].reshape(-1), minlength=len(counts))
        if isinstance(self.prior, Hyperprior):
            self.prior.fit(grids, codewords(self.quantizer, self.books)[1])
        elif self.prior is not None:
            self.prior.fit(grids)

    def monitor(self, images: Sequence[Image]) -> dict[str, float]:
        """Usage of each book over images, for the log of a training run: 'used0', 'perplexity0', ..."""
        codes = torch.cat([c.transpose(0, 1).flatten(1) for c in self._codes(images)], dim=1)
        values: dict[str, float] = {}
        found = usage(codes.T, self.quantizer.codebook_sizes)
        for book, (used, perplexity) in enumerate(zip(found["used"], found["perplexity"], strict=True)):
            values |= {f"used{book}": float(used), f"perplexity{book}": float(perplexity)}
        return values

    def _codes(self, images: Sequence[Image]) -> Iterator[Tensor]:
        """Codes (B, books, h, w) of images, neighbours of one size together."""
        for some in batches(images, BATCH_PIXELS):
            yield self.encode(torch.cat([self.planes(image) for image in some]))
