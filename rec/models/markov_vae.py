"""The Markov-chain VAE of Bit-Swap: z_1 looks at the image alone, each latent above at the one below, and back down.

Kingma, Abbeel, Ho, "Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with Hierarchical Latent Variables",
ICML 2019, arXiv 1905.06845::

    inference    x -> z_1 -> z_2 -> ... -> z_L          q(z_1 | x), q(z_2 | z_1), ..., q(z_L | z_{L-1})
    generation   x <- z_1 <- z_2 <- ... <- z_L          p(x | z_1), p(z_1 | z_2), ..., p(z_L) = N(0, 1)

Levels are counted from the top as elsewhere: level 0 is z_L, level L - 1 is z_1, next to the image. All have half the
image's resolution, and as many channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from core.codec import Image, TesseraError
from core.images import as_rgb
from core.modules import Modules
from core.planes import to_planes
from core.train import Step
from rec.latents import repeatable
from rec.likelihood import LEVELS
from rec.models.hierarchy import LN2, Normal
from rec.models.pixels import PixelLogistic
from rec.models.weight_norm import WeightNormConv

STEEP = 8.0  # of the logarithm of a scale, which damaged streams could drive anywhere
BATCH = 50  # images that are looked at together for the marginals
LEAST = 1e-3  # of a marginal's scale


class Residual(nn.Module):
    """Two convolutions beside the identity, (B, C, H, W) each way."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first, self.second = WeightNormConv(filters, filters), WeightNormConv(filters, filters)

    def forward(self, h: Tensor) -> Tensor:
        """What is added, and the input."""
        out: Tensor = h + self.second(elu(self.first(elu(h))))
        return out


