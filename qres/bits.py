"""Map of an image's bits: the model's estimate at every latent block and position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.codec import Image
from qres.blocks import Gaussian, Latent
from qres.generate import lambda_condition, to_tensor
from qres.likelihood import code_log_likelihood
from qres.network import QResVAE


@dataclass(frozen=True)
class Level:
    """What one latent block (or the lossless model's pixels) costs."""

    name: str  # block 1, block 2, ... from coarse to fine, or pixels
    stride: int  # pixels from one position to the next
    channels: int
    bits: NDArray[np.float64]  # (h, w), of all channels together; positions in the padding too

    @property
    def total(self) -> float:
        """Bits of the whole block."""
        return float(self.bits.sum())

    def per_pixel(self, height: int, width: int) -> NDArray[np.float64]:
        """Bits per pixel (height, width): each position's bits spread evenly over the pixels it stands for."""
        spread = np.repeat(np.repeat(self.bits / self.stride**2, self.stride, 0), self.stride, 1)
        return spread[:height, :width]


@torch.inference_mode()
def levels(model: QResVAE, image: Image, lmb: float | None = None) -> list[Level]:
    """The cost of each block for a uint8 image (H, W, 1 or 3) at ``lmb`` (default: the model's), coarse to fine.

    The sum of all totals is what ``QResCodec.bits`` gives.
    """
    x, condition, out = to_tensor(model, image), lambda_condition(model, lmb), []
    height, width = x.shape[2:]
    features = model.features(x, condition)

    def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
        symbols = torch.round(block.infer(f, features[f.shape[2]], condition) - prior.mean)
        cost = _bits(code_log_likelihood(symbols, prior.scale))
        out.append(Level(f"block {i + 1}", height // len(cost), block.z, cost))
        return symbols + prior.mean

    last = model.top_down((1, height // model.stride, width // model.stride), visit, condition)
    if model.out_net is not None:
        rows, columns, _ = image.shape  # padding is not coded
        log_mass = model.pixel_log_likelihood(last, (x - 0.5) * 2)[..., :rows, :columns]
        out.append(Level("pixels", 1, 3, _bits(log_mass)))
    return out


def _bits(log_mass: Tensor) -> NDArray[np.float64]:
    """ln of masses (1, C, h, w) -> bits (h, w)."""
    cost: NDArray[np.float64] = -log_mass[0].double().sum(0).cpu().numpy() / math.log(2)
    return cost
