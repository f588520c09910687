"""Lossy classical codecs as methods: what learned codecs are measured against, by the same contract and the same ruler.

They need no weights, so ``METHODS["jpeg"](quality=50).codec(None)`` is ready at once. Here is what each one is and
which settings it has, those without loss are in ``lossless``; how a format is coded stands in ``stills`` (libraries),
``video`` (x265, VVC) and ``programs`` (programs that must be built by hand). ``note`` says which library version coded
the streams and what the rate counts; asking for it loads the library, importing this module does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.classical import stills, video
from benchmarks.classical.base import CHROMA, Anchor, Limits, Range
from core.codec import Codec
from core.registry import METHODS

GREY_AS_RGB = "a grey image is coded as RGB behind 1 byte"


# Lossy files


@METHODS.register("jpeg")
@dataclass(frozen=True)
class Jpeg(Anchor):
    """JPEG (ITU-T T.81) with optimised Huffman tables."""

    title: ClassVar[str] = "JPEG"
    curve = "quality"
    points = (5, 10, 20, 35, 50, 65, 80, 88)
    origin = ("pillow", "libjpeg_turbo", "libjpeg-turbo")
    counts = "optimised Huffman tables, rate = the whole file"
    limits: ClassVar[Limits] = {
        "quality": Range(1, 100),
        "subsampling": (*CHROMA, "4:2:2"),
        "progressive": (True, False),
    }
    quality: int = 50
    subsampling: str = "4:2:0"
    progressive: bool = False

    def codec(self, model: None = None) -> Codec:
        """Pillow in both directions."""
        options: dict[str, Any] = {
            "quality": self.quality,
            "subsampling": self.subsampling,
            "progressive": self.progressive,
        }
        return stills.pillow_codec(stills.JPEG, "JPEG", optimize=True, **options)


@METHODS.register("jpeg2000")
@dataclass(frozen=True)
class Jpeg2000(Anchor):
    """JPEG 2000 (ISO 15444-1), irreversible 9/7 wavelet and colour transform, at a compression ratio."""

    title: ClassVar[str] = "JPEG 2000"
    curve = "ratio"
    points = (240, 120, 60, 36, 24, 16, 12)
    origin = ("pillow", "jpg_2000", "OpenJPEG")
    counts = "irreversible with colour transform, rate = the raw codestream"
    limits: ClassVar[Limits] = {"ratio": Range(1, 10000, whole=False)}
    ratio: float = 48

    def codec(self, model: None = None) -> Codec:
        """Pillow in both directions; no JP2 container."""
        options: dict[str, Any] = {"quality_mode": "rates", "quality_layers": [self.ratio], "no_jp2": True}
        return stills.pillow_codec(stills.JPEG2000, "JPEG2000", irreversible=True, mct=1, **options)


@METHODS.register("webp")
@dataclass(frozen=True)
class WebP(Anchor):
    """Lossy WebP (RFC 9649), 4:2:0 by its definition."""

    title: ClassVar[str] = "WebP"
    curve = "quality"
    points = (1, 10, 30, 50, 70, 80, 88, 91)
    origin = ("pillow", "webp", "libwebp")
    counts = f"{GREY_AS_RGB}, rate = the whole file"
    limits: ClassVar[Limits] = {"quality": Range(0, 100), "effort": Range(0, 6)}
    quality: int = 60
    effort: int = 6

    def codec(self, model: None = None) -> Codec:
        """Pillow in both directions."""
        return stills.pillow_codec(stills.WEBP, "WEBP", quality=self.quality, method=self.effort)


@METHODS.register("avif")
@dataclass(frozen=True)
class Avif(Anchor):
    """AVIF: one AV1 intra picture in a HEIF container."""

    title: ClassVar[str] = "AVIF"
    curve = "quality"
    points = (5, 15, 30, 45, 60, 70, 80)
    origin = ("pillow", "avif", "libavif")
    counts = f"8 bits, {GREY_AS_RGB}, rate = the whole file with its container of about 300 bytes"
    limits: ClassVar[Limits] = {"quality": Range(0, 100), "subsampling": CHROMA, "speed": Range(0, 10)}
    quality: int = 50
    subsampling: str = "4:4:4"
    speed: int = 6

    def codec(self, model: None = None) -> Codec:
        """Pillow in both directions, one thread."""
        options: dict[str, Any] = {
            "quality": self.quality,
            "subsampling": self.subsampling,
            "speed": self.speed,
            "max_threads": 1,
        }
        return stills.pillow_codec(stills.AVIF, "AVIF", grey=False, **options)


@METHODS.register("jpegxl")
@dataclass(frozen=True)
class JpegXl(Anchor):
    """JPEG XL (ISO 18181), VarDCT, at a Butteraugli distance (1 is visually lossless)."""

    title: ClassVar[str] = "JPEG XL"
    curve = "distance"
    points = (20.0, 12.0, 7.0, 4.0, 2.5, 1.5, 0.8)
    origin = ("imagecodecs", "libjxl", "libjxl")
    counts = "rate = the raw codestream"
    limits: ClassVar[Limits] = {"distance": Range(0.01, 25, whole=False), "effort": Range(1, 9)}
    distance: float = 3.0
    effort: int = 7

    def codec(self, model: None = None) -> Codec:
        """imagecodecs in both directions, one thread, no container."""
        options: dict[str, Any] = {"distance": float(self.distance), "effort": self.effort, "usecontainer": False}
        return stills.imagecodecs_codec(stills.JPEGXL, "jpegxl", stills.jpegxl_size, **options)


@METHODS.register("heic")
@dataclass(frozen=True)
class Heic(Anchor):
    """HEIC: one HEVC intra picture by x265 in a HEIF container."""

    title: ClassVar[str] = "HEIC"
    curve = "quality"
    points = (14, 22, 30, 38, 46, 54, 62)
    origin = ("pillow-heif", "libheif", "libheif")
    counts = "8 bits, rate = the whole file with its container of about 400 bytes"
    limits: ClassVar[Limits] = {"quality": Range(0, 100), "subsampling": CHROMA}
    quality: int = 40
    subsampling: str = "4:4:4"

    def codec(self, model: None = None) -> Codec:
        """pillow-heif in both directions."""
        return stills.heic_codec(quality=self.quality, chroma=self.subsampling.replace(":", ""))


# Video encoders


class Video(Anchor):
    """An intra picture of a video encoder: no container, and hardly worth a process on thumbnails."""

    origin = ("imageio-ffmpeg", "", "ffmpeg")
    no_thumbnails = "starts a process per image and spends most bytes of a 32x32 one on parameter sets"
    encoder: ClassVar[str] = ""
    decoder: ClassVar[str] = ""
    counts = (
        "BT.709 full range, rate = the raw elementary bitstream and its end unit, and 4 bytes of size where it cannot "
        "say it (grey, very small sides, odd sides in 4:2:0), padded by repeating the edge"
    )

    def library(self) -> str:
        """E.g. 'libvvenc 1.15.0-dev in ffmpeg n9.0.2'."""
        return video.version(self.encoder)

    def skip(self, dataset: str) -> str | None:
        """A sentence on sets of thumbnails and where ffmpeg lacks the encoder."""
        return super().skip(dataset) or video.missing(self.encoder, self.decoder)


@METHODS.register("x265")
@dataclass(frozen=True)
class X265(Video):
    """HEVC intra (ITU-T H.265) by x265, tuned for PSNR; an intra picture is coded at 3 below the nominal QP."""

    title: ClassVar[str] = "x265"
    encoder, decoder = "libx265", "hevc"
    curve = "qp"
    points = (46, 41, 36, 31, 26, 22)
    limits: ClassVar[Limits] = {
        "qp": Range(0, 51),
        "subsampling": CHROMA,
        "depth": (8, 10),
        "preset": video.X265_PRESETS,
    }
    qp: int = 32
    subsampling: str = "4:4:4"
    depth: int = 8
    preset: str = "veryslow"

    def codec(self, model: None = None) -> Codec:
        """ffmpeg with libx265 and its own HEVC decoder; the information message of x265 (2 kB) is left out."""
        chroma, suffix = f"yuv{self.subsampling.replace(':', '')}p", "10le" if self.depth == 10 else ""
        settings = f"qp={self.qp}:keyint=1:info=0:pools=none:frame-threads=1:log-level=error"
        options = ("-c:v", "libx265", "-preset", self.preset, "-tune", "psnr", "-x265-params")
        ways = (settings, f"{settings}:allow-non-conformance=1")  # the latter for what fits no level: long and thin
        plain, rescue = ((*options, way) for way in ways)
        even = self.subsampling == "4:2:0"
        return video.VideoCodec(video.HEVC, chroma + suffix, f"gray{suffix}", even, plain, rescue)


@METHODS.register("vvc")
@dataclass(frozen=True)
class Vvc(Video):
    """VVC intra (ITU-T H.266) by Fraunhofer's VVenC: 10 bits, 4:2:0, the only format that it codes."""

    title: ClassVar[str] = "VVenC"
    encoder, decoder = "libvvenc", "vvc"
    curve = "qp"
    points = (47, 42, 37, 32, 27, 22)
    limits: ClassVar[Limits] = {
        "qp": Range(0, 63),
        "preset": video.VVENC_PRESETS,
        "perceptual": (True, False),
    }
    qp: int = 32
    preset: str = "medium"
    perceptual: bool = True  # VVenC's default: the QP follows local activity; hardly matters for PSNR at equal rate

    def codec(self, model: None = None) -> Codec:
        """ffmpeg with libvvenc and its own VVC decoder."""
        options = ("-c:v", "libvvenc", "-preset", self.preset, "-qp", str(self.qp), "-qpa", str(int(self.perceptual)))
        return video.VideoCodec(video.VVC, "yuv420p10le", "yuv420p10le", True, options)
