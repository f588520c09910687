"""Autoencoders with discrete latents (VQ-VAE and relatives). Importing it registers its methods."""

from vq.vqvae import methods as methods
