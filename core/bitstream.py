"""The container every learned stream of the suite travels in; byte by byte in ``docs/bitstream.md``.

A header of 16 bytes (one chunk, sides below 128) names the method and checkpoint, gives the image size, and guards
the stream twice: a CRC32 over every byte, and a check of the decoded symbols, because no entropy coder notices by
itself that the data or the floats behind its tables are not the encoder's.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.codec import TesseraError

MAGIC = 0xE5
VERSION = 1
MAX_SIDE = 65535  # pixels
MAX_PIXELS = 2**28
MAX_CHUNKS = 65535

_GREY, _SEVERAL = 1, 2  # flags, in the low nibble of the second byte
_CRC = slice(6, 10)  # the one field the CRC32 does not cover
_FIXED = 14  # bytes before the varints: magic, version and flags, fingerprint, CRC32, symbol check
_FOREIGN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8": "a JPEG picture",
    b"RIFF": "a WebP picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\x00\x00\x00": "a JPEG 2000, JPEG XL, AVIF or HEIC picture",
    b"\x80\x04": "a Python pickle",
    b"\x1f\x8b": "a gzip file",
}


class BitstreamError(TesseraError):
    """A stream that cannot be decoded: damaged, truncated, foreign, or made by another method or checkpoint."""


class DecodeMismatch(BitstreamError):
    """The decoded symbols are not the encoded ones although the stream is intact."""


@dataclass(frozen=True)
class Stream:
    """What a stream says: sizes in pixels, ``channels`` 1 or 3, entropy-coded ``chunks``, check of the symbols."""

    fingerprint: bytes  # 4 bytes naming method and checkpoint
    height: int
    width: int
    channels: int
    chunks: tuple[bytes, ...]
    symbols_check: int  # uint32, SymbolCheck.digest()

    def only_chunk(self, least: int = 0) -> bytes:
        """The chunk of a method that writes one, of ``least`` bytes or more; ``BitstreamError`` for anything else."""
        if len(self.chunks) != 1 or len(self.chunks[0]) < least:
            raise BitstreamError("the stream has no payload of this method: it is damaged")
        return self.chunks[0]


class SymbolCheck:
    """CRC32 over every coded symbol as little-endian int32, in coding order; encoder and decoder each keep one."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, symbols: ArrayLike) -> None:
        """Take in an integer array of any shape, in C order; values outside int32 are refused with ValueError."""
        array = np.asarray(symbols)
        if array.dtype.kind not in "iu" and array.size:
            raise ValueError(f"the symbol check takes integers, not {array.dtype}")
        if array.dtype.itemsize >= 4 and array.size and (array.min() < -(2**31) or array.max() >= 2**31):
            raise ValueError("the symbol check takes integers that fit into 32 bits")
        self._crc = zlib.crc32(np.ascontiguousarray(array, dtype="<i4").data, self._crc)

    def digest(self) -> int:
        """The check so far, a uint32; 0 before any symbol."""
        return self._crc

    def verify(self, expected: int) -> None:
        """Raise ``DecodeMismatch`` unless the check equals the ``symbols_check`` of the stream."""
        if self._crc != expected:
            raise DecodeMismatch(
                f"the decoded symbols are not the encoded ones (check {self._crc:08x}, expected {expected:08x}): "
                "this machine's floating point differs from the encoder's; decode with the same device, thread count "
                "and library versions"
            )


def fingerprint(*parts: str | bytes) -> bytes:
    """Four bytes naming a method and checkpoint: the start of SHA-256 over the parts, each preceded by its length."""
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in raw)).digest()[:4]


def pack(stream: Stream) -> bytes:
    """The bytes of a stream; ``BitstreamError`` when a field is out of its range."""
    _check_size(stream.height, stream.width)
    if len(stream.fingerprint) != 4 or stream.channels not in (1, 3) or not 0 <= stream.symbols_check < 2**32:
        raise BitstreamError("a stream needs a fingerprint of 4 bytes, 1 or 3 channels and a 32-bit symbol check")
    chunks = tuple(bytes(bytes_like(chunk)) for chunk in stream.chunks)
    if len(chunks) > MAX_CHUNKS:
        raise BitstreamError(f"a stream holds at most {MAX_CHUNKS} chunks, not {len(chunks)}")
    several = len(chunks) != 1
    flags = _GREY * (stream.channels == 1) + _SEVERAL * several
    head = bytes((MAGIC, VERSION << 4 | flags)) + stream.fingerprint
    lengths = (len(chunks), *map(len, chunks[:-1])) if several else ()
    body = b"".join(
        (stream.symbols_check.to_bytes(4, "little"), _varints((stream.height, stream.width, *lengths)), *chunks)
    )
    return head + zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "little") + body


