"""The newer coders of relative entropy coding, one file per family; ``rec.coders.contract.make_coder`` finds them."""
