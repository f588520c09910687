"""Numbers that a codec may trust: weights, latents and pictures that are finite and of a size that means something.

One NaN in a weight would otherwise become a black picture, and an overflow any picture at all, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.codec import TesseraError

WEIGHT = 1e18  # its square is still below float32's largest number
LATENT = 1e6
PICTURE = 1e3  # times the range of a picture: what a trained decoder gives is within twice of it
COUNT = 2**40  # of a symbol in training images


class NumbersError(TesseraError):
    """Weights, or what a network makes of them, that are no usable numbers."""


def check_weights(state: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise ``NumbersError`` when a tensor of a state holds NaN, infinity or numbers that overflow when squared."""
    for name, value in state.items():
        if value.is_floating_point() and not _within(value, WEIGHT):
            raise NumbersError(
                f"{path} holds numbers in {name} that are not finite, or too large to compute with: "
                "the weights are damaged or their training diverged; use others."
            )


def checked_latents(x: Tensor) -> Tensor:
    """Latents, float of any shape, before they are quantised; ``NumbersError`` when any is not finite or above 1e6."""
    return _checked(x, "latents", LATENT)


def checked_picture(x: Tensor) -> Tensor:
    """A picture before it becomes 8 bits, float of any shape, its range about 1 or 2.

    Raises ``NumbersError`` when any value is not finite, or a thousand times as large.
    """
    return _checked(x, "a picture with values", PICTURE)


def _checked(x: Tensor, what: str, limit: float) -> Tensor:
    if not _within(x, limit):
        raise NumbersError(
            f"the network gave {what} that are not finite, or far outside of any range: its weights are unusable here; "
            "use others."
        )
    return x


def checked_counts(counts: Tensor | NDArray[np.generic], what: str) -> NDArray[np.generic]:
    """Counts of symbols as an array, of any shape; ``NumbersError`` when one is negative, not finite or above 2**40."""
    array = counts.detach().cpu().numpy() if isinstance(counts, Tensor) else counts
    if array.size and not (array.min() >= 0 and array.max() <= COUNT):  # False for NaN
        raise NumbersError(
            f"{what} in the weights hold numbers that are negative or no counts at all: "
            "the weights are damaged; fetch or make them again."
        )
    return array


def _within(x: Tensor, limit: float) -> bool:
    """Whether all numbers lie in [-limit, limit]; NaN does not."""
    if not x.numel():
        return True
    low, high = torch.aminmax(x.detach())
    return bool(low >= -limit) and bool(high <= limit)
