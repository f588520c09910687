"""Pixels under a discretised logistic, colour after colour, as the parameters that a network's last layer gives say."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rec.likelihood import LEVELS, logistic_log_mass


class PixelLogistic:
    """Base of networks that end in the parameters of the pixels' distributions, (B, 3 or 9, H, W).

    With ``scales`` (9 outputs), every sample has a scale of its own, and the means of green and blue are linear in the
    levels of red and green. Without, the scale is one for all pixels, ``log_scale`` in pixels of [-0.5, 0.5]. Sides of
    images are multiples of ``stride``.
    """

    scales: bool
    stride: int
    log_scale: Tensor

    def channel(self, out: Tensor, c: int, known: Callable[[int], Tensor]) -> tuple[Tensor, Tensor | None]:
        """Means and log-scales in levels, (B, H, W), of colour c; ``known`` gives the levels of the colours before it.

        The log-scale is None where it is ``pixel_log_scale``, one number for all.
        """
        mean = out[:, c]
        if not self.scales:
            return (mean.clamp(-0.5 + 1 / 512, 0.5 - 1 / 512) + 0.5) * LEVELS - 0.5, None
        centred = [(known(j) + 0.5) / LEVELS - 0.5 for j in range(c)]
        for value, weight in zip(centred, (out[:, 6:7], out[:, 7:9])[c - 1].unbind(1) if c else (), strict=True):
            mean = mean + weight * value
        mean = mean.clamp(-0.5 + 1 / 512, 0.5 - 1 / 512)
        return (mean + 0.5) * LEVELS - 0.5, self.log_scale + out[:, 3 + c] + math.log(LEVELS)

    def pixel_log_scale(self) -> float:
        """The logarithm of the one scale of the model, in levels."""
        return float(self.log_scale) + math.log(LEVELS)

    def log_likelihood(self, out: Tensor, pixels: Tensor) -> Tensor:
        """ln P of every grey level (B, 3, H, W)."""
        found = []
        for c in range(3):
            mean, log_scale = self.channel(out, c, lambda j: pixels[:, j])
            scale = self.log_scale + math.log(LEVELS) if log_scale is None else log_scale
            found.append(logistic_log_mass(pixels[:, c], mean, scale))
        return torch.stack(found, 1)
