"""McQuic (CVPR 2022): multi-codebook cascaded vector quantisation of images. Importing it registers its methods."""

from vq.mcquic.methods import McQuicMethod, McQuicSmall

__all__ = ["McQuicMethod", "McQuicSmall"]
