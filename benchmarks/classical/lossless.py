"""Lossless classical codecs as methods, under the same contract and the same ruler as ``methods``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.classical import stills
from benchmarks.classical.base import Anchor, Limits, Range
from benchmarks.classical.methods import GREY_AS_RGB
from core.codec import Codec
from core.registry import METHODS


@METHODS.register("png")
@dataclass(frozen=True)
class Png(Anchor):
    """PNG (ISO 15948): least-absolute-sum row filters and libdeflate; the published Kodak files are 4.3500 bpd."""

    title: ClassVar[str] = "PNG"
    lossless = True
    origin = ("imagecodecs", "libdeflate", "libdeflate")
    counts = "row filters by least absolute sum, rate = the whole file"
    limits: ClassVar[Limits] = {"level": Range(1, 12)}
    level: int = 9

    def codec(self, model: None = None) -> Codec:
        """Our filters and chunks around libdeflate's zlib stream; Pillow decodes."""
        size, decoder = stills.pillow_size("PNG"), stills.pillow_decoder("PNG")
        return stills.StillCodec(stills.PNG, stills.png_encoder(self.level), decoder, size)


@METHODS.register("webp_lossless")
@dataclass(frozen=True)
class WebPLossless(Anchor):
    """Lossless WebP (RFC 9649)."""

    title: ClassVar[str] = "WebP lossless"
    lossless = True
    origin = ("pillow", "webp", "libwebp")
    counts = f"{GREY_AS_RGB}, rate = the whole file"
    limits: ClassVar[Limits] = {"effort": Range(0, 6), "quality": Range(0, 100)}
    effort: int = 4
    quality: int = 80  # in lossless mode, how hard the encoder tries

    def codec(self, model: None = None) -> Codec:
        """Pillow in both directions."""
        options: dict[str, Any] = {"method": self.effort, "quality": self.quality, "exact": True}
        return stills.pillow_codec(stills.WEBP, "WEBP", lossless=True, **options)


@METHODS.register("jpegxl_lossless")
@dataclass(frozen=True)
class JpegXlLossless(Anchor):
    """JPEG XL (ISO 18181) in its modular mode, without loss."""

    title: ClassVar[str] = "JPEG XL lossless"
    lossless = True
    origin = ("imagecodecs", "libjxl", "libjxl")
    counts = "rate = the raw codestream"
    limits: ClassVar[Limits] = {"effort": Range(1, 10)}
    effort: int = 7

    def codec(self, model: None = None) -> Codec:
        """imagecodecs in both directions, one thread, no container."""
        options: dict[str, Any] = {"lossless": True, "effort": self.effort, "usecontainer": False}
        return stills.imagecodecs_codec(stills.JPEGXL, "jpegxl", stills.jpegxl_size, **options)


@METHODS.register("jpegls")
@dataclass(frozen=True)
class JpegLs(Anchor):
    """JPEG-LS (ISO 14495-1): LOCO-I, each channel by itself, as the standard has no colour transform."""

    title: ClassVar[str] = "JPEG-LS"
    lossless = True
    origin = ("imagecodecs", "charls", "CharLS")
    counts = "no colour transform, rate = the whole file"

    def codec(self, model: None = None) -> Codec:
        """imagecodecs in both directions."""
        return stills.imagecodecs_codec(stills.JPEGLS, "jpegls", stills.jpegls_size, False, stills.JPEGLS_ROOM)


@METHODS.register("jpeg2000_lossless")
@dataclass(frozen=True)
class Jpeg2000Lossless(Anchor):
    """JPEG 2000 (ISO 15444-1) with the reversible 5/3 wavelet and colour transform."""

    title: ClassVar[str] = "JPEG 2000 lossless"
    lossless = True
    origin = ("imagecodecs", "openjpeg", "OpenJPEG")
    counts = "reversible with colour transform, rate = the raw codestream"

    def codec(self, model: None = None) -> Codec:
        """imagecodecs in both directions, one thread, no JP2 container."""
        options: dict[str, Any] = {"reversible": True, "mct": True, "level": 0, "codecformat": "j2k"}
        return stills.imagecodecs_codec(stills.JPEG2000, "jpeg2k", stills.jpeg2000_size, **options)


@METHODS.register("avif_lossless")
@dataclass(frozen=True)
class AvifLossless(Anchor):
    """AVIF without loss: AV1 lossless on the RGB planes themselves (matrix coefficients 'identity')."""

    title: ClassVar[str] = "AVIF lossless"
    lossless = True
    origin = ("imagecodecs", "libavif", "libavif")
    counts = "identity matrix, rate = the whole file with its container of about 300 bytes"
    limits: ClassVar[Limits] = {"speed": Range(0, 10)}
    speed: int = 6

    def codec(self, model: None = None) -> Codec:
        """imagecodecs in both directions, one thread (Pillow's quality=100 is not lossless)."""
        size = stills.pillow_size("AVIF")
        return stills.imagecodecs_codec(stills.AVIF, "avif", size, level=100, speed=self.speed)


@METHODS.register("heic_lossless")
@dataclass(frozen=True)
class HeicLossless(Anchor):
    """HEIC without loss: HEVC lossless on the RGB planes themselves (matrix coefficients 'identity')."""

    title: ClassVar[str] = "HEIC lossless"
    lossless = True
    origin = ("pillow-heif", "libheif", "libheif")
    counts = "identity matrix, rate = the whole file with its container of about 400 bytes"
    no_thumbnails = "pads a 32x32 image to 64x64 and writes more bytes than the samples themselves have"

    def codec(self, model: None = None) -> Codec:
        """pillow-heif in both directions."""
        return stills.heic_codec(quality=-1, chroma="444", matrix_coefficients=0)
