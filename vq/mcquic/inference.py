"""The network as the codec runs it on a CPU: the same functions, faster, and in bounded memory.

Tensors are (h, w, C) of one image. Blocks work on strips of rows that stay in the cache, residual ones in place; wide
convolutions of float32 take half the multiplications (``winograd``) and write SiLU, sums and shuffled pixels where the
next one wants them. With bfloat16 all of it runs in that type: codes are whole numbers, so a decoder's arithmetic
changes the picture by little and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import onednn
from core.modules import bias_of, of_kind
from vq.mcquic import strips, winograd
from vq.mcquic.blocks import GDN, Attention, Conv3, Residual, ResidualDown, ResidualUp
from vq.mcquic.network import McQuic
from vq.mcquic.quantizer import LevelDecoder, LevelEncoder
from vq.mcquic.strips import add_last, around

WIDE = 96  # channels from which minimal filtering saves time
SMALL = 2**26  # parameters of models whose cascade is kept twice
Layer = Any  # (h, w, C) -> (h', w', C')


def available(model: McQuic, decoding: torch.dtype = torch.float32) -> bool:
    """Whether a model can run here this way: on a CPU, with oneDNN in the type it decodes in."""
    return onednn.available() and model.device.type == "cpu" and onednn.takes(decoding)


def network(model: McQuic, decoding: torch.dtype) -> Any:
    """What a codec calls ``encode`` and ``decode`` of: the fast form where it can run, else the model itself."""
    if available(model, decoding):
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
        levels = self._model._quantizer._encoders
        stages = [_Level(level, self._maker(torch.float32, i)) for i, level in enumerate(levels)]
        return _Maker(torch.float32)(self._model._encoder), stages

    @cached_property
    def _decoder(self) -> tuple[list[_Restore], Layer]:
        levels = self._model._quantizer._decoders
        stages = [_Restore(level, self._maker(self._decoding, i)) for i, level in enumerate(levels)]
        return stages, _Maker(self._decoding)(self._model._decoder)

    def _maker(self, dtype: torch.dtype, level: int) -> _Maker:
        return _Maker(dtype, packed=self._small, large=level == 0)

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

    def __init__(self, dtype: torch.dtype, packed: bool = True, large: bool = True) -> None:
        """``packed``: weights in oneDNN's layout; ``large``: there are more positions than weights to read."""
        self.dtype, self.packed = dtype, packed
        self.filtering = packed and large and dtype == torch.float32  # for which bfloat16 is too coarse

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


def _nchw(x: Tensor) -> Tensor:
    return x.permute(2, 0, 1)[None]


def _convolution(conv: Conv3, make: _Maker, rows: Tensor | None = None) -> _Direct | winograd.Convolution:
    """A 3x3 convolution of what has a frame, (h + 2, w + 2, C) to ``out`` (h, w, C'), by the faster algorithm."""
    weight, bias = make.cast(conv.weight), make.cast(bias_of(conv))
    weight, bias = (weight, bias) if rows is None else (weight[rows], bias[rows])
    if make.filtering and conv.stride == (1, 1) and min(weight.shape[:2]) >= WIDE:
        return winograd.Convolution(weight, bias)
    return _Direct(weight, bias, list(conv.stride), make.packed)


