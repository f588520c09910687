"""The quantisers, each a small class of the contract in ``vq.vqvae.quantizer``."""

from vq.vqvae.quantizers.compound import ProductQuantizer, ResidualQuantizer
from vq.vqvae.quantizers.learned import EMAQuantizer, EntropyConstrainedQuantizer, SimVQ, VectorQuantizer
from vq.vqvae.quantizers.scalar import FSQ, LFQ, Projected

__all__ = [
    "FSQ",
    "LFQ",
    "EMAQuantizer",
    "EntropyConstrainedQuantizer",
    "ProductQuantizer",
    "Projected",
    "ResidualQuantizer",
    "SimVQ",
    "VectorQuantizer",
]