class Network(nn.Module):
    """A first layer and residual blocks: (B, inputs, H, W) -> (B, filters, H / stride, W / stride)."""

    def __init__(self, inputs: int, filters: int, blocks: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.first = WeightNormConv(inputs, filters, kernel, stride)
        self.blocks = Modules(Residual(filters) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Features."""
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        return elu(h)


class Conditional(nn.Module):
    """The normals of a level given its neighbour."""

    def __init__(self, network: Network, filters: int, latents: int) -> None:
        super().__init__()
        self.network = network
        self.loc, self.log_scale = WeightNormConv(filters, latents), WeightNormConv(filters, latents)

    def forward(self, x: Tensor) -> Normal:
        """loc and scale, (B, latents, H, W)."""
        h = self.network(x)
        return Normal(self.loc(h).float(), torch.exp(self.log_scale(h).float().clamp(-STEEP, STEEP)))


class MarkovVAE(PixelLogistic, nn.Module):
    """Images (B, 3, H, W) with even sides; ``forward`` is a training step on values in [0, 1].

    ``lamb`` is the free nats of a latent, in the mean over a level and a batch: what keeps the upper levels in use.
    ``marginal_loc`` and ``marginal_scale``, (levels, channels), say where the latents of training images lie: their
    grids are laid over that. They are found when training has ended.
    """

    stride = 2
    scales = True
    marginal_loc: Tensor
    marginal_scale: Tensor

    def __init__(self, levels: int, filters: int, blocks: int, latents: int, lamb: float = 0.02) -> None:
        super().__init__()
        if min(levels, filters, blocks, latents) < 1:
            raise TesseraError("levels, filters, blocks and stochastic_filters must be at least 1.")
        if not lamb >= 0:
            raise TesseraError(f"lamb={lamb} must be at least 0.")
        self.levels, self.latents, self.lamb = levels, latents, lamb
        lowest = Network(3, filters, blocks, 5, self.stride)
        networks = [*(Network(latents, filters, blocks) for _ in range(levels - 1)), lowest]
        self.infers = Modules(Conditional(network, filters, latents) for network in networks)
        self.priors = Modules(
            Conditional(Network(latents, filters, blocks), filters, latents) for _ in range(levels - 1)
        )
        self.render = Network(latents, filters, blocks)
        self.last = WeightNormConv(filters, 9, 5, stride=self.stride, up=True)
        self.log_scale = nn.Parameter(torch.tensor(-3.0))
        self.register_buffer("marginal_loc", torch.zeros(levels, latents))
        self.register_buffer("marginal_scale", torch.ones(levels, latents))

    def recognise(self, level: int, below: Tensor) -> Normal:
        """q(z_level | level below): grey levels (B, 3, H, W) for the last level, else values of level + 1."""
        return self.infers[level]((below + 0.5) / LEVELS - 0.5 if level + 1 == self.levels else below)

    def prior(self, level: int, above: Tensor) -> Normal:
        """p(z_level | z_{level-1}); of level 0, which has nothing above, N(0, 1) in the shape of ``above``."""
        return self.priors[level - 1](above) if level else Normal(torch.zeros_like(above), torch.ones_like(above))

    def pixels(self, z: Tensor) -> Tensor:
        """Values of the last level -> parameters of the pixels' distributions, (B, 9, H, W)."""
        out: Tensor = self.last(self.render(z))
        return out

    def draw(self, pixels: Tensor) -> list[tuple[Tensor, Normal]]:
        """A sample of every level given grey levels (B, 3, H, W), and what it was drawn from; from the top."""
        found: list[tuple[Tensor, Normal]] = []
        below = pixels
        for level in reversed(range(self.levels)):
            q = self.recognise(level, below)
            below = q.sample()
            found.append((below, q))
        return found[::-1]

    def rates(self, drawn: Sequence[tuple[Tensor, Normal]]) -> Tensor:
        """ln q(z) / p(z) of the samples of every level, nats of an image: (B, levels)."""
        rates = []
        for level, (z, q) in enumerate(drawn):
            p = self.prior(level, drawn[level - 1][0] if level else z)
            squares = ((z - p.loc) / p.scale).square() - ((z - q.loc) / q.scale).square()
            rates.append((0.5 * squares + torch.log(p.scale / q.scale)).sum((1, 2, 3)))
        return torch.stack(rates, 1)

    def forward(self, x: Tensor) -> Step:
        """A training step on (B, 3, H, W) in [0, 1]: loss and bits of the pixels per dimension, bits of the latents."""
        pixels = torch.round(x.float() * 255)
        drawn = self.draw(pixels)
        rates, dims = self.rates(drawn).mean(0), x[0].numel() * LN2
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 tells no grey levels apart
            nll = -self.log_likelihood(self.pixels(drawn[-1][0].float()), pixels).sum((1, 2, 3)).mean()
            loss = (nll + rates.clamp_min(self.lamb * drawn[0][0][0].numel()).sum()) / dims
            return Step(loss, rates.detach().sum() / dims, (nll / dims).detach())

    @torch.no_grad()
    def calibrate(self, images: Sequence[Image]) -> None:
        """Find where the latents of images lie; those of another size than the first one's are left out."""
        samples: list[list[Tensor]] = [[] for _ in range(self.levels)]
        for drawn in self._drawn(images):
            for level, (z, _) in enumerate(drawn):
                samples[level].append(z.transpose(0, 1).flatten(1))
        for level, found in enumerate(samples):
            values = torch.cat(found, 1).double()
            self.marginal_loc[level] = values.mean(1)
            self.marginal_scale[level] = values.std(1).clamp_min(LEAST)

    @torch.no_grad()
    def monitor(self, images: Sequence[Image]) -> dict[str, float]:
        """Bits per dimension of the latents of each level, from the top."""
        rates = torch.cat([self.rates(drawn) for drawn in self._drawn(images)]).mean(0)
        return {f"level_{i}": float(rate) / (images[0][..., 0].size * 3 * LN2) for i, rate in enumerate(rates)}

    def _drawn(self, images: Sequence[Image]) -> Iterator[list[tuple[Tensor, Normal]]]:
        """Samples of all levels of images of the first one's size, always the same ones, many images at a time."""
        device = self.marginal_loc.device
        alike = [as_rgb(image) for image in images if image.shape == images[0].shape]
        with repeatable():
            for start in range(0, len(alike), BATCH):
                planes = [to_planes(image, 3, self.stride) for image in alike[start : start + BATCH]]
                yield self.draw(torch.round(torch.cat(planes) * 255).to(device))
