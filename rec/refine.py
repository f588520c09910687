"""Search at the encoder of relative entropy coding: posteriors refined for one image, before and while they are coded.

The encoder network's posterior of each latent is a first guess. Each gets offsets of its own, in units of the guess:

    loc + scale * a,    scale * exp(b)

which follow the gradient of KL + distortion (lossy), or of KL + bits of the pixels (lossless), over samples of all
latents. After a level is coded, its sample is known and the offsets of the levels below go on from there. The
prior, which is all that the decoder knows, stays as it is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.codec import Image, check_effort
from rec.models.hierarchy import LN2, Normal, kl

if TYPE_CHECKING:
    from rec.lossless import LosslessCodec
    from rec.lossy import LossyCodec

RATE = 0.03  # of Adam, in posterior scales; falls to a hundredth along a cosine
WIDEST = 3.0  # of b: posteriors become this many e-folds wider or narrower at most
LEAST_SIDE = 161  # of what MS-SSIM can compare

Loss = Callable[[Tensor], Tensor]  # what the generative pass gives -> nats besides the KL, a scalar
Model = Any  # with infer, generate, shapes


class Refinement:
    """Offsets for one image: ``posterior`` gives a level's, once all above it are ``known``."""

    @torch.inference_mode(False)
    def __init__(self, model: Model, pixels: Tensor, loss: Loss, steps: int) -> None:
        """``pixels`` are grey levels (1, 3, H, W) of sides that the model takes."""
        self.model, self.loss = model, loss
        self.size = (1, *pixels.shape[2:])
        with torch.no_grad():
            self.found = model.infer(pixels.clone())
        shapes = model.shapes(*pixels.shape[2:])
        zeros = [pixels.new_zeros((2, 1, *shape)) for shape in shapes]
        self.offsets = [z.clone().requires_grad_() for z in zeros]
        self.known: list[torch.Tensor] = []
        self.draw = torch.Generator(pixels.device).manual_seed(0)
        self.finite = True
        self._descend(steps)
        self.later = steps // len(shapes)

    def posterior(self, i: int, guess: Normal) -> Normal:
        """The refined posterior of level i, whose guess follows from the samples above it."""
        return _moved(guess, self.offsets[i].detach())

    @torch.inference_mode(False)
    def know(self, sample: Tensor) -> None:
        """The coded sample of the next level, from the top; the levels below are refined under it."""
        self.known.append(sample.clone())
        if len(self.known) < len(self.offsets):
            self._descend(self.later)

    def _descend(self, steps: int) -> None:
        """Gradient steps on the offsets of the levels that are not coded yet."""
        free = self.offsets[len(self.known) :]
        optimiser = torch.optim.Adam(free, lr=RATE)
        with torch.enable_grad(), torch.autocast(free[0].device.type, enabled=False):
            for step in range(steps):
                optimiser.param_groups[0]["lr"] = RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
                loss = self._once()
                if not torch.isfinite(loss):
                    self.finite = False
                    return
                for variable, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
                    variable.grad = gradient
                optimiser.step()

    def _once(self) -> Tensor:
        """Nats of one pass: the KL of the levels not coded yet, and the loss."""
        nats: list[Tensor] = []

        def visit(i: int, prior: Normal, posterior: Callable[[], Normal]) -> Tensor:
            if i < len(self.known):
                return self.known[i]
            q = _moved(posterior(), self.offsets[i])
            nats.append(kl(q, prior).sum())
            noise = torch.randn(q.loc.shape, generator=self.draw, device=q.loc.device)
            return q.loc + q.scale * noise

        out = self.model.generate(self.found, self.size, visit)
        return torch.stack(nats).sum() + self.loss(out)


def _moved(q: Normal, offset: Tensor) -> Normal:
    a, b = offset
    return Normal(q.loc + q.scale * a, q.scale * torch.exp(b.clamp(-WIDEST, WIDEST)))


class _Searching:
    """What both codecs share: ``_loss`` and ``_cost`` in the subclass."""

    codec: Any

    @torch.inference_mode(False)
    def __init__(self, codec: Any, effort: int) -> None:
        check_effort(effort, least=1)
        self.codec, self.effort = codec, effort
        self.model = copy.deepcopy(codec.model).eval().requires_grad_(False)

    def compress(self, image: Image) -> bytes:
        """uint8 (H, W, 1 or 3) -> stream: the plain one unless the refined one is better."""
        plain: bytes = self.codec.compress(image)
        loss = self._loss(image)
        if loss is None:
            return plain
        refinement = Refinement(self.model, self._pixels(image), loss, self.effort)
        if not refinement.finite:
            return plain
        found: bytes = self.codec.encode(image, refinement)[0]
        return min((plain, found), key=lambda stream: self._cost(image, stream)) if refinement.finite else plain

    def decompress(self, stream: bytes) -> Image:
        image: Image = self.codec.decompress(stream)
        return image

    def payload_bits(self, stream: bytes) -> int:
        bits: int = self.codec.payload_bits(stream)
        return bits

    def _pixels(self, image: Image) -> Tensor:
        raise NotImplementedError

    def _loss(self, image: Image) -> Loss | None:
        raise NotImplementedError

    def _cost(self, image: Image, stream: bytes) -> float:
        raise NotImplementedError


class SearchingLossy(_Searching):
    """A lossy codec that refines posteriors for ``effort`` gradient steps: bits + beta x distortion."""

    codec: LossyCodec

    @torch.inference_mode(False)
    def _pixels(self, image: Image) -> Tensor:
        return self.codec.tensor(image) * 255

    def _loss(self, image: Image) -> Loss | None:
        height, width = image.shape[:2]
        if self.model.target == "ms_ssim" and min(height, width) < LEAST_SIDE:
            return None
        with torch.inference_mode(False):
            wanted = self.codec.tensor(image)[:, :, :height, :width].clone()

        def loss(out: Tensor) -> Tensor:
            distortion: Tensor = self.model.distortion(out[:, :, :height, :width].float().clamp(0, 1), wanted)
            return height * width * LN2 * self.model.beta * distortion

        return loss

    def _cost(self, image: Image, stream: bytes) -> float:
        """Bits per pixel + beta x distortion."""
        height, width = image.shape[:2]
        shown, wanted = (
            self.codec.tensor(x)[:, :, :height, :width] for x in (self.codec.decompress(stream), np.asarray(image))
        )
        return 8 * len(stream) / (height * width) + self.model.beta * float(self.model.distortion(shown, wanted))


class SearchingLossless(_Searching):
    """A lossless codec that refines posteriors for ``effort`` gradient steps: bits of latents and pixels."""

    codec: LosslessCodec

    @torch.inference_mode(False)
    def _pixels(self, image: Image) -> Tensor:
        from rec.lossless import levels_of

        return levels_of(self.model, image)

    def _loss(self, image: Image) -> Loss:
        pixels = self._pixels(image)
        height, width, channels = image.shape

        def loss(out: Tensor) -> Tensor:
            nats: Tensor = -self.model.log_likelihood(out, pixels)[:, :channels, :height, :width].sum()
            return nats

        return loss

    def _cost(self, image: Image, stream: bytes) -> float:
        return len(stream)
