"""The quantisers, each a small class of the contract in ``vq.vqvae.quantizer``."""

from vq.vqvae.quantizers.adaptive import RateAdaptiveQuantizer
from vq.vqvae.quantizers.compound import ProductQuantizer, ResidualQuantizer, Standardised
from vq.vqvae.quantizers.learned import EMAQuantizer, EntropyConstrainedQuantizer, SimVQ, VectorQuantizer
from vq.vqvae.quantizers.scalar import FSQ, LFQ, Projected
from vq.vqvae.quantizers.spherical import BSQ, GroupedSpherical, LeechSpherical

__all__ = [
    "BSQ",
    "FSQ",
    "LFQ",
    "EMAQuantizer",
    "EntropyConstrainedQuantizer",
    "GroupedSpherical",
    "LeechSpherical",
    "ProductQuantizer",
    "Projected",
    "RateAdaptiveQuantizer",
    "ResidualQuantizer",
    "SimVQ",
    "Standardised",
    "VectorQuantizer",
]
