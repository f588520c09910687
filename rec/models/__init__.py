"""The networks of relative entropy coding: hierarchies of Gaussian latents."""
