"""The one place that says whether a device can be used, and under which name."""

from __future__ import annotations

import re

from core.codec import TesseraError


def available(name: object) -> str:
    """The name of a device as results have it: cpu, cuda, cuda:1, ...; cpu:0 is the CPU and cuda:0 the first GPU.

    Raises ``TesseraError`` for what is not here, and for kinds that nothing was ever measured or verified on (mps):
    their streams might not decode elsewhere.
    """
    device = re.sub(r"^(cpu|cuda):0$", r"\1", str(name))
    if device == "cpu":
        return device
    if re.fullmatch(r"cuda(:[1-9]\d*)?", device):
        import torch

        try:
            torch.zeros(1, device=device)
            return device
        except (RuntimeError, AssertionError):
            pass
    raise TesseraError(f"device={name} is not available here: use device=cpu, or run on a machine with an NVIDIA GPU.")


def bfloat16(device: str) -> bool:
    """Whether a device multiplies bfloat16 itself; where it does not, autocast is many times slower than float32."""
    import torch

    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public word for either
    return any(getattr(torch.cpu, name, bool)() for name in known)