def unpack(data: bytes, fingerprint: bytes | None) -> Stream:
    """Read a stream, refusing with ``BitstreamError`` what is damaged, foreign, or of another ``fingerprint``.

    ``None`` accepts any method and checkpoint. Nothing is allocated from a declared size.
    """
    view = bytes_like(data)
    _check_origin(view)
    computed = zlib.crc32(view[_CRC.stop :], zlib.crc32(view[: _CRC.start]))
    if computed != int.from_bytes(view[_CRC], "little"):
        raise BitstreamError("the stream is damaged or truncated (its CRC32 does not match): fetch or encode it again")
    found = bytes(view[2:6])
    if fingerprint is not None and found != fingerprint:
        raise BitstreamError(
            f"this stream was made by another method or checkpoint (fingerprint {found.hex()}, expected "
            f"{fingerprint.hex()}): decode it with the method, parameters and weights that made it"
        )
    flags = view[1] & 0x0F
    if flags & ~(_GREY | _SEVERAL):
        raise BitstreamError(f"the stream sets flags that version {VERSION} does not define: it is damaged")
    height, at = _varint(view, _FIXED)
    width, at = _varint(view, at)
    _check_size(height, width)
    return Stream(
        fingerprint=found,
        height=height,
        width=width,
        channels=1 if flags & _GREY else 3,
        chunks=_several(view, at) if flags & _SEVERAL else (bytes(view[at:]),),
        symbols_check=int.from_bytes(view[_CRC.stop : _FIXED], "little"),
    )


def payload_bits(data: bytes) -> int:
    """Bits of the stream that carry entropy-coded symbols: everything but header, checks and lengths."""
    return 8 * sum(map(len, unpack(data, None).chunks))


def bytes_like(data: object) -> memoryview:
    """A flat view of bytes, bytearray or memoryview; ``BitstreamError`` for anything else."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BitstreamError(f"a stream is bytes, not {type(data).__name__}: read the file in binary mode")
    try:
        return memoryview(data).cast("B")
    except TypeError as error:
        raise BitstreamError("a stream is contiguous bytes: pass a copy of the memory view") from error


def _check_origin(view: memoryview) -> None:
    """Refuse what is too short, foreign, or of another version, each with its own sentence."""
    if not view:
        raise BitstreamError("the stream is empty: the file was never written or its transfer failed")
    if view[0] != MAGIC:
        head = bytes(view[:4])
        kind = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), "something else")
        raise BitstreamError(f"this is not a Tessera stream but {kind} (it begins with {head.hex()}): check the path")
    if len(view) < _FIXED + 2:
        raise BitstreamError(f"the stream is truncated: {len(view)} bytes cannot hold a header of {_FIXED + 2}")
    if view[1] >> 4 != VERSION:
        raise BitstreamError(
            f"this stream has format version {view[1] >> 4} and this program reads version {VERSION}: decode it with "
            "the release that wrote it"
        )


def _check_size(height: int, width: int) -> None:
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise BitstreamError(
            f"a picture of {height} x {width} pixels cannot be in a stream: sides are 1 to {MAX_SIDE}, "
            f"at most {MAX_PIXELS} pixels in all"
        )


def _several(view: memoryview, at: int) -> tuple[bytes, ...]:
    """The chunks of a stream whose count is not one: count, all lengths but the last, then the chunks."""
    count, at = _varint(view, at)
    if count == 1 or count > min(MAX_CHUNKS, len(view) - at + 1):
        raise BitstreamError(f"the stream declares {count} chunks, which cannot be here: it is damaged")
    lengths = []
    for _ in range(count - 1):
        length, at = _varint(view, at)
        lengths.append(length)
    rest = len(view) - at - sum(lengths)
    if rest < 0 or (count == 0 and rest):
        raise BitstreamError("the chunk lengths of the stream do not add up to its size: it is damaged")
    bounds = list(itertools.accumulate((*lengths, rest) if count else (), initial=at))
    return tuple(bytes(view[start:stop]) for start, stop in itertools.pairwise(bounds))


def _varints(values: Iterable[int]) -> bytes:
    """Unsigned LEB128: seven bits a byte, lowest first, the high bit set on all but the last byte."""
    out = bytearray()
    for value in values:
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at`` (at most 5 bytes, shortest form only) and the position after it."""
    value = 0
    for place, byte in enumerate(view[at : at + 5]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if byte == 0 and place:
                break
            return value, at + place + 1
    raise BitstreamError("the stream holds a number that is cut off or not in its shortest form: it is damaged")
