"""Intra pictures of video encoders, through the ffmpeg binary that the imageio-ffmpeg wheel carries.

A stream is the raw elementary bitstream of one picture, closed by an end-of-bitstream unit of 5 bytes, without a
container: its parameter sets carry the size. Two things they cannot say here, an odd size under 4:2:0 (or one below
what the encoder takes) and a grey picture, travel in a prefix of 4 bytes that is counted in the rate: 1 bit set, 1 bit
grey, 14 bits height, 16 bits width, big-endian. An elementary bitstream begins with a zero byte, so the two cannot be
confused.

RGB becomes YCbCr by BT.709 in full range, and back, on both sides by swscale with exact rounding.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.classical.stills import check_image, check_size
from core.bitstream import MAX_PIXELS, BitstreamError
from core.codec import Image, TesseraError

ENCODE_LIMIT_S = 1800.0  # VVC of a 2048x1365 photograph takes about a minute; this only ends a hang
DECODE_LIMIT_S = 120.0
_PREFIX = struct.Struct(">HH")
_MAX_HEIGHT = 0x3FFF
_EXACT = "flags=accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_TO_YUV = f"scale=out_color_matrix=bt709:in_range=full:out_range=full:{_EXACT}"
_TO_RGB = f"scale=in_color_matrix=bt709:in_range=full:out_range=full:{_EXACT}"


@dataclass(frozen=True)
class Syntax:
    """What differs between the bitstreams of two video standards, beside the encoder."""

    title: str
    kind: str  # ffmpeg's name of the elementary stream
    least: int  # the smallest side that can be coded
    tail: bytes  # the end-of-bitstream unit with its start code, put last so that a cut stream shows
    hint: str = ""  # what a complaint of the encoder may mean


HEVC = Syntax("HEVC", "hevc", 16, b"\0\0\1\x4a\x01")  # unit type 37; x265 does not start below 16 pixels
VVC = Syntax(
    "VVC",
    "vvc",
    64,  # ffmpeg allows 1 byte per pixel, headers take 200
    b"\0\0\1\x00\xb1",  # unit type 22
    hint="; it takes no more than 1 byte per pixel, which fine detail exceeds at a low qp: give a higher one",
)

X265_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
VVENC_PRESETS = ("faster", "fast", "medium", "slow", "slower")


@dataclass(frozen=True)
class VideoCodec:
    """A ``Codec`` that codes an image as the only picture of a raw ``hevc`` or ``vvc`` bitstream."""

    syntax: Syntax
    pixels: str  # pixel format of a coded RGB image
    grey_pixels: str  # of a coded grey one
    even: bool  # whether chroma subsampling wants even sides
    options: tuple[str, ...]  # the encoder and its settings
    rescue: tuple[str, ...] = ()  # the same for pictures that it refuses with those

    def compress(self, image: Image) -> bytes:
        """The bitstream of a uint8 image (H, W, 1|3), behind the prefix where one is needed."""
        check_image(image)
        height, width, channels = image.shape
        if height > _MAX_HEIGHT or width > 0xFFFF:
            raise TesseraError(f"{self.syntax.title} cannot code a {width}x{height} image: at most {_MAX_HEIGHT} rows")
        padded = self._pad(image)
        rows, columns = padded.shape[:2]
        source = ("-f", "rawvideo", "-pix_fmt", "gray" if channels == 1 else "rgb24", "-s", f"{columns}x{rows}")
        start = (*source, "-i", "-", "-vf", _TO_YUV, "-pix_fmt", self.grey_pixels if channels == 1 else self.pixels)
        end = ("-threads", "1", "-f", self.syntax.kind, "-")
        try:
            stream = self._encoded(padded.tobytes(), (*start, "-frames:v", "1"), end) + self.syntax.tail
        except FfmpegError as error:
            reason = f"{error}{self.syntax.hint}"
            raise TesseraError(f"{self.syntax.title} cannot code a {width}x{height} image: {reason}") from error
        if channels == 3 and padded.shape == image.shape:
            return stream
        return _PREFIX.pack(0x8000 | (channels == 1) << 14 | height, width) + stream

    def decompress(self, stream: bytes) -> Image:
        body, size, grey = self._split(stream)
        limits = ("-err_detect", "explode", "-max_pixels", str(2 * MAX_PIXELS), "-threads", "1")
        picture = ("-pix_fmt", "gray" if grey else "rgb24", "-c:v", "pgm" if grey else "ppm", "-f", "image2pipe")
        command = (
            "-xerror",
            *limits,
            "-f",
            self.syntax.kind,
            "-i",
            "-",
            "-vf",
            _TO_RGB,
            "-frames:v",
            "1",
            *picture,
            "-",
        )
        try:
            decoded = read_netpbm(run(command, body, DECODE_LIMIT_S))
        except FfmpegError as error:
            raise BitstreamError(f"the {self.syntax.title} stream is damaged: {error}") from error
        height, width = size or decoded.shape[:2]
        if size and decoded.shape[:2] != tuple(self._coded_side(side) for side in size):
            raise BitstreamError(f"the {self.syntax.title} stream is damaged: its two sizes disagree")
        return np.ascontiguousarray(decoded[:height, :width])

    def _encoded(self, pixels: bytes, start: tuple[str, ...], end: tuple[str, ...]) -> bytes:
        try:
            return run((*start, *self.options, *end), pixels, ENCODE_LIMIT_S)
        except FfmpegError:
            if not self.rescue:
                raise
        return run((*start, *self.rescue, *end), pixels, ENCODE_LIMIT_S)

    def _pad(self, image: Image) -> Image:
        """Edge rows and columns repeated at the bottom and right, up to the next size the encoder takes."""
        more = [self._coded_side(side) - side for side in image.shape[:2]]
        return np.pad(image, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")

    def _coded_side(self, side: int) -> int:
        return max(side + side % 2 if self.even else side, self.syntax.least)

    def _split(self, stream: bytes) -> tuple[bytes, tuple[int, int] | None, bool]:
        """The elementary bitstream, the size in the prefix (None without one) and whether the image is grey."""
        size, grey = None, False
        if stream[:1] >= b"\x80" and len(stream) > _PREFIX.size:
            first, width = _PREFIX.unpack_from(stream)
            size, grey = (first & _MAX_HEIGHT, width), bool(first & 0x4000)
            check_size(*size)
            stream = stream[_PREFIX.size :]
        if not stream.startswith((b"\0\0\1", b"\0\0\0\1")):
            raise BitstreamError(f"the stream is no {self.syntax.title} bitstream: give what this codec wrote")
        if not stream.endswith(self.syntax.tail):
            raise BitstreamError(f"the {self.syntax.title} stream is cut short: its end unit is missing")
        return stream, size, grey


class FfmpegError(TesseraError):
    """ffmpeg failed; the text is its first complaint, without a full stop."""


def run(arguments: Sequence[str], data: bytes, limit_s: float) -> bytes:
    """Standard output of ffmpeg given ``data``; anything it complains about is a ``FfmpegError``, also with exit 0."""
    command = [executable(), "-hide_banner", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise FfmpegError(f"ffmpeg took more than {limit_s:g} s") from error
    except OSError as error:
        raise FfmpegError(f"ffmpeg cannot be started ({error.strerror})") from error
    complaint = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode or complaint or not done.stdout:
        first = re.sub(r"^(\[[^\]]*\]\s*)+", "", complaint[0]).rstrip(".") if complaint else "no picture in it"
        raise FfmpegError(f"ffmpeg says '{first}'")
    return done.stdout


def read_netpbm(data: bytes) -> Image:
    """The first picture of a binary PPM (P6) or PGM (P5) byte string, as uint8 (H, W, 3|1)."""
    found = re.match(rb"P([56])\s+(\d+)\s+(\d+)\s+255\s", data)
    if not found:
        raise FfmpegError("ffmpeg gave no 8-bit picture")
    kind, width, height = (int(group) for group in found.groups())
    channels = 3 if kind == 6 else 1
    if len(data) - found.end() < height * width * channels:
        raise FfmpegError("ffmpeg gave an incomplete picture")
    pixels = np.frombuffer(data, np.uint8, height * width * channels, found.end())
    return pixels.reshape(height, width, channels)


@cache
def executable() -> str:
    """The path of ffmpeg (environment variable IMAGEIO_FFMPEG_EXE overrides the one of the wheel)."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise TesseraError("ffmpeg is not here: run pip install imageio-ffmpeg") from error


