"""The rule that makes the golden weights of McQuic (no files needed)."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch

from vq.mcquic.network import McQuic

OFFICIAL_START = ("beta", "gamma", "_temperature")


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.RandomState(seed).standard_normal(shape)


def fill(model: McQuic) -> McQuic:
    """Overwrite convolutions and codebooks with their golden values, drawn from a generator seeded by their names."""
    for name, parameter in model.named_parameters():
        if name.endswith(OFFICIAL_START) or "_freqEMA" in name or name.startswith("context."):
            continue
        shape = tuple(parameter.shape)
        if name.endswith("_codebook"):
            scale = 4 * math.sqrt(2 / (5 * shape[-1]))
        else:
            scale = 0.7 / math.sqrt(math.prod(shape[1:])) if name.endswith(".weight") else 0.02
        parameter.data.copy_(torch.from_numpy(np.float32(_normal(name, shape) * scale)))
    return model.eval()


def uneven(model: McQuic) -> McQuic:
    """Overwrite the code frequencies with the golden ones that are not uniform."""
    for level, stored in enumerate(model._quantizer._entropyCoder._freqEMA):
        e = np.exp(_normal(f"_quantizer._entropyCoder._freqEMA.{level}", tuple(stored.shape)))
        stored.data.copy_(torch.from_numpy(np.float32(e / e.sum(1, keepdims=True))))
    return model
