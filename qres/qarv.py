"""QARV: one set of weights for every rate, the successor of QRes-VAE by the same authors.

Paper: Duan, Lu, Ma, Huang, Ma, Zhu, "QARV: Quantization-Aware ResNet VAE for Lossy Image Compression", TPAMI 2023,
arXiv 2302.08899. The graphical model, the codec and all that walks down the decoder are those of ``qres.network``; what
differs is that every ConvNeXt block is conditional on lambda, and the widths and places of the layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from core.modules import bias_of
from qres.architectures import Architecture, Layer
from qres.blocks import AdaCNX, AdaLatent, up
from qres.likelihood import coarse_log_likelihood
from qres.network import Encoder, QResVAE, TopDown

PERIOD, MAX_LAMBDA = 64, 8192  # sinusoids take lambdas from 1 to 8192 as 0 to 64


def _block(layer: Layer, arch: Architecture) -> nn.Module:
    """One layer of either path."""
    kind, *args = layer
    if kind in ("patch", "down"):
        width, out, rate = args if kind == "down" else (3, *args)
        conv = nn.Conv2d(width, out, rate, stride=rate)
        nn.init.zeros_(bias_of(conv))
        return conv
    if kind in ("cnx", "latent"):
        return {"cnx": AdaCNX, "latent": AdaLatent}[kind](*args, embedding=arch.embedding, gamma=arch.gamma)
    return up(*args) if kind == "up" else nn.Identity()


class QARVEncoder(Encoder):
    """The bottom-up path."""

    _block = staticmethod(_block)


class QARVEmbedding(nn.Sequential):
    """lambda (B,) -> conditioning vector (B, size): sinusoids of ln(lambda), then a two-layer MLP."""

    def __init__(self, size: int) -> None:
        super().__init__(nn.Linear(size, size), nn.GELU(), nn.Linear(size, size))
        self.size = size

    def waves(self, lmb: Tensor) -> Tensor:
        """(B,) -> cosines, then sines, (B, size), of frequencies from 1 down to 1 / 64."""
        exponents = torch.linspace(0, 1, self.size // 2, device=lmb.device)
        phase = position(lmb)[:, None] * torch.pow(PERIOD, -exponents)
        return torch.cat([torch.cos(phase), torch.sin(phase)], dim=1)

    def forward(self, lmb: Tensor) -> Tensor:
        """(B,) -> (B, size)."""
        return super().forward(self.waves(lmb))


def position(lmb: Tensor) -> Tensor:
    """ln(lambda) on the scale of the sinusoids: 0 to 64 for lambdas from 1 to 8192."""
    return torch.log(lmb) * PERIOD / math.log(MAX_LAMBDA)


class QARVModel(QResVAE, TopDown):
    """The network of QARV, under the names of the published checkpoint; training is for squared error.

    ``lmb`` is the lambda where none is drawn. Training draws one per image, uniformly on the scale of its cube root.
    """

    code_log_likelihood = staticmethod(coarse_log_likelihood)
    memory_format = torch.channels_last

    def __init__(self, arch: Architecture, lmb: float, lmb_range: tuple[float, float] = (16, 2048)) -> None:
        super().__init__(arch, lmb, lmb_range)

    def _build(self, arch: Architecture) -> None:
        self.encoder = QARVEncoder(arch)
        self.dec_blocks = nn.ModuleList(_block(layer, arch) for layer in arch.decoder)
        self.bias = nn.Parameter(torch.zeros(1, arch.top_width, 1, 1))
        self.lmb_embedding = QARVEmbedding(arch.embedding)
        self.out_net = None

    @property
    def decoder(self) -> QARVModel:
        """What holds ``dec_blocks``, ``bias`` and ``start``: in the published checkpoint the model itself."""
        return self

    @property
    def embedding(self) -> QARVEmbedding:
        """What makes the conditioning vector of lambda."""
        return self.lmb_embedding

    def draw_lambda(self, images: Tensor) -> Tensor:
        """lambda for each image: uniform in its cube root over ``lmb_range`` in training, else ``lmb``."""
        if not self.training:
            return images.new_full((len(images),), self.lmb)
        low, high = (v ** (1 / 3) for v in self.lmb_range)
        return (low + (high - low) * torch.rand(len(images), device=images.device)) ** 3

    def loss_weight(self, lmb: Tensor) -> Tensor:
        """Every image counts the same, (B,), whatever its lambda."""
        return torch.ones_like(lmb)
