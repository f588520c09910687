"""The lattice family as methods: the four quantisers of LL-VQ-VAE as published, and lattices trained for rate.

``docs/methods/llvq.md`` says what each is and where we differ from the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from core import checkpoint
from core.codec import Method
from core.registry import METHODS, unknown
from lattice.published import BACKBONES, DESIRED, DIM, Backbone

if TYPE_CHECKING:
    from lattice.codec import LatticeCodec
    from lattice.network import LatticeVAE
    from lattice.quantizers import RowQuantizer

PAPER = "Khalil, Piechocki, Santos-Rodriguez, arXiv 2310.09382"


@dataclass(frozen=True)
class LatticeMethod(Method):
    """What the family shares: the backbone of one of the paper's data sets around a quantiser."""

    paper: ClassVar[str] = PAPER
    trains_on: ClassVar[tuple[str, ...]] = ("fashion_mnist",)
    note: ClassVar[str] = "Container header (16 bytes on a small image) counts."
    backbone: str = "fashion_mnist"  # or celeba, ffhq

    @property
    def channels(self) -> int:
        """Of the images a model takes: 1 (each colour is a grey image of its own) or 3."""
        return self._backbone().channels

    def _backbone(self) -> Backbone:
        if self.backbone not in BACKBONES:
            raise unknown("backbone", self.backbone, BACKBONES)
        return BACKBONES[self.backbone]

    def quantizer(self) -> RowQuantizer:
        """A fresh quantiser; raises ``LatticeError`` for parameters that make none."""
        raise NotImplementedError

    def model(self) -> LatticeVAE:
        """A fresh network as published."""
        from lattice.network import LatticeVAE

        return LatticeVAE(self._backbone(), self.quantizer())

    def codec(self, model: LatticeVAE) -> LatticeCodec:
        from lattice.codec import LatticeCodec

        return LatticeCodec(model, self.name, checkpoint.digest(model))

    def read_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Official states have no counts for the coder: they get empty ones (``python -m lattice calibrate``)."""
        if any(name.startswith("coder.") for name in state):
            return state
        fresh = self.model().coder.state_dict(prefix="coder.")
        return {**state, **fresh}


@METHODS.register("llvq_vq")
@dataclass(frozen=True)
class PublishedVQ(LatticeMethod):
    """The paper's VQ-VAE: a codebook by gradient."""

    title: ClassVar[str] = "LL-VQ: VQ"
    size: int = DESIRED
    commitment: float = 0.25

    def quantizer(self) -> RowQuantizer:
        from lattice.quantizers import Codebook

        return Codebook(DIM, self.size, self.commitment)


@METHODS.register("llvq_vq_ema")
@dataclass(frozen=True)
class PublishedEMA(LatticeMethod):
    """The paper's VQ-VAE with a codebook of moving averages, without restarts."""

    title: ClassVar[str] = "LL-VQ: VQ, EMA"
    size: int = DESIRED
    commitment: float = 0.25
    decay: float = 0.99

    def quantizer(self) -> RowQuantizer:
        from lattice.quantizers import MovingCodebook

        return MovingCodebook(DIM, self.size, self.commitment, self.decay)


@METHODS.register("llvq_sparse")
@dataclass(frozen=True)
class Sparse(LatticeMethod):
    """The learnable diagonal lattice whose spacings grow; ``codes`` is the paper's desired number of codes."""

    title: ClassVar[str] = "LL-VQ sparse"
    curve: ClassVar[str | None] = "codes"
    points: ClassVar[tuple[int, ...]] = (DESIRED, 2**32)
    codes: int = DESIRED
    sparsity: float = 1.0
    commitment: float = 0.25

    def quantizer(self) -> RowQuantizer:
        from lattice.quantizers import DiagonalLattice

        return DiagonalLattice(DIM, self.codes, self.sparsity, self.commitment)


@METHODS.register("llvq_dense")
@dataclass(frozen=True)
class Dense(LatticeMethod):
    """The learnable diagonal lattice whose spacings shrink to next to nothing: its rate is the point of having it."""

    title: ClassVar[str] = "LL-VQ dense"
    sparsity: float = -1.0
    commitment: float = 0.25

    def quantizer(self) -> RowQuantizer:
        from lattice.quantizers import DiagonalLattice

        return DiagonalLattice(DIM, 0, self.sparsity, self.commitment)


@dataclass(frozen=True)
class Trained(LatticeMethod):
    """A lattice trained for bits per pixel plus ``lmb`` times the squared error of 8-bit levels over 100."""

    paper: ClassVar[str] = "Lei, Hassani, Saeedi Bidokhti, ICLR 2025 (lattice transform coding)"
    curve: ClassVar[str | None] = "lmb"
    points: ClassVar[tuple[float, ...]] = (0.1, 0.3, 1.0)
    lmb: float = 0.3
    width: int = 8  # dimensions that are quantised

    def model(self) -> LatticeVAE:
        """A fresh network, without the activations behind latent and image."""
        from lattice.network import LatticeVAE
        from lattice.points import LatticeError

        if not self.lmb > 0:
            raise LatticeError(f"lmb={self.lmb} must be positive.")
        return LatticeVAE(self._backbone(), self.quantizer(), ends=False, weight=self.lmb * 255.0**2 / 100, rate=1.0)


@dataclass(frozen=True)
class Fixed(Trained):
    """One of the lattices of the literature."""

    lattice: ClassVar[str] = ""

    def quantizer(self) -> RowQuantizer:
        from lattice.trained import BlockLattice

        return BlockLattice(DIM, self.width, self.lattice)


@METHODS.register("lattice_z")
@dataclass(frozen=True)
class Integers(Fixed):
    """Whole numbers: the scalar quantiser of nonlinear transform coding."""

    title: ClassVar[str] = "Z lattice"
    lattice: ClassVar[str] = "z"


@METHODS.register("lattice_a2")
@dataclass(frozen=True)
class Hexagonal(Fixed):
    """The hexagonal lattice A2 in pairs of dimensions."""

    title: ClassVar[str] = "A2 lattice"
    lattice: ClassVar[str] = "a2"


@METHODS.register("lattice_d4")
@dataclass(frozen=True)
class Checkerboard(Fixed):
    """D4 in fours."""

    title: ClassVar[str] = "D4 lattice"
    lattice: ClassVar[str] = "d4"


@METHODS.register("lattice_e8")
@dataclass(frozen=True)
class Gosset(Fixed):
    """E8."""

    title: ClassVar[str] = "E8 lattice"
    lattice: ClassVar[str] = "e8"


@METHODS.register("lattice_leech")
@dataclass(frozen=True)
class Leech(Fixed):
    """Leech's lattice."""

    title: ClassVar[str] = "Leech lattice"
    lattice: ClassVar[str] = "leech"
    width: int = 24


@METHODS.register("lattice_full")
@dataclass(frozen=True)
class FullRank(Trained):
    """A basis learned with the network, full rank in blocks of ``block`` dimensions."""

    title: ClassVar[str] = "learned lattice"
    block: int = 4

    def quantizer(self) -> RowQuantizer:
        from lattice.trained import LearnedLattice

        return LearnedLattice(DIM, self.width, self.block)
