"""Between images and the planes of a network with values in [0, 1], for networks that take RGB or grey.

A network of one channel sees each colour of an RGB image as a grey image of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from core.codec import Image
from core.finite import checked_picture
from core.images import as_rgb, check_image, crop, pad


def to_planes(image: Image, channels: int, stride: int) -> Tensor:
    """uint8 (H, W, C) -> float (B, channels, H', W') in [0, 1], H' and W' multiples of ``stride``; B = C if grey."""
    check_image(image)
    padded = pad(image if channels == 1 else as_rgb(image), stride)
    planes = torch.from_numpy(padded).permute(2, 0, 1).float().div_(255)
    return planes[:, None] if channels == 1 else planes[None]


def to_image(planes: Tensor, height: int, width: int, channels: int) -> Image:
    """(B, C, H', W') around [0, 1] -> uint8 (height, width, channels); three colours of a grey image are averaged.

    Raises ``NumbersError`` for what is no picture (see ``core.finite``).
    """
    levels = checked_picture(planes).clamp(0, 1).mul(255).flatten(0, 1).permute(1, 2, 0).cpu().numpy()
    if levels.shape[2] > channels:
        levels = levels.mean(axis=2, keepdims=True)
    return crop(np.rint(levels).astype(np.uint8), height, width)


def batches(images: Sequence[Image], pixels: int) -> Iterator[list[Image]]:
    """The images in order, neighbours of one size together, as long as they have at most ``pixels`` in sum."""
    for shape, same in groupby(images, key=np.shape):
        alike, step = list(same), max(1, pixels // (shape[0] * shape[1]))
        yield from (alike[start : start + step] for start in range(0, len(alike), step))
