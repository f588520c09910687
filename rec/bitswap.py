"""Bit-Swap: lossless coding by bits back with a Markov chain of latents.

Paper: Kingma, Abbeel, Ho, "Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with Hierarchical Latent
Variables", ICML 2019, arXiv 1905.06845. ``docs/methods/bitswap.md`` says where we differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from core import checkpoint
from core.codec import Codec, Method
from core.registry import METHODS

if TYPE_CHECKING:
    from rec.models.markov_vae import MarkovVAE


@METHODS.register("bitswap_small")
@dataclass(frozen=True)
class BitSwapSmall(Method):
    """Ours: the Markov-chain VAE of Bit-Swap with three levels and 0.4 M parameters.

    ``order`` is bit_swap or bb_ans: how the levels are put on the stack.
    """

    title: ClassVar[str] = "Bit-Swap, small"
    paper: ClassVar[str] = "Kingma, Abbeel, Ho, ICML 2019, arXiv 1905.06845"
    lossless: ClassVar[bool] = True
    trains_on: ClassVar[tuple[str, ...]] = ("cifar10",)
    unbound: ClassVar[tuple[str, ...]] = ("order", "bits", "compression_seed")
    note: ClassVar[str] = "A file of one image carries its first bits, which a chain of images pays for once."
    levels: int = 3
    filters: int = 40
    blocks: int = 2  # residual blocks of each network
    stochastic_filters: int = 8
    lamb: float = 0.02  # free nats of a latent in training, in the mean over a level
    order: str = "bit_swap"  # or bb_ans
    bits: int = 12  # of a latent's cell: 16 standard deviations in 2^bits
    compression_seed: int = 42

    def model(self) -> MarkovVAE:
        """A fresh network."""
        from rec.models.markov_vae import MarkovVAE

        return MarkovVAE(self.levels, self.filters, self.blocks, self.stochastic_filters, self.lamb)

    def codec(self, model: MarkovVAE) -> Codec:
        """A codec of the model in eval mode."""
        from rec.lossless_bitswap import BitSwapCodec

        digest = checkpoint.digest(model)
        return BitSwapCodec(model, self.order, self.bits, self.compression_seed, self.name, digest)
