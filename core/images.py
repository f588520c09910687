"""Images in and out of files, and the one padding rule of the suite.

An image is a uint8 array (H, W, C), C = 1 (grey) or 3 (RGB), H and W at least 1. What a file may hold:

====================================  ==================================================================
grey, bilevel, grey with opaque alpha  (H, W, 1)
RGB, RGBA with alpha 255 throughout    (H, W, 3)
palette, CMYK, YCbCr, Lab              (H, W, 3), converted by Pillow
any transparency                       refused: what lies behind the picture is not ours to choose
16 bits or floats per sample           refused: dropping bits silently would change the benchmark
several frames                         the first one
====================================  ==================================================================

The EXIF orientation is applied, and colour profiles are ignored: the benchmark measures the stored samples.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageOps, UnidentifiedImageError

from core.codec import Image, TesseraError

MAX_PIXELS = 2**27  # 134 million: larger pictures would need gigabytes in every codec
GREY_MODES = frozenset({"1", "L", "LA", "La"})
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
LOSSLESS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
}


class ImageError(TesseraError):
    """An image that cannot be used: the text names the file and says why and what to do."""


def open_image(path: str | Path) -> Image:
    """The image in a file as uint8 (H, W, 1) or (H, W, 3); raises ``ImageError`` (see the module's table)."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Image:
    """The image in the bytes of a file called ``name`` (used in errors); otherwise as ``open_image``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oversized pictures are refused below; broken metadata does not matter
            with pillow.open(io.BytesIO(data)) as picture:
                _refuse_size(picture, name)
                _refuse_depth(picture, name)
                picture.load()
                return _samples(ImageOps.exif_transpose(picture), name)
    except TesseraError:
        raise
    except pillow.DecompressionBombError as error:
        raise ImageError(_too_large(name)) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image in a known format; remove or replace it.") from error
    except Exception as error:  # Pillow's plug-ins raise anything from struct.error to IndexError on damaged files
        raise ImageError(f"{name} is damaged ({_reason(error)}); remove or replace it.") from error


def save_image(path: str | Path, image: Image) -> None:
    """Write an image without loss, as ``.png`` or ``.webp`` by the suffix of ``path``; the file appears at once."""
    target = Path(path)
    check_image(image)
    options = LOSSLESS.get(target.suffix.lower())
    if options is None:
        raise ImageError(f"{target} must end in .png or .webp, the lossless formats images are saved in.")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(part, **options)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ImageError(f"{target} cannot be written ({error.strerror or error}); choose another place.") from error


def check_image(image: NDArray[Any]) -> Image:
    """The image itself, if it is uint8 (H, W, 1 or 3) and not empty; otherwise ``ImageError``."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise ImageError(
            f"an image is uint8 (height, width, 1 or 3), not {image.dtype} {image.shape}; convert it before coding it."
        )
    return image


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


def _refuse_size(picture: pillow.Image, name: str) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError(_too_large(name))


def _too_large(name: str) -> str:
    return f"{name} declares more than {MAX_PIXELS} pixels; cut it into smaller pictures."


def _refuse_depth(picture: pillow.Image, name: str) -> None:
    """Refuse more than 8 bits a sample, also where Pillow would silently drop the low bits (RGB PNG, TIFF, PPM)."""
    arguments = [tile[3] for tile in getattr(picture, "tile", [])]
    raw = " ".join(str(a[0]) if isinstance(a, tuple) and a else str(a) for a in arguments)
    maxval = [a[1] for a in arguments if picture.format == "PPM" and isinstance(a, tuple) and len(a) > 1]
    if picture.mode in DEEP_MODES or ";16" in raw or any(isinstance(m, int) and m > 255 for m in maxval):
        raise ImageError(
            f"{name} has more than 8 bits a sample and only 8-bit images are measured; "
            f"convert it first, for example with 'magick {Path(name).name} -depth 8 out.png'."
        )


def _samples(picture: pillow.Image, name: str) -> Image:
    """The samples of a loaded 8-bit picture as (H, W, 1) or (H, W, 3)."""
    grey = picture.mode in GREY_MODES
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            raise ImageError(
                f"{name} has transparent pixels, which no codec here keeps; "
                f"flatten it first, for example with 'magick {Path(name).name} -background white -flatten out.png'."
            )
        picture = picture.convert("RGB")
    samples = np.array(picture.convert("L" if grey else "RGB"), dtype=np.uint8)
    return samples[..., None] if grey else samples


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
