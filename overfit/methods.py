"""The overfitted codec as a method: what COOL-CHIC and C3 do, small enough for a CPU.

Papers: Ladune et al., ICCV 2023 (arXiv 2212.05458) and 2307.12706; Kim et al., CVPR 2024 (arXiv 2312.02753); Blard et
al., 2024 (arXiv 2403.11651). ``docs/methods/overfit.md`` says where we differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from core.codec import Codec, Method, TesseraError
from core.registry import METHODS

MOST_STEPS = 1_000_000


@METHODS.register("coolchic_small")
@dataclass(frozen=True)
class CoolChicSmall(Method):
    """Seven grids of latents, a context model and a synthesis of 1109 weights in all, fitted to each image."""

    paper: ClassVar[str] = "Ladune et al., ICCV 2023, arXiv 2212.05458; Kim et al., CVPR 2024, arXiv 2312.02753"
    curve: ClassVar[str | None] = "lmb"
    points: ClassVar[tuple[float, ...]] = (0.02, 0.004, 0.001, 0.0004, 0.0001)  # from low rate to high
    note: ClassVar[str] = "Latents and the weights of the decoder are coded; encoding is an optimisation per image."
    lmb: float = 0.001  # what a bit per pixel costs in mean squared error, of samples from 0 to 1
    steps: int = 1000  # of gradient descent, for each image

    def __post_init__(self) -> None:
        if isinstance(self.lmb, bool) or not isinstance(self.lmb, (int, float)) or not 1e-7 <= self.lmb <= 10:
            raise TesseraError(f"lmb={self.lmb} of coolchic_small must be a number from 1e-07 to 10.")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= MOST_STEPS:
            raise TesseraError(f"steps={self.steps} of coolchic_small must be a whole number from 1 to {MOST_STEPS}.")

    def codec(self, model: None = None) -> Codec:
        """The encoder of this point and effort; its decoder reads the streams of all of them."""
        from overfit.codec import OverfitCodec

        return OverfitCodec(self.name, float(self.lmb), self.steps)

    def warming(self, codec: Codec) -> Codec:
        """One step instead of a whole fit."""
        return replace(self, steps=1).codec()

    def stream_point(self, stream: bytes) -> None:
        """A stream does not say for which lambda it was made."""
        return None
