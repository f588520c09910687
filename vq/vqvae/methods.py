"""The VQ-VAE family as methods: one backbone, one quantiser each, and what moves along its rate-distortion curve.

Papers: van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", arXiv 1711.00937, and the one
that each quantiser names. ``docs/methods/vqvae.md`` says where we differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from core import checkpoint
from core.codec import Method
from core.registry import METHODS

if TYPE_CHECKING:
    from vq.vqvae.codec import VQCodec
    from vq.vqvae.network import VQVAE
    from vq.vqvae.quantizer import Quantizer


@dataclass(frozen=True)
class VQMethod(Method):
    """What the family shares. ``prior`` adds a learned autoregressive prior over codes, used where it pays."""

    paper: ClassVar[str] = "van den Oord et al., arXiv 1711.00937"
    trains_on: ClassVar[tuple[str, ...]] = ("fashion_mnist",)
    note: ClassVar[str] = "Container header (16 bytes on a small image) counts."
    unbound: ClassVar[tuple[str, ...]] = ("prior",)
    searches: ClassVar[str] = "gradient steps"
    channels: int = 1  # 1: each colour is a grey image of its own; 3: RGB
    hidden: tuple[int, ...] = (32,)  # widths, one stride of 2 each
    dim: int = 64  # of a latent vector
    weight: float = 10.0  # of the mean squared error, against the quantiser's losses
    commitment: float = 0.25
    prior: bool = False

    def quantizer(self) -> Quantizer:
        """A fresh quantiser; raises ``QuantizerError`` for parameters that make none."""
        raise NotImplementedError

    def model(self) -> VQVAE:
        from vq.vqvae.network import VQVAE

        return VQVAE(self.channels, self.hidden, self.quantizer(), self.weight, self.prior)

    def read_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Weights that were trained with a prior also serve without it."""
        return state if self.prior else {name: v for name, v in state.items() if not name.startswith("prior.")}

    def codec(self, model: VQVAE) -> VQCodec:
        from vq.vqvae.codec import VQCodec

        return VQCodec(model, self.name, checkpoint.digest(model))


@dataclass(frozen=True)
class SizedMethod(VQMethod):
    """A method whose curve is the codebook size."""

    curve: ClassVar[str | None] = "size"
    points: ClassVar[tuple[int, ...]] = (256,)
    size: int = 256  # codes


@METHODS.register("vqvae")
@dataclass(frozen=True)
class Gradient(SizedMethod):
    """The codebook by gradient, from a small uniform start, nothing done about dead codes (as published)."""

    title: ClassVar[str] = "VQ-VAE"
    points: ClassVar[tuple[int, ...]] = (16, 64, 256)
    init: str = "uniform"  # or kmeans, on the first batch
    revive: float = 0.0  # codes used less than this share of the mean restart at a random latent; 0: never
    cosine: bool = False
    code_dim: int = 0  # dimensions of the codebook where it is not ``dim``

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import Projected, VectorQuantizer

        codebook = VectorQuantizer(
            self.code_dim or self.dim,
            self.size,
            init=self.init,
            revive=self.revive,
            commitment=self.commitment,
            cosine=self.cosine,
        )
        return Projected(self.dim, codebook) if self.code_dim else codebook


@METHODS.register("vqvae_cosine")
@dataclass(frozen=True)
class Cosine(Gradient):
    """A codebook of few dimensions on the unit sphere (ViT-VQGAN, arXiv 2110.04627)."""

    title: ClassVar[str] = "VQ-VAE, cosine"
    paper: ClassVar[str] = "Yu et al., arXiv 2110.04627"
    points: ClassVar[tuple[int, ...]] = (256,)
    init: str = "kmeans"
    revive: float = 0.03
    cosine: bool = True
    code_dim: int = 8


