"""The vocabulary every method speaks: codecs, registry, container, entropy coding, training."""
