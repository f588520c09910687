"""Relative entropy coding: samples of a distribution as short codes, and image codecs made of them."""

TESSERA_METHODS = True  # core.registry looks for methods here
