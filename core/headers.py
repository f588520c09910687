"""Headers of picture files: which format it is, and the greatest value that a sample can have, from the bytes alone.

Only what no library here tells without decoding the picture (TIFF and HEIF have one, see ``core.depth``). Every
function may raise ``IndexError``, ``ValueError`` or ``struct.error`` on a damaged file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = (  # format, where, what
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("GIF", 0, b"GIF8"),
    ("WEBP", 8, b"WEBP"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("TIFF", 0, b"II+\0"),
    ("TIFF", 0, b"MM\0+"),
    ("JPEG2000", 0, b"\xff\x4f\xff\x51"),
    ("JPEG2000", 0, b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("JPEGXL", 0, b"\xff\x0a"),
    ("JPEGXL", 0, b"\0\0\0\x0cJXL \r\n\x87\n"),
    ("SGI", 0, b"\x01\xda"),
    ("QOI", 0, b"qoif"),
)
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # frame headers of JPEG (ITU-T T.81, table B.1)
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def kind(data: bytes) -> str:
    """The format of a file: Pillow's name for it, HEIC or JPEGXL; '' for others."""
    if data[4:8] == b"ftyp":
        size = int.from_bytes(data[:4], "big")
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(size, 256), 4))}
        return "AVIF" if brands & {b"avif", b"avis"} else "HEIC" if brands & HEIC_BRANDS else ""
    if re.match(rb"P[1-6]\s", data):
        return "PPM"
    return next((name for name, at, magic in MAGIC if data.startswith(magic, at)), "")


def top_of_bits(bits: int) -> int:
    """The greatest value of unsigned samples of so many bits."""
    return (1 << bits) - 1


def png_top(data: bytes) -> int:
    """Of a PNG, from IHDR (ISO 15948, 11.2.1); a palette's colours have 8 bits."""
    depth, colour = data[24], data[25]
    if data[12:16] != b"IHDR" or depth not in (1, 2, 4, 8, 16):
        raise ValueError("its header is damaged")
    return 255 if colour == 3 else top_of_bits(depth)


def bmp_top(data: bytes) -> int:
    """Of a BMP, from its bits per pixel: 16 of them are 5 per sample; palettes have 8."""
    size = int.from_bytes(data[14:18], "little")
    bits = int.from_bytes(data[24:26] if size == 12 else data[28:30], "little")
    return 31 if bits == 16 else 255


def sgi_top(data: bytes) -> int:
    """Of an SGI file: 1 or 2 bytes per sample."""
    return top_of_bits(8 * data[3])


@dataclass(frozen=True)
class Netpbm:
    """The header of a PBM, PGM or PPM file: its number after the P, size, greatest value, and where samples start."""

    number: int
    width: int
    height: int
    top: int
    start: int


def netpbm(data: bytes) -> Netpbm:
    """Numbers between white space and comments; one white space before the samples (netpbm's format pages)."""
    number, found, at = data[1] - ord("0"), [], 2
    for _ in range(2 if number in (1, 4) else 3):
        token = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])+(\d+)").match(data, at)
        if token is None:
            raise ValueError("a number is missing in its header")
        found.append(int(token[1]))
        at = token.end()
    width, height, top = (*found, 1)[:3]  # bilevel files do not state the greatest value
    return Netpbm(number, width, height, top, at + 1)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of a JPEG up to its first scan (ITU-T T.81, B.1.1)."""
    at = 2
    while True:
        while data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):  # fill bytes, and what readers pass over
            at += 1
        marker = data[at + 1]
        length = 0 if marker in ALONE else int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        if marker == 0xDA:
            return
        at += 2 + length


def jpeg_frame(data: bytes) -> tuple[int, int, int]:
    """(height, width, greatest value) of a JPEG, from its frame header (ITU-T T.81, B.2.2)."""
    for marker, content in jpeg_segments(data):
        if marker in SOF:
            bits, height, width = struct.unpack_from(">BHH", content)
            return height, width, top_of_bits(bits)
    raise ValueError("it has no frame header")


def box(data: bytes, *kinds: bytes) -> bytes:
    """The content of the first box of one of these kinds in a file of boxes (ISO 14496-12, 4.2); b'' where none is."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 16 if size == 1 else 8
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        if name in kinds:
            return data[at + head : at + size]
        if size < head:
            break
        at += size
    return b""


def jpeg2000_size(stream: bytes) -> tuple[int, int]:
    """(height, width) of a JPEG 2000 codestream: the SIZ marker segment is always first (ISO 15444-1, A.5.1)."""
    right, bottom, left, top = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
    return bottom - top, right - left


def jpeg2000_stream(data: bytes) -> bytes:
    """The codestream of a JPEG 2000 file, which may be one itself."""
    return data if data.startswith(b"\xff\x4f") else box(data, b"jp2c")


def jpeg2000_top(data: bytes) -> int:
    """Of a JPEG 2000 file or codestream: of its palette, else of its components; 0 if they are signed or differ."""
    stream = jpeg2000_stream(data)
    palette = b"" if stream is data else box(box(data, b"jp2h"), b"pclr")
    components = stream[42 : 42 + 3 * int.from_bytes(stream[40:42], "big") : 3]
    fields = palette[3 : 3 + palette[2]] if palette else components
    tops = {0 if field & 0x80 else top_of_bits((field & 0x7F) + 1) for field in fields}
    if not tops:
        raise ValueError("it has no SIZ segment")
    return tops.pop() if len(tops) == 1 else 0


@dataclass(frozen=True)
class JpegXl:
    """What the headers of a JPEG XL codestream say; ``top`` is 0 for floating-point samples."""

    height: int
    width: int
    top: int = 255
    moving: bool = False  # an animation, or with a preview


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.left = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value, self.left = self.left & ((1 << count) - 1), self.left >> count
        return value

    def size(self) -> tuple[int, int]:
        """(height, width): SizeHeader (ISO 18181-1, D.2)."""
        small = self.take(1)
        height = self._side(small)
        ratio = self.take(3)
        up, down = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
        return height, height * up // down if ratio else self._side(small)

    def _side(self, small: int) -> int:
        return 8 * (self.take(5) + 1) if small else self.take((9, 13, 18, 30)[self.take(2)]) + 1


def jpegxl(data: bytes) -> JpegXl:
    """The headers of a JPEG XL file or codestream: SizeHeader and ImageMetadata up to BitDepth (ISO 18181-1, D)."""
    stream = data
    if not data.startswith(b"\xff\x0a"):
        stream = box(data, b"jxlc") or box(data, b"jxlp")[4:]
    if not stream.startswith(b"\xff\x0a"):
        raise ValueError("it has no codestream")
    bits = _Bits(stream[2:66])
    height, width = bits.size()
    if bits.take(1):  # all_default
        return JpegXl(height, width)
    if bits.take(1):  # extra_fields
        bits.take(3)  # orientation
        if bits.take(1):  # have_intr_size
            bits.size()
        if bits.take(1) or bits.take(1):  # have_preview, have_animation
            return JpegXl(height, width, 0, True)
    if bits.take(1):  # float_sample
        return JpegXl(height, width, 0)
    choice = bits.take(2)
    return JpegXl(height, width, top_of_bits((8, 10, 12)[choice] if choice < 3 else 1 + bits.take(6)))


def jpegxl_size(stream: bytes) -> tuple[int, int]:
    """(height, width) of a JPEG XL codestream."""
    return _Bits(stream[2:14]).size()