@cache
def missing(encoder: str, decoder: str) -> str | None:
    """A sentence saying what ffmpeg lacks for a codec, or None when it has both sides."""
    try:
        for side, name in (("encoders", encoder), ("decoders", decoder)):
            listing = run((f"-{side}",), b"", DECODE_LIMIT_S).decode(errors="replace")
            if not re.search(rf"^ V\S*\s+{name}\s", listing, re.MULTILINE):
                return f"the ffmpeg at {executable()} has no {name} among its {side}: run pip install imageio-ffmpeg"
    except TesseraError as error:
        return str(error)
    return None


@cache
def version(encoder: str) -> str:
    """E.g. 'libvvenc 1.15.0-dev in ffmpeg n9.0.2', asked of the binary by coding one small picture."""
    source = ("-f", "lavfi", "-i", "color=s=32x32", "-frames:v", "1", "-c:v", encoder, "-f", "null", "-")
    command = [executable(), *source]
    done = subprocess.run(command, capture_output=True, timeout=DECODE_LIMIT_S, check=False, stdin=subprocess.DEVNULL)
    log = done.stderr.decode(errors="replace")
    tool = re.search(r"^ffmpeg version ([\w.]+)", log, re.MULTILINE)
    library = re.search(r"(?:libvvenc|HEVC encoder) version:? (\S+)", log)
    return f"{encoder} {library[1] if library else '(unknown version)'} in ffmpeg {tool[1] if tool else '(unknown)'}"
