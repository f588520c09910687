"""Autoencoders with discrete latents (VQ-VAE and relatives)."""
