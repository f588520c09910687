"""Loss on held-out photographs while a model trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from core.codec import Image
from core.train import TrainConfig
from core.trainable import HasLambda

VALIDATED = 256  # pixels of the side of the held-out crops
Measure = Callable[[torch.nn.Module, int], dict[str, float]]


def validation(images: Sequence[Image], recipe: TrainConfig) -> Measure:
    """The loss of a model in eval mode on the middle 256 x 256 of each image, at three lambdas if it has any.

    Images are RGB; smaller ones are left out. The values are named ``valid_loss_16``, ... or ``valid_loss``.
    """
    cut = [middle(image, VALIDATED) for image in images]
    batch = torch.from_numpy(np.stack([i for i in cut if i.shape[:2] == (VALIDATED, VALIDATED)])).permute(0, 3, 1, 2)

    @torch.no_grad()
    def measure(net: torch.nn.Module, step: int) -> dict[str, float]:
        weighs = net if isinstance(net, HasLambda) else None
        own = None if weighs is None else weighs.lmb
        values: dict[str, float] = {}
        for lmb in (16.0, 64.0, 256.0) if weighs is not None and weighs.conditional else (own,):
            if weighs is not None and lmb is not None:
                weighs.lmb = lmb
            with torch.autocast(torch.device(recipe.device).type, torch.bfloat16, enabled=recipe.amp):
                losses = [float(net(x.to(recipe.device)[None] / 255).loss) for x in batch]
            values["valid_loss" + (f"_{lmb:g}" if lmb else "")] = float(np.mean(losses))
        if weighs is not None and own is not None:
            weighs.lmb = own
        return values

    return measure


def middle(image: Image, side: int) -> Image:
    """The middle square of an image, of the given side or what there is."""
    y, x = (max(0, (n - side) // 2) for n in image.shape[:2])
    return image[y : y + side, x : x + side]
