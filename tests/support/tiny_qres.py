"""Stand-ins for ``qres34m`` and ``qres34m_vr`` with few parameters: what holds for any size, in little time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.registry import METHODS, discover
from qres.architectures import Architecture

VR = Architecture(
    (("patch", 8, 4), ("cnx", 8, 3), ("down", 8, 16, 2), ("cnx", 16, 3)),
    (("latent", 16, 4, 1), ("up", 16, 8, 2), ("latent", 8, 3, 3), ("up", 8, 3, 4)),
    -0.45, 3.7, embedding=6, gamma=0.1, least=8,
)  # fmt: skip
FIXED = replace(VR, embedding=0)


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Until the patch is undone, the two methods have these architectures."""
    discover()
    patch.setattr(METHODS["qres34m"], "arch", FIXED)
    patch.setattr(METHODS["qres34m"], "conditional", VR)
    patch.setattr(METHODS["qres34m_vr"], "arch", VR)
