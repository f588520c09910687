"""Lattices as quantisers: LL-VQ-VAE as published, the lattices of the literature, and a learned full-rank one."""

TESSERA_METHODS = True  # core.registry looks for methods here