@METHODS.register("vqvae_ema")
@dataclass(frozen=True)
class MovingAverage(SizedMethod):
    """The codebook of moving averages, k-means start, dead codes revived: the least a baseline should do."""

    title: ClassVar[str] = "VQ-VAE, EMA"
    points: ClassVar[tuple[int, ...]] = (16, 64, 256)
    init: str = "kmeans"
    revive: float = 0.03
    decay: float = 0.99
    rotation: bool = False

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import EMAQuantizer

        return EMAQuantizer(
            self.dim,
            self.size,
            init=self.init,
            revive=self.revive,
            commitment=self.commitment,
            decay=self.decay,
            rotation=self.rotation,
        )


@METHODS.register("vqvae_rot")
@dataclass(frozen=True)
class Rotated(MovingAverage):
    """``vqvae_ema`` with the rotation trick instead of the straight-through gradient."""

    title: ClassVar[str] = "VQ-VAE, rotation"
    paper: ClassVar[str] = "Fifty et al., arXiv 2410.06424"
    points: ClassVar[tuple[int, ...]] = (256,)
    rotation: bool = True


@METHODS.register("vqvae_ec")
@dataclass(frozen=True)
class EntropyConstrained(VQMethod):
    """Codes chosen by distance plus ``rate_weight`` times bits: a larger weight is a lower rate."""

    title: ClassVar[str] = "VQ-VAE, entropy-constrained"
    paper: ClassVar[str] = "Chou, Lookabaugh, Gray, 1989, on the backbone of arXiv 1711.00937"
    curve: ClassVar[str | None] = "rate_weight"
    points: ClassVar[tuple[float, ...]] = (0.5,)
    rate_weight: float = 0.5  # latent variances per bit
    size: int = 512
    decay: float = 0.99

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import EntropyConstrainedQuantizer

        return EntropyConstrainedQuantizer(
            self.dim, self.size, rate_weight=self.rate_weight, commitment=self.commitment, decay=self.decay
        )


@METHODS.register("simvq")
@dataclass(frozen=True)
class Sim(SizedMethod):
    """A frozen codebook behind one learned linear map."""

    title: ClassVar[str] = "SimVQ"
    paper: ClassVar[str] = "Zhu et al., arXiv 2411.02038"
    rotation: bool = False

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import SimVQ

        return SimVQ(self.dim, self.size, commitment=self.commitment, rotation=self.rotation)


@METHODS.register("rvq")
@dataclass(frozen=True)
class Residual(VQMethod):
    """Residual stages; one set of weights serves 1 to ``max_stages`` of them."""

    title: ClassVar[str] = "residual VQ"
    paper: ClassVar[str] = "Zeghidour et al., arXiv 2107.03312"
    curve: ClassVar[str | None] = "stages"
    variable_rate: ClassVar[bool] = True
    points: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    stages: int = 4
    max_stages: int = 4
    size: int = 16
    dropout: bool = True  # train with a random number of stages in each step
    revive: float = 0.03

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import EMAQuantizer, ResidualQuantizer

        options: Mapping[str, Any] = {"init": "kmeans", "revive": self.revive, "commitment": self.commitment}
        return ResidualQuantizer(
            [EMAQuantizer(self.dim, self.size, **options) for _ in range(self.max_stages)], self.dropout
        )

    def codec(self, model: VQVAE) -> VQCodec:
        """A codec that uses the first ``stages`` stages."""
        return _first_stages(self, model, self.stages, self.max_stages)

    @property
    def trained_range(self) -> tuple[int, int]:
        """Any number of stages from the first."""
        return 1, self.max_stages


@METHODS.register("pq")
@dataclass(frozen=True)
class Product(VQMethod):
    """The vector in equal parts, a codebook each."""

    title: ClassVar[str] = "product VQ"
    paper: ClassVar[str] = "Jegou, Douze, Schmid, 2011, on the backbone of arXiv 1711.00937"
    curve: ClassVar[str | None] = "books"
    points: ClassVar[tuple[int, ...]] = (4,)
    books: int = 4
    size: int = 8
    revive: float = 0.03

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import EMAQuantizer, ProductQuantizer

        part = ProductQuantizer.part(self.dim, self.books)
        options: Mapping[str, Any] = {"init": "kmeans", "revive": self.revive, "commitment": self.commitment}
        return ProductQuantizer([EMAQuantizer(part, self.size, **options) for _ in range(self.books)])