class _Direct:
    """A 3x3 convolution by its definition."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: list[int], packed: bool) -> None:
        self.convolution = onednn.Convolution(weight, bias, stride=stride, packed=packed)

    def __call__(self, x: Tensor, out: Tensor, silu: bool = False, add: bool = False) -> None:
        """(h + 2, w + 2, C) to ``out`` (h, w, C'), half of that with stride 2; then SiLU, or added to ``out``."""
        made = self.convolution(_nchw(x), "silu" if silu else "", _nchw(out) if add else None)
        out.copy_(made[0].permute(1, 2, 0).reshape(out.shape))


class _Conv:
    """A 3x3 convolution of a whole image."""

    def __init__(self, conv: Conv3, make: _Maker) -> None:
        self.conv, self.stride, self.out = _convolution(conv, make), conv.stride[0], conv.out_channels

    def __call__(self, x: Tensor) -> Tensor:
        (height, width, _), s = x.shape, self.stride
        out = x.new_empty(-(-height // s), -(-width // s), self.out)
        for a, b in strips.spans(len(out), s * out[0].numel()):
            self.conv(around(x, s * a, min(s * b, height)), out[a:b])
        return out


class _Residual:
    """A residual block; it overwrites its input."""

    def __init__(self, block: Residual, make: _Maker) -> None:
        self.first, self.second = (_convolution(of_kind(block._branch[i], Conv3), make) for i in (1, 3))

    def __call__(self, x: Tensor) -> Tensor:
        def hidden(p: int, q: int, rows: Tensor) -> None:
            self.first(around(x, p, q, silu=True), rows, silu=True)

        add_last(x, hidden, self.second)
        return x


class _Down:
    """Half the sides."""

    def __init__(self, block: ResidualDown, make: _Maker) -> None:
        self.first, self.last = (_convolution(of_kind(block._branch[i], Conv3), make) for i in (1, 3))
        self.skip, self.normalise = _convolution(block._skip, make), _Normalise(of_kind(block._branch[2], GDN), make)

    def __call__(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape
        out = x.new_empty(-(-height // 2), -(-width // 2), channels)

        def hidden(p: int, q: int, rows: Tensor) -> None:
            frame = around(x, 2 * p, min(2 * q, height))
            self.skip(frame, out[p:q])
            self.first(F.silu(frame, inplace=True), rows)
            self.normalise(rows)

        add_last(out, hidden, self.last, stride=2)
        return out


class _Up:
    """Twice the sides."""

    def __init__(self, block: ResidualUp, make: _Maker) -> None:
        _, up, normalise, last = block._branch
        self.first, self.skip = _Shuffle(of_kind(up, nn.Sequential), make), _Shuffle(block._skip, make)
        self.normalise, self.last = _Normalise(of_kind(normalise, GDN), make), _convolution(of_kind(last, Conv3), make)

    def __call__(self, x: Tensor) -> Tensor:
        out = x.new_empty(2 * len(x), 2 * x.shape[1], self.skip.out)

        def hidden(p: int, q: int, rows: Tensor) -> None:
            frame = around(x, p // 2, q // 2)
            self.skip.framed(frame, out[p:q])
            self.first.framed(F.silu(frame, inplace=True), rows)
            self.normalise(rows)

        add_last(out, hidden, self.last)
        return out


class _Shuffle:
    """A 3x3 convolution and a pixel shuffle, (h, w, C) -> (2 h, 2 w, C')."""

    def __init__(self, block: nn.Sequential, make: _Maker) -> None:
        conv = of_kind(block[0], Conv3)
        self.out = conv.out_channels // 4
        self.conv = _convolution(conv, make, torch.arange(4 * self.out).view(self.out, 4).T.reshape(-1))

    def __call__(self, x: Tensor) -> Tensor:
        out = x.new_empty(2 * len(x), 2 * x.shape[1], self.out)
        for a, b in strips.spans(len(x), x[0].numel()):
            self.framed(around(x, a, b), out[2 * a : 2 * b])
        return out

    def framed(self, x: Tensor, out: Tensor) -> None:
        """(h + 2, w + 2, C) to ``out`` (2 h, 2 w, C') with any strides."""
        height, width, _ = out.shape
        self.conv(x, out.view(height // 2, 2, width // 2, 2, self.out).transpose(1, 2))


def _product(weight: Tensor, bias: Tensor, make: _Maker) -> onednn.Linear:
    """A matrix product of the pixels (n, C) -> (n, C')."""
    return onednn.Linear(make.cast(weight), make.cast(bias), strips.STRIP // len(weight))


class _Normalise:
    """GDN or its inverse; it overwrites its input, (h, w, C) with any strides."""

    def __init__(self, block: GDN, make: _Maker) -> None:
        self.product, self.inverse = _product(*block.matrix(), make), block.inverse

    def __call__(self, x: Tensor) -> None:
        norm = self.product((x * x).view(-1, x.shape[-1])).view(x.shape)
        x.mul_(norm.sqrt_() if self.inverse else norm.rsqrt_())


class _Attention:
    """An attention block; it overwrites its input."""

    def __init__(self, block: Attention, make: _Maker) -> None:
        *side, last = block._sideBranch
        self.main, self.side = _Chain(map(make, block._mainBranch)), _Chain(map(make, side))
        mask = of_kind(last, nn.Conv2d)
        self.mask = _product(mask.weight.flatten(1), bias_of(mask), make)

    def __call__(self, x: Tensor) -> Tensor:
        main, side = self.main(x.clone()), self.side(x.clone())
        pixels = strips.STRIP // x.shape[-1]
        flat = (rows.view(-1, x.shape[-1]).split(pixels) for rows in (x, main, side))
        for whole, part, mask in zip(*flat, strict=True):
            whole.addcmul_(part, self.mask(mask).sigmoid_())
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
