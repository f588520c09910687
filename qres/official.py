"""The file formats of the authors' code, written for comparison of sizes; nothing here reads such files.

One rANS stream for each latent block under 64 tables of 16 bits: of QRes-VAE in a pickled list, of QARV after a header
of 51 bytes. What this follows is github.com/duanzhiihao/lossy-vae with compressai 1.2.8; strings are equal to the
official ones byte for byte. The tables of QARV are data (``qarv_tables.txt``), so that no libm changes them.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import official_rans
from core.codec import Image, TesseraError
from core.official_rans import PRECISION, Operation
from qres.blocks import Gaussian, Latent
from qres.generate import lambda_condition, to_tensor
from qres.network import QResVAE
from qres.qarv import QARVModel

SCALES = torch.linspace(math.log(0.1), math.log(20), 64).exp()
QARV_SCALES = torch.linspace(math.log(0.11), math.log(20), 64).exp()
TAILS = 6.109410204869  # standard deviations beyond which 1e-9 of a normal's mass lies
Cdfs = tuple[NDArray[np.int64], ...]


@cache
def cdf_tables() -> Cdfs:
    """The cumulative frequencies of each scale, for symbols -c..c and the escape: 2 c + 3 integers from 0 to 65536."""
    return tuple(_cdf(float(scale)) for scale in SCALES)


@cache
def qarv_cdf_tables() -> Cdfs:
    """Those of QARV, from the file: a line for each scale, the frequencies of symbols -c..c and of the escape."""
    lines = Path(__file__).with_name("qarv_tables.txt").read_text().splitlines()
    return tuple(np.cumsum([0, *map(int, line.split())]) for line in lines)


def _cdf(scale: float) -> NDArray[np.int64]:
    reach = math.ceil(scale * TAILS)
    v = torch.arange(-reach, reach + 1, dtype=torch.float32).abs()
    mass = _below((0.5 - v) / scale) - _below((-0.5 - v) / scale)
    tail = 2 * _below(torch.tensor([-0.5 - reach], dtype=torch.float32) / scale)
    scaled = torch.cat([mass, tail]).double().numpy() * 2**PRECISION
    counts = np.floor(scaled + 0.5).astype(np.int64)
    return official_rans.cumulative(counts)


def _below(t: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-t / math.sqrt(2))


def string(symbols: NDArray[np.int64], scales: NDArray[np.float32], qarv: bool = False) -> bytes:
    """One block's integers under its scales, both flat in the order channel, row, column."""
    borders = (QARV_SCALES if qarv else SCALES)[:-1]
    index = torch.bucketize(torch.from_numpy(scales).clamp_min(0.11), borders).tolist()
    lists = _lists(qarv)
    return official_rans.encode(
        [op for s, i in zip(symbols.tolist(), index, strict=True) for op in _operations(s, lists[i])]
    )


def _operations(symbol: int, cdf: list[int]) -> list[Operation]:
    count = len(cdf) - 2  # symbols besides the escape
    v = symbol + count // 2
    if 0 <= v < count:
        return [(cdf[v], cdf[v + 1] - cdf[v], PRECISION)]
    raw = -2 * v - 1 if v < 0 else 2 * (v - count)
    digits = [raw >> shift & 15 for shift in range(0, max(raw.bit_length(), 1), 4)] if raw else []
    length = [15] * (len(digits) // 15) + [len(digits) % 15]
    escape = (cdf[count], cdf[count + 1] - cdf[count], PRECISION)
    return [escape, *((digit, 1, 4) for digit in length + digits)]


@cache
def _lists(qarv: bool) -> tuple[list[int], ...]:
    return tuple(cdf.tolist() for cdf in (qarv_cdf_tables() if qarv else cdf_tables()))


@torch.inference_mode()
def file(model: QResVAE, image: Image) -> bytes:
    """The file of a uint8 image (H, W, 3) at the model's lambda, as published."""
    x, condition, strings = to_tensor(model, image), lambda_condition(model, None), []
    features, qarv = model.features(x, condition), isinstance(model, QARVModel)

    def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
        symbols = torch.round(block.infer(f, features[f.shape[2]], condition) - prior.mean)
        flat = symbols.flatten().to(torch.int64).cpu().numpy()
        strings.append(string(flat, prior.scale.flatten().cpu().numpy(), qarv))
        return symbols + prior.mean

    shape = (1, x.shape[2] // model.stride, x.shape[3] // model.stride)
    model.top_down(shape, visit, condition)
    if qarv:
        return qarv_header(image.shape[:2], model.lmb, shape, strings) + b"".join(strings)
    state = (1, model.arch.top_width, *shape[1:])
    return pickle.dumps([*([s] for s in strings), state, image.shape[:2]], protocol=4)


def qarv_header(size: Sequence[int], lmb: float, shape: Sequence[int], strings: Sequence[bytes]) -> bytes:
    """Height and width, lambda, the shape of the coarsest latent, then the streams' number and lengths."""
    if max(size) > 65535:
        raise TesseraError(f"official files hold pictures of at most 65535 pixels on a side, not {size[1]}x{size[0]}.")
    lengths = [len(s) for s in strings]
    return struct.pack(f"<2Hf3HB{len(strings)}I", *size, lmb, *shape, len(strings), *lengths)
