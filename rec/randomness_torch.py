"""The generator of ``rec.randomness`` on tensors, for a GPU: the same bits, word for word.

Words are held in int64, whose products wrap modulo 2**64 like those of unsigned numbers; shifts are masked because they
carry the sign. Numbers other than signs come from the same tables.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from rec.quantiles import coarse_normal_table
from rec.randomness import MULTIPLIERS, ROUNDS, WEYL, Key

_MASK = 0xFFFFFFFF


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """Philox4x32-10 of four int64 tensors of 32-bit words that broadcast, under one key: int64 (4, ...)."""
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    for r in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = (p1 >> 32 & _MASK) ^ c1 ^ (key[0] + r * WEYL[0] & _MASK)
        c2 = (p0 >> 32 & _MASK) ^ c3 ^ (key[1] + r * WEYL[1] & _MASK)
        c1, c3 = p1 & _MASK, p0 & _MASK
    return torch.stack((c0, c1, c2, c3))


def coarse_normals(key: Key, blocks: Tensor, paths: Tensor, count: int) -> Tensor:
    """``rec.randomness.coarse_normals`` of int64 tensors: float32 in their broadcast shape, then ``count``."""
    words = _words(key, blocks, paths, -(-count // 8))
    halves = torch.stack((words & 0xFFFF, words >> 16), dim=-1).flatten(-3)[..., :count]
    return _table(words.device)[halves]


def signs(key: Key, blocks: Tensor, paths: Tensor, count: int) -> Tensor:
    """``rec.randomness.signs`` of int64 tensors, paths being taken modulo 2**63."""
    words = _words(key, blocks, paths | torch.iinfo(torch.int64).min, -(-count // 128))
    bits = words[..., None] >> torch.arange(32, device=words.device) & 1
    return bits.flatten(-3)[..., :count].float() * 2 - 1


def _words(key: Key, blocks: Tensor, paths: Tensor, groups: int) -> Tensor:
    """The words of the first counters of each block and path, int64 (..., groups, 4)."""
    blocks, paths = blocks[..., None], paths[..., None]
    group = torch.arange(groups, device=paths.device)
    return philox((group, blocks, paths & _MASK, paths >> 32 & _MASK), key.words).movedim(0, -1)


@cache
def _table(device: torch.device) -> Tensor:
    return torch.from_numpy(coarse_normal_table()).to(device)
