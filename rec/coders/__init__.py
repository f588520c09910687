"""The newer coders of relative entropy coding, one file per family; ``rec.coder.make_coder`` finds them."""
