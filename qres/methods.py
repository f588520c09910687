"""QRes-VAE and QARV as methods: the published models and variable-rate ones of our own.

Paper: Duan, Lu, Ma, Zhu, "Lossy Image Compression with Quantized Hierarchical VAEs", WACV 2023, arXiv 2208.13056.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from core import bitstream, checkpoint
from core.codec import Method, TesseraError
from core.registry import METHODS
from qres.architectures import (
    QARV_BASE,
    QRES3M_LOSSLESS,
    QRES3M_VR,
    QRES17M,
    QRES34M,
    QRES34M_LOSSLESS,
    QRES34M_VR,
    Architecture,
)

if TYPE_CHECKING:
    from qres.codec import QResCodec
    from qres.network import QResVAE


class QRes(Method):
    """What the QRes-VAE methods share; a subclass names its architecture."""

    arch: ClassVar[Architecture]
    conditional: ClassVar[Architecture | None] = None
    paper: ClassVar[str] = "Duan et al., WACV 2023, arXiv 2208.13056"
    trains_on: ClassVar[tuple[str, ...]] = ("coco",)
    searches: ClassVar[str] = "gradient steps"
    lmb: float

    def model(self) -> QResVAE:
        """A fresh network, strictly with the official state-dict names."""
        from qres.network import QResVAE

        return QResVAE(self.arch, self.lmb)

    def codec(self, model: QResVAE) -> QResCodec:
        """A codec of the model in eval mode; ``TesseraError`` for a lambda that it is not trained for."""
        from qres.codec import QResCodec

        self.check_point()
        return QResCodec(model, self.name, checkpoint.digest(model))

    def read_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Official checkpoints also hold the entropy coder's tables, which ours builds itself.

        A method with a ``conditional`` architecture also takes its weights, folded at the method's lambda.
        """
        if self.conditional is not None and any(name.startswith("embedding.") for name in state):
            from qres.network import QResVAE

            conditional = QResVAE(self.conditional, self.lmb)
            conditional.load_state_dict(state)
            return conditional.at_lambda().state_dict()
        return {name: value for name, value in state.items() if "discrete_gaussian" not in name}


class Ranged(QRes):
    """What methods share whose one set of weights serves every ``lmb`` in ``lmb_range``."""

    curve: ClassVar[str | None] = "lmb"
    variable_rate: ClassVar[bool] = True
    lmb_range: tuple[float, float]

    def __post_init__(self) -> None:
        pair = self.lmb_range if isinstance(self.lmb_range, (tuple, list)) else ()
        if not (len(pair) == 2 and all(isinstance(v, (int, float)) for v in pair) and 0 < pair[0] <= pair[1]):
            raise TesseraError(f"lmb_range={self.lmb_range} must be two numbers above 0, the lower one first.")

    @property
    def trained_range(self) -> tuple[float, float]:
        """What training draws lambda from."""
        return self.lmb_range

    def stream_point(self, stream: bytes) -> float:
        """The lambda in a stream, to four digits; raises ``BitstreamError``."""
        from qres.codec import coded_lambda

        return coded_lambda(bitstream.unpack(stream, None).only_chunk(least=2))


@METHODS.register("qres34m")
@dataclass(frozen=True)
class QRes34M(QRes):
    """34 M parameters, natural images; ``lmb`` weighs distortion (paper: 16 to 2048)."""

    title: ClassVar[str] = "QRes-VAE 34M"
    arch: ClassVar[Architecture] = QRES34M
    conditional: ClassVar[Architecture | None] = QRES34M_VR
    takes: ClassVar[tuple[str, ...]] = ("qres34m_vr",)
    published: ClassVar[tuple[str, ...]] = ("qres34m-paper", "qres34m-first-release")
    curve: ClassVar[str | None] = "lmb"
    points: ClassVar[tuple[float, ...]] = (16, 32, 64, 128, 256, 512, 1024, 2048)
    lmb: float = 16


@METHODS.register("qres17m")
@dataclass(frozen=True)
class QRes17M(QRes):
    """17 M parameters, published for CelebA at 64x64."""

    title: ClassVar[str] = "QRes-VAE 17M"
    arch: ClassVar[Architecture] = QRES17M
    trains_on: ClassVar[tuple[str, ...]] = ("celeba",)
    curve: ClassVar[str | None] = "lmb"
    points: ClassVar[tuple[float, ...]] = (1, 2, 4, 8, 16, 32, 64, 1024)
    lmb: float = 8


