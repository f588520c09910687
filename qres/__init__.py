"""Quantised hierarchical VAEs (QRes-VAE, Duan et al., arXiv 2208.13056)."""
