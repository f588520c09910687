"""Quantised hierarchical VAEs (QRes-VAE, Duan et al., arXiv 2208.13056)."""

TESSERA_METHODS = True  # core.registry looks for methods here
