"""Recipe that McQuic is trained with."""

from __future__ import annotations

from dataclasses import dataclass

from core.registry import unknown

TARGETS = ("mse", "ms_ssim")
MODES = ("gumbel", "nearest")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: what it minimises, how codes are chosen, what is done to the images."""

    target: str = "ms_ssim"  # or mse
    mode: str = "gumbel"  # or nearest
    weight: float = 1.0  # of the codebook losses of mode nearest
    permute: float = 0.0  # share of codes replaced by random ones
    free: int = 0  # steps at the start without quantisation; the codebooks then start from what is quantised
    colour: bool = False  # random gamma curves and colour temperatures
    erase: float = 0.0  # share of the steps, from the first, in which parts of the input are erased
    revive: int = 100  # steps between revivals of dead codes; 0: never

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise unknown("target", self.target, TARGETS)
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES)