class Lossless(QRes):
    """What the lossless models share: latents, then pixels under a discretised normal; ``lmb`` does not apply."""

    lossless: ClassVar[bool] = True
    searches: ClassVar[str] = ""

    def model(self) -> QResVAE:
        from qres.network import QResVAE

        return QResVAE(self.arch, lmb=1)


@METHODS.register("qres34m_lossless")
@dataclass(frozen=True)
class QRes34MLossless(Lossless):
    """The published lossless model: the latents of ``qres34m``."""

    title: ClassVar[str] = "QRes-VAE 34M lossless"
    arch: ClassVar[Architecture] = QRES34M_LOSSLESS


@METHODS.register("qres3m_lossless")
@dataclass(frozen=True)
class QRes3MLossless(Lossless):
    """Ours: the latents of ``qres3m_vr`` without its condition on lambda."""

    title: ClassVar[str] = "QRes 4M lossless"
    arch: ClassVar[Architecture] = QRES3M_LOSSLESS
    trains_on: ClassVar[tuple[str, ...]] = ("lossless_pictures",)


@dataclass(frozen=True)
class QResVR(Ranged):
    """Ours: one set of weights for every ``lmb`` in ``lmb_range``, for squared error or MS-SSIM."""

    trains_on: ClassVar[tuple[str, ...]] = ("photos",)
    points: ClassVar[tuple[float, ...]] = (4, 8, 16, 32, 64, 128, 256, 1024)
    lmb: float = 64
    lmb_range: tuple[float, float] = (4, 1024)
    target: str = "mse"  # or ms_ssim: what the weights were trained for

    def model(self) -> QResVAE:
        from qres.network import QResVAE

        return QResVAE(self.arch, self.lmb, self.lmb_range, self.target)


@METHODS.register("qres3m_vr")
@dataclass(frozen=True)
class QRes3MVR(QResVR):
    """Ours: the same blocks at a tenth of the parameters, one set of weights for every lambda."""

    title: ClassVar[str] = "QRes 4M"
    arch: ClassVar[Architecture] = QRES3M_VR


@METHODS.register("qres34m_vr")
@dataclass(frozen=True)
class QRes34MVR(QResVR):
    """Ours: the published blocks of ``qres34m``, which takes these weights at each of its lambdas."""

    title: ClassVar[str] = "QRes 34M, variable rate"
    arch: ClassVar[Architecture] = QRES34M_VR
    points: ClassVar[tuple[float, ...]] = (16, 32, 64, 128, 256, 512, 1024, 2048)
    lmb_range: tuple[float, float] = (16, 2048)

    def adopt(self, state: Mapping[str, Any]) -> QResVAE:
        """A network to train on from its own weights, or one grown from those of ``qres3m_vr`` (``qres.grow``)."""
        from qres.grow import grow
        from qres.network import QResVAE

        own, small = self.model(), QResVAE(QRES3M_VR, self.lmb, QRes3MVR.lmb_range)
        fits = state.keys() == small.state_dict().keys()
        into = small if fits else own
        try:
            into.load_state_dict({name: value.float() for name, value in state.items()})
        except RuntimeError as error:
            raise TesseraError(f"these weights are neither of {self.name} nor of qres3m_vr: {error}.") from None
        return grow(small, own) if fits else own


@METHODS.register("qarv_base")
@dataclass(frozen=True)
class QARVBase(Ranged):
    """93 M parameters, natural images, one set of weights for every ``lmb`` (paper: 16 to 2048)."""

    title: ClassVar[str] = "QARV"
    published: ClassVar[tuple[str, ...]] = ("qarv-paper",)
    arch: ClassVar[Architecture] = QARV_BASE
    paper: ClassVar[str] = "Duan et al., TPAMI 2023, arXiv 2302.08899"
    points: ClassVar[tuple[Any, ...]] = (16, 32, 64, 128, 256, 512, 1024, 2048)
    lmb: float = 64
    lmb_range: tuple[float, float] = (16, 2048)  # of training

    def model(self) -> QResVAE:
        from qres.qarv import QARVModel

        return QARVModel(self.arch, self.lmb, self.lmb_range)
