"""Relative entropy coding as methods: the lossless ResNet VAE and the lossy VAEs with one, two and four levels.

Paper: Flamich, Havasi, Hernandez-Lobato, "Compressing Images by Encoding Their Latent Representations with Relative
Entropy Coding", NeurIPS 2020, arXiv 2010.01185. ``docs/methods/rvae.md`` and ``irec2.md`` say where we differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from core import checkpoint
from core.codec import Codec, Method, TesseraError
from core.registry import METHODS

if TYPE_CHECKING:
    from rec.latents import Settings
    from rec.models.four_level_vae import FourLevelVAE
    from rec.models.level_vae import LevelVAE, OneLevelVAE, TwoLevelVAE
    from rec.models.resnet_vae import ResNetVAE

PAPER = "Flamich et al., NeurIPS 2020, arXiv 2010.01185"


@dataclass(frozen=True)
class Coded(Method):
    """What the family shares: how latents are coded.

    ``coder`` is any of ``rec.coders.contract.CODERS``, and for the lossless models also bits_back.
    """

    paper: ClassVar[str] = PAPER
    unbound: ClassVar[tuple[str, ...]] = (
        "coder", "n_beams", "extra_samples", "kl_per_partition", "schedule", "block_size", "compression_seed",
        "anneal_end",
    )  # fmt: skip
    searches: ClassVar[str] = "gradient steps"
    coder: str = "beam_search"
    n_beams: int = 20
    extra_samples: float = 1.0  # candidates of a step: exp(extra_samples * kl_per_partition)
    kl_per_partition: float = 3.0  # nats
    schedule: str = "equal_kl"  # or power_law, the published one
    block_size: int = 1000  # latents that are coded together
    compression_seed: int = 42

    @property
    def settings(self) -> Settings:
        """How latents are coded."""
        from rec.latents import Settings

        return Settings(
            coder=self.coder,
            n_beams=self.n_beams,
            extra_samples=self.extra_samples,
            kl_per_partition=self.kl_per_partition,
            schedule=self.schedule,
            block_size=self.block_size,
            seed=self.compression_seed,
        )


@dataclass(frozen=True)
class Lossless(Coded):
    """The ResNet VAE: latents by relative entropy coding (or bits back), then every pixel under a logistic."""

    lossless: ClassVar[bool] = True
    trains_on: ClassVar[tuple[str, ...]] = ("cifar10",)
    note: ClassVar[str] = "The residual is coded; the container header (16 bytes on a small image) counts."
    num_res_blocks: int = 24
    deterministic_filters: int = 160
    stochastic_filters: int = 32
    likelihood: str = "discretized_logistic"  # or discretized_logistic_rgb
    lamb: float = 0.1  # free nats of each channel of each latent and image, in training
    beta: float = 1.0  # weight of the latents' rate in training

    def check_search(self, effort: int) -> None:
        """See ``Method.check_search``; bits back takes the posteriors as they are."""
        super().check_search(effort)
        if effort and self.coder == "bits_back":
            raise TesseraError(f"coder=bits_back has no search at the encoder: leave search={effort} out.")

    def model(self) -> ResNetVAE:
        from rec.models.resnet_vae import Architecture, ResNetVAE

        arch = Architecture(self.num_res_blocks, self.deterministic_filters, self.stochastic_filters, self.likelihood)
        return ResNetVAE(arch, self.lamb, self.beta)

    def codec(self, model: ResNetVAE) -> Codec:
        from rec.lossless import LosslessCodec
        from rec.lossless_bitsback import BitsBackCodec

        kind = BitsBackCodec if self.coder == "bits_back" else LosslessCodec
        return kind(model, self.settings, self.name, checkpoint.digest(model))


@METHODS.register("rvae")
@dataclass(frozen=True)
class RVAE(Lossless):
    """The published model, 29.5 M parameters."""

    title: ClassVar[str] = "ResNet VAE"


@METHODS.register("rvae_small")
@dataclass(frozen=True)
class RVAESmall(Lossless):
    """Ours: the same network with 6 blocks and 0.6 M parameters, and a likelihood that knows the other colours."""

    title: ClassVar[str] = "ResNet VAE, small"
    num_res_blocks: int = 6
    deterministic_filters: int = 48
    stochastic_filters: int = 8
    likelihood: str = "discretized_logistic_rgb"
    n_beams: int = 50
    kl_per_partition: float = 4.0
    block_size: int = 2048  # a whole level of a 32x32 image


@dataclass(frozen=True)
class Lossy(Coded):
    """What the lossy models share; ``beta`` weighs the distortion against bits per pixel."""

    published: ClassVar[tuple[str, ...]] = ("irec-paper", "irec-ideal-paper", "irec-ms-ssim-paper")
    trains_on: ClassVar[tuple[str, ...]] = ("clic",)
    curve: ClassVar[str | None] = "beta"
    points: ClassVar[tuple[float, ...]] = (0.001, 0.003, 0.01, 0.03, 0.05)
    beta: float = 0.01
    target: str = "mse"  # or ms_ssim: what the weights are trained for
    anneal_end: int = 0  # steps over which the weight of the bits grows to 1 in training

    def codec(self, model: LevelVAE) -> Codec:
        from rec.lossy import LossyCodec

        return LossyCodec(model, self.settings, self.name, checkpoint.digest(model))

    def adopt(self, state: Mapping[str, Any]) -> LevelVAE:
        """A network that starts from the weights for another ``beta``."""
        model: LevelVAE = self.model()
        try:
            model.load_state_dict({name: value.float() for name, value in state.items()})
        except RuntimeError as error:
            raise TesseraError(f"these weights are not of {self.name} with these filters: {error}.") from None
        return model

    @property
    def training(self) -> dict[str, Any]:
        """What every model takes."""
        return {"beta": self.beta, "target": self.target, "anneal_end": self.anneal_end}


@METHODS.register("irec1")
@dataclass(frozen=True)
class IREC1(Lossy):
    """One level, 5.8 M parameters (large_level_1_vae)."""

    title: ClassVar[str] = "iREC, 1 level"
    filters: int = 192

    def model(self) -> OneLevelVAE:
        from rec.models.level_vae import OneLevelVAE

        return OneLevelVAE(self.filters, **self.training)


@METHODS.register("irec2")
@dataclass(frozen=True)
class IREC2(Lossy):
    """Two levels, 10.3 M parameters (large_level_2_vae): the published one."""

    title: ClassVar[str] = "iREC, 2 levels"
    level_1_filters: int = 196
    level_2_filters: int = 128

    def model(self) -> TwoLevelVAE:
        from rec.models.level_vae import TwoLevelVAE

        return TwoLevelVAE(self.level_1_filters, self.level_2_filters, **self.training)


@METHODS.register("irec4")
@dataclass(frozen=True)
class IREC4(Lossy):
    """Four levels, 25.5 M parameters (large_level_4_vae)."""

    title: ClassVar[str] = "iREC, 4 levels"
    filters: tuple[int, int, int, int] = (196, 196, 128, 128)

    def model(self) -> FourLevelVAE:
        from rec.models.four_level_vae import FourLevelVAE

        return FourLevelVAE(self.filters, **self.training)


@METHODS.register("irec2_small")
@dataclass(frozen=True)
class IREC2Small(IREC2):
    """Ours: two levels with 0.6 M parameters."""

    title: ClassVar[str] = "iREC, small"
    trains_on: ClassVar[tuple[str, ...]] = ("bsds500",)
    level_1_filters: int = 48
    level_2_filters: int = 32
    n_beams: int = 50
    kl_per_partition: float = 4.0
