"""Codecs that exist only as command-line programs (BPG, FLIF, HM, VTM), wrapped by their documented commands.

None of them can be installed from a package index. A wrapper looks for its programs in the folder named by an
environment variable (``TESSERA_VTM`` and so on; the folder itself, its ``bin`` and its ``cfg``) and then on PATH, and
``Programs.missing`` says in one sentence what was not found.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.classical.base import CHROMA, THUMBNAILS, Anchor, Limits, Range
from benchmarks.classical.stills import check_image, check_size
from core.bitstream import BitstreamError
from core.codec import Codec, Image, TesseraError
from core.registry import METHODS

LIMIT_S = 7200.0  # VTM takes minutes on a photograph; this only ends a hang
_PREFIX = struct.Struct(">HH")
_GREY = 0x8000


class ProgramError(TesseraError):
    """A program is missing or failed; the text names it and gives its first complaint."""


@dataclass(frozen=True)
class Programs:
    """Where the parts of an external codec are: each part is looked up under several file names."""

    title: str
    variable: str  # environment variable naming the folder
    parts: Mapping[str, tuple[str, ...]]  # 'encoder', 'decoder' and perhaps 'config' -> possible file names
    source: str  # where to get it

    def find(self, part: str) -> str | None:
        """The path of a part, or None."""
        root = os.environ.get(self.variable)
        folders = [Path(root), Path(root) / "bin", Path(root) / "cfg"] if root else []
        for name in self.parts[part]:
            for folder in folders:
                if (folder / name).is_file():
                    return str(folder / name)
            if found := shutil.which(name):
                return found
        return None

    def path(self, part: str) -> str:
        """The path of a part; raises ``ProgramError`` with the sentence of ``missing`` when it is not here."""
        found = self.find(part)
        if found is None:
            raise ProgramError(self.missing() or f"{self.title}: no {part}")
        return found

    def missing(self) -> str | None:
        """A sentence naming the parts that were not found and what to do, or None when all are here."""
        lacking = dict.fromkeys(names[0] for part, names in self.parts.items() if self.find(part) is None)
        if not lacking:
            return None
        wanted = ", ".join(lacking)
        return f"{self.title} needs {wanted}: build it from {self.source} and set {self.variable} to its folder"


BPG = Programs("BPG", "TESSERA_BPG", {"encoder": ("bpgenc",), "decoder": ("bpgdec",)}, "https://bellard.org/bpg")
FLIF = Programs("FLIF", "TESSERA_FLIF", {"encoder": ("flif",), "decoder": ("flif",)}, "https://flif.info")
HM = Programs(
    "HM",
    "TESSERA_HM",
    {
        "encoder": ("TAppEncoderStatic", "TAppEncoder"),
        "decoder": ("TAppDecoderStatic", "TAppDecoder"),
        "config": ("encoder_intra_main_rext.cfg",),
    },
    "https://vcgit.hhi.fraunhofer.de/jvet/HM",
)
VTM = Programs(
    "VTM",
    "TESSERA_VTM",
    {
        "encoder": ("EncoderAppStatic", "EncoderApp"),
        "decoder": ("DecoderAppStatic", "DecoderApp"),
        "config": ("encoder_intra_vtm.cfg",),
    },
    "https://vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM",
)


@dataclass(frozen=True)
class FileCodec:
    """A ``Codec`` of two programs that turn a PNG file into a coded file and back (BPG, FLIF)."""

    programs: Programs
    magic: bytes
    suffix: str
    encode: Callable[[str, str], Sequence[str]]  # (PNG, coded file) -> arguments of the encoder
    decode: Callable[[str, str], Sequence[str]]  # (coded file, PNG) -> arguments of the decoder

    def compress(self, image: Image) -> bytes:
        """The coded file of a uint8 image (H, W, 1|3)."""
        from PIL import Image as pil

        check_image(image)
        with tempfile.TemporaryDirectory() as folder:
            source, coded = Path(folder) / "image.png", Path(folder) / f"image{self.suffix}"
            pil.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(source)
            _run([self.programs.path("encoder"), *self.encode(str(source), str(coded))], coded)
            return coded.read_bytes()

    def decompress(self, stream: bytes) -> Image:
        """The image of a coded file; raises ``BitstreamError`` when it is another format's or does not decode."""
        from PIL import Image as pil

        if not stream.startswith(self.magic):
            raise BitstreamError(f"the stream is no {self.programs.title} file: give what this codec wrote")
        with tempfile.TemporaryDirectory() as folder:
            coded, decoded = Path(folder) / f"image{self.suffix}", Path(folder) / "image.png"
            coded.write_bytes(stream)
            _decode([self.programs.path("decoder"), *self.decode(str(coded), str(decoded))], decoded)
            with pil.open(io.BytesIO(decoded.read_bytes())) as picture:
                pixels = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
        return pixels.reshape(*pixels.shape[:2], -1)


