"""Lossy VAEs with one, two and four levels of Gaussian latents, and what they share.

Flamich, Havasi, Hernandez-Lobato, NeurIPS 2020 (arXiv 2010.01185): transforms with GDN as in Ballé et al., ICLR 2018
(arXiv 1802.01436), with normal posteriors whose scales are learned instead of rounding. Level 1 is next to the image.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, softplus

from core.codec import TesseraError
from core.modules import Modules, bias_of, of_kind
from core.registry import unknown
from core.similarity import ms_ssim
from core.train import Step
from rec.models.gdn import GDN
from rec.models.hierarchy import LN2, Draws, Normal, Visit
from rec.models.signal_conv import SignalConv

TARGETS = ("mse", "ms_ssim")
SMALLEST = 1e-7  # added to every scale
NARROW = -2.25  # raw scale of fresh posteriors: 0.1, so that the synthesis has something to learn from


class Heads(nn.Module):
    """Several convolutions of the same features: two of them for location and raw scale, a third for features."""

    def __init__(self, count: int, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SignalConv(inputs, outputs, kernel, **options) for _ in range(count))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """All of them, each (B, outputs, h, w)."""
        return tuple(conv(x) for conv in self.convs)


class Combiner(nn.Module):
    """Tensors side by side -> ELU -> 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, *tensors: Tensor) -> Tensor:
        """(B, c_i, h, w) each -> (B, outputs, h, w)."""
        joined: Tensor = self.conv(elu(torch.cat(tensors, 1)))
        return joined


class TopPrior(nn.Module):
    """A learned vector, the same everywhere -> prior of the top level; ``forward`` also gives its features."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.zeros(filters))
        self.conv = SignalConv(filters, filters, 3)
        self.heads = Heads(2, filters, filters, 3)

    def forward(self, size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Location, raw scale and features, each (B, filters, h, w), for ``size`` (B, h, w)."""
        batch, height, width = size
        features = elu(self.conv(self.base.view(1, -1, 1, 1).expand(batch, -1, height, width)))
        loc, raw = self.heads(features)
        return loc, raw, features


def normal(loc: Tensor, raw: Tensor) -> Normal:
    """A normal from its location and what softplus makes its scale."""
    return Normal(loc.float(), softplus(raw.float()) + SMALLEST)


def down(inputs: int, outputs: int, kernel: int = 5, by: int = 2) -> nn.Sequential:
    """A convolution that down-samples, and GDN."""
    return nn.Sequential(SignalConv(inputs, outputs, kernel, down=by), GDN(outputs))


def up(inputs: int, outputs: int, kernel: int = 5, by: int = 2) -> nn.Sequential:
    """A convolution that up-samples, and inverse GDN."""
    return nn.Sequential(SignalConv(inputs, outputs, kernel, up=by), GDN(outputs, inverse=True))


