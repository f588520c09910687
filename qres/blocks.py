"""Building blocks of the quantised hierarchical VAEs: QRes-VAE (Duan et al., WACV 2023, arXiv 2208.13056, section 4
and appendix) and its successor QARV (Duan et al., arXiv 2302.08899), whose blocks are named Ada- for their AdaLN.

Attribute names follow the published checkpoints (including one misspelling), so that official weights load strictly.
Tensors are NCHW; ``condition`` is the embedding (B, E) of lambda of variable-rate models, None for the others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.depthwise import depthwise
from core.modules import bias_of
from core.pointwise import Gelu, gelu
from qres import fused

WIDEST = 10.0  # of a prior: its log-scale


class Gaussian(NamedTuple):
    """A diagonal normal prior: mean and scale, both (B, z, h, w), float32."""

    mean: Tensor
    scale: Tensor


class CNX(nn.Module):
    """ConvNeXt block (section 1.1 of the model description): depthwise conv, LayerNorm, MLP, layer scale.

    The MLP is ``ratio`` times as wide as the features. ``embedding`` > 0 adds a modulation of the normalised features
    by a conditioning vector (B, embedding): y -> y * (1 + s) + b with (s, b) linear in the vector, zero at the start.
    """

    def __init__(self, width: int, kernel: int, embedding: int = 0, gamma: float = 1e-6, ratio: float = 2) -> None:
        super().__init__()
        hidden = int(ratio * width)
        self.conv_dw = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.gamma = nn.Parameter(torch.full((width,), gamma))
        self.film: nn.Linear | None = None
        if embedding:
            self.film = nn.Linear(embedding, 2 * width)
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        if fused.serves(x, self.conv_dw):
            matrices = (self.mlp["fc1"].weight, self.mlp["fc1"].bias, self.mlp["fc2"].weight, self.mlp["fc2"].bias)
            return fused.block(
                x, self.conv_dw, *self._affine(condition), self.norm.eps, (*matrices, self.gamma.view(-1))
            )
        y = self._depthwise(x).permute(0, 2, 3, 1)  # (B, h, w, C)
        y = self.norm(y)
        if (modulation := self.modulation(condition)) is not None:
            scale, shift = (part[:, None, None] for part in modulation)
            y = y * (1 + scale) + shift
        y = self.mlp["fc2"](F.gelu(self.mlp["fc1"](y)))
        return x + (y * self.gamma.view(-1)).permute(0, 3, 1, 2)

    def modulation(self, condition: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """What lambda makes of the normalised features, (scale - 1, shift), each (B, C); None for one rate."""
        if self.film is None:
            return None
        scale, shift = self.film(condition).chunk(2, dim=-1)
        return scale, shift

    def _affine(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """LayerNorm's scale and shift with the modulation in them, float32: (1, C), or (B, C) with a condition."""
        with torch.autocast("cpu", enabled=False):
            modulation = self.modulation(None if condition is None else condition.float())
        if not self.norm.elementwise_affine:
            assert modulation is not None
            return 1 + modulation[0], modulation[1]
        scale, shift = self.norm.weight[None], self.norm.bias[None]
        if modulation is None:
            return scale, shift
        more, moved = modulation
        return scale * (1 + more), shift * (1 + more) + moved

    def _depthwise(self, x: Tensor) -> Tensor:
        if self.conv_dw.kernel_size == (1, 1):  # a per-channel affine map; the convolution kernel is 100 times slower
            return x * self.conv_dw.weight.view(1, -1, 1, 1) + bias_of(self.conv_dw).view(1, -1, 1, 1)
        return depthwise(x, self.conv_dw)


