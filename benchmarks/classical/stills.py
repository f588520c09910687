"""Still-image formats in-process: one codec class, the encoders and decoders of each format, and their header checks.

A stream is the file a library writes, so any viewer of the format opens it. Formats without a grey mode carry a grey
image as three equal channels behind one byte, ``GREY``, that is counted in the rate and undone by the decoder.
Libraries are imported where they are called: importing this module loads numpy and nothing else.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bitstream import MAX_PIXELS, MAX_SIDE, BitstreamError
from core.codec import Image, TesseraError
from core.headers import jpeg2000_size as jpeg2000_size
from core.headers import jpegxl_size as jpegxl_size

JPEG_ROOM = 8  # bytes per sample that no JPEG reaches: 16 bits of code and 11 of value, each byte perhaps stuffed
JPEGLS_ROOM = 5  # bytes per sample that no JPEG-LS reaches: at most 32 bits (ISO 14495-1, A.5.3), and stuffed bits
_BUFFER_LOCK = threading.Lock()
GREY = b"G"  # in front of a stream whose format has no grey mode; no format here starts with it

Pixels = NDArray[np.uint8]  # (H, W) grey or (H, W, 3) RGB: what the libraries take


@dataclass(frozen=True)
class Format:
    """How streams of a format begin and end: ``magic`` at byte ``offset``, ``tail`` last ('' where none is fixed)."""

    title: str
    magic: tuple[bytes, ...]
    offset: int = 0
    tail: bytes = b""
    grey: bool = True  # whether the format codes a single channel

    def check(self, stream: bytes) -> None:
        """Refuse another format's stream by its first bytes and a cut one by its last bytes."""
        if not any(stream.startswith(magic, self.offset) for magic in self.magic):
            raise BitstreamError(f"the stream is no {self.title} file: give what this codec wrote")
        if not stream.endswith(self.tail):
            raise BitstreamError(f"the {self.title} stream is cut short: its end marker is missing")


JPEG = Format("JPEG", (b"\xff\xd8\xff\xe0",), tail=b"\xff\xd9")
JPEGLS = Format("JPEG-LS", (b"\xff\xd8\xff\xe8", b"\xff\xd8\xff\xf7"), tail=b"\xff\xd9")
JPEG2000 = Format("JPEG 2000", (b"\xff\x4f\xff\x51",), tail=b"\xff\xd9")
JPEGXL = Format("JPEG XL", (b"\xff\x0a",))
PNG = Format("PNG", (b"\x89PNG\r\n\x1a\n",), tail=b"IEND\xaeB`\x82")
WEBP = Format("WebP", (b"WEBP",), offset=8, grey=False)
AVIF = Format("AVIF", (b"ftypavif",), offset=4)
HEIC = Format("HEIC", (b"ftyphei", b"ftypmif1"), offset=4)


@dataclass(frozen=True)
class StillCodec:
    """A ``Codec`` from a library's encoder and decoder; errors of the library become one sentence."""

    format: Format
    encoder: Callable[[Pixels], bytes]
    decoder: Callable[[bytes], Pixels]
    size: Callable[[bytes], tuple[int, int]]  # (height, width) as the header declares them, before any pixel is decoded
    grey: bool = True  # whether this encoder codes a single channel

    def compress(self, image: Image) -> bytes:
        """The file of a uint8 image (H, W, 1|3); raises ``TesseraError`` where the format cannot hold it."""
        check_image(image)
        tag = GREY if image.shape[2] == 1 and not self.grey else b""
        pixels = image[:, :, 0] if image.shape[2] == 1 else image
        pixels = np.ascontiguousarray(np.repeat(image, 3, axis=2) if tag else pixels)
        try:
            return tag + bytes(self.encoder(pixels))
        except Exception as error:  # each library has its own error classes, all of them meaning 'not this image'
            height, width = image.shape[:2]
            raise TesseraError(f"{self.format.title} cannot code a {width}x{height} image: {_text(error)}") from error

    def decompress(self, stream: bytes) -> Image:
        grey = not self.grey and stream.startswith(GREY)
        body = stream[len(GREY) :] if grey else stream
        self.format.check(body)
        try:
            declared = self.size(body)
            check_size(*declared)
            pixels = np.asarray(self.decoder(body))
        except BitstreamError:
            raise
        except Exception as error:  # a damaged stream surfaces as whatever the library raises first
            raise BitstreamError(f"the {self.format.title} stream is damaged: {_text(error)}") from error
        if pixels.dtype != np.uint8 or pixels.shape[:2] != declared or pixels.shape[2:] not in ((), (1,), (3,)):
            raise BitstreamError(f"the {self.format.title} stream does not hold one 8-bit grey or RGB image")
        return _to_grey(pixels) if grey else pixels.reshape(*declared, -1)


