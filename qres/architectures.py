"""Architectures of the quantised hierarchical VAEs as data; ``qres.network`` and ``qres.qarv`` build them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

Layer = tuple[Any, ...]


@dataclass(frozen=True)
class Architecture:
    """Bottom-up and top-down layers in checkpoint order, as (kind, arguments...) tuples, and the input normalisation.

    Encoder kinds: ``patch`` (out, rate), ``cnx`` (width, kernel), ``down`` (width, out, rate). Decoder kinds:
    ``latent`` (width, z, kernel), ``up`` (width, out, rate), ``nearest`` (rate,), ``convt`` (width, out, kernel).
    ``qres.qarv`` has others too, among them ``key``, which marks the features that the decoder sees.
    ``embedding`` > 0 makes the model conditional on lambda; ``least`` bounds the hidden width of its small nets.
    """

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    shift: float
    scale: float
    embedding: int = 0
    gamma: float = 1e-6
    least: int = 0

    @property
    def stride(self) -> int:
        """The factor between the image and the coarsest latent; images are padded to its multiples."""
        return math.prod(layer[-1] for layer in self.encoder if layer[0] in ("patch", "down"))

    @property
    def top_width(self) -> int:
        """Channels of the coarsest state."""
        return int(self.decoder[0][1])

    @property
    def kept(self) -> frozenset[int]:
        """Encoder layers whose outputs the latent blocks see: keys if there are any, else the last of each stride."""
        kinds = [layer[0] for layer in self.encoder]
        ends = [i for i, after in enumerate([*kinds[1:], "down"]) if after == "down"]
        return frozenset([i for i, kind in enumerate(kinds) if kind == "key"] or ends)

    @property
    def latents(self) -> tuple[Layer, ...]:
        """The latent blocks, coarse to fine."""
        return tuple(layer for layer in self.decoder if layer[0] == "latent")


def _cnx(width: int, kernel: int, times: int) -> tuple[Layer, ...]:
    return (("cnx", width, kernel),) * times


_ENCODER_34M = (
    ("patch", 192, 4), *_cnx(192, 7, 6), ("down", 192, 384, 2), *_cnx(384, 7, 6), ("down", 384, 384, 2),
    *_cnx(384, 5, 6), ("down", 384, 384, 2), *_cnx(384, 3, 4), ("down", 384, 384, 2), *_cnx(384, 1, 2),
)  # fmt: skip
_DECODER_34M = (
    ("latent", 384, 16, 1), ("up", 384, 384, 2), *(("latent", 384, 14, 3),) * 2, ("up", 384, 384, 2),
    *(("latent", 384, 12, 5),) * 3, ("up", 384, 384, 2), *(("latent", 384, 10, 7),) * 3, ("up", 384, 192, 2),
    *(("latent", 192, 8, 7),) * 3,
)  # fmt: skip

QRES34M_LOSSLESS = Architecture(_ENCODER_34M, _DECODER_34M, -0.4546259594901961, 3.67572653978347)
QRES34M = Architecture(_ENCODER_34M, (*_DECODER_34M, ("up", 192, 3, 4)), -0.4546259594901961, 3.67572653978347)
# Conditional on lambda; the embedding is small, so that float16 weights take less than 70 MB.
QRES34M_VR = replace(QRES34M, embedding=16, gamma=0.1)
QRES17M = Architecture(
    (
        ("patch", 144, 4), *_cnx(144, 7, 6), ("down", 144, 288, 2), *_cnx(288, 5, 6), ("down", 288, 288, 2),
        *_cnx(288, 3, 4), ("down", 288, 288, 4), *_cnx(288, 1, 2),
    ),
    (
        ("latent", 288, 16, 1), ("nearest", 4), *(("latent", 288, 8, 3),) * 2, ("convt", 288, 288, 3),
        *(("latent", 288, 6, 5),) * 4, ("convt", 288, 144, 5), *(("latent", 144, 4, 7),) * 5, ("up", 144, 3, 4),
    ),
    -0.4356, 3.397893306150187,
)  # fmt: skip
# Ours: the same blocks at about a tenth of the parameters and of the work, no stride-64 level, conditional on lambda.
QRES3M_VR = Architecture(
    (
        ("patch", 64, 4), *_cnx(64, 7, 2), ("down", 64, 128, 2), *_cnx(128, 5, 3), ("down", 128, 192, 2),
        *_cnx(192, 5, 3), ("down", 192, 192, 2), *_cnx(192, 3, 1),
    ),
    (
        ("latent", 192, 16, 1), ("up", 192, 192, 2), *(("latent", 192, 14, 3),) * 2, ("up", 192, 128, 2),
        *(("latent", 128, 12, 5),) * 2, ("up", 128, 64, 2), *(("latent", 64, 8, 5),) * 2, ("up", 64, 3, 4),
    ),
    -0.4546259594901961, 3.67572653978347, embedding=48, gamma=0.1, least=48,
)  # fmt: skip
QRES3M_LOSSLESS = replace(QRES3M_VR, embedding=0, decoder=QRES3M_VR.decoder[:-1])

# QARV: ``cnx`` (width, kernel, ratio), ``down`` (width, out, rate) without a block, ``key`` and ``stop`` without
# parameters: the decoder sees keys, and the encoder is done at stop. ``latent`` (width, z, kernel, ratio, width of the
# features).
QARV_BASE = Architecture(
    (
        ("patch", 192, 4), *(("cnx", 192, 7),) * 7, ("down", 192, 384, 2), *(("cnx", 384, 7),) * 6, ("key",),
        ("cnx", 384, 7), ("down", 384, 512, 2), *(("cnx", 512, 5),) * 6, ("key",),
        ("cnx", 512, 7), ("down", 512, 512, 2), *(("cnx", 512, 3),) * 4, ("key",),
        ("cnx", 512, 7), ("down", 512, 512, 2), *(("cnx", 512, 1),) * 4, ("key",),
    ),
    (
        ("latent", 512, 32, 1, 4, 512), ("cnx", 512, 1, 4), ("up", 512, 512, 2),
        ("cnx", 512, 3, 3), *(("latent", 512, 32, 3, 3, 512),) * 2, ("cnx", 512, 3, 3), ("up", 512, 384, 2),
        ("cnx", 384, 5, 2), *(("latent", 384, 96, 5, 2, 512),) * 3, ("cnx", 384, 5, 2), ("up", 384, 256, 2),
        ("cnx", 256, 7, 1.75), *(("latent", 256, 8, 7, 1.75, 384),) * 3, ("stop",), ("cnx", 256, 7, 1.75),
        ("up", 256, 128, 2), *(("cnx", 128, 7, 1.5),) * 8, ("up", 128, 3, 4),
    ),
    -0.4546259594901961, 3.67572653978347, embedding=256,
)  # fmt: skip
