"""Classical codecs: the contract on odd sizes, measured rates on Kodak, damaged streams, notes and skips."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.classical import lossless, methods, stills, video
from core.bitstream import BitstreamError
from core.codec import Codec, TesseraError
from core.images import open_image
from core.registry import METHODS, make_method
from tests.support.shared import shared

Picture = NDArray[np.uint8]
STILLS = ("jpeg", "jpeg2000", "webp", "avif", "jpegxl", "heic")
VIDEO = ("x265", "vvc")
LOSSLESS = ("png", "webp_lossless", "jpegxl_lossless", "jpegls", "jpeg2000_lossless", "avif_lossless", "heic_lossless")
PROGRAMS = ("bpg", "flif", "hm", "vtm")
HERE = STILLS + VIDEO + LOSSLESS


def codec(name: str, **params: object) -> Codec:
    return make_method(name, params).codec(None)


def picture(height: int, width: int, channels: int, seed: int = 3) -> Picture:
    """A smooth colour ramp with some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    plane = 40 + 2 * rows[:, :, None] + 3 * columns[:, :, None] + 20 * np.arange(channels)
    return (plane + rng.integers(0, 9, plane.shape)).clip(0, 255).astype(np.uint8)


def test_every_anchor_is_registered_once() -> None:
    assert METHODS["jpeg"] is methods.Jpeg and METHODS["png"] is lossless.Png
    mine = {name for name, method in METHODS.items() if method.__module__.startswith("benchmarks.")}
    assert mine == {*HERE, *PROGRAMS}
    assert {name for name in mine if METHODS[name].lossless} == {*LOSSLESS, "flif"}


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 17)])
def test_contract_on_odd_sizes(name: str, size: tuple[int, int], channels: int) -> None:
    image = picture(*size, channels)
    kept = image.copy()
    stream = codec(name).compress(image)
    decoded = codec(name).decompress(stream)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    assert type(stream) is bytes and np.array_equal(image, kept)
    if name in LOSSLESS:
        assert np.array_equal(decoded, image)
    elif name != "jpeg2000":  # a ratio of 48 leaves such a picture fewer bytes than its headers take
        assert np.abs(decoded.astype(int) - image).mean() < 12
    if size == (33, 17):
        assert codec(name).compress(image) == stream


@pytest.mark.parametrize("name", [n for n in HERE if not METHODS[n].lossless and n != "vvc"])
def test_points_are_ordered_along_the_curve(name: str) -> None:
    method = METHODS[name]
    image = picture(64, 96, 3)
    sizes = [len(method().at(p).codec(None).compress(image)) for p in (method.points[0], method.points[-1])]
    assert 5 <= len(method.points) <= 9 and sizes[0] < sizes[1]


def hard(kind: str, channels: int) -> Picture:
    """A picture that is hard on buffers and limits: noise, one value, one pixel, one row, one column."""
    sizes = {"noise": (61, 47), "constant": (40, 40), "pixel": (1, 1), "row": (1, 5000), "column": (5000, 1)}
    image = np.random.default_rng(1).integers(0, 256, (*sizes[kind], channels), dtype=np.uint8)
    return np.full_like(image, 77) if kind == "constant" else image


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("kind", ["noise", "constant", "pixel", "row", "column"])
def test_hard_pictures_are_coded(name: str, kind: str) -> None:
    image = hard(kind, 1 if kind == "column" else 3)
    options = {"preset": "faster"} if name == "vvc" else {"preset": "ultrafast"} if name == "x265" else {}
    method = codec(name, **options)
    decoded = method.decompress(method.compress(image))
    assert decoded.shape == image.shape and (name not in LOSSLESS or np.array_equal(decoded, image))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jpegls", {}),
        *(("jpeg", {"quality": q, "subsampling": s, "progressive": p}) for q, s, p in (
            (100, "4:4:4", False), (100, "4:4:4", True), (90, "4:4:4", False), (90, "4:2:2", True), (94, "4:2:0", False)
        )),
    ],
)  # fmt: skip
def test_noise_fits_into_the_buffers(name: str, options: dict[str, object]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (300, 310, 3), dtype=np.uint8)
    method = codec(name, **options)
    stream = method.compress(image)
    assert len(stream) > image.size / 5 and method.decompress(stream).shape == image.shape


