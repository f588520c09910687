"""MS-SSIM for training: pytorch_msssim's where it is installed, else the same in plain torch.

Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003. The ruler has
its own measure; this one has a gradient and serves as a loss. Machines without package registries lack the library.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from core.codec import TesseraError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
LEAST = 160  # pixels: images must have more, for five scales of the window


def ms_ssim(a: Tensor, b: Tensor, data_range: float, weights: Sequence[float] = WEIGHTS) -> Tensor:
    """The similarity of each image, (B,), of images (B, C, H, W) whose samples span ``data_range``.

    Raises ``TesseraError`` for images of 160 pixels or fewer.
    """
    if min(a.shape[2:]) <= LEAST:
        raise TesseraError(
            f"MS-SSIM has five scales and needs crops of more than {LEAST} pixels, not {tuple(a.shape[2:])}: "
            "use crop=192."
        )
    with torch.autocast(a.device.type, enabled=False):
        try:
            import pytorch_msssim
        except ImportError:
            return plain(a.float(), b.float(), data_range, weights)
        found: Tensor = pytorch_msssim.ms_ssim(
            a.float(), b.float(), data_range=data_range, size_average=False, weights=list(weights)
        )
        return found


def plain(a: Tensor, b: Tensor, data_range: float, weights: Sequence[float] = WEIGHTS) -> Tensor:
    """The same by convolutions of plain torch: Gaussian windows without padding, negative means cut off at 0."""
    x = torch.arange(WINDOW, device=a.device, dtype=a.dtype) - WINDOW // 2
    line = torch.exp(-x.square() / (2 * SIGMA**2))
    line = line / line.sum()
    parts = []
    for i in range(len(weights)):
        if i:
            a, b = (F.avg_pool2d(v, 2, padding=[side % 2 for side in v.shape[2:]]) for v in (a, b))
        whole, contrast = _ssim(a, b, line, data_range)
        parts.append((whole if i == len(weights) - 1 else contrast).relu())  # (B, C)
    powers = torch.tensor(weights, device=a.device, dtype=a.dtype).view(-1, 1, 1)
    return torch.stack(parts).pow(powers).prod(0).mean(1)


def _ssim(a: Tensor, b: Tensor, line: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Means over each channel, (B, C), of the similarity and of its factor without luminance."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_a, mean_b = _blur(a, line), _blur(b, line)
    var_a, var_b = _blur(a * a, line) - mean_a**2, _blur(b * b, line) - mean_b**2
    both = _blur(a * b, line) - mean_a * mean_b
    contrast = (2 * both + c2) / (var_a + var_b + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def _blur(x: Tensor, line: Tensor) -> Tensor:
    channels = x.shape[1]
    kernel = line.expand(channels, 1, -1)
    rows = F.conv2d(x, kernel.unsqueeze(2), groups=channels)
    return F.conv2d(rows, kernel.unsqueeze(3), groups=channels)
