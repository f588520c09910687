"""Vector quantisation: codes with a rate term on toy sources, and autoencoders with discrete latents."""