def test_a_buffer_changes_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    image, before = picture(80, 90, 3), ImageFile.MAXBLOCK
    stream = codec("jpeg").compress(image)
    monkeypatch.setattr(stills, "JPEG_ROOM", 0)
    assert codec("jpeg").compress(image) == stream and before == ImageFile.MAXBLOCK


def test_what_vvc_cannot_code_is_said() -> None:
    with pytest.raises(
        TesseraError, match=r"^VVC cannot code a 47x61 image: ffmpeg says '.*'; it takes no more than 1 byte"
    ):
        codec("vvc", qp=3, preset="faster").compress(hard("noise", 3))


# Measured on Kodak with the pinned library versions. Expected: bytes, and PSNR in dB for the lossy ones.
KODIM03 = {
    "jpeg": (28257, 34.5576),
    "jpeg2000": (24451, 36.9270),
    "webp": (19238, 35.4919),
    "avif": (19624, 36.7755),
    "jpegxl": (26435, 35.3077),
    "heic": (19093, 36.9390),
    "x265": (17550, 37.2155),
    "png": (540607, None),
    "webp_lossless": (391288, None),
    "jpegxl_lossless": (335737, None),
    "jpegls": (512619, None),
    "jpeg2000_lossless": (397680, None),
    "avif_lossless": (482045, None),
    "heic_lossless": (545909, None),
}


@pytest.mark.parametrize("name", KODIM03)
def test_sizes_and_quality_on_kodim03(name: str) -> None:
    image = open_image(shared("data/kodak/kodim03.png"))
    stream = codec(name).compress(image)
    decoded = codec(name).decompress(stream)
    size, psnr = KODIM03[name]
    assert len(stream) == pytest.approx(size, rel=2e-3)  # encoders choose by the processor's vector units
    if psnr is None:
        assert np.array_equal(decoded, image)
    else:
        error = np.mean((decoded.astype(float) - image) ** 2)
        assert 10 * np.log10(255**2 / error) == pytest.approx(psnr, abs=0.03)


VVC_PART = (3023, 36.548)  # bytes, dB


def test_vvc_on_a_part_of_kodim03() -> None:
    image = open_image(shared("data/kodak/kodim03.png"))[100:228, 200:392]
    stream = codec("vvc").compress(np.ascontiguousarray(image))
    error = np.mean((codec("vvc").decompress(stream).astype(float) - image) ** 2)
    assert len(stream) == pytest.approx(VVC_PART[0], rel=0.01)
    assert 10 * np.log10(255**2 / error) == pytest.approx(VVC_PART[1], abs=0.05)


def test_kodak_means_of_jpeg_and_png() -> None:
    files = sorted(shared("data/kodak").glob("*.png"))
    assert len(files) == 24
    images = [open_image(file) for file in files]
    published = [8 * file.stat().st_size / image.size for file, image in zip(files, images, strict=True)]
    assert np.mean(published) == pytest.approx(4.3500, abs=5e-5)  # the files as distributed, which no encoder here made
    jpeg, bpp, psnr = codec("jpeg", quality=50), [], []
    for image in images:
        stream = jpeg.compress(image)
        bpp.append(8 * len(stream) / (image.shape[0] * image.shape[1]))
        psnr.append(10 * np.log10(255**2 / np.mean((jpeg.decompress(stream).astype(float) - image) ** 2)))
    assert np.mean(bpp) == pytest.approx(0.8692, abs=1e-4) and np.mean(psnr) == pytest.approx(32.174, abs=2e-3)


# Streams


