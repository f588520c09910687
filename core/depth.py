"""Depth of a picture file: the greatest value a sample can have, as its header says, and its samples as stored.

Pillow gives 8 bits whatever a file has, and for some formats without a sign of it. So the depth comes from the header:
of TIFF through tifffile, of AVIF and HEIC through libheif, of the others by ``core.headers``. Samples of other depths
come through imagecodecs, tifffile and libheif.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from core import headers

Samples = NDArray[Any]  # (H, W) or (H, W, C), whole numbers from 0 to ``Header.top``
EXPANDED = frozenset({"PNG", "PPM", "TIFF"})  # where Pillow makes 8 bits of fewer by their exact multiple
ORIENTATION = 0x0112  # a tag of TIFF and EXIF
UNSIGNED = (1, 4)  # sample formats of TIFF: unsigned, and not defined


@dataclass(frozen=True)
class Header:
    """What a file says about its picture before it is decoded.

    ``kind``: Pillow's name of the format, HEIC or JPEGXL. ``top``: the greatest value of a sample, 0 where samples are
    signed or floating-point numbers. ``size``: (height, width), None where Pillow alone tells it. ``problem``: why the
    picture cannot be used, '' if it can. ``orientation``: how it is to be turned, as EXIF numbers it, where neither
    Pillow nor the reader of its samples tells or does it.
    """

    kind: str
    top: int
    size: tuple[int, int] | None = None
    problem: str = ""
    orientation: int = 1

    @property
    def plain(self) -> bool:
        """Whether its samples have 8 bits, or fewer of which 8 follow exactly."""
        return self.top == 255 or (self.kind in EXPANDED and self.top > 0 and 255 % self.top == 0)


def header(data: bytes) -> Header | None:
    """The header of a file, None for an unknown format; raises anything on a damaged one."""
    kind = headers.kind(data)
    return HEADERS[kind](data) if kind else None


def stored(data: bytes, head: Header) -> Samples | None:
    """The samples of a file as they are stored, None where no library here gives them; raises anything if damaged."""
    read = READERS.get(head.kind)
    return None if read is None else read(data)


def _of(
    kind: str, top: Callable[[bytes], int], size: Callable[[bytes], tuple[int, int]] | None = None
) -> Callable[[bytes], Header]:
    return lambda data: Header(kind, top(data), size and size(data))


def _sides(start: int, count: int) -> Callable[[bytes], tuple[int, int]]:
    """(height, width) as two numbers of ``count`` bytes at ``start``, the width first."""

    def read(data: bytes) -> tuple[int, int]:
        across, down = (int.from_bytes(data[at : at + count], "big") for at in (start, start + count))
        return down, across

    return read


def _jpeg(data: bytes) -> Header:
    height, width, top = headers.jpeg_frame(data)
    exif = pillow.Exif()
    if top != 255:  # Pillow does not open it
        exif.load(next((c for m, c in headers.jpeg_segments(data) if m == 0xE1 and c.startswith(b"Exif")), b""))
    return Header("JPEG", top, (height, width), orientation=exif.get(ORIENTATION, 1))


def _jpegxl(data: bytes) -> Header:
    head = headers.jpegxl(data)
    return Header("JPEGXL", head.top, (head.height, head.width), "is an animation" if head.moving else "")


def _netpbm(data: bytes) -> Header:
    head = headers.netpbm(data)
    return Header("PPM", head.top, (head.height, head.width))


def _heif(kind: str) -> Callable[[bytes], Header]:
    def read(data: bytes) -> Header:
        picture = _open_heif(data)
        return Header(kind, headers.top_of_bits(int(picture.info["bit_depth"])), picture.size[::-1])

    return read


def _tiff(data: bytes) -> Header:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        bits, kind = page.bitspersample, int(page.sampleformat)
        size, extra = (page.imagelength, page.imagewidth), [int(e) for e in page.extrasamples or ()]
        colours, turned = page.colormap, page.tags.get(ORIENTATION)
    many = isinstance(bits, tuple) and len(set(bits)) > 1
    top = 0 if kind not in UNSIGNED or many else headers.top_of_bits(bits[0] if isinstance(bits, tuple) else bits)
    if colours is not None:  # of 16 bits, which are 8 where the low ones are 0 or repeat the high ones
        low, high = colours & 0xFF, colours >> 8
        top = 255 if not low.any() or (low == high).all() else 65535
    unknown = [e for e in extra if e not in (1, 2)]  # associated and unassociated alpha
    problem = "has channels beside its colours that are not alpha" if unknown or extra[1:] else ""
    return Header("TIFF", top, size, problem, 1 if turned is None else int(turned.value))


HEADERS: Mapping[str, Callable[[bytes], Header]] = {
    "PNG": _of("PNG", headers.png_top, _sides(16, 4)),
    "JPEG": _jpeg,
    "GIF": _of("GIF", lambda data: 255),
    "WEBP": _of("WEBP", lambda data: 255),
    "QOI": _of("QOI", lambda data: 255),
    "BMP": _of("BMP", headers.bmp_top),
    "SGI": _of("SGI", headers.sgi_top, _sides(6, 2)),
    "PPM": _netpbm,
    "TIFF": _tiff,
    "JPEG2000": _of(
        "JPEG2000", headers.jpeg2000_top, lambda data: headers.jpeg2000_size(headers.jpeg2000_stream(data))
    ),
    "JPEGXL": _jpegxl,
    "AVIF": _heif("AVIF"),
    "HEIC": _heif("HEIC"),
}


def _open_heif(data: bytes) -> Any:
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)


def _through_imagecodecs(name: str) -> Callable[[bytes], Samples]:
    def read(data: bytes) -> Samples:
        import imagecodecs

        return np.asarray(getattr(imagecodecs, f"{name}_decode")(data))

    return read


def _read_jpeg(data: bytes) -> Samples | None:
    """Grey and RGB; a fourth channel is the black of CMYK and no alpha."""
    samples = _through_imagecodecs("jpeg")(data)
    return samples if samples.ndim == 2 or samples.shape[2] in (1, 3) else None


def _read_heic(data: bytes) -> Samples:
    """pillow-heif gives more than 8 bits as 16, the low ones 0."""
    picture = _open_heif(data)
    samples, bits = np.asarray(picture), int(picture.info["bit_depth"])
    return samples >> (16 - bits) if bits > 8 else samples


def _read_tiff(data: bytes) -> Samples | None:
    """Grey, RGB and alpha, in any layout; not palettes, CMYK and the like, nor colours multiplied by alpha."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        photometric, samples, bits = int(page.photometric), page.asarray(), page.bitspersample
        associated = 1 in [int(e) for e in page.extrasamples or ()]
    if associated or photometric not in (0, 1, 2):  # white is 0, black is 0, RGB
        return None
    if page.samplesperpixel > 1 and int(page.planarconfig) == 2:
        samples = np.moveaxis(samples, 0, -1)
    return np.asarray(headers.top_of_bits(bits) - samples if photometric == 0 else samples)


