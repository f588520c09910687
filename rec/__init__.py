"""Relative entropy coding: samples of a distribution as short codes, and image codecs made of them."""
