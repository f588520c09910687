"""The generator of ``rec.randomness`` from a compiled kernel: the same bits in a fraction of the time.

Searching for a sample draws a few numbers for every latent, path and candidate, which is most of its work in NumPy.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core import kernels
from rec.quantiles import coarse_normal_table

if TYPE_CHECKING:
    from rec.randomness import Singles

LEAST = 256  # numbers: a call for fewer takes longer than NumPy

_Rows = NDArray[np.uint64]


@cache
def usable() -> bool:
    """Whether the kernel is there."""
    return kernels.library("philox") is not None


def levels(key: tuple[int, int], blocks: _Rows, paths: _Rows, count: int) -> Singles:
    """``rec.randomness.coarse_normals`` of uint64 blocks and paths of one shape."""
    return _filled("philox_levels", key, blocks, paths, count, coarse_normal_table())


def signs(key: tuple[int, int], blocks: _Rows, paths: _Rows, count: int) -> Singles:
    """``rec.randomness.signs`` of uint64 blocks and paths of one shape, as they are."""
    return _filled("philox_signs", key, blocks, paths, count)


def _filled(name: str, key: tuple[int, int], blocks: _Rows, paths: _Rows, count: int, *tables: Singles) -> Singles:
    library = kernels.library("philox")
    assert library is not None, "ask usable() first"
    out: Singles = np.empty((*blocks.shape, count), dtype=np.float32)
    rows = [np.ascontiguousarray(row, dtype=np.uint64) for row in (blocks, paths)]
    inputs, outputs = ([ctypes.c_void_p(a.ctypes.data) for a in arrays] for arrays in (rows, [*tables, out]))
    sizes = ctypes.c_int64(blocks.size), ctypes.c_int64(count), *map(ctypes.c_uint32, key)
    getattr(library, name)(*inputs, *sizes, *outputs)
    return out
