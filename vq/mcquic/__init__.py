"""McQuic (CVPR 2022): multi-codebook cascaded vector quantisation of images."""
