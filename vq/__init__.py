"""Vector quantisation: codes with a rate term on toy sources, and autoencoders with discrete latents."""

TESSERA_METHODS = True  # core.registry looks for methods here
