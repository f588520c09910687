"""Depth and layout of picture files: 8 bits are read exactly, others refused, or converted on request."""

from __future__ import annotations

import io
import itertools
import struct
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as pillow

from core.images import Conversion, ImageError, array_image, decode_image

RNG = np.random.default_rng(7)
DEPTH = Conversion(depth=8)
MORE = r"x has more than 8 bits a sample and only 8-bit images are measured; convert it first, .*-depth 8"


def noise(top: int, *shape: int) -> NDArray[Any]:
    return RNG.integers(0, top + 1, shape or (16, 20, 3)).astype(np.uint8 if top < 256 else np.uint16)


def eight(samples: NDArray[Any], top: int) -> NDArray[np.uint8]:
    """The definition: 255 c / m, halves up."""
    return np.floor(255 * samples.astype(np.float64) / top + 0.5).astype(np.uint8)


def heic(samples: NDArray[Any], bits: int, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    file, mode = io.BytesIO(), "RGB" if bits == 8 else "RGB;16"
    whole = samples if bits == 8 else samples << (16 - bits)
    size = samples.shape[1::-1]
    pillow_heif.encode(mode, size, whole.tobytes(), file, quality=-1, chroma="444", matrix_coefficients=0)
    return file.getvalue()


def tiff(samples: NDArray[Any], order: str = "<", **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=order) as writer:  # type: ignore[arg-type]
        writer.write(samples, **options)
    return file.getvalue()


def saved(samples: NDArray[Any], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(samples).save(file, kind, **options)
    return file.getvalue()


def check(data: bytes, samples: NDArray[Any], top: int, plain: bool) -> None:
    """A file of ``samples`` from 0 to ``top``: read as they are, or refused and converted."""
    whole = samples.reshape(*samples.shape[:2], -1)
    if plain:
        assert np.array_equal(decode_image(data, "x"), whole * (255 // top))
    else:
        with pytest.raises(ImageError, match=MORE if top > 255 else f"x has values from 0 to {top}, not 8 bits"):
            decode_image(data, "x")
    assert np.array_equal(decode_image(data, "x", DEPTH), eight(whole, top))


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif(bits: int) -> None:
    samples = noise(2**bits - 1)
    check(bytes(imagecodecs.avif_encode(samples, bitspersample=bits, level=100)), samples, 2**bits - 1, bits == 8)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_heic(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(2**bits - 1)
    check(heic(samples, bits, monkeypatch), samples, 2**bits - 1, bits == 8)


@pytest.mark.parametrize("bits", [4, 7, 8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("form", ["j2k", "jp2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg2000(bits: int, form: str, channels: int) -> None:
    samples = noise(2**bits - 1, 16, 20, 3) if channels == 3 else noise(2**bits - 1, 16, 20)
    data = imagecodecs.jpeg2k_encode(samples, bitspersample=bits, level=0, codecformat=form)
    check(bytes(data), samples, 2**bits - 1, bits == 8)


@pytest.mark.parametrize("bits", [3, 8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("container", [True, False])
def test_jpegxl(bits: int, container: bool) -> None:
    samples = noise(2**bits - 1)
    data = imagecodecs.jpegxl_encode(samples, bitspersample=bits, lossless=True, usecontainer=container)
    check(bytes(data), samples, 2**bits - 1, bits == 8)


def test_jpegxl_of_floats_and_animations() -> None:
    floats = imagecodecs.jpegxl_encode(noise(255).astype(np.float32) / 255, lossless=True)
    for convert in (Conversion(), DEPTH):
        with pytest.raises(ImageError, match="x has signed, floating-point or unequal samples"):
            decode_image(bytes(floats), "x", convert)
    with pytest.raises(ImageError, match="x is an animation; save the picture in it as PNG"):
        decode_image(bytes(imagecodecs.jpegxl_encode(noise(255, 3, 16, 20, 3), lossless=True)), "x")


@pytest.mark.parametrize("shape", [(16, 20), (16, 20, 3)])
def test_png(shape: tuple[int, ...]) -> None:
    samples = noise(65535, *shape)
    check(bytes(imagecodecs.png_encode(samples)), samples, 65535, False)


def test_jpeg_of_12_bits_is_turned_as_it_says() -> None:
    samples = np.add.outer(np.arange(16) * 100, np.arange(24) * 60).astype(np.uint16)
    data = bytes(imagecodecs.jpeg8_encode(samples, bitspersample=12, level=100))
    with pytest.raises(ImageError, match=MORE):
        decode_image(data, "x")
    straight = decode_image(data, "x", DEPTH)
    assert np.abs(straight[..., 0].astype(int) - eight(samples, 4095)).max() <= 1
    exif = pillow.Exif()
    exif[0x0112] = 6
    segment = exif.tobytes()
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    assert np.array_equal(decode_image(turned, "x", DEPTH), np.rot90(straight, -1))


@pytest.mark.parametrize("rle", [False, True])
def test_sgi(rle: bool) -> None:
    samples = noise(255)
    assert np.array_equal(decode_image(saved(samples, "SGI"), "x"), samples)
    planes = noise(65535, 3, 16, 20).astype(">u2")
    data = bytearray(saved(samples, "SGI", bpc=2)[:512] + planes[:, ::-1].tobytes())
    data[2] = rle
    with pytest.raises(ImageError, match=MORE):
        decode_image(bytes(data), "x")
    if rle:
        with pytest.raises(ImageError, match="x cannot be converted to 8 bits here; convert it first"):
            decode_image(bytes(data), "x", DEPTH)
    else:
        check(bytes(data), np.moveaxis(planes, 0, -1).astype(np.uint16), 65535, False)


@pytest.mark.parametrize("top", [1, 3, 15, 85, 100, 127, 254, 255, 256, 1023, 65535])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_pnm(top: int, plain: bool, channels: int) -> None:
    samples = noise(top, 3, 4, channels)
    head = b"P%d # a comment\n4 # and 5 another\n3\n%d\n" % ((2 if plain else 5) + (channels == 3), top)
    body = b" ".join(b"%d" % v for v in samples.ravel()) if plain else samples.astype(">u2" if top > 255 else "u1")
    check(head + bytes(body if isinstance(body, bytes) else body.tobytes()), samples, top, 255 % top == 0)


LAYOUTS = itertools.product(("contig", "separate"), ("rgb", "minisblack", "miniswhite"), (None, "deflate"), "<>")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "layout", [x for x in LAYOUTS if x[:2] not in (("separate", y) for y in ("minisblack", "miniswhite"))]
)
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiff(bits: int, layout: tuple[str, str, str | None, str], tile: tuple[int, int] | None) -> None:
    planar, photometric, compression, order = layout
    top = 2**bits - 1
    samples = noise(top, 40, 50, 3) if photometric == "rgb" else noise(top, 40, 50)
    options: dict[str, Any] = {"photometric": photometric, "compression": compression, "tile": tile}
    options |= {"planarconfig": planar} if photometric == "rgb" else {}
    data = tiff(np.moveaxis(samples, -1, 0) if planar == "separate" else samples, order, **options)
    check(data, top - samples if photometric == "miniswhite" else samples, top, bits == 8)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
def test_tiff_of_packed_bits(bits: int) -> None:
    samples = noise(2**bits - 1, 8, 10)
    check(tiff(samples, bitspersample=bits, photometric="minisblack"), samples, 2**bits - 1, bits in (2, 4))


@pytest.mark.parametrize("kind", ["int8", "int16", "float16", "float32"])
def test_tiff_of_other_numbers(kind: str) -> None:
    data = tiff(np.ones((4, 5), kind), photometric="minisblack")
    for convert in (Conversion(), DEPTH):
        with pytest.raises(ImageError, match="x has signed, floating-point or unequal samples, not 8 bits a sample"):
            decode_image(data, "x", convert)


def test_tiff_of_more_channels_and_deep_palettes() -> None:
    for shape, extra in (((8, 10, 4), ["unspecified"]), ((8, 10, 5), None)):
        data = tiff(noise(255, *shape), photometric="rgb", planarconfig="contig", extrasamples=extra)
        with pytest.raises(ImageError, match="x has channels beside its colours that are not alpha"):
            decode_image(data, "x")
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256)
    with pytest.raises(ImageError, match=MORE):
        decode_image(tiff(noise(255, 4, 5), photometric="palette", colormap=colours), "x")
    index = noise(255, 4, 5)
    fine = decode_image(tiff(index, photometric="palette", colormap=colours % 256 * 257), "x")
    assert np.array_equal(fine, np.moveaxis(colours % 256, 0, -1)[index])


def test_deep_colours_multiplied_by_alpha_and_deep_cmyk_are_not_converted() -> None:
    both = Conversion("white", 8)
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "contig"}
    with pytest.raises(ImageError, match="x cannot be converted to 8 bits here"):
        decode_image(tiff(noise(65535, 8, 10, 4), extrasamples=["assocalpha"], **options), "x", both)
    assert decode_image(tiff(noise(65535, 8, 10, 4), extrasamples=["unassalpha"], **options), "x", both).shape[2] == 3
    cmyk = imagecodecs.jpeg8_encode(noise(4095, 16, 24, 4), bitspersample=12, colorspace="CMYK", outcolorspace="CMYK")
    with pytest.raises(ImageError, match="x cannot be converted to 8 bits here"):
        decode_image(bytes(cmyk), "x", both)


def test_bmp_of_16_bits_a_pixel_is_refused() -> None:
    head = struct.pack("<IHHI", 62, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 8, 0, 0, 0, 0)
    with pytest.raises(ImageError, match="x has values from 0 to 31, not 8 bits"):
        decode_image(b"BM" + head + bytes(8), "x")
    samples = noise(255)
    assert np.array_equal(decode_image(saved(samples, "BMP"), "x"), samples)


def test_qoi_and_unknown_formats() -> None:
    samples = noise(255)
    assert np.array_equal(decode_image(bytes(imagecodecs.qoi_encode(samples)), "x"), samples)
    with pytest.raises(ImageError, match=r"x is not an image in a known format \(PNG, JPEG, WebP, .*\); remove"):
        decode_image(saved(samples, "ICO"), "x")


@pytest.mark.parametrize("alpha", ["white", "black"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_put_on_a_ground_exactly(alpha: str, bits: int, channels: int) -> None:
    top = 2**bits - 1
    samples = noise(top, 9, 7, channels)
    colours, opacity = samples[..., :-1].astype(object), samples[..., -1:].astype(object)
    mixed = (colours * opacity + (top - opacity) * (top if alpha == "white" else 0)) * 255
    wanted = ((2 * mixed + top * top) // (2 * top * top)).astype(np.uint8)
    data = bytes(imagecodecs.png_encode(samples))
    assert np.array_equal(decode_image(data, "x", Conversion(alpha, 8 if bits == 16 else 0)), wanted)
    assert np.array_equal(array_image(samples, "x", Conversion(alpha, 8)), wanted)
    with pytest.raises(ImageError, match="x has transparent pixels" if bits == 8 else MORE):
        decode_image(data, "x")
    with pytest.raises(ImageError, match="x has transparent pixels"):
        decode_image(data, "x", DEPTH)


def test_conversions_leave_other_pictures_alone() -> None:
    image = noise(255)
    assert np.array_equal(decode_image(saved(image, "PNG"), "x", Conversion("black", 8)), image)
    with pytest.raises(ImageError, match="alpha=red must be white or black"):
        Conversion("red")
    with pytest.raises(ImageError, match="depth=16 must be 8"):
        Conversion(depth=16)


@pytest.mark.parametrize("kind", ["avif", "jpeg2k", "jpegxl", "tiff", "ppm", "sgi", "heic", "bmp"])
def test_damaged_files_are_images_or_sentences(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(65535)
    made = {
        "avif": lambda: bytes(imagecodecs.avif_encode(samples >> 6, bitspersample=10)),
        "jpeg2k": lambda: bytes(imagecodecs.jpeg2k_encode(samples, level=0, codecformat="jp2")),
        "jpegxl": lambda: bytes(imagecodecs.jpegxl_encode(samples, lossless=True)),
        "tiff": lambda: tiff(samples, photometric="rgb"),
        "ppm": lambda: b"P6 20 16 65535\n" + samples.astype(">u2").tobytes(),
        "sgi": lambda: saved(noise(255), "SGI", bpc=2),
        "heic": lambda: heic(samples >> 6, 10, monkeypatch),
        "bmp": lambda: saved(noise(255), "BMP"),
    }[kind]()
    refused = 0
    for i in range(60):
        data = bytearray(made)
        data[RNG.integers(min(200, len(data)))] ^= 1 << int(RNG.integers(8))
        try:
            assert decode_image(bytes(data[: len(data) - i % 3 * 40]), "x", DEPTH).dtype == np.uint8
        except ImageError as error:
            assert str(error).startswith("x ") and "\n" not in str(error)
            refused += 1
    assert refused > 5


def test_a_deep_picture_that_declares_a_huge_size_is_refused_before_it_is_decoded() -> None:
    png = bytearray(imagecodecs.png_encode(noise(65535)))
    png[16:24] = struct.pack(">II", 70000, 70000)
    stream = bytearray(imagecodecs.jpeg2k_encode(noise(4095), bitspersample=12, level=0, codecformat="j2k"))
    stream[8:16] = struct.pack(">II", 70000, 70000)
    for data in (png, stream, b"P6 70000 70000 65535\n" + bytes(9)):
        with pytest.raises(ImageError, match="x declares more than"):
            decode_image(bytes(data), "x", DEPTH)
