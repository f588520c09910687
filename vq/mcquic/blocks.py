"""The convolutional blocks of McQuic, with the parameter names of the published state dicts.

Paper: Zhu et al., "Unified Multivariate Gaussian Mixture for Efficient Neural Image Compression", CVPR 2022,
arXiv 2203.10897. Tensors are (B, C, h, w). Every 3x3 convolution continues its input by reflection at the border, and
by repetition where there is a single row or column, so that any size of at least 1x1 passes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.gdn import BETA_MIN, at_least, normalise, roots

PEDESTAL = 1e-12  # of the square-root parametrisation of GDN


class Conv3(nn.Conv2d):
    """A 3x3 convolution whose input is continued by reflection; stride 1 keeps the size, stride 2 halves it (up)."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__(channels, out, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, out, ceil(h / stride), ceil(w / stride))."""
        return F.conv2d(reflect(x), self.weight, self.bias, self.stride)


def reflect(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, h + 2, w + 2): reflection without the edge, or repetition where a side is 1."""
    modes = ["reflect" if side > 1 else "replicate" for side in x.shape[2:]]
    if modes[0] == modes[1]:
        return F.pad(x, (1, 1, 1, 1), mode=modes[0])
    return F.pad(F.pad(x, (1, 1, 0, 0), mode=modes[1]), (0, 0, 1, 1), mode=modes[0])


class LowerBound(nn.Module):
    """max(x, bound) with a gradient that can lift x over the bound."""

    bound: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound]))

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return at_least(x, self.bound)


class _Reparametrisation(nn.Module):
    """A parameter that stays at or above ``minimum``, stored as a square root."""

    eps: Tensor

    def __init__(self, minimum: float) -> None:
        super().__init__()
        self.register_buffer("eps", torch.tensor([PEDESTAL]))
        self.lowerBound = LowerBound(math.sqrt(minimum + PEDESTAL))

    def forward(self, stored: Tensor) -> Tensor:
        return self.lowerBound(stored) ** 2 - self.eps


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al., 2016): x / sqrt(beta + gamma x^2); ``inverse``: times."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta, self.gamma = roots(channels, PEDESTAL)
        self.beta_reparam, self.gamma_reparam = _Reparametrisation(BETA_MIN), _Reparametrisation(0)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """gamma (C, C), a row for each output, and beta (C,)."""
        return self.gamma_reparam(self.gamma), self.beta_reparam(self.beta)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        gamma, beta = self.matrix()
        return normalise(x, gamma, beta, self.inverse)


class Residual(nn.Module):
    """x + conv(SiLU(conv(SiLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._branch = nn.Sequential(nn.SiLU(), Conv3(channels, channels), nn.SiLU(), Conv3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return self._branch(x) + x


class ResidualDown(nn.Module):
    """Halves the sides: conv(GDN(strided conv(SiLU(x)))) + strided conv(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        down = Conv3(channels, channels, stride=2)
        self._branch = nn.Sequential(nn.SiLU(), down, GDN(channels), Conv3(channels, channels))
        self._skip = Conv3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, ceil(h / 2), ceil(w / 2))."""
        return self._branch(x) + self._skip(x)


def shuffle(channels: int, out: int) -> nn.Sequential:
    """Doubles the sides: a 3x3 convolution to four times ``out`` channels and a pixel shuffle."""
    return nn.Sequential(Conv3(channels, 4 * out), nn.PixelShuffle(2))


class ResidualUp(nn.Module):
    """Doubles the sides: conv(inverse GDN(shuffle(SiLU(x)))) + shuffle(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        up, normalise = shuffle(channels, channels), GDN(channels, inverse=True)
        self._branch = nn.Sequential(nn.SiLU(), up, normalise, Conv3(channels, channels))
        self._skip = shuffle(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2 h, 2 w)."""
        return self._branch(x) + self._skip(x)


class Attention(nn.Module):
    """x + trunk(x) sigmoid(mask(x)), three residual blocks each (Cheng et al., CVPR 2020, without the last block)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._mainBranch = nn.Sequential(*(Residual(channels) for _ in range(3)))
        self._sideBranch = nn.Sequential(*(Residual(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return self._mainBranch(x) * torch.sigmoid(self._sideBranch(x)) + x


def encoder(channels: int, halvings: int = 2) -> nn.Sequential:
    """Image (B, 3, h, w) to features (B, C, h / 8, w / 8); section 2 of the published code's layout.

    With one of the two ``halvings`` behind the first convolution, the features have a quarter of the sides.
    """
    last = (ResidualDown(channels), Residual(channels)) if halvings == 2 else ()
    return nn.Sequential(
        Conv3(3, channels, stride=2),
        Residual(channels),
        ResidualDown(channels),
        Attention(channels),
        Residual(channels),
        *last,
    )


def decoder(channels: int, doublings: int = 2) -> nn.Sequential:
    """Features (B, C, h / 8, w / 8), or a quarter with one of the ``doublings``, to an image (B, 3, h, w).

    The image is not clamped.
    """
    first = (Residual(channels), ResidualUp(channels)) if doublings == 2 else ()
    return nn.Sequential(
        *first,
        Attention(channels),
        Residual(channels),
        ResidualUp(channels),
        Residual(channels),
        shuffle(channels, 3),
    )
