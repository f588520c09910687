"""Sizes of the overfitted codec: its grids of latents, and where each tensor lies in its one vector of weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS = 7  # grids of latents: of the picture's size, half of it, a quarter, ...
CONTEXT = ((0, -1), (0, -2), (0, -3), *((-1, x) for x in range(-3, 3)), *((-2, x) for x in range(-2, 3)), (-3, -1),
    (-3, 0))  # fmt: skip  # (rows, columns) from a latent to those its distribution depends on
HIDDEN, WIDE = 16, 24  # units of the context model's two hidden layers, and of the synthesis's

Side = tuple[int, int]
Floats = NDArray[np.float64]


class Tensor(NamedTuple):
    """A tensor of the weights; those of a ``group`` share the step that they are quantised with."""

    name: str
    shape: tuple[int, ...]
    group: int


TENSORS = (
    Tensor("context1", (HIDDEN, len(CONTEXT)), 0),
    Tensor("level_bias", (LEVELS, HIDDEN), 1),  # the first layer's biases, for each grid its own
    Tensor("context2", (HIDDEN, HIDDEN), 0),
    Tensor("bias2", (HIDDEN,), 1),
    Tensor("context3", (2, HIDDEN), 0),  # location and log scale
    Tensor("bias3", (2,), 1),
    Tensor("mix1", (WIDE, LEVELS), 2),
    Tensor("mix_bias1", (WIDE,), 3),
    Tensor("mix2", (3, WIDE), 2),
    Tensor("mix_bias2", (3,), 3),
    Tensor("filter1", (3, 3, 3, 3), 4),
    Tensor("filter_bias1", (3,), 3),
    Tensor("filter2", (3, 3, 3, 3), 4),
    Tensor("filter_bias2", (3,), 3),
)
GROUPS = 5
SIZES = tuple(int(np.prod(tensor.shape)) for tensor in TENSORS)
WEIGHTS = sum(SIZES)
GROUP_OF = np.repeat([tensor.group for tensor in TENSORS], SIZES)  # (WEIGHTS,)
CONTEXT_GROUPS = (0, 1)


def grid_sides(height: int, width: int) -> list[Side]:
    """(height, width) of every grid of an image, the finest first; the sides of each are half of those before, up."""
    return [(-(-height // (1 << k)), -(-width // (1 << k))) for k in range(LEVELS)]


def named(weights: Floats) -> dict[str, Floats]:
    """The tensors in a vector (WEIGHTS,), by name; views where numpy gives them."""
    parts = np.split(weights, np.cumsum(SIZES)[:-1])
    return {t.name: part.reshape(t.shape) for t, part in zip(TENSORS, parts, strict=True)}


def split_grids(latents: NDArray[np.int32], sides: list[Side]) -> list[NDArray[np.int32]]:
    """Grids (h, w), the finest first, as views of a vector that holds them one after another."""
    stops = np.cumsum([h * w for h, w in sides])[:-1]
    return [part.reshape(side) for part, side in zip(np.split(latents, stops), sides, strict=True)]
