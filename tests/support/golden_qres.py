"""The rule that makes the golden weights of the QRes-VAE models (no files needed)."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch

from qres.network import QResVAE

OUTPUT_CONVS = ("decoder.dec_blocks.16.0.", "out_net.conv_mean.0.", "out_net.conv_scale.0.")


def gain(name: str, lossy_17m: bool) -> float:
    """The standard deviation factor of a weight, by its name."""
    if ".posterior.c4." in name:
        return 1.5
    if ".prior.c4." in name:
        return 1.2
    last = (*OUTPUT_CONVS, "decoder.dec_blocks.15.0.") if lossy_17m else OUTPUT_CONVS
    return 0.15 if name.startswith(last) else 1.0


def fill(model: QResVAE) -> QResVAE:
    """Overwrite every parameter with its golden value, drawn from a generator seeded by its name."""
    lossy_17m = model.arch.top_width == 288
    for name, parameter in model.named_parameters():
        n = standard_normal(name, parameter.shape)
        if name.endswith((".gamma", ".norm.weight")):
            value = np.float32(1) + np.float32(0.02) * n
        elif name.endswith(".weight"):
            fan = math.prod(parameter.shape[1:])
            value = n * np.float32(gain(name, lossy_17m) / math.sqrt(fan))
        else:
            value = np.float32(0.02) * n
            if name == "out_net.conv_scale.0.bias":
                value = value + np.float32(-2.0)
        parameter.data.copy_(torch.from_numpy(value))
    return model.eval()


def standard_normal(name: str, shape: torch.Size) -> np.ndarray:
    """What the golden values of a parameter are made of, float32."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32)


def parameters_sha256(model: QResVAE) -> str:
    """SHA-256 over sorted names and little-endian float32 values."""
    hasher = hashlib.sha256()
    for name, value in sorted(model.named_parameters()):
        hasher.update(name.encode())
        hasher.update(value.detach().numpy().astype("<f4").tobytes())
    return hasher.hexdigest()
