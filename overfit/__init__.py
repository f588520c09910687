"""Overfitted codecs: latents and a small decoder are fitted to one image, and both are the stream."""

TESSERA_METHODS = True  # core.registry looks for methods here
