"""The ResNet VAE of HiLLoC and iREC: a bidirectional hierarchy of Gaussian latents and a logistic for each pixel.

Flamich, Havasi, Hernandez-Lobato, NeurIPS 2020 (arXiv 2010.01185); the architecture is that of Kingma et al., NIPS 2016
(arXiv 1606.04934), without its flows. Inference goes from the image up to block 0, generation from block 0 down::

    x -- conv /2 -- [L-1] -- ... -- [1] -- [0]              each block leaves posterior offsets
         x-hat -- conv x2 -- [L-1] -- ... -- [1] -- [0] -- h    each block draws its latent
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from core.codec import TesseraError
from core.modules import Modules
from core.registry import unknown
from core.train import Step
from rec.likelihood import LEVELS
from rec.models.hierarchy import LN2, Draws, Normal, Visit
from rec.models.pixels import PixelLogistic
from rec.models.weight_norm import WeightNormConv

RESIDUAL = 0.1  # weight of a block's contribution
LIKELIHOODS = ("discretized_logistic", "discretized_logistic_rgb")


@dataclass(frozen=True)
class Architecture:
    """Sizes of a ``ResNetVAE``; the defaults are the published ones.

    ``likelihood`` is one logistic scale for the whole model (discretized_logistic), or (discretized_logistic_rgb, ours)
    a scale for each sample, and means of green and blue that are linear in the levels of red and green.
    """

    num_res_blocks: int = 24
    deterministic_filters: int = 160
    stochastic_filters: int = 32
    likelihood: str = "discretized_logistic"

    def __post_init__(self) -> None:
        if min(self.num_res_blocks, self.deterministic_filters, self.stochastic_filters) < 1:
            raise TesseraError("num_res_blocks, deterministic_filters and stochastic_filters must be at least 1.")
        if self.likelihood not in LIKELIHOODS:
            raise unknown("likelihood", self.likelihood, LIKELIHOODS)


class ResNetBlock(nn.Module):
    """One latent and the residual layers around it; block 0, the top one, ends the inference."""

    def __init__(self, arch: Architecture, top: bool) -> None:
        super().__init__()
        h, z = arch.deterministic_filters, arch.stochastic_filters
        self.infer_loc, self.infer_log_scale = WeightNormConv(h, z), WeightNormConv(h, z)
        self.infer_convs = None if top else nn.ModuleList([WeightNormConv(h, h), WeightNormConv(h, h)])
        self.prior_loc, self.prior_log_scale = WeightNormConv(h, z), WeightNormConv(h, z)
        self.posterior_loc, self.posterior_log_scale = WeightNormConv(h, z), WeightNormConv(h, z)
        self.features = WeightNormConv(h, h)
        self.merge = WeightNormConv(h + z, h)

    def infer(self, h: Tensor) -> tuple[Tensor, Tuple2]:
        """Features (B, C, H, W) from below -> those for the next block, and the offsets of the posterior."""
        t = elu(h)
        found = self.infer_loc(t), self.infer_log_scale(t)
        if self.infer_convs is not None:
            first, second = self.infer_convs
            h = h + RESIDUAL * second(elu(first(t)))
        return h, found

    def generate(self, i: int, h: Tensor, offsets: Tuple2 | None, visit: Visit) -> Tensor:
        """Features from above -> features below; ``visit`` gives the latent."""
        t, prior, posterior = self.look(h, offsets)
        return self.descend(h, t, visit(i, prior, posterior))

    def look(self, h: Tensor, offsets: Tuple2 | None) -> tuple[Tensor, Normal, Callable[[], Normal]]:
        """What features from above say of the latent: the input of ``descend``, prior, posterior."""
        t = elu(h)

        def posterior() -> Normal:
            if offsets is None:
                raise TesseraError("this pass has no image, so its latents have no posterior: decode them instead.")
            loc, log_scale = offsets
            scale = torch.exp((self.posterior_log_scale(t) + log_scale).float())
            return Normal((self.posterior_loc(t) + loc).float(), scale)

        return t, Normal(self.prior_loc(t).float(), torch.exp(self.prior_log_scale(t).float())), posterior

    def descend(self, h: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Features below, given the latent."""
        return h + RESIDUAL * self.merge(elu(torch.cat([self.features(t), z.to(t.dtype)], 1)))


