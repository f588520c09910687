"""Images in and out of files: what is kept, converted and refused, and the padding law."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as pillow

from core.codec import TesseraError
from core.images import ImageError, as_rgb, check_image, crop, decode_image, open_image, pad, save_image

RNG = np.random.default_rng(2)


def noise(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def stored(picture, tmp_path, name="x.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (64, 33, 3)])
def test_saving_loses_nothing(tmp_path, shape, suffix):
    image = noise(*shape)
    save_image(tmp_path / "new" / f"x.{suffix}", image)
    assert np.array_equal(open_image(tmp_path / "new" / f"x.{suffix}"), image)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"x.{suffix}"]


def test_grey_stays_grey(tmp_path):
    image = noise(6, 9, 1)
    save_image(tmp_path / "grey.png", image)
    assert np.array_equal(open_image(tmp_path / "grey.png"), image)
    assert np.array_equal(as_rgb(image), np.concatenate([image] * 3, axis=2))
    rgb = noise(2, 2)
    assert as_rgb(rgb) is rgb


def test_bilevel_is_grey(tmp_path):
    path = stored(pillow.fromarray(np.eye(5, dtype=bool)), tmp_path)
    assert np.array_equal(open_image(path)[..., 0], np.eye(5, dtype=np.uint8) * 255)


def test_palette_becomes_rgb(tmp_path):
    rgb = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], dtype=np.uint8)
    path = stored(pillow.fromarray(rgb).quantize(4), tmp_path)
    assert pillow.open(path).mode == "P"
    assert np.array_equal(open_image(path), rgb)


def test_cmyk_becomes_rgb(tmp_path):
    red = pillow.new("CMYK", (4, 3), (0, 255, 255, 0))
    image = open_image(stored(red, tmp_path, "x.tif"))
    assert image.shape == (3, 4, 3)
    assert np.array_equal(image[0, 0], [255, 0, 0])


def test_opaque_alpha_is_dropped(tmp_path):
    rgb = noise(5, 4)
    path = stored(pillow.fromarray(np.dstack([rgb, np.full((5, 4), 255, np.uint8)])), tmp_path)
    assert np.array_equal(open_image(path), rgb)


def test_opaque_grey_alpha_stays_grey(tmp_path):
    grey = noise(5, 4, 1)
    path = stored(pillow.merge("LA", [pillow.fromarray(grey[..., 0]), pillow.new("L", (4, 5), 255)]), tmp_path)
    assert np.array_equal(open_image(path), grey)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused(tmp_path, mode):
    picture = pillow.new("RGBA", (4, 4), (1, 2, 3, 255))
    picture.putpixel((2, 1), (1, 2, 3, 254))
    with pytest.raises(ImageError, match=r"t\.png has transparent pixels.*flatten"):
        open_image(stored(picture.convert(mode), tmp_path, "t.png"))


def test_transparent_palette_entry_is_refused(tmp_path):
    picture = pillow.fromarray(noise(4, 4)).quantize(4)
    with pytest.raises(ImageError, match="transparent"):
        open_image(stored(picture, tmp_path, transparency=int(np.array(picture)[0, 0])))


def png16(channels):
    """A 2x2 PNG of 16 bits a sample, written by hand because Pillow writes none with three channels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    rows = (b"\0" + bytes(range(4 * channels))) * 2
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_refused(tmp_path, channels):
    (tmp_path / "deep.png").write_bytes(png16(channels))
    assert pillow.open(tmp_path / "deep.png").size == (2, 2)
    with pytest.raises(ImageError, match=r"deep\.png has more than 8 bits a sample.*-depth 8"):
        open_image(tmp_path / "deep.png")


def test_other_deep_files_are_refused(tmp_path):
    with pytest.raises(ImageError, match="8 bits"):
        open_image(stored(pillow.new("F", (3, 3)), tmp_path, "x.tif"))
    (tmp_path / "x.ppm").write_bytes(b"P6 2 1 65535\n" + bytes(12))
    with pytest.raises(ImageError, match="8 bits"):
        open_image(tmp_path / "x.ppm")


def test_eight_bit_ppm_is_fine():
    assert np.array_equal(decode_image(b"P6 2 1 255\n\1\2\3\4\5\6", "x"), [[[1, 2, 3], [4, 5, 6]]])


def test_exif_orientation_is_applied(tmp_path):
    image = noise(4, 6)
    exif = pillow.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    path = stored(pillow.fromarray(image), tmp_path, exif=exif)
    assert np.array_equal(open_image(path), np.rot90(image, -1))


def png_bytes(image):
    file = io.BytesIO()
    pillow.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"not an image", png_bytes(noise(40, 40))[:-900], b"\x89PNG\r\n\x1a\n" + bytes(50)]
)
def test_broken_files_are_named(tmp_path, data):
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"bad\.png is (damaged|not an image).*remove or replace it\.$") as caught:
        open_image(tmp_path / "bad.png")
    assert "\n" not in str(caught.value)


def test_mutated_files_never_escape_the_error():
    good = bytearray(png_bytes(noise(12, 12)))
    for i in range(300):
        data = bytearray(good)
        data[RNG.integers(len(data))] ^= 1 << int(RNG.integers(8))
        try:
            assert decode_image(bytes(data[: len(data) - i % 3]), "x").dtype == np.uint8
        except ImageError as error:
            assert str(error).startswith("x ")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png cannot be read"):
        open_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read"):
        open_image(tmp_path)


@pytest.mark.parametrize("side", [12000, 200_000])
def test_decompression_bombs_are_refused(side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"bomb\.png declares more than"):
        decode_image(bomb, "bomb.png")


def test_saving_refuses_what_it_cannot_keep(tmp_path):
    with pytest.raises(ImageError, match=r"must end in \.png or \.webp"):
        save_image(tmp_path / "x.jpg", noise(2, 2))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TesseraError, match="cannot be written"):
        save_image(tmp_path / "file" / "x.png", noise(2, 2))
    for wrong in (noise(2, 2)[..., 0], noise(2, 2, 2), noise(2, 2).astype(float), noise(0, 2)):
        with pytest.raises(ImageError, match="uint8"):
            check_image(wrong)


@pytest.mark.parametrize("height,width,multiple", [(1, 1, 64), (5, 7, 4), (64, 64, 64), (65, 63, 64), (3, 3, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_padding_repeats_the_edge_and_crops_back(height, width, multiple, channels):
    image = noise(height, width, channels)
    padded = pad(image, multiple)
    assert padded.shape[0] % multiple == 0 and padded.shape[1] % multiple == 0
    assert padded.shape[0] - height < multiple and padded.shape[1] - width < multiple
    assert np.array_equal(crop(padded, height, width), image)
    rows, columns = (
        np.minimum(np.arange(padded.shape[0]), height - 1),
        np.minimum(np.arange(padded.shape[1]), width - 1),
    )
    assert np.array_equal(padded, image[rows][:, columns])