def _read_netpbm(data: bytes) -> Samples:
    head = headers.netpbm(data)
    channels = 3 if head.number in (3, 6) else 1
    count = head.height * head.width * channels
    if head.number in (2, 3):
        samples = np.array(data[head.start :].split()[:count], np.int64)
    else:
        samples = np.frombuffer(data, ">u2" if head.top > 255 else np.uint8, count, head.start)
    if samples.max() > head.top:
        raise ValueError("a sample is greater than its header allows")
    return samples.reshape(head.height, head.width, channels)


def _read_sgi(data: bytes) -> Samples | None:
    """Planes from the bottom row to the top one, without run lengths."""
    if data[2]:
        return None
    width, height, channels = (int.from_bytes(data[at : at + 2], "big") for at in (6, 8, 10))
    planes = np.frombuffer(data, ">u2", channels * height * width, 512).reshape(channels, height, width)
    return np.moveaxis(planes[:, ::-1], 0, -1)


READERS: Mapping[str, Callable[[bytes], Samples | None]] = {
    "PNG": _through_imagecodecs("png"),
    "JPEG": _read_jpeg,
    "JPEG2000": _through_imagecodecs("jpeg2k"),
    "JPEGXL": _through_imagecodecs("jpegxl"),
    "AVIF": _through_imagecodecs("avif"),
    "HEIC": _read_heic,
    "TIFF": _read_tiff,
    "PPM": _read_netpbm,
    "SGI": _read_sgi,
}