@METHODS.register("fsq")
@dataclass(frozen=True)
class FiniteScalar(VQMethod):
    """A few scalars, each rounded to a few levels; ``levels`` is written 8x6x5."""

    title: ClassVar[str] = "FSQ"
    paper: ClassVar[str] = "Mentzer et al., arXiv 2309.15505"
    curve: ClassVar[str | None] = "levels"
    points: ClassVar[tuple[str, ...]] = ("5x3", "4x4x4", "8x6x5")
    levels: str = "8x6x5"

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import FSQ, Projected

        return Projected(self.dim, FSQ(_levels(self.levels)))


@METHODS.register("ifsq")
@dataclass(frozen=True)
class EvenFiniteScalar(FiniteScalar):
    """``fsq`` with the bound 2 sigmoid(1.6 z) - 1 = tanh(0.8 z), which spreads normal latents evenly."""

    paper: ClassVar[str] = "arXiv 2601.17124 (iFSQ)"
    points: ClassVar[tuple[str, ...]] = ("5x3",)  # those that are shipped
    levels: str = "5x3"
    slope: float = 0.8  # of tanh at zero

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import FSQ, Projected

        return Projected(self.dim, FSQ(_levels(self.levels), slope=self.slope))


@METHODS.register("rfsq")
@dataclass(frozen=True)
class ResidualFiniteScalar(VQMethod):
    """Residual stages of ``fsq``, each on residuals scaled to variance 1; one set of weights for all stages."""

    paper: ClassVar[str] = "Zhu et al., arXiv 2508.15860"
    curve: ClassVar[str | None] = "stages"
    variable_rate: ClassVar[bool] = True
    points: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    stages: int = 4
    max_stages: int = 4
    levels: str = "3x3x3"  # of a stage
    dropout: bool = True  # train with a random number of stages in each step

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import FSQ, Projected, ResidualQuantizer, Standardised

        levels, commitment = _levels(self.levels), self.commitment
        stages = [Standardised(FSQ(levels), commitment=commitment) for _ in range(self.max_stages)]
        return Projected(self.dim, ResidualQuantizer(stages, self.dropout))

    def codec(self, model: VQVAE) -> VQCodec:
        """A codec that uses the first ``stages`` stages."""
        return _first_stages(self, model, self.stages, self.max_stages)

    @property
    def trained_range(self) -> tuple[int, int]:
        """Any number of stages from the first."""
        return 1, self.max_stages


@METHODS.register("lfq")
@dataclass(frozen=True)
class LookupFree(VQMethod):
    """The signs of a few scalars."""

    title: ClassVar[str] = "LFQ"
    paper: ClassVar[str] = "Yu et al., arXiv 2310.05737"
    curve: ClassVar[str | None] = "bits"
    points: ClassVar[tuple[int, ...]] = (8,)
    bits: int = 8  # of a vector
    entropy: float = 0.1  # weight of the entropy loss

    def quantizer(self) -> Quantizer:
        from vq.vqvae.quantizers import LFQ, Projected

        return Projected(self.dim, LFQ(self.bits, commitment=self.commitment, entropy=self.entropy))


def _levels(written: object) -> list[int]:
    """Levels that are written 8x6x5."""
    from vq.vqvae.quantizer import QuantizerError

    try:
        return [int(level) for level in str(written).split("x")]
    except ValueError:
        raise QuantizerError(f"levels={written} must be whole numbers joined by x, like 8x6x5.") from None


def _first_stages(method: Method, model: VQVAE, stages: int, trained: int) -> VQCodec:
    """A codec that uses the first ``stages`` of the stages that are trained."""
    from vq.vqvae.codec import VQCodec
    from vq.vqvae.quantizer import QuantizerError

    if not 1 <= stages <= trained:
        raise QuantizerError(f"stages={stages} must be 1 to {trained}, the stages that are trained.")
    return VQCodec(model, method.name, checkpoint.digest(model), stages)
