"""The quantisers, each a small class of the contract in ``vq.quantizer``."""

from vq.quantizers.compound import ProductQuantizer, ResidualQuantizer
from vq.quantizers.learned import EMAQuantizer, EntropyConstrainedQuantizer, SimVQ, VectorQuantizer
from vq.quantizers.scalar import FSQ, LFQ, Projected

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
