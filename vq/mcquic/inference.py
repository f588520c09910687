"""The network as the codec runs it on a CPU: the same functions, faster, and in bounded memory.

Tensors are (h, w, C) of one image. Residual blocks work in place on strips of rows that stay in the cache; SiLU is
written straight into the frame that a convolution needs, or fused into the one before; sums are fused into the last
convolution of a block; pixel shuffles are plain copies because rows of their matrices are reordered. With bfloat16 all
of it runs in that type: codes are whole numbers, so a decoder's arithmetic changes the picture by little and nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vq.mcquic.blocks import GDN, Attention, Conv3, Residual, ResidualDown, ResidualUp
from vq.mcquic.network import McQuic
from vq.mcquic.quantizer import LevelDecoder, LevelEncoder

STRIP = 2**14  # positions of a strip of rows
SMALL = 2**26  # parameters of models whose cascade is kept twice
_OPS = torch.ops.mkldnn
Layer = Any  # (h, w, C) -> (h', w', C')


def available(model: McQuic) -> bool:
    """Whether a model can run here this way: on a CPU, with oneDNN built in and switched on."""
    on = torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    return on and hasattr(_OPS, "_convolution_pointwise") and model._encoder[0].weight.device.type == "cpu"


def network(model: McQuic, decoding: torch.dtype) -> Any:
    """What a codec calls ``encode`` and ``decode`` of: the fast form where it can run, else the model itself."""
    if available(model):
        return Network(model, decoding)
    return model if decoding == torch.float32 else _Cast(model, decoding)


class _Cast:
    """A model that decodes in another type, by autocast."""

    def __init__(self, model: McQuic, decoding: torch.dtype) -> None:
        self.encode, self._model, self._decoding = model.encode, model, decoding

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        with torch.autocast(codes[0].device.type, self._decoding):
            return self._model.decode(codes)


class Network:
    """``encode`` and ``decode`` of a model for one image.

    Weights are those when a half first runs. Weights are also kept in oneDNN's layout, but for the cascade of a large
    model: its stages hold four fifths of the weights and see few positions.
    """

    def __init__(self, model: McQuic, decoding: torch.dtype) -> None:
        self._model, self._decoding = model, decoding
        self._small = sum(p.numel() for p in model.parameters()) <= SMALL

    @cached_property
    def _encoder(self) -> tuple[Layer, list[_Level]]:
        make, stage = _Maker(torch.float32, packed=True), _Maker(torch.float32, self._small)
        return make(self._model._encoder), [_Level(level, stage) for level in self._model._quantizer._encoders]

    @cached_property
    def _decoder(self) -> tuple[list[_Restore], Layer]:
        make, stage = _Maker(self._decoding, packed=True), _Maker(self._decoding, self._small)
        return [_Restore(level, stage) for level in self._model._quantizer._decoders], make(self._model._decoder)

    def encode(self, x: Tensor) -> list[Tensor]:
        """As ``McQuic.encode``, of one image."""
        first, levels = self._encoder
        f = first(x[0].permute(1, 2, 0).contiguous())
        found = []
        for level in levels:
            codes, f = level(f)
            found.append(codes)
        return found

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """As ``McQuic.decode``, of one image."""
        levels, last = self._decoder
        f: Tensor | None = None
        for level, vectors in zip(reversed(levels), reversed(self._model._quantizer.lookup(codes)), strict=True):
            f = level(vectors[0].permute(1, 2, 0).to(self._decoding, copy=True), f)
        return last(f).permute(2, 0, 1)[None]


class _Maker:
    """Turns modules into functions of (h, w, C); those that say so overwrite their argument."""

    def __init__(self, dtype: torch.dtype, packed: bool) -> None:
        self.dtype, self.packed = dtype, packed

    def __call__(self, module: nn.Module) -> Layer:
        kinds = {Residual: _Residual, ResidualDown: _Down, ResidualUp: _Up, Attention: _Attention, Conv3: _Conv}
        if type(module) in kinds:
            return kinds[type(module)](module, self)
        assert isinstance(module, nn.Sequential)
        return _Shuffle(module, self) if isinstance(module[-1], nn.PixelShuffle) else _Chain(map(self, module))

    def cast(self, parameter: Tensor) -> Tensor:
        return parameter.detach().to(self.dtype)


class _Chain:
    """One after the other."""

    def __init__(self, layers: Iterator[Layer]) -> None:
        self.layers = list(layers)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of the strips of an image."""
    rows = max(8, STRIP // width // 2 * 2)
    return ((a, min(a + rows, height)) for a in range(0, height, rows))


def _frame(pieces: Sequence[Tensor], top: bool, bottom: bool, silu: bool) -> Tensor:
    """Rows (h, w, C), given in pieces, with the frame a convolution needs.

    Columns are reflected on both sides; a row is added where the image ends (``top``, ``bottom``), and there only.
    """
    height, (_, width, channels) = sum(map(len, pieces)), pieces[0].shape
    out = pieces[0].new_empty(height + top + bottom, width + 2, channels)
    at = int(top)
    for piece in pieces:
        inner = out[at : at + len(piece), 1:-1]
        torch.ops.aten.silu.out(piece, out=inner) if silu else inner.copy_(piece)
        at += len(piece)
    inside = out[:, 1:-1]
    if top:
        inside[0] = inside[2 if height > 1 else 1]
    if bottom:
        inside[-1] = inside[-3 if height > 1 else -2]
    out[:, 0] = out[:, 2 if width > 1 else 1]
    out[:, -1] = out[:, -3 if width > 1 else -2]
    return out


class _Conv:
    """A 3x3 convolution; on a whole image by calling it, on what has a frame by ``framed``."""

    def __init__(self, conv: Conv3, make: _Maker, rows: Tensor | None = None) -> None:
        weight, bias = make.cast(conv.weight), make.cast(conv.bias)
        self.stride = list(conv.stride)
        weight, self.bias = (weight, bias) if rows is None else (weight[rows], bias[rows])
        options = (self.stride, [1, 1], 1)
        self.weight = _OPS._reorder_convolution_weight(weight, [0, 0], *options) if make.packed else weight

    def framed(self, x: Tensor, silu: bool = False, add: Tensor | None = None) -> Tensor:
        """(h + 2, w + 2, C) -> (h, w, C') (half of that with stride 2), then SiLU or the sum with ``add``."""
        options = (self.weight, self.bias, [0, 0], self.stride, [1, 1], 1)
        if add is not None:
            out = _OPS._convolution_pointwise.binary(_nchw(x), _nchw(add), *options, "add", 1.0, None, [], None)
        else:
            out = _OPS._convolution_pointwise(_nchw(x), *options, "swish" if silu else "none", [], "")
        return out[0].permute(1, 2, 0).contiguous()

    def __call__(self, x: Tensor, silu: bool = False, add: Tensor | None = None) -> Tensor:
        """With SiLU before, if asked, and the sum with ``add`` after it."""
        return self.framed(_frame([x], True, True, silu), add=add)


def _nchw(x: Tensor) -> Tensor:
    return x.permute(2, 0, 1)[None]


class _Residual:
    """A residual block; it overwrites its input."""

    def __init__(self, block: Residual, make: _Maker) -> None:
        self.first, self.second = _Conv(block._branch[1], make), _Conv(block._branch[3], make)

    def __call__(self, x: Tensor) -> Tensor:
        height, above = len(x), x[:0]
        for a, b in _strips(*x.shape[:2]):
            top, bottom = a == 0, b == height
            before, after = above, x[a : min(b + 2, height)]  # the rows as they were
            hidden = self.first.framed(_frame([before, after], top, b + 1 >= height, silu=True), silu=True)
            above = x[max(b - 2, 0) : b].clone() if not bottom else above
            frame = _frame([hidden], top, bottom, silu=False)
            x[a:b] = self.second.framed(frame, add=x[a:b])
        return x


class _Down:
    """Half the sides."""

    def __init__(self, block: ResidualDown, make: _Maker) -> None:
        self.first, self.second = _Conv(block._branch[1], make), _Conv(block._branch[3], make)
        self.skip, self.normalise = _Conv(block._skip, make), _Normalise(block._branch[2], make)

    def __call__(self, x: Tensor) -> Tensor:
        branch, skip = [], []
        for a, b in _strips(*x.shape[:2]):
            rows = [x[max(a - 1, 0) : b + 1 if b % 2 else b]]
            last = b == len(x) and len(x) % 2 == 1
            branch.append(self.normalise(self.first.framed(_frame(rows, a == 0, last, silu=True))))
            skip.append(self.skip.framed(_frame(rows, a == 0, last, silu=False)))
        return self.second(torch.cat(branch), add=torch.cat(skip))


class _Up:
    """Twice the sides, in strips of the larger rows."""

    def __init__(self, block: ResidualUp, make: _Maker) -> None:
        self.branch, self.skip = _Shuffle(block._branch[1], make), _Shuffle(block._skip, make)
        self.normalise, self.last = _Normalise(block._branch[2], make), _Conv(block._branch[3], make)

    def __call__(self, x: Tensor) -> Tensor:
        (height, width, _), out = x.shape, self.skip(x)
        for a, b in _strips(2 * height, 2 * width):
            low, high = max(a // 2 - 1, 0), min(b // 2 + 1, height)  # rows of x whose pixels the strip sees
            wide = self.normalise(self.branch(x, low, high, silu=True))
            seen = wide[max(a - 1, 0) - 2 * low : min(b + 1, 2 * height) - 2 * low]
            frame = _frame([seen], a == 0, b == 2 * height, silu=False)
            out[a:b] = self.last.framed(frame, add=out[a:b])
        return out


class _Shuffle:
    """A 3x3 convolution and a pixel shuffle, (h, w, C) -> (2 h, 2 w, C')."""

    def __init__(self, block: nn.Sequential, make: _Maker) -> None:
        self.out = block[0].out_channels // 4
        self.conv = _Conv(block[0], make, torch.arange(4 * self.out).view(self.out, 4).T.reshape(-1))

    def __call__(self, x: Tensor, low: int = 0, high: int | None = None, silu: bool = False) -> Tensor:
        """The pixels below rows low to high of x."""
        high = len(x) if high is None else high
        width, out = x.shape[1], x.new_empty(2 * (high - low), 2 * x.shape[1], self.out)
        shuffled = out.view(high - low, 2, width, 2, self.out)
        for start, stop in _strips(high - low, 2 * width):
            a, b = low + start, low + stop
            frame = _frame([x[max(a - 1, 0) : b + 1]], a == 0, b == len(x), silu)
            pixels = self.conv.framed(frame).view(b - a, width, 2, 2, self.out)
            shuffled[start:stop] = pixels.transpose(1, 2)
        return out


class _Normalise:
    """GDN or its inverse; it overwrites its input."""

    def __init__(self, block: GDN, make: _Maker) -> None:
        gamma, beta = block.matrix()
        self.gamma = _OPS._reorder_linear_weight(make.cast(gamma).contiguous(), STRIP)
        self.beta, self.inverse = make.cast(beta), block.inverse

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.view(-1, x.shape[-1])
        for part in rows.split(STRIP):
            norm = _OPS._linear_pointwise(part * part, self.gamma, self.beta, "none", [], "")
            part.mul_(norm.sqrt_() if self.inverse else norm.rsqrt_())
        return x


class _Attention:
    """An attention block; it overwrites its input."""

    def __init__(self, block: Attention, make: _Maker) -> None:
        *side, last = block._sideBranch
        self.main, self.side = _Chain(map(make, block._mainBranch)), _Chain(map(make, side))
        self.weight, self.bias = make.cast(last.weight).flatten(1), make.cast(last.bias)

    def __call__(self, x: Tensor) -> Tensor:
        main, side = self.main(x.clone()), self.side(x.clone())
        for whole, part, mask in zip(x.view(-1, x.shape[-1]).split(STRIP), main.view(-1, x.shape[-1]).split(STRIP),
                                     side.view(-1, x.shape[-1]).split(STRIP), strict=True):  # fmt: skip
            whole.addcmul_(part, torch.sigmoid(F.linear(mask, self.weight, self.bias)))
        return x


class _Level:
    """Codes of a level, and what is left for the next one."""

    def __init__(self, level: LevelEncoder, make: _Maker) -> None:
        self.stage, self.head = make(level._latentStageEncoder), make(level._quantizationHead)
        self.latent = None if level._latentHead is None else make(level._latentHead)
        self.quantizer = level._quantizer

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.stage(x)
        codes = self.quantizer.codes(_nchw(self.head(z.clone())))
        if self.latent is None:
            return codes, z
        return codes, self.latent(z) - self.quantizer.lookup(codes)[0].permute(1, 2, 0)


class _Restore:
    """Features from codewords, which it overwrites, and those of the coarser level."""

    def __init__(self, level: LevelDecoder, make: _Maker) -> None:
        self.head, self.restore = make(level._dequantizationHead), make(level._restoreHead)
        self.side = None if level._sideHead is None else make(level._sideHead)

    def __call__(self, vectors: Tensor, coarser: Tensor | None) -> Tensor:
        f = self.head(vectors.contiguous())
        if self.side is not None and coarser is not None:
            f += self.side(coarser)
        return self.restore(f)
