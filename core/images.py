"""Images in and out of files, and the one padding rule of the suite.

An image is a uint8 array (H, W, C), C = 1 (grey) or 3 (RGB), H and W at least 1. What a file may hold:

====================================  ==================================================================
grey, bilevel, grey with opaque alpha  (H, W, 1)
RGB, RGBA with alpha 255 throughout    (H, W, 3)
palette, CMYK, YCbCr, Lab              (H, W, 3), converted by Pillow
1, 2 and 4 bits per sample             multiplied by 255, 85 and 17, where the format is PNG, TIFF or PNM
any transparency                       refused: what lies behind the picture is not ours to choose
any other depth                        refused: dropping bits silently would change the benchmark
several frames                         the first one; an animated JPEG XL is refused
====================================  ==================================================================

The EXIF orientation is applied, and colour profiles are ignored: the benchmark measures the stored samples. How deep
they are stands in the file's header (``core.depth``). What is refused is converted on request, see ``Conversion``.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageOps

from core import atomic, depth
from core.codec import Image, TesseraError

MAX_PIXELS = 2**27  # 134 million: larger pictures would need gigabytes in every codec
GREY_MODES = frozenset({"1", "L", "LA", "La"})
DEEPEST = 65535  # the greatest sample that is converted
KNOWN = "PNG, JPEG, WebP, TIFF, AVIF, HEIC, JPEG 2000, JPEG XL, BMP, PNM, GIF, SGI, QOI"
TURNED = {  # what the EXIF orientations do to rows and columns
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
LOSSLESS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
}


class ImageError(TesseraError):
    """An image that cannot be used: the text names the file and says why and what to do."""


@dataclass(frozen=True)
class Conversion:
    """What is done on request to a picture that is refused as it is.

    ``alpha`` white or black: a sample c with opacity a becomes a c + (1 - a) b, b being 1 (white) or 0 (black), on the
    samples as they are stored. ``depth`` 8: a sample c of the range 0 to m becomes 255 c / m. Both are done exactly,
    with one rounding at the end (halves up).
    """

    alpha: str = ""
    depth: int = 0

    def __post_init__(self) -> None:
        if self.alpha not in ("", "white", "black"):
            raise ImageError(f"alpha={self.alpha} must be white or black.")
        if self.depth not in (0, 8):
            raise ImageError(f"depth={self.depth} must be 8.")

    @property
    def parts(self) -> tuple[str, ...]:
        """'alpha=white' and 'depth=8', those that are asked for."""
        given = (f"alpha={self.alpha}" if self.alpha else "", f"depth={self.depth}" if self.depth else "")
        return tuple(part for part in given if part)


AS_STORED = Conversion()


def open_image(path: str | Path, convert: Conversion = AS_STORED) -> Image:
    """The image in a file as uint8 (H, W, 1) or (H, W, 3); raises ``ImageError`` (see the module's table)."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error
    return decode_image(data, str(path), convert)


def decode_image(data: bytes, name: str, convert: Conversion = AS_STORED) -> Image:
    """The image in the bytes of a file called ``name`` (used in errors); otherwise as ``open_image``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oversized pictures are refused below; broken metadata does not matter
            return _decoded(data, name, convert)
    except TesseraError:
        raise
    except pillow.DecompressionBombError as error:
        raise ImageError(_too_large(name)) from error
    except Exception as error:  # readers raise anything from struct.error to IndexError on damaged files
        raise ImageError(f"{name} is damaged ({_reason(error)}); remove or replace it.") from error


def save_image(path: str | Path, image: Image) -> None:
    """Write an image without loss, as ``.png`` or ``.webp`` by the suffix of ``path``; the file appears at once."""
    target = Path(path)
    check_image(image)
    options = LOSSLESS.get(target.suffix.lower())
    if options is None:
        raise ImageError(f"{target} must end in .png or .webp, the lossless formats images are saved in.")
    with atomic.writing(target) as part:
        pillow.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(part, **options)


def check_image(image: NDArray[Any]) -> Image:
    """The image itself, if it is uint8 (H, W, 1 or 3) and not empty; otherwise ``ImageError``."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise ImageError(
            f"an image is uint8 (height, width, 1 or 3), not {image.dtype} {image.shape}; convert it before coding it."
        )
    return image


def array_image(samples: NDArray[Any], name: str, convert: Conversion = AS_STORED) -> Image:
    """The image in an array (H, W, 1 to 4) of unsigned samples, alpha last; what is refused is as in files."""
    if samples.dtype.kind != "u" or samples.ndim != 3 or samples.size == 0:
        raise ImageError(f"{name} is {samples.dtype} {samples.shape}, not unsigned (height, width, channels).")
    top = int(np.iinfo(samples.dtype).max)
    if top > 255 and not (convert.depth and top <= DEEPEST):
        raise ImageError(f"{name} has more than 8 bits a sample and only 8-bit images are measured.")
    return _flat(samples, top, name, convert)