@pytest.mark.parametrize("name", HERE)
def test_cut_and_foreign_streams_are_refused(name: str) -> None:
    method = codec(name)
    stream = method.compress(picture(40, 56, 3))
    foreign = codec("jpegls" if name == "png" else "png").compress(picture(9, 9, 3))
    cuts = [stream[:n] for n in (0, 1, 3, 12, len(stream) // 2, len(stream) - 1)]
    for damaged in (*cuts, foreign, b"not an image at all"):
        with pytest.raises(BitstreamError) as caught:
            method.decompress(damaged)
        assert "\n" not in str(caught.value) and "object at" not in str(caught.value)


@pytest.mark.parametrize("name", STILLS + LOSSLESS)
def test_mutations_give_an_image_or_a_bitstream_error(name: str) -> None:
    method, rng = codec(name), np.random.default_rng(11)
    stream, refused = method.compress(picture(40, 56, 3)), 0
    for _ in range(60):
        damaged = bytearray(stream)
        damaged[rng.integers(min(80, len(stream)))] ^= 1 << rng.integers(8)
        damaged[rng.integers(len(stream))] = rng.integers(256)
        try:
            assert method.decompress(bytes(damaged)).dtype == np.uint8
        except BitstreamError:
            refused += 1
    assert refused > 5


def test_a_cut_jpeg_is_refused_even_where_pillow_would_fill_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    stream = codec("jpeg").compress(picture(64, 64, 3))
    mended = stream[: len(stream) // 2] + b"\xff\xd9"
    with pytest.raises(BitstreamError):
        codec("jpeg").decompress(mended[:-2])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(BitstreamError, match="LOAD_TRUNCATED_IMAGES"):
        codec("jpeg").decompress(stream)


def huge(name: str, stream: bytes) -> bytes:
    """A stream whose header claims a picture of 65535 by 65535 pixels."""
    if name == "png":
        header = struct.pack(">II", 65535, 65535) + stream[24:29]
        return stream[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + stream[33:]
    if name == "jpegls":
        at = stream.index(b"\xff\xf7") + 5
        return stream[:at] + b"\xff\xff\xff\xff" + stream[at + 4 :]
    if name == "jpeg2000_lossless":
        return stream[:8] + struct.pack(">II", 65535, 65535) + stream[16:]
    bits = 0 | (2 | (65534 << 2)) << 1 | (2 | (65534 << 2)) << (1 + 20 + 3)  # two sides of 18 bits, no ratio
    return stream[:2] + bits.to_bytes(6, "little") + stream[8:]


@pytest.mark.parametrize("name", ["png", "jpegls", "jpeg2000_lossless", "jpegxl_lossless"])
def test_a_huge_declared_size_is_refused_before_decoding(name: str) -> None:
    damaged = huge(name, codec(name).compress(picture(9, 9, 3)))
    with pytest.raises(BitstreamError, match=r"65535x65535|decompression bomb"):
        codec(name).decompress(damaged)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (8, 16), (256, 256), (100, 150), (90, 160), (513, 1026), (7, 700)])
def test_jpegxl_size_header(size: tuple[int, int]) -> None:
    assert stills.jpegxl_size(codec("jpegxl").compress(picture(*size, 1))) == size


def test_png_is_what_other_readers_read() -> None:
    import io

    from PIL import Image as pil

    for channels in (1, 3):
        image = picture(31, 18, channels)
        with pil.open(io.BytesIO(codec("png").compress(image))) as file:
            file.load()
            assert np.array_equal(np.asarray(file).reshape(image.shape), image)


def test_png_filters_predict_a_ramp() -> None:
    ramp = np.arange(60, dtype=np.uint8).reshape(1, 20, 3).repeat(4, axis=0)
    rows = stills.filtered(ramp)
    assert rows[0, 0] == 1 and rows[0, 4:].tolist() == [3] * 57  # the first row from its left neighbours
    assert rows[1].tolist() == [2] + [0] * 60  # the others from the row above


def test_grey_through_formats_without_grey_costs_one_byte() -> None:
    grey = picture(20, 30, 1)
    stream = codec("webp_lossless").compress(grey)
    assert stream[1:] == codec("webp_lossless").compress(np.repeat(grey, 3, axis=2))
    assert codec("webp_lossless").decompress(stream[1:]).shape == (20, 30, 3)


# Video bitstreams


def test_video_streams_are_raw_where_the_size_allows() -> None:
    even, odd = (
        codec("x265").compress(picture(32, 48, 3)),
        codec("x265", subsampling="4:2:0").compress(picture(31, 48, 3)),
    )
    assert even.startswith(b"\0\0\0\1") and even.endswith(b"\0\0\1\x4a\x01")
    assert odd[:4] == struct.pack(">HH", 0x8000 | 31, 48) and odd[4:8] == b"\0\0\0\1"
    assert codec("x265", subsampling="4:2:0").decompress(odd).shape == (31, 48, 3)
    assert b"x265" not in even  # the encoder's information message would be 2 kB


def test_a_prefix_that_disagrees_with_the_bitstream_is_refused() -> None:
    stream = codec("x265").compress(picture(40, 56, 1))
    with pytest.raises(BitstreamError, match="two sizes disagree"):
        codec("x265").decompress(struct.pack(">HH", 0xC000 | 40, 57) + stream[4:])
    with pytest.raises(BitstreamError, match="0x40"):
        codec("x265").decompress(struct.pack(">HH", 0xC000 | 40, 0) + stream[4:])


def test_ffmpeg_failures_are_sentences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TesseraError, match="must be one of 8, 10"):
        codec("x265", depth=9)
    with pytest.raises(video.FfmpegError, match="took more than"):
        video.run(("-re", "-f", "lavfi", "-i", "color=d=30", "-f", "null", "-"), b"", 0.2)
    monkeypatch.setattr(video, "executable", lambda: str(tmp_path / "absent"))
    with pytest.raises(TesseraError, match="cannot be started"):
        codec("x265").compress(picture(16, 16, 3))
    assert "cannot be started" in str(video.missing.__wrapped__("libx265", "hevc"))


# Parameters, notes and skips


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("jpeg", {"quality": 0}, "quality=0 of jpeg must be an integer from 1 to 100"),
        ("jpeg", {"quality": 50.5}, "an integer"),
        ("jpeg", {"subsampling": "4:1:1"}, "must be one of 4:4:4, 4:2:0, 4:2:2"),
        ("jpegxl", {"distance": 0}, "a number from 0.01 to 25"),
        ("vvc", {"preset": "best"}, "must be one of faster"),
        ("png", {"level": True}, "an integer from 1 to 12"),
    ],
)
def test_bad_parameters_are_named(name: str, params: dict[str, object], text: str) -> None:
    with pytest.raises(TesseraError, match=re.escape(text)):
        make_method(name, params)


def test_bad_images_are_refused() -> None:
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(TesseraError, match="an image must be uint8"):
            codec("png").compress(image)
    with pytest.raises(TesseraError, match="WebP cannot code a 20000x1 image"):
        codec("webp").compress(np.zeros((1, 20000, 3), np.uint8))


@pytest.mark.parametrize("name", HERE)
def test_notes_say_version_and_rate(name: str) -> None:
    note = METHODS[name]().note
    assert re.search(r"\d+\.\d+", note) and "rate = " in note and "unknown" not in note
    assert all(f"{key}={value}" in note for key, value in METHODS[name]().variant.items())


def test_skips_have_reasons() -> None:
    assert METHODS["vvc"]().skip("kodak") is None and "parameter sets" in str(METHODS["vvc"]().skip("cifar10"))
    assert METHODS["jpeg"]().skip("cifar10") is None
    assert "64x64" in str(METHODS["heic_lossless"]().skip("imagenet32"))


def test_import_is_light() -> None:
    code = (
        "import benchmarks.classical.lossless, benchmarks.classical.methods, sys\n"
        "heavy = {'torch', 'imagecodecs', 'PIL', 'pillow_heif', 'imageio_ffmpeg'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