class CNXDown(CNX):
    """A CNX block with a 7x7 kernel, then a strided ``rate`` x ``rate`` convolution."""

    def __init__(self, width: int, out: int, rate: int = 2, embedding: int = 0, gamma: float = 1e-6) -> None:
        super().__init__(width, 7, embedding, gamma)
        self.downsapmle = nn.Conv2d(width, out, rate, stride=rate)  # spelled as in the published checkpoints
        nn.init.zeros_(bias_of(self.downsapmle))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, h, w) -> (B, out, h / rate, w / rate)."""
        return self.downsapmle(super().forward(x, condition))


class AdaCNX(CNX):
    """The ConvNeXt block of QARV: adaptive LayerNorm, y -> norm(y) * (1 + s) + b, whose norm has no weights.

    (b, s) are linear in the GELU of the embedding of lambda, and in this order; they depend on it from the start.
    """

    def __init__(self, width: int, kernel: int, ratio: float = 2, *, embedding: int, gamma: float = 1e-6) -> None:
        super().__init__(width, kernel, gamma=gamma, ratio=ratio)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.gamma = nn.Parameter(self.gamma.detach().view(1, width, 1, 1))
        self.embedding_layer = nn.Sequential(nn.GELU(), nn.Linear(embedding, 2 * width))

    def modulation(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        shift, scale = self.embedding_layer(condition).chunk(2, dim=-1)
        return scale, shift


class LambdaEmbedding(nn.Module):
    """lambda (B,) -> conditioning vector (B, size): sinusoids of ln(lambda), then a two-layer MLP."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.mlp = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.Linear(size, size))

    def forward(self, lmb: Tensor) -> Tensor:
        """(B,) -> (B, size)."""
        frequency = torch.exp2(torch.linspace(-3, 2, self.size // 2, device=lmb.device))
        phase = torch.log(lmb)[:, None] * frequency
        return self.mlp(torch.cat([torch.sin(phase), torch.cos(phase)], dim=1))


class VD(nn.Module):
    """Four convolutions, each after a GELU (section 1.3): 1x1, two k x k, 1x1."""

    def __init__(self, width: int, hidden: int, out: int, kernel: int, zero: bool = False) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(width, hidden, 1)
        self.c2 = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2)
        self.c3 = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2)
        self.c4 = nn.Conv2d(hidden, out, 1)
        for conv in (self.c1, self.c2, self.c3, self.c4):
            nn.init.zeros_(bias_of(conv))
        if zero:
            nn.init.zeros_(self.c4.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, out, h, w)."""
        for conv in (self.c1, self.c2, self.c3, self.c4):
            x = conv(gelu(x))
        return x


class Latent(nn.Module):
    """One latent block: prior, posterior and merge (section 1.4). Coded is round(posterior mean - prior mean).

    A block runs ``propose``, then ``infer`` where there is an image, then ``merge``; subclasses make its parts.
    """

    z: int  # channels of the latent
    resnet_front: CNX
    resnet_end: CNX
    prior: nn.Module
    z_proj: nn.Module

    def propose(self, f: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Gaussian]:
        """The features after the front block, and the prior p(z | what is decoded) they imply."""
        f = self.resnet_front(f, condition)
        return f, self.bounded(self.prior(f).float())

    @staticmethod
    def bounded(parameters: Tensor) -> Gaussian:
        """The prior from the prior net's output (B, 2 z, h, w): means, then raw log-scales (which it bounds).

        The lower bound is the paper's. The upper one, far beyond the largest scale that streams have a table for, is
        ours: a scale that overflows makes the rate infinite, in coding and in training.
        """
        mean, raw = parameters.chunk(2, dim=1)
        return Gaussian(mean, torch.exp(F.softplus(raw.clamp(max=WIDEST) + 2.3) - 2.3))

    def infer(self, f: Tensor, e: Tensor, condition: Tensor | None = None) -> Tensor:
        """The posterior mean (B, z, h, w) from proposed decoder features ``f`` and encoder features ``e``."""
        raise NotImplementedError

    def merge(self, f: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The features after the latent ``z`` has been added."""
        return self.resnet_end(f + self.z_proj(z), condition)


class VDLatent(Latent):
    """The latent block of QRes-VAE: posterior and prior are four convolutions each."""

    prior: VD
    z_proj: nn.Sequential

    def __init__(
        self, width: int, z: int, kernel: int, blocks: int, embedding: int = 0, gamma: float = 1e-6, least: int = 0
    ) -> None:
        super().__init__()
        hidden, small = max(width // 4, least), 3 if kernel >= 3 else 1
        self.z = z
        self.resnet_front = CNX(width, kernel, embedding, gamma)
        self.resnet_end = CNX(width, kernel, embedding, gamma)
        self.posterior = VD(2 * width, hidden, z, small)
        self.prior = VD(width, hidden, 2 * z, small, zero=True)
        narrow = nn.Conv2d(z, hidden // 2, small, padding=small // 2)
        widen = nn.Conv2d(hidden // 2, width, 1)
        self.z_proj = nn.Sequential(narrow, Gelu(), widen)
        with torch.no_grad():
            widen.weight.mul_(math.sqrt(blocks / 3))

    def infer(self, f: Tensor, e: Tensor, condition: Tensor | None = None) -> Tensor:
        """As of ``Latent``; lambda changes nothing here."""
        return self.posterior(torch.cat([f, e], dim=1)).float()


class AdaLatent(Latent):
    """The latent block of QARV: all that reads an image is conditional on lambda, prior and merge are one 1x1 each.

    ``feature`` is the width of the encoder's features. The posterior's ConvNeXt blocks have ratio 2 whatever the
    ratio of the two others is.
    """

    prior: nn.Conv2d
    z_proj: nn.Conv2d

    def __init__(
        self, width: int, z: int, kernel: int, ratio: float, feature: int, *, embedding: int, gamma: float = 1e-6
    ) -> None:
        super().__init__()
        self.z = z
        self.resnet_front = AdaCNX(width, kernel, ratio, embedding=embedding, gamma=gamma)
        self.resnet_end = AdaCNX(width, kernel, ratio, embedding=embedding, gamma=gamma)
        self.posterior0 = AdaCNX(feature, kernel, embedding=embedding, gamma=gamma)
        self.posterior1 = AdaCNX(width, kernel, embedding=embedding, gamma=gamma)
        self.posterior2 = AdaCNX(width, kernel, embedding=embedding, gamma=gamma)
        self.post_merge = nn.Conv2d(width + feature, width, 1)
        self.posterior = nn.Conv2d(width, z, 3, padding=1)
        self.z_proj = nn.Conv2d(z, width, 1)
        self.prior = nn.Conv2d(width, 2 * z, 1)
        for conv in (self.post_merge, self.posterior, self.z_proj, self.prior):
            nn.init.zeros_(bias_of(conv))

    def infer(self, f: Tensor, e: Tensor, condition: Tensor | None = None) -> Tensor:
        parts = [self.posterior1(f, condition), self.posterior0(e.to(f.dtype), condition)]
        return self.posterior(self.posterior2(self.post_merge(torch.cat(parts, dim=1)), condition)).float()


def up(width: int, out: int, rate: int) -> nn.Sequential:
    """A 1x1 convolution and a pixel shuffle: (B, width, h, w) -> (B, out, rate h, rate w)."""
    conv = nn.Conv2d(width, out * rate * rate, 1)
    nn.init.zeros_(bias_of(conv))
    return nn.Sequential(conv, nn.PixelShuffle(rate))