def check_image(image: Image) -> None:
    """Refuse anything but a uint8 array (H, W, 1|3) with at least one pixel."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise TesseraError(f"an image must be uint8 (H, W, 1 or 3), not {image.dtype} {image.shape}")


def check_size(height: int, width: int) -> None:
    """Refuse a declared size that is empty or beyond the limits of ``core.bitstream``, before anything is allocated."""
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise BitstreamError(f"the stream declares a size of {width}x{height}, beyond the limits of this suite")


def _to_grey(pixels: Pixels) -> Image:
    """Three nearly equal channels (H, W, 3) become one (H, W, 1): their rounded mean, exact where they are equal."""
    total = pixels.sum(axis=2, keepdims=True, dtype=np.uint16)
    grey: Image = ((2 * total + 3) // 6).astype(np.uint8)
    return grey


def _text(error: Exception) -> str:
    """The first line of a library's message, without its full stop and without object addresses."""
    lines = re.sub(r" <.*?>", "", str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def tried(*ways: Callable[[Pixels], bytes]) -> Callable[[Pixels], bytes]:
    """An encoder that goes the first way that codes the picture; the error of the last one is the answer."""

    def encode(pixels: Pixels) -> bytes:
        for way in ways[:-1]:
            with suppress(Exception):  # whatever the library raises, the next way tells
                return way(pixels)
        return ways[-1](pixels)

    return encode


# Pillow


def pillow_encoder(kind: str, **options: Any) -> Callable[[Pixels], bytes]:
    """An encoder through ``PIL.Image.save`` with the given format name and options."""

    def encode(pixels: Pixels) -> bytes:
        from PIL import Image as pil

        file = io.BytesIO()
        room = JPEG_ROOM * (pixels.size + 48 * sum(pixels.shape[:2]) + 4096) if kind == "JPEG" else 0
        with _pillow_buffer(room):
            pil.fromarray(pixels).save(file, kind, **options)
        return file.getvalue()

    return encode


@contextmanager
def _pillow_buffer(size: int) -> Iterator[None]:
    """Give Pillow's encoders a buffer of ``size`` bytes: its JPEG must fit into one, and noise does not by default."""
    from PIL import ImageFile

    with _BUFFER_LOCK:
        before, ImageFile.MAXBLOCK = ImageFile.MAXBLOCK, max(ImageFile.MAXBLOCK, size)
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before


def pillow_size(kind: str) -> Callable[[bytes], tuple[int, int]]:
    """A header reader that lets Pillow try this one format only."""

    def size(stream: bytes) -> tuple[int, int]:
        from PIL import Image as pil

        with pil.open(io.BytesIO(stream), formats=[kind]) as file:
            return file.height, file.width

    return size


def pillow_decoder(kind: str) -> Callable[[bytes], Pixels]:
    """A decoder that lets Pillow try this one format only, and complete files only."""

    def decode(stream: bytes) -> Pixels:
        from PIL import Image as pil
        from PIL import ImageFile

        if ImageFile.LOAD_TRUNCATED_IMAGES:
            raise TesseraError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, which hides cut streams; switch it off")
        with pil.open(io.BytesIO(stream), formats=[kind]) as file:
            return np.asarray(file)

    return decode


def pillow_codec(form: Format, kind: str, *, grey: bool | None = None, **options: Any) -> StillCodec:
    """Both directions of a format through Pillow; ``options`` go to its ``save``."""
    grey = form.grey if grey is None else grey
    return StillCodec(form, pillow_encoder(kind, **options), pillow_decoder(kind), pillow_size(kind), grey)


# PNG


def png_encoder(level: int) -> Callable[[Pixels], bytes]:
    """PNG with the row filters that its specification advises and libdeflate at ``level`` 1 (fast) to 12 (small)."""

    def encode(pixels: Pixels) -> bytes:
        import imagecodecs

        height, width = pixels.shape[:2]
        header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
        data = bytes(imagecodecs.deflate_encode(filtered(pixels.reshape(height, width, -1)).tobytes(), level=level))
        chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
        return PNG.magic[0] + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )

    return encode


