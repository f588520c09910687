"""Random crops of training pictures: which one a step's sample is depends on (seed, step, sample) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.codec import Image, TesseraError


def early(step: int, first_steps: int, again: int) -> bool:
    """Whether a step, counted from 0, has the crops and the batch of the first ones; later every ``again``-th has."""
    return step < first_steps or (again > 0 and step % again == 0)


@dataclass(frozen=True)
class Crops:
    """Random crops of uint8 images (H, W, 3), flipped and turned, as floats in [0, 1]: (share, 3, size, size).

    Sample k of step t depends on (seed, t, k) alone, so neither resuming nor the number of ranks changes the data.
    Images are drawn in proportion to their area. With ``first`` = (side, steps), the crops of that many first steps
    have that side: more pictures a second while there is most to learn; with ``again``, so has every so manieth step
    after them. Images smaller than ``size`` are drawn in those steps alone, and refused where there are none.
    """

    images: Sequence[Image]
    size: int
    seed: int = 0
    first: tuple[int, int] = (0, 0)
    again: int = 0

    def __post_init__(self) -> None:
        least = min(self.size, self.first[0] or self.size)
        small = [i for i, image in enumerate(self.images) if min(image.shape[:2]) < least]
        if small or not self.images:
            raise TesseraError(
                f"{len(small)} of {len(self.images)} training images are smaller than crop={least}: "
                "use a smaller crop or larger images."
            )
        for size in {self.size, self.first[0] or self.size}:
            if not any(self.areas[size]):
                raise TesseraError(f"no training image is as large as crop={size}: use a smaller crop.")

    def __call__(self, step: int, share: range) -> Tensor:
        return torch.from_numpy(np.stack([self.sample(step, k) for k in share])).permute(0, 3, 1, 2) / 255

    def size_at(self, step: int) -> int:
        """The side of the crops of a step."""
        return self.first[0] if self.first[0] and early(step, self.first[1], self.again) else self.size

    def draw(self, step: int, k: int) -> tuple[np.random.Generator, int]:
        """What sample k of a step is drawn by, and the side of its crop."""
        return np.random.Generator(np.random.Philox(key=[self.seed, (step << 20) + k])), self.size_at(step)

    def sample(self, step: int, k: int) -> Image:
        """The uint8 crop (size, size, 3) of sample k of a step."""
        draw, size = self.draw(step, k)
        areas = self.areas[size]
        image = self.images[int(np.searchsorted(areas, draw.random() * areas[-1], side="right"))]
        y, x = (int(draw.integers(0, side - size + 1)) for side in image.shape[:2])
        crop = np.rot90(image[y : y + size, x : x + size], k=int(draw.integers(4)))
        return np.ascontiguousarray(crop[:, ::-1] if draw.random() < 0.5 else crop)

    @cached_property
    def areas(self) -> dict[int, NDArray[np.int64]]:
        """Running sums of the images' areas, where those too small for a crop have none, for each side of crops."""
        sides = {self.size, self.first[0] or self.size}
        shapes = np.array([image.shape[:2] for image in self.images], dtype=np.int64)
        return {side: np.cumsum(shapes.prod(1) * (shapes.min(1) >= side)) for side in sides}


@dataclass(frozen=True)
class Upright(Crops):
    """Random crops as they are, neither flipped nor turned, of images that are drawn equally often."""

    @cached_property
    def usable(self) -> dict[int, NDArray[np.int64]]:
        """The images that are large enough, for each side of crops."""
        return {side: np.flatnonzero(np.diff(sums, prepend=0)) for side, sums in self.areas.items()}

    def sample(self, step: int, k: int) -> Image:
        draw, size = self.draw(step, k)
        usable = self.usable[size]
        image = self.images[int(usable[draw.integers(len(usable))])]
        y, x = (int(draw.integers(0, side - size + 1)) for side in image.shape[:2])
        return image[y : y + size, x : x + size]
