"""Augmentations of the published recipe, on images (B, 3, h, w) in [0, 1]; flips are the crop reader's.

All of them change their images: the published flips and colour jitter worked on a copy that was thrown away.
"""

from __future__ import annotations

import torch
from torch import Tensor

GRID = 16  # cells per side of the erasing pattern
ERASED = 0.75  # share of the cells
POWERS = (0.05, 2.0)  # of a random gamma curve
KELVIN = (3000.0, 15000.0)  # colour temperatures of the jitter
DAYLIGHT = 6500.0
WAVELENGTHS = (600e-9, 550e-9, 450e-9)  # metres, of red, green and blue
SECOND_RADIATION = 1.438777e-2  # metre kelvin, h c / k


def gamma(x: Tensor) -> Tensor:
    """Each image under one of four curves: the sRGB curve, its inverse, a random power, or unchanged."""
    return torch.stack([_curve(image, int(torch.randint(4, ()))) for image in x])


def _curve(image: Tensor, kind: int) -> Tensor:
    if kind == 0:
        return torch.where(image <= 0.0031308, 12.92 * image, 1.055 * image.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
    if kind == 1:
        return torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    if kind == 2:
        return image ** (POWERS[0] + (POWERS[1] - POWERS[0]) * float(torch.rand(())))
    return image


def planckian(x: Tensor) -> Tensor:
    """Each image as if lit by a black body of a random temperature instead of daylight (Planck's law), in [0, 1]."""
    temperature = KELVIN[0] + (KELVIN[1] - KELVIN[0]) * torch.rand(len(x), 1, device=x.device)
    gains = _radiance(temperature) / _radiance(torch.full_like(temperature, DAYLIGHT))
    return (x * (gains / gains[:, 1:2])[:, :, None, None]).clamp(0, 1)


def _radiance(kelvin: Tensor) -> Tensor:
    """Spectral radiance (B, 3) of black bodies (B, 1), up to a factor per wavelength."""
    wavelengths = torch.tensor(WAVELENGTHS, device=kelvin.device)
    return 1 / torch.expm1(SECOND_RADIATION / (wavelengths * kelvin))


def erase(x: Tensor) -> Tensor:
    """Zero three quarters of the cells of a 16 x 16 grid, the same ones in all images."""
    cells = torch.rand(GRID * GRID, device=x.device).argsort() >= ERASED * GRID * GRID
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device) * GRID // height
    columns = torch.arange(width, device=x.device) * GRID // width
    return x * cells.view(GRID, GRID)[rows][:, columns]
