"""The rule that makes the golden weights of QARV (no files needed)."""

from __future__ import annotations

import math

import numpy as np
import torch

from qres.qarv import QARVModel
from tests.support.golden_qres import standard_normal

GAINS = {".posterior.weight": 0.5, ".prior.weight": 0.25, ".embedding_layer.1.weight": 2.0}  # by the name's end


def fill(model: QARVModel) -> QARVModel:
    """Overwrite every parameter with its golden value, drawn from a generator seeded by its name."""
    for name, parameter in model.named_parameters():
        n = standard_normal(name, parameter.shape)
        if name.endswith(".gamma"):
            value = np.float32(0.5) + np.float32(0.02) * n
        elif name.endswith(".weight"):
            gain = next((gain for end, gain in GAINS.items() if name.endswith(end)), 1.0)
            gain = 0.15 if name == f"dec_blocks.{len(model.dec_blocks) - 1}.0.weight" else gain
            value = n * np.float32(gain / math.sqrt(math.prod(parameter.shape[1:])))
        else:
            value = np.float32(0.02) * n
        parameter.data.copy_(torch.from_numpy(value))
    return model.eval()
