"""Generalised divisive normalisation of the lossy models (``core.gdn``)."""

from __future__ import annotations

from torch import Tensor, nn

from core.gdn import BETA_MIN, at_least, normalise, roots

PEDESTAL = 2.0**-36  # of stored roots


class GDN(nn.Module):
    """(B, C, H, W) -> the same shape, divided, or with ``inverse`` multiplied, by the pooled norm."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta, self.gamma = roots(channels, PEDESTAL)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x."""
        return normalise(x, _value(self.gamma, 0.0), _value(self.beta, BETA_MIN), self.inverse)


def _value(stored: Tensor, least: float) -> Tensor:
    """A parameter, at least ``least``, from its stored root."""
    return at_least(stored, (least + PEDESTAL) ** 0.5) ** 2 - PEDESTAL
