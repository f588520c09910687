"""Method of the VQ-VAE family with one set of weights for codebooks of every size (RAQ)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from core import bitstream, checkpoint
from core.registry import METHODS
from vq.vqvae.methods import VQMethod

if TYPE_CHECKING:
    from vq.vqvae.codec import AdaptiveCodec
    from vq.vqvae.network import VQVAE
    from vq.vqvae.quantizer import Quantizer


@METHODS.register("raq")
@dataclass(frozen=True)
class RateAdaptive(VQMethod):
    """A codebook of ``max_size`` codes, and those of any smaller size that clustering makes of it; the stream says
    which.
    """

    title: ClassVar[str] = "RAQ"
    paper: ClassVar[str] = "Seo, Kang, arXiv 2405.14222 (clustering)"
    curve: ClassVar[str | None] = "size"
    variable_rate: ClassVar[bool] = True
    points: ClassVar[tuple[int, ...]] = (4, 16, 64, 256)
    size: int = 256  # codes
    max_size: int = 256  # codes that are trained
    revive: float = 0.03
    decay: float = 0.99

    def quantizer(self) -> Quantizer:
        """A codebook of moving averages that trains for all sizes."""
        from vq.vqvae.quantizers import RateAdaptiveQuantizer

        options: Mapping[str, Any] = {"revive": self.revive, "commitment": self.commitment, "decay": self.decay}
        return RateAdaptiveQuantizer(self.dim, self.max_size, init="kmeans", **options)

    def model(self) -> VQVAE:
        """A fresh network; ``QuantizerError`` with a prior, which would know the codes of one size alone."""
        from vq.vqvae.quantizer import QuantizerError

        if self.prior:
            raise QuantizerError(f"raq has no prior: its codes differ with the size; leave prior={self.prior} out.")
        return super().model()

    def codec(self, model: VQVAE) -> AdaptiveCodec:
        """A codec that writes with ``size`` codes and reads all sizes."""
        from vq.vqvae.codec import AdaptiveCodec

        return AdaptiveCodec(model, self.name, checkpoint.digest(model), self.size)

    def stream_point(self, stream: bytes) -> int:
        """The size in a stream; raises ``BitstreamError``."""
        from vq.vqvae.codec import head_bytes, head_size

        length = head_bytes(self.max_size)
        return head_size(bitstream.unpack(stream, None).only_chunk(least=length)[:length])

    @property
    def trained_range(self) -> tuple[int, int]:
        """Any size from two codes."""
        return 2, self.max_size
