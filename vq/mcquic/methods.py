"""McQuic as methods: the published configurations, and a small one of our own.

Paper: Zhu, Song, Gao, Zheng, Shen, "Unified Multivariate Gaussian Mixture for Efficient Neural Image Compression",
CVPR 2022, arXiv 2203.10897. ``docs/methods/mcquic.md`` says where we differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from core import checkpoint
from core.codec import Method, TesseraError
from core.registry import METHODS, unknown
from vq.mcquic.recipe import Recipe

if TYPE_CHECKING:
    from vq.mcquic.codec import McQuicCodec
    from vq.mcquic.network import McQuic

CONTAINERS = ("tessera", "mcq")
PRECISIONS = ("float32", "bfloat16")  # as PyTorch calls them
MODULE = "module._compressor."  # before the model's names in training checkpoints of version 0.1


@METHODS.register("mcquic")
@dataclass(frozen=True)
class McQuicMethod(Method):
    """The published model. ``m`` codebooks (the ``-qp`` of its command) of ``k`` codewords on each level."""

    title: ClassVar[str] = "McQuic"
    published: ClassVar[tuple[str, ...]] = ("mcquic-mse", "mcquic-ms-ssim")  # of one picture of kodak
    paper: ClassVar[str] = "Zhu et al., CVPR 2022, arXiv 2203.10897"
    trains_on: ClassVar[tuple[str, ...]] = ("photographs of at least 512 pixels",)
    curve: ClassVar[str | None] = "m"
    points: ClassVar[tuple[int, ...]] = (2, 12)
    note: ClassVar[str] = "rate = the whole stream"
    searches: ClassVar[str] = "gradient steps"
    unbound: ClassVar[tuple[str, ...]] = ("container", "decoding", "context", "free")
    channel: int = 0  # 0: the published width, 128 for m = 2, else 192
    m: int = 2
    k: tuple[int, ...] = (8192, 2048, 512)
    target: str = "ms_ssim"  # or mse: what the weights are trained for
    container: str = "tessera"  # or mcq: the files of McQuic 0.1
    decoding: str = "float32"  # or bfloat16
    context: bool = False  # code with the context model of the weights, where they have one
    mode: str = "gumbel"  # or nearest: how training chooses codes
    weight: float = 1.0  # of the losses of mode nearest
    permute: float = 0.0  # share of codes that training replaces by random ones
    free: int = 0  # steps at the start of training without quantisation
    colour: bool = True  # random gamma curves and colour temperatures in training
    erase: float = 0.5  # share of training in which parts of the input are erased
    revive: int = 100  # steps between revivals of dead codes

    def __post_init__(self) -> None:
        if self.container not in CONTAINERS:
            raise unknown("container", self.container, CONTAINERS)
        if self.decoding not in PRECISIONS:
            raise unknown("decoding", self.decoding, PRECISIONS)
        self.recipe()

    @property
    def suffix(self) -> str:  # type: ignore[override]  # it follows from a field
        """Of the files that the streams are."""
        return ".mcq" if self.container == "mcq" else ".tsr"

    def recipe(self) -> Recipe:
        """The training recipe in the fields."""
        names = ("target", "mode", "weight", "permute", "free", "colour", "erase", "revive")
        return Recipe(**{name: getattr(self, name) for name in names})

    def model(self) -> McQuic:
        """A fresh network, strictly with the official state-dict names unless it has a context model."""
        from vq.mcquic.network import McQuic

        channel = self.channel or (128 if self.m == 2 else 192)
        return McQuic(channel, self.m, self.k, self.recipe(), self.context)

    def check_search(self, effort: int) -> None:
        """See ``Method.check_search``; ``.mcq`` files are written without one."""
        super().check_search(effort)
        if effort and self.container == "mcq":
            raise TesseraError(f"container=mcq has no search at the encoder: leave search={effort} out.")

    def codec(self, model: McQuic) -> McQuicCodec:
        import torch

        from vq.mcquic.codec import McQuicCodec

        digest = checkpoint.digest(model)
        return McQuicCodec(model, self.name, digest, self.container, getattr(torch, self.decoding))

    def read_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Names of released files and of training checkpoints; context models only where they are asked for."""
        if any(name.startswith(MODULE) for name in state):
            state = {name.removeprefix(MODULE): v for name, v in state.items() if name.startswith(MODULE)}
        return {name: v for name, v in state.items() if self.context or not name.startswith("context.")}

    def adopt(self, state: Mapping[str, Any]) -> McQuic:
        """A network to train on from weights of another ``m`` or ``k``: what has another shape starts afresh."""
        model, state = self.model(), self.read_state(state)
        own = model.state_dict()
        fitting = {name: v.float() for name, v in state.items() if name in own and own[name].shape == v.shape}
        model.load_state_dict({**own, **fitting})
        return model


@METHODS.register("mcquic_small")
@dataclass(frozen=True)
class McQuicSmall(McQuicMethod):
    """Ours: narrow, small codebooks, a context model over the codes; trained on a CPU."""

    title: ClassVar[str] = "McQuic small"
    trains_on: ClassVar[tuple[str, ...]] = ("bsds500",)
    points: ClassVar[tuple[int, ...]] = (2, 4, 8)
    channel: int = 32
    k: tuple[int, ...] = (512, 256)
    target: str = "mse"
    context: bool = True
    mode: str = "nearest"
    free: int = 300
    colour: bool = False
    erase: float = 0.0


@METHODS.register("mcquic_small_vr")
@dataclass(frozen=True)
class McQuicSmallVR(McQuicSmall):
    """Ours: grids twice as fine as those of ``mcquic_small``, and one set of weights for every number of codebooks."""

    title: ClassVar[str] = "McQuic small, variable rate"
    trains_on: ClassVar[tuple[str, ...]] = ("photos",)
    curve: ClassVar[str | None] = "books"
    variable_rate: ClassVar[bool] = True
    points: ClassVar[tuple[int, ...]] = (5, 6, 7, 8, 9, 10, 11, 12)
    m: int = 4  # codebooks of each level
    k: tuple[int, ...] = (256, 512, 512)
    books: int = 12  # in use, of all levels together, the coarser levels' first

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.container != "tessera":
            raise TesseraError(f"container={self.container} has no files of some of the codebooks: use tessera.")

    @property
    def trained_range(self) -> tuple[int, int]:
        """More than the coarsest level's codebooks, up to all."""
        return self.m + 1, self.m * len(self.k)

    def model(self) -> McQuic:
        from vq.mcquic.variable import VariableMcQuic

        return VariableMcQuic(self.channel, self.m, self.k, self.recipe(), self.books, self.context)

    def codec(self, model: McQuic) -> McQuicCodec:
        self.check_point()
        return super().codec(model)