def filtered(image: Image) -> NDArray[np.uint8]:
    """Filtered rows (H, 1 + W C) of an image (H, W, C), each behind the number of its filter (PNG specification, 9).

    Every row takes the filter whose residuals, read as signed bytes, have the least sum of absolute values.
    """
    height, _, channels = image.shape
    row = image.reshape(height, -1).astype(np.int16)  # (H, W C), as the three neighbours below
    left, up, corner = np.zeros((3, *row.shape), np.int16)
    left[:, channels:], up[1:], corner[1:, channels:] = row[:, :-channels], row[:-1], row[:-1, :-channels]
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    guesses = (np.zeros_like(row), left, up, (left + up) // 2, paeth)
    residuals = np.stack([(row - guess).astype(np.uint8) for guess in guesses])  # (5, H, W C), modulo 256
    cost = np.minimum(residuals, -residuals).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    return np.concatenate([best[:, None].astype(np.uint8), residuals[best, np.arange(height)]], axis=1)


# imagecodecs


def imagecodecs_codec(
    form: Format,
    name: str,
    size: Callable[[bytes], tuple[int, int]],
    threads: bool = True,
    room: int = 0,
    **options: Any,
) -> StillCodec:
    """Both directions of a format through ``imagecodecs.{name}_encode`` and ``_decode``, on one thread.

    ``room``: bytes per sample of the buffer that is given where the library's own is too small.
    """
    limit = {"numthreads": 1} if threads else {}

    def encode(pixels: Pixels, **more: Any) -> bytes:
        import imagecodecs

        return bytes(getattr(imagecodecs, f"{name}_encode")(pixels, **options, **limit, **more))

    def encode_with_room(pixels: Pixels) -> bytes:
        return encode(pixels, out=room * pixels.size + 4096)

    def decode(stream: bytes) -> Pixels:
        import imagecodecs

        return np.asarray(getattr(imagecodecs, f"{name}_decode")(stream, **limit))

    return StillCodec(form, tried(encode, encode_with_room) if room else encode, decode, size)


def jpegls_size(stream: bytes) -> tuple[int, int]:
    """(height, width) of a JPEG-LS stream: its frame header SOF55 (ISO 14495-1, C.2.2), after the other segments."""
    at = 2
    while stream[at : at + 2] != b"\xff\xf7":
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at : at + 1] != b"\xff" or length < 2:
            raise BitstreamError("the JPEG-LS stream is damaged: it has no frame header")
        at += 2 + length
    return int.from_bytes(stream[at + 5 : at + 7], "big"), int.from_bytes(stream[at + 7 : at + 9], "big")


# HEIC through pillow-heif


def heic_codec(**options: Any) -> StillCodec:
    """Both directions of HEIC through pillow-heif, on one thread; ``options`` go to its ``encode``."""

    def encode(pixels: Pixels, **more: str) -> bytes:
        import pillow_heif

        file = io.BytesIO()
        mode = "RGB" if pixels.ndim == 3 else "L"
        params = {"x265:pools": "none", "x265:frame-threads": "1", **more}
        pillow_heif.encode(mode, pixels.shape[1::-1], pixels.tobytes(), file, enc_params=params, **options)
        return file.getvalue()

    def encode_at_no_level(pixels: Pixels) -> bytes:  # a long, thin picture fits none of HEVC's levels
        return encode(pixels, **{"x265:allow-non-conformance": "1"})

    return StillCodec(
        HEIC, tried(encode, encode_at_no_level), lambda stream: np.asarray(_open_heic(stream)), _heic_size
    )


def _open_heic(stream: bytes) -> Any:
    import pillow_heif

    pillow_heif.options.DECODE_THREADS = 1
    return pillow_heif.open_heif(io.BytesIO(stream), convert_hdr_to_8bit=False)


def _heic_size(stream: bytes) -> tuple[int, int]:
    width, height = _open_heic(stream).size
    return height, width


# Versions


@cache
def version(package: str, key: str, title: str) -> str:
    """E.g. 'libjxl 0.11.2 via imagecodecs 2026.3.6': a library's version, as the package that carries it tells it."""
    if package == "pillow":
        from PIL import features

        found = features.version(key)
    elif package == "imagecodecs":
        import imagecodecs

        found = dict(part.strip().rpartition("-")[::2] for part in imagecodecs.version().split(",")).get(key)
    else:
        import pillow_heif

        libraries = pillow_heif.libheif_info()
        found = f"{libraries[key]} with {libraries['encoders'].get('x265', 'no x265')}"
    return f"{title} {found or '(unknown version)'} via {package} {metadata.version(package)}"
