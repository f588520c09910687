"""Previews of a stream: its first latent blocks decoded, the rest at the means of their priors.

The one range-coded payload of a stream goes from coarse to fine, so a file that is cut anywhere is still a picture.
A range coder's payload is one long binary fraction: whatever followed the cut, the fraction lies between the bytes that
are here followed by zeros and by ones. Symbols that come out the same for both do not depend on what is missing.

Everything a preview shows before the whole file is there is unverified: the checksums of a stream cover all of it.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core import bitstream
from core.bitstream import BitstreamError, DecodeMismatch
from core.codec import Image, TesseraError
from qres.blocks import Gaussian, Latent
from qres.codec import QResCodec
from qres.generate import Given, Shape, code_bits, sample, to_images

Walk = Callable[..., Tensor]  # (the network's own top_down, shape, visit, condition) -> the last state

_CRC = slice(6, 10)  # of a stream's header, see docs/bitstream.md
_FILL = 16  # bytes after a cut; 2**-128 of the coder's interval is below anything it tells apart


@dataclass(frozen=True)
class Preview:
    """A picture decoded from the beginning of a stream."""

    levels: int  # latent blocks that are known in full
    bits: float  # what they cost, by the model's estimate; the lossless model's pixels are not counted
    bytes: int | None  # the shortest beginning of the file that holds them, header included; None: not asked for
    image: Image


@dataclass(frozen=True)
class _Visit:
    """What passed at a latent block while a stream was decoded."""

    block: Latent
    f: Tensor
    prior: Gaussian
    z: Tensor

    @property
    def bits(self) -> float:
        return code_bits(torch.round(self.z - self.prior.mean), self.prior)


@dataclass
class _Reading:
    """A stream, as far as it was decoded."""

    visits: list[_Visit]
    shape: Shape = (0, 0, 0)  # as long as the decoder has not begun
    condition: Tensor | None = None
    image: Image | None = None  # when the stream was decoded to its end and its checks held


class _Enough(Exception):
    """Nothing more is needed of the stream."""


class _Tapped:
    """A stand-in for the network of a codec that goes down the decoder in another way."""

    def __init__(self, network: Any, top_down: Walk) -> None:
        self._network, self._walk = network, top_down

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def top_down(self, shape: Shape, visit: Any, condition: Tensor | None = None) -> Tensor:
        return self._walk(self._network.top_down, shape, visit, condition)


def decompress(codec: QResCodec, stream: bytes, levels: int | None = None) -> Image:
    """The picture of a whole stream from its first ``levels`` latent blocks (default: all, and then exactly).

    Raises ``BitstreamError`` as ``codec.decompress``, ``TesseraError`` for levels the model does not have.
    """
    if levels is None:
        return codec.decompress(stream)
    if not 0 <= levels <= len(codec.model.arch.latents):
        raise TesseraError(f"levels={levels}: this model has 0 to {len(codec.model.arch.latents)} latent blocks.")
    reading = _read(codec, stream, levels)
    return _picture(codec, stream, reading, [v.z for v in reading.visits[:levels]])


def progressive(codec: QResCodec, stream: bytes, prefixes: bool = True) -> list[Preview]:
    """Previews of a whole stream with its first 0, 1, ... latent blocks, the last one being the decoded picture.

    ``prefixes`` also finds the bytes of the file each needs, by entropy decoding what cut files hold.
    """
    whole = _read(codec, stream)
    assert whole.image is not None
    out, bits = [], 0.0
    sizes = _prefixes(codec, stream, whole) if prefixes else [None] * len(whole.visits)
    last = len(whole.visits) if codec.pixel_tables is None else -1  # the lossless model goes on with pixels
    empty = _header(stream) + _lambda_bytes(codec) if prefixes else None
    for k, size in enumerate([empty, *sizes]):
        bits += whole.visits[k - 1].bits if k else 0.0
        known = [v.z for v in whole.visits[:k]]
        image = whole.image if k == last else _picture(codec, stream, whole, known)
        out.append(Preview(k, bits, size, image))
    if codec.pixel_tables is not None:
        out.append(Preview(len(whole.visits), bits, len(stream) if prefixes else None, whole.image))
    return out


def preview(codec: QResCodec, data: bytes) -> Preview:
    """The picture in the beginning of a stream, cut anywhere after its header; the best one if it is whole.

    Only blocks that are here in full are used: a block's symbols are in no order that a part of them would show.
    ``BitstreamError`` when not even the header is here, or the stream is another method's.
    """
    try:
        reading = _read(codec, data)
        assert reading.image is not None
        return Preview(len(reading.visits), sum(v.bits for v in reading.visits), len(data), reading.image)
    except DecodeMismatch:  # whole and intact, but not decodable here
        raise
    except BitstreamError:
        if len(data) < _CRC.stop:
            raise
        sealed = _seal(data)
        head = bitstream.unpack(sealed, codec.fingerprint)
    if len(head.chunks[-1]) < _lambda_bytes(codec):
        raise BitstreamError("the stream ends before it says which lambda it was made for: more of the file is needed")
    reading = _partial(codec, _seal(data + bytes(_FILL)), 8 * len(data))
    if not min(reading.shape):
        raise BitstreamError("the stream does not say what it holds: it is damaged")
    high = _replay(codec, _seal(data + b"\xff" * _FILL), reading.visits)
    pairs = zip(reading.visits, high, strict=False)
    whole = [v for v, _ in itertools.takewhile(lambda pair: torch.equal(pair[0].z, pair[1]), pairs)]
    image = _picture(codec, sealed, reading, [v.z for v in whole])
    return Preview(len(whole), sum(v.bits for v in whole), len(data), image)


# -- reading --------------------------------------------------------------------------------------------------------


def _read(codec: QResCodec, stream: bytes, levels: int | None = None) -> _Reading:
    """Decode a stream and note what passes; stop after ``levels`` blocks if that is a number."""
    reading = _Reading([])

    def top_down(walk: Any, shape: Shape, visit: Any, condition: Tensor | None) -> Tensor:
        reading.shape, reading.condition = shape, condition
        if levels == 0:
            raise _Enough

        def note(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            z = visit(i, block, f, prior)
            reading.visits.append(_Visit(block, f, prior, z))
            if i + 1 == levels:
                raise _Enough
            return z

        return walk(shape, note, condition)

    with contextlib.suppress(_Enough):
        reading.image = _tapped(codec, top_down).decompress(stream)
    return reading


def _partial(codec: QResCodec, stream: bytes, available: int) -> _Reading:
    """Decode a stream whose end is made up, until the blocks cost clearly more than the ``available`` bits."""
    reading = _Reading([])

    def top_down(walk: Any, shape: Shape, visit: Any, condition: Tensor | None) -> Tensor:
        reading.shape, reading.condition = shape, condition
        spent = 0.0

        def note(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            nonlocal spent
            if spent > 1.5 * available + 1000:  # rare symbols cost the coder less than the model thinks
                raise _Enough
            reading.visits.append(_Visit(block, f, prior, visit(i, block, f, prior)))
            spent += reading.visits[-1].bits
            return reading.visits[-1].z

        return walk(shape, note, condition)

    with contextlib.suppress(_Enough, TesseraError):  # made-up symbols lead anywhere, also to impossible ones
        _tapped(codec, top_down).decompress(stream)
    return reading


@torch.inference_mode()
def _replay(codec: QResCodec, stream: bytes, visits: Sequence[_Visit]) -> list[Tensor]:
    """The latents in a stream whose priors are known already, without running the network; fewer if it is damaged."""
    out: list[Tensor] = []

    def top_down(walk: Any, shape: Shape, visit: Any, condition: Tensor | None) -> Tensor:
        for i, v in enumerate(visits):
            out.append(visit(i, v.block, v.f, v.prior))
            if not torch.equal(out[-1], v.z):
                break
        raise _Enough

    with contextlib.suppress(_Enough, BitstreamError):
        _tapped(codec, top_down).decompress(stream)
    return out


def _tapped(codec: QResCodec, top_down: Walk) -> QResCodec:
    """The same codec with another way down the decoder, whatever it runs its network with."""
    twin = copy.copy(codec)
    for name, part in vars(codec).items():
        if hasattr(part, "top_down"):
            setattr(twin, name, _Tapped(part, top_down))
    return twin


def _picture(codec: QResCodec, stream: bytes, reading: _Reading, known: Given) -> Image:
    """The picture of known latents, with the lambda that the stream was made for."""
    declared = bitstream.unpack(stream, None)
    x = sample(codec.model, reading.shape, 0.0, given=known, condition=reading.condition)
    return to_images(x, declared.height, declared.width, declared.channels)[0]


# -- bytes ----------------------------------------------------------------------------------------------------------


def _seal(data: bytes) -> bytes:
    """A stream that was cut or extended with the checksum it would have."""
    head = data[: _CRC.start]
    return head + zlib.crc32(data[_CRC.stop :], zlib.crc32(head)).to_bytes(4, "little") + data[_CRC.stop :]


def _header(stream: bytes) -> int:
    """Bytes before the last (or only) chunk."""
    return len(stream) - len(bitstream.unpack(stream, None).chunks[-1])


def _lambda_bytes(codec: QResCodec) -> int:
    """Bytes of the payload that name lambda, before the first block."""
    return 0 if codec.model.embedding is None else 2


def _prefixes(codec: QResCodec, stream: bytes, whole: _Reading) -> list[int]:
    """For every block, the fewest bytes of the file that determine it and those before it."""
    total = sum(v.bits for v in whole.visits)
    out, low, expected = [], _header(stream), 0.0
    for k, visit in enumerate(whole.visits, start=1):
        expected += visit.bits
        high = len(stream)
        guess = low + round((high - low) * visit.bits / max(total - expected + visit.bits, 1.0))
        for probe in (guess + 64, guess + 8, guess - 8, guess - 64):
            if low < probe < high:
                low, high = (low, probe) if _holds(codec, stream[:probe], whole.visits[:k]) else (probe + 1, high)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if _holds(codec, stream[:middle], whole.visits[:k]) else (middle + 1, high)
        out.append(low)
    return out


def _holds(codec: QResCodec, data: bytes, visits: Sequence[_Visit]) -> bool:
    """Whether the beginning of a stream determines the latents of these blocks."""
    for fill in (b"\0", b"\xff"):
        found = _replay(codec, _seal(data + fill * _FILL), visits)
        if len(found) < len(visits) or not torch.equal(found[-1], visits[-1].z):
            return False
    return True
