"""Methods of the VQ-VAE family whose codes lie on the unit sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from core.registry import METHODS
from vq.vqvae.methods import VQMethod

if TYPE_CHECKING:
    from vq.vqvae.quantizer import Quantizer


@METHODS.register("bsq")
@dataclass(frozen=True)
class BinarySpherical(VQMethod):
    """The signs of a unit vector."""

    paper: ClassVar[str] = "Zhao, Xiong, Kraehenbuehl, arXiv 2406.07548"
    curve: ClassVar[str | None] = "bits"
    points: ClassVar[tuple[int, ...]] = (8,)
    bits: int = 8  # of a vector
    entropy: float = 0.1  # weight of the entropy loss
    sharpness: float = 10.0  # of the soft assignment in it

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import BSQ, Projected

        return Projected(self.dim, BSQ(self.bits, entropy=self.entropy, sharpness=self.sharpness))


@METHODS.register("gsq")
@dataclass(frozen=True)
class Grouped(VQMethod):
    """Groups of a few dimensions, each on the unit sphere, with one codebook for all."""

    paper: ClassVar[str] = "Wang et al., arXiv 2412.02632"
    curve: ClassVar[str | None] = "groups"
    points: ClassVar[tuple[int, ...]] = (2, 4)
    groups: int = 4
    part: int = 4  # dimensions of a group
    size: int = 16

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import GroupedSpherical, Projected

        grouped = GroupedSpherical(self.groups, self.part, self.size, commitment=self.commitment)
        return Projected(self.dim, grouped)


@METHODS.register("leech_sq")
@dataclass(frozen=True)
class Leech(VQMethod):
    """Leech's 196,560 minimal vectors in 24 dimensions: nothing to learn, no loss of its own, 17.6 bits at most."""

    paper: ClassVar[str] = "Zhao et al., arXiv 2512.14697"
    searches: ClassVar[str] = ""  # its two codes are the digits of one number: vectors are no sums of codewords

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import LeechSpherical, Projected

        return Projected(self.dim, LeechSpherical())