class LevelVAE(nn.Module):
    """The training step, for models that define ``infer``, ``generate`` and ``shapes``.

    The loss is beta times the distortion plus bits per pixel; distortion is the squared error of grey levels, or with
    ``target`` ms_ssim 255 (1 - MS-SSIM) with all exponents 1. ``anneal_end`` > 0 lets the weight of the bits grow from
    0 to 1 over as many steps.
    """

    stride: ClassVar[int] = 64
    synthesis: nn.Sequential

    def __init__(self, beta: float, target: str = "mse", anneal_end: int = 0) -> None:
        super().__init__()
        if not beta > 0:
            raise TesseraError(f"beta={beta} must be positive.")
        if target not in TARGETS:
            raise unknown("target", target, TARGETS)
        self.beta, self.target, self.anneal_end, self.rate_weight = beta, target, anneal_end, 1.0

    def _grey_start(self) -> None:
        """Let fresh weights give mid-grey, not black."""
        nn.init.constant_(bias_of(of_kind(self.synthesis[-1], SignalConv)), 0.5)

    def _image(self, z: Tensor) -> Tensor:
        """The image (B, 3, H, W) of level 1's latents; its last layer works in float32 whatever the others do."""
        x = self.synthesis[:-1](z)
        with torch.autocast(x.device.type, enabled=False):
            image: Tensor = self.synthesis[-1](x.float())
        return image

    def infer(self, pixels: Tensor) -> Any:
        """What the posteriors need of grey levels (B, 3, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} defines no inference")

    def generate(self, found: Any, size: tuple[int, int, int], visit: Visit) -> Tensor:
        """The image (B, 3, H, W) in [0, 1], not clipped, for ``size`` (B, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} defines no generation")

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, h, w) of every latent of an image, from the top."""
        raise NotImplementedError(f"{type(self).__name__} defines no latents")

    def begin_step(self, step: int, steps: int) -> None:
        """Set the weight of the bits for a step of training."""
        self.rate_weight = min(1.0, step / self.anneal_end) if self.anneal_end else 1.0

    def forward(self, x: Tensor) -> Step:
        """A training step on (B, 3, H, W) in [0, 1]; bits per pixel, distortion as in the loss."""
        draws = Draws()
        out = self.generate(self.infer(x * 255), (len(x), *x.shape[2:]), draws)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        bpp = torch.stack([k.float().sum() for k in draws.kls]).sum() / (pixels * LN2)
        distortion = self.distortion(out.float(), x.float())
        return Step(self.beta * distortion + self.rate_weight * bpp, bpp.detach(), distortion.detach())

    def distortion(self, out: Tensor, x: Tensor) -> Tensor:
        """What the loss weighs by beta, of images (B, 3, H, W) in [0, 1], as a scalar."""
        if self.target == "mse":
            return ((out - x) * 255).square().mean()
        return 255 * (1 - ms_ssim(out, x, data_range=1.0, weights=[1.0] * 5).mean())


class OneLevelVAE(LevelVAE):
    """One level at a sixteenth of the sides: large_level_1_vae, 192 filters as published."""

    stride = 16

    def __init__(self, filters: int = 192, **options: Any) -> None:
        super().__init__(**options)
        n = filters
        self.filters = n
        self.analysis = nn.Sequential(down(3, n, 9, by=4), down(n, n))
        self.posterior = Heads(2, n, n, 5, down=2, bias=False)
        self.prior = TopPrior(n)
        self.synthesis = nn.Sequential(up(n, n), up(n, n), SignalConv(n, 3, 9, up=4))
        self._grey_start()

    def infer(self, pixels: Tensor) -> Normal:
        """The posterior of the latent."""
        return normal(*self.posterior(self.analysis(pixels / 255)))

    def generate(self, found: Normal | None, size: tuple[int, int, int], visit: Visit) -> Tensor:
        batch, height, width = size
        loc, raw, _ = self.prior((batch, height // 16, width // 16))
        z = visit(0, normal(loc, raw), lambda: required(found))
        return self._image(z)

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, h, w) of the latent."""
        return [(self.filters, height // 16, width // 16)]


class TwoLevelVAE(LevelVAE):
    """A latent at 1/16 whose prior comes from one at 1/64: large_level_2_vae, (196, 128) filters as published."""

    def __init__(self, level_1_filters: int = 196, level_2_filters: int = 128, **options: Any) -> None:
        super().__init__(**options)
        n, m = level_1_filters, level_2_filters
        self.filters = n, m
        self.analysis = nn.Sequential(down(3, n), down(n, n), down(n, n))
        self.posterior = Heads(2, n, n, 5, down=2)
        self.hyper_analysis = nn.Sequential(
            SignalConv(n, m, 3),
            nn.ReLU(),
            SignalConv(m, m, 5, down=2),
            nn.ReLU(),
            Heads(2, m, m, 5, down=2, bias=False),
        )
        self.prior = TopPrior(m)
        self.hyper_synthesis = nn.Sequential(
            SignalConv(m, m, 5, up=2, rdft=False),
            nn.ReLU(),
            SignalConv(m, m, 5, up=2, rdft=False),
            nn.ReLU(),
            Heads(2, m, n, 3, up=1, rdft=False),
        )
        self.combine = Modules([Combiner(2 * n, n), Combiner(2 * n, n)])
        nn.init.constant_(bias_of(self.combine[1].conv), NARROW)
        self.synthesis = nn.Sequential(up(n, n), up(n, n), up(n, n), SignalConv(n, 3, 5, up=2))
        self._grey_start()

    def infer(self, pixels: Tensor) -> tuple[Tensor, Tensor, Normal]:
        """Location and raw scale that level 1's posterior is made of, and level 2's posterior."""
        loc, raw = self.posterior(self.analysis(pixels / 255))
        return loc, raw, normal(*self.hyper_analysis(loc))

    def generate(self, found: tuple[Tensor, Tensor, Normal] | None, size: tuple[int, int, int], visit: Visit) -> Tensor:
        batch, height, width = size
        loc, raw, _ = self.prior((batch, height // 64, width // 64))
        above = visit(0, normal(loc, raw), lambda: required(found)[2])
        prior_loc, prior_raw = self.hyper_synthesis(above)

        def posterior() -> Normal:
            mine, priors = required(found)[:2], (prior_loc, prior_raw)
            return normal(*(c(a, b) for c, a, b in zip(self.combine, mine, priors, strict=True)))

        return self._image(visit(1, normal(prior_loc, prior_raw), posterior))

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, h, w) of both latents, from the top."""
        n, m = self.filters
        return [(m, height // 64, width // 64), (n, height // 16, width // 16)]


def required(found: Any) -> Any:
    """What inference found; decoding has none, and asks for no posterior."""
    if found is None:
        raise TesseraError("this pass has no image, so its latents have no posterior: decode them instead.")
    return found