@dataclass(frozen=True)
class ReferenceCodec:
    """A ``Codec`` of a reference software that reads and writes planar YCbCr 4:4:4 files (HM, VTM).

    RGB becomes 8-bit BT.709 YCbCr in full range; a grey image has neutral chroma. A stream is 2 bytes of height (the
    highest bit says grey), 2 of width, and the elementary bitstream: the decoder's raw output has no header.
    """

    programs: Programs
    encode: Sequence[str]  # the arguments beside files and size

    def compress(self, image: Image) -> bytes:
        """The prefixed bitstream of a uint8 image (H, W, 1|3) of at most 32767 rows."""
        check_image(image)
        height, width, channels = image.shape
        if height >= _GREY or width > 0xFFFF:
            raise TesseraError(f"{self.programs.title} cannot code a {width}x{height} image: at most {_GREY - 1} rows")
        with tempfile.TemporaryDirectory() as folder:
            source, coded = Path(folder) / "image.yuv", Path(folder) / "image.bin"
            source.write_bytes(to_ycbcr(image).transpose(2, 0, 1).tobytes())
            files = ("-c", self.programs.path("config"), "-i", str(source), "-b", str(coded), "-o", os.devnull)
            size = ("-wdt", str(width), "-hgt", str(height), "-fr", "1", "-f", "1")
            _run([self.programs.path("encoder"), *files, *size, *self.encode], coded)
            return _PREFIX.pack(height | _GREY * (channels == 1), width) + coded.read_bytes()

    def decompress(self, stream: bytes) -> Image:
        """The image of a stream; raises ``BitstreamError`` when it does not decode to the size in the prefix."""
        if len(stream) <= _PREFIX.size or not stream[_PREFIX.size :].startswith((b"\0\0\1", b"\0\0\0\1")):
            raise BitstreamError(f"the stream is no {self.programs.title} bitstream: give what this codec wrote")
        first, width = _PREFIX.unpack_from(stream)
        height = first & (_GREY - 1)
        check_size(height, width)
        with tempfile.TemporaryDirectory() as folder:
            coded, decoded = Path(folder) / "image.bin", Path(folder) / "image.yuv"
            coded.write_bytes(stream[_PREFIX.size :])
            arguments = ("-b", str(coded), "-o", str(decoded), "-d", "8")
            _decode([self.programs.path("decoder"), *arguments], decoded)
            planes = np.frombuffer(decoded.read_bytes(), np.uint8)
        if planes.size != 3 * height * width:
            raise BitstreamError(f"the {self.programs.title} stream is damaged: its two sizes disagree")
        ycbcr = planes.reshape(3, height, width).transpose(1, 2, 0)
        return np.ascontiguousarray(ycbcr[:, :, :1]) if first & _GREY else to_rgb(ycbcr)