def as_rgb(image: Image) -> Image:
    """Three channels (H, W, 3): grey is repeated, RGB is returned as it is."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def as_grey(image: Image) -> Image:
    """One channel (H, W, 1): the mean of the channels, rounded; exact when they are equal."""
    return image if image.shape[2] == 1 else np.rint(image.mean(axis=2, keepdims=True)).astype(np.uint8)


def pad(image: Image, multiple: int) -> Image:
    """Grow (H, W, C) to the next multiples of ``multiple`` by repeating the last row and column (right and bottom)."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")


def crop(image: Image, height: int, width: int) -> Image:
    """Undo ``pad``: the top left (height, width) of an image."""
    return np.ascontiguousarray(image[:height, :width])


def _decoded(data: bytes, name: str, convert: Conversion) -> Image:
    head = depth.header(data)
    if head is None:
        raise ImageError(f"{name} is not an image in a known format ({KNOWN}); remove or replace it.")
    _refuse_size(head.size or (1, 1), name)
    if head.problem:
        raise ImageError(f"{name} {head.problem}; save the picture in it as PNG.")
    if not head.plain and not (convert.depth and head.top):
        raise ImageError(_wrong_depth(head, name))
    if head.plain and head.kind not in ("HEIC", "JPEGXL"):
        return _flat(_through_pillow(data, head.kind, name), 255, name, convert)
    samples = depth.stored(data, head) if head.top <= DEEPEST else None
    if samples is None:
        raise ImageError(f"{name} cannot be converted to 8 bits here; convert it first, {_magick(name, '-depth 8')}.")
    if samples.dtype.kind not in "iu" or samples.max() > head.top or samples.ndim not in (2, 3):
        raise ImageError(f"{name} is damaged (its samples are not what its header says); remove or replace it.")
    samples = samples.reshape(*samples.shape[:2], -1)
    return _flat(TURNED.get(_orientation(data, head), lambda x: x)(samples), head.top, name, convert)


def _refuse_size(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(_too_large(name))


def _too_large(name: str) -> str:
    return f"{name} declares more than {MAX_PIXELS} pixels; cut it into smaller pictures."


def _magick(name: str, options: str) -> str:
    return f"for example with 'magick {Path(name).name} {options} out.png'"


def _wrong_depth(head: depth.Header, name: str) -> str:
    if head.top > 255:
        what = "more than 8 bits a sample"
    else:
        values = f"values from 0 to {head.top}" if head.top else "signed, floating-point or unequal samples"
        what = f"{values}, not 8 bits a sample,"
    return f"{name} has {what} and only 8-bit images are measured; convert it first, {_magick(name, '-depth 8')}."


def _through_pillow(data: bytes, kind: str, name: str) -> Image:
    """The samples (H, W, 1 to 4) of an 8-bit picture, alpha last where there is any."""
    with pillow.open(io.BytesIO(data), formats=[kind]) as opened:
        _refuse_size(opened.size, name)
        opened.load()
        picture = ImageOps.exif_transpose(opened)
    grey = picture.mode in GREY_MODES
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        samples = np.array(picture.convert("RGBA"))
        return samples[..., [0, 3]] if grey else samples
    samples = np.array(picture.convert("L" if grey else "RGB"))
    return samples[..., None] if grey else samples


def _orientation(data: bytes, head: depth.Header) -> int:
    """The EXIF orientation that is still to be applied to stored samples."""
    if head.kind not in ("PNG", "AVIF"):
        return head.orientation
    with pillow.open(io.BytesIO(data), formats=[head.kind]) as picture:
        return int(picture.getexif().get(depth.ORIENTATION, 1))


def _flat(samples: NDArray[Any], top: int, name: str, convert: Conversion) -> Image:
    """Samples (H, W, 1 to 4) from 0 to ``top`` as an image: without alpha, and of 8 bits."""
    if samples.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{name} has {samples.shape[2]} channels; save the picture in it as PNG.")
    scale = top
    if samples.shape[2] in (2, 4):
        samples, opacity = samples[..., :-1], samples[..., -1:]
        if opacity.min() < top:
            if not convert.alpha:
                way = _magick(name, "-background white -flatten")
                raise ImageError(f"{name} has transparent pixels, which no codec here keeps; flatten it first, {way}.")
            opacity, behind = opacity.astype(np.int64), top * (convert.alpha == "white")
            samples, scale = opacity * samples + (top - opacity) * behind, top * top
    if scale != 255:
        samples = (510 * samples.astype(np.int64) + scale) // (2 * scale)
    return np.ascontiguousarray(samples, dtype=np.uint8)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
