"""One visit per latent of a hierarchy, which training, estimating, encoding and decoding share.

A model's generative pass goes from the top to the image and asks at each latent for its value. Who visits decides
where that value comes from: training draws it from the posterior, the encoder codes a sample of it, the decoder reads
one. The pass itself is the same, so that encoder and decoder cannot diverge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Normal(NamedTuple):
    """Independent normals: ``loc`` and ``scale`` (> 0) of one shape (B, C, H, W)."""

    loc: Tensor
    scale: Tensor

    def sample(self) -> Tensor:
        """One draw, with gradients for both parameters."""
        return self.loc + self.scale * torch.randn_like(self.loc)


# (number of the latent from the top, its prior, its posterior: computed only if asked for) -> its value
Visit = Callable[[int, Normal, Callable[[], Normal]], Tensor]
LN2 = math.log(2)


def kl(q: Normal, p: Normal) -> Tensor:
    """KL(q || p) of every latent, in nats, in their shape."""
    ratio = q.scale / p.scale
    return 0.5 * (ratio**2 + ((q.loc - p.loc) / p.scale) ** 2 - 1) - torch.log(ratio)


class Draws:
    """A visitor that draws every latent from its posterior and keeps the KL of each level, nats (B, C, H, W)."""

    def __init__(self) -> None:
        self.kls: list[Tensor] = []

    def __call__(self, i: int, prior: Normal, posterior: Callable[[], Normal]) -> Tensor:
        q = posterior()
        self.kls.append(kl(q, prior))
        return q.sample()