Tuple2 = tuple[Tensor, Tensor]


class ResNetVAE(PixelLogistic, nn.Module):
    """Images (B, 3, H, W) with even sides; ``forward`` is a training step on values in [0, 1].

    ``lamb`` is the free nats of each channel of each latent and image; ``beta`` weighs the latents' rate.
    """

    stride = 2

    def __init__(self, arch: Architecture, lamb: float = 0.1, beta: float = 1.0) -> None:
        super().__init__()
        if not (lamb >= 0 and beta > 0):
            raise TesseraError(f"lamb={lamb} must be at least 0 and beta={beta} positive.")
        self.arch, self.lamb, self.beta = arch, lamb, beta
        h = arch.deterministic_filters
        self.first = WeightNormConv(3, h, 5, stride=2)
        self.blocks = Modules(ResNetBlock(arch, top=i == 0) for i in range(arch.num_res_blocks))
        self.top = nn.Parameter(torch.zeros(h))
        self.scales = arch.likelihood != "discretized_logistic"
        outputs = 9 if self.scales else 3  # means; then scales and three coefficients
        self.last = WeightNormConv(h, outputs, 5, stride=2, up=True)
        self.log_scale = nn.Parameter(torch.tensor(0.0 if outputs == 3 else -3.0))  # of pixels in [-0.5, 0.5]

    def infer(self, pixels: Tensor) -> list[Tuple2]:
        """Grey levels (B, 3, H, W) -> offsets of every block's posterior, block 0 first."""
        h = self.first((pixels + 0.5) / LEVELS - 0.5)
        found: list[Tuple2] = []
        for block in reversed(list(self.blocks)):
            h, offsets = block.infer(h)
            found.append(offsets)
        return found[::-1]

    def generate(self, offsets: Sequence[Tuple2] | None, size: tuple[int, int, int], visit: Visit) -> Tensor:
        """Parameters of the pixels' distributions, (B, 3 or 9, H, W), for ``size`` (B, H, W)."""
        h = self.start(size)
        for i, block in enumerate(self.blocks):
            h = block.generate(i, h, None if offsets is None else offsets[i], visit)
        return self.finish(h)

    def start(self, size: tuple[int, int, int]) -> Tensor:
        """The features above block 0, for images of ``size`` (B, H, W)."""
        batch, height, width = size
        shape = (batch, len(self.top), height // self.stride, width // self.stride)
        return self.top.view(1, -1, 1, 1).expand(shape)

    def finish(self, h: Tensor) -> Tensor:
        """The features below the last block -> parameters of the pixels' distributions."""
        with torch.autocast(h.device.type, enabled=False):  # bfloat16 tells no grey levels apart
            out: Tensor = self.last(elu(h).float())
        return out

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, h, w) of every latent of an image, from the top."""
        one = (self.arch.stochastic_filters, height // self.stride, width // self.stride)
        return [one] * self.arch.num_res_blocks

    def forward(self, x: Tensor) -> Step:
        """A training step on (B, 3, H, W) in [0, 1]: loss and bits of the pixels per dimension, bits of the latents."""
        pixels = torch.round(x.float() * 255)
        draws = Draws()
        out = self.generate(self.infer(pixels), (len(x), *x.shape[2:]), draws)
        with torch.autocast(x.device.type, enabled=False):
            nll = -self.log_likelihood(out, pixels).sum((1, 2, 3)).mean()
            channels = torch.stack([k.float().sum((2, 3)).mean(0) for k in draws.kls])  # (L, C), nats of an image
            dims = x[0].numel() * LN2
            loss = (nll + self.beta * channels.clamp_min(self.lamb).sum()) / dims
            return Step(loss, channels.detach().sum() / dims, (nll / dims).detach())