def to_ycbcr(image: Image) -> Image:
    """8-bit BT.709 YCbCr (H, W, 3) in full range, of RGB (H, W, 3) or grey (H, W, 1): ITU-R BT.709-6, 3."""
    if image.shape[2] == 1:
        return np.concatenate([image, np.full((*image.shape[:2], 2), 128, np.uint8)], axis=2)
    red, green, blue = np.moveaxis(image.astype(np.float64), 2, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return _rounded(luma, 128 + (blue - luma) / 1.8556, 128 + (red - luma) / 1.5748)


def to_rgb(ycbcr: Image) -> Image:
    """The inverse of ``to_ycbcr`` for RGB, rounded and clipped: within 2 levels of the original."""
    luma, cb, cr = np.moveaxis(ycbcr.astype(np.float64), 2, 0)
    red, blue = luma + 1.5748 * (cr - 128), luma + 1.8556 * (cb - 128)
    return _rounded(red, (luma - 0.2126 * red - 0.0722 * blue) / 0.7152, blue)


@cache
def _printed_version(encoder: str) -> str:
    try:
        done = subprocess.run([encoder], capture_output=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return "(unknown version)"
    found = re.search(rb"(?:[Vv]ersion|Format\)) \[?v?(\d[\w.]*)", done.stdout + done.stderr)
    return found[1].decode() if found else "(unknown version)"


def _rounded(*planes: NDArray[np.float64]) -> Image:
    return np.stack(planes, axis=2).round().clip(0, 255).astype(np.uint8)


def _decode(command: Sequence[str], made: Path) -> None:
    """``_run`` for a decoder: that it fails means that the stream is damaged."""
    try:
        _run(command, made)
    except ProgramError as error:
        raise BitstreamError(f"the stream is damaged: {error}") from error


def _run(command: Sequence[str], made: Path) -> None:
    """Run a program without a shell and expect it to make a file; ``ProgramError`` otherwise."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL, cwd=made.parent
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{name} took more than {LIMIT_S:g} s") from error
    except OSError as error:
        raise ProgramError(f"{name} cannot be started ({error.strerror})") from error
    if done.returncode or not made.is_file():
        lines = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").splitlines()
        raise ProgramError(f"{name} ended with {done.returncode}: {lines[0] if lines else 'no message'}")


# The methods


class External(Anchor):
    """A codec behind two programs, refused with a reason where they are not."""

    no_thumbnails = "starts two processes per image, which 32x32 ones do not repay"
    programs: ClassVar[Programs]

    def library(self) -> str:
        """E.g. 'VTM 18.0 (EncoderAppStatic)': the version that the encoder prints when called without arguments."""
        encoder = self.programs.find("encoder")
        if encoder is None:
            return f"{self.programs.title} (not here)"
        return f"{self.programs.title} {_printed_version(encoder)} ({Path(encoder).name})"

    def skip(self, dataset: str) -> str | None:
        """A sentence on sets of thumbnails, and where a program is missing."""
        if dataset in THUMBNAILS:
            return f"{self.name} {self.no_thumbnails}"
        return self.programs.missing()


@METHODS.register("bpg")
@dataclass(frozen=True)
class Bpg(External):
    """BPG by F. Bellard: HEVC intra in a container of a few bytes."""

    title: ClassVar[str] = "BPG"
    programs = BPG
    curve = "qp"
    points = (47, 42, 37, 32, 27, 22)
    limits: ClassVar[Limits] = {"qp": Range(0, 51), "subsampling": CHROMA, "effort": Range(1, 9)}
    qp: int = 32
    subsampling: str = "4:4:4"
    effort: int = 9

    def codec(self, model: None = None) -> Codec:
        """bpgenc and bpgdec on PNG files."""
        chroma = self.subsampling.replace(":", "")
        settings = ("-q", str(self.qp), "-f", chroma, "-b", "8", "-m", str(self.effort))
        return FileCodec(
            self.programs,
            b"BPG\xfb",
            ".bpg",
            lambda source, coded: (*settings, "-o", coded, source),
            lambda coded, decoded: ("-o", decoded, coded),
        )


@METHODS.register("flif")
@dataclass(frozen=True)
class Flif(External):
    """FLIF 0.4 by J. Sneyers and P. Wuille, without loss."""

    title: ClassVar[str] = "FLIF"
    programs = FLIF
    lossless = True
    limits: ClassVar[Limits] = {"effort": Range(0, 100)}
    effort: int = 60

    def codec(self, model: None = None) -> Codec:
        """flif on PNG files."""
        return FileCodec(
            self.programs,
            b"FLIF",
            ".flif",
            lambda source, coded: ("-e", f"-E{self.effort}", source, coded),
            lambda coded, decoded: ("-d", coded, decoded),
        )


class Reference(External):
    """A reference software on planar files, in 4:4:4."""

    counts = "BT.709 full range 4:4:4, 8-bit files, rate = the raw elementary bitstream and 4 bytes of size"
    qp: int

    def codec(self, model: None = None) -> Codec:
        """The encoder with its own intra configuration, and the decoder."""
        settings = ("--InputChromaFormat=444", "--InputBitDepth=8", "--ConformanceWindowMode=1")
        return ReferenceCodec(self.programs, ("-q", str(self.qp), *settings))


@METHODS.register("hm")
@dataclass(frozen=True)
class Hm(Reference):
    """HEVC intra by the HM reference software with its range-extension configuration."""

    title: ClassVar[str] = "HM"
    programs = HM
    curve = "qp"
    points = (47, 42, 37, 32, 27, 22)
    limits: ClassVar[Limits] = {"qp": Range(0, 51)}
    qp: int = 32


@METHODS.register("vtm")
@dataclass(frozen=True)
class Vtm(Reference):
    """VVC intra by the VTM reference software with its intra configuration."""

    title: ClassVar[str] = "VTM"
    programs = VTM
    curve = "qp"
    points = (47, 42, 37, 32, 27, 22)
    limits: ClassVar[Limits] = {"qp": Range(0, 63)}
    qp: int = 32
