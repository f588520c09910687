"""Settings of the published models: their backbones, and the codes their lattices are made for."""

from __future__ import annotations

from dataclasses import dataclass

DESIRED = 512  # codes that the paper's initial spacing is made for


@dataclass(frozen=True)
class Backbone:
    """Channels of the image, widths (a stride of 2 each), what is subtracted from images in [0, 1]."""

    channels: int
    hidden: tuple[int, ...]
    shift: float


BACKBONES = {
    "fashion_mnist": Backbone(1, (64,), 0.5),
    "celeba": Backbone(3, (64,), 0.0),
    "ffhq": Backbone(3, (16, 32), 0.0),
}
DIM = 64  # of a latent vector
