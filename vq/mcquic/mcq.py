"""Files of McQuic 0.1 (``.mcq``), read and written byte for byte as the published tool does.

A MessagePack map: ``fileHeader`` with the name of the model, the version and all sizes, ``contents`` with one rANS
payload per level. The format has no checksum: what can be verified is that every size follows from the image's, and
that each payload ends where its symbols do. The name of the model may be a path on the writer's machine; it is
compared with a pattern and never opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.bitstream import MAX_PIXELS, MAX_SIDE, BitstreamError, bytes_like
from core.codec import Image
from core.finite import checked_picture
from vq.mcquic import rans

VERSION = "0.1.40"
ALIGN = 128  # images are grown to multiples of it, or of the model's stride where that is more (above 4 levels)
TITLES = {"ms_ssim": "msssim", "mse": "mse"}
_START = b"\x82\xaafileHeader"
_KNOWN = re.compile(r"qp_\d+_(msssim|mse)")
Codes = NDArray[np.int64]
Shape = tuple[int, int, int]


def recognised(stream: object) -> bool:
    """Whether a stream begins as ``.mcq`` files do."""
    return bytes(bytes_like(stream)[: len(_START)]) == _START


def payload_bits(stream: bytes) -> int:
    """Bits of the rANS payloads of a file."""
    return 8 * sum(map(len, _fields(stream)[1]))


class Files:
    """Reads and writes the files of one model: its target and its frequencies, float32 (m, K) per level."""

    def __init__(self, target: str, frequencies: Sequence[NDArray[np.float32]]) -> None:
        self._title = TITLES[target]
        self.name = f"qp_{len(frequencies[0])}_{self._title}"  # of the model, as files say it
        self._frequencies = list(frequencies)
        self._tables: list[list[NDArray[np.int64]]] | None = None
        self.m, self.k = len(frequencies[0]), [f.shape[1] for f in frequencies]
        self.align = max(ALIGN, 8 << len(frequencies))

    @property
    def tables(self) -> list[list[NDArray[np.int64]]]:
        """Cumulative tables per level and codebook, made on first use."""
        if self._tables is None:
            self._tables = [[rans.cumulative(row) for row in level] for level in self._frequencies]
        return self._tables

    def pack(self, shape: tuple[int, ...], codes: Sequence[Codes]) -> bytes:
        """The file of an image of a shape (H, W, channels) with codes (m, h, w) per level."""
        code_size = {
            "m": self.m,
            "heights": [c.shape[1] for c in codes],
            "widths": [c.shape[2] for c in codes],
            "k": self.k,
        }
        header = {
            "qp": self.name,
            "version": VERSION,
            "codeSize": code_size,
            "imageSize": {"height": shape[0], "width": shape[1], "channel": shape[2]},
        }
        contents = [
            rans.encode(level.reshape(-1).tolist(), _rows(level.shape), tables)
            for level, tables in zip(codes, self.tables, strict=True)
        ]
        packed: bytes = msgpack.packb({"fileHeader": header, "contents": contents})
        return packed

    def unpack(self, stream: bytes) -> tuple[Shape, list[Codes]]:
        """The image's shape and the codes of a file; ``BitstreamError`` unless every declared size is right."""
        header, contents = _fields(stream)
        _check_version(header["version"])
        self._check_model(header)
        shape = _image_shape(header["imageSize"])
        sides = [side + sum(_margins(side, self.align)) for side in shape[:2]]
        grids = [(self.m, sides[0] >> 4 + i, sides[1] >> 4 + i) for i in range(len(self.k))]
        sizes = header["codeSize"]
        if sizes["heights"] != [g[1] for g in grids] or sizes["widths"] != [g[2] for g in grids]:
            raise BitstreamError("the file declares code grids that do not follow from its image size: it is damaged")
        if len(contents) != len(grids):
            raise BitstreamError(f"the file holds {len(contents)} levels and declares {len(grids)}: it is damaged")
        codes = []
        for payload, grid, tables in zip(contents, grids, self.tables, strict=True):
            found = rans.decode(payload, _rows(grid), tables)
            codes.append(np.array(found, dtype=np.int64).reshape(grid))
        return shape, codes

    def _check_model(self, header: dict[str, Any]) -> None:
        sizes, name = header["codeSize"], header["qp"]
        known = _KNOWN.fullmatch(name)
        other = known is not None and known[1] != self._title
        if other or sizes["m"] != self.m or sizes["k"] != self.k:
            shown = name if known else "a model that only its writer knows"
            raise BitstreamError(
                f"this file is of {shown} with m={sizes['m']}, k={sizes['k']}, not of {self.name} with "
                f"k={self.k}: decode it with the parameters and weights that made it"
            )


def tensor(image: Image, align: int = ALIGN) -> Tensor:
    """uint8 (H, W, 3) -> (1, 3, H', W') in (-1, 1), reflected on all sides to multiples of 128 as the tool does.

    Sides too short to be reflected once are reflected again and again, down to a single pixel.
    """
    margins = [_margins(side, align) for side in image.shape[:2]]
    padded = np.pad(image, (*margins, (0, 0)), mode="reflect")
    return (torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255 - 0.5) * 2


def picture(x: Tensor, height: int, width: int, align: int = ALIGN) -> Image:
    """(3, H', W') around (-1, 1) -> uint8 (H, W, 3), cut from the middle and rounded down as the tool does."""
    top, left = _margins(height, align)[0], _margins(width, align)[0]
    cut = checked_picture(x)[:, top : top + height, left : left + width]
    levels = torch.floor(torch.clamp((cut + 1) / 2 * 255.999, 0, 255)).to(torch.uint8).cpu()
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


def _margins(side: int, align: int) -> tuple[int, int]:
    """Samples added before and after a side."""
    missing = -side % align
    return missing // 2, missing - missing // 2


def _rows(shape: tuple[int, ...]) -> list[int]:
    """The codebook of every symbol of codes (m, h, w), in coding order."""
    return np.repeat(np.arange(shape[0]), shape[1] * shape[2]).tolist()


_HEADER = {"qp": str, "version": str, "codeSize": dict, "imageSize": dict}
_CODES = {"m": int, "heights": list, "widths": list, "k": list}
_IMAGE = {"height": int, "width": int, "channel": int}


def _fields(stream: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Header and payloads, with the names and types they must have."""
    whole = _unpacked(bytes(bytes_like(stream)))
    _check_names(whole, {"fileHeader": dict, "contents": list}, "file")
    header, contents = whole["fileHeader"], whole["contents"]
    _check_names(header, _HEADER, "header")
    _check_names(header["codeSize"], _CODES, "code size")
    _check_names(header["imageSize"], _IMAGE, "image size")
    numbers = [header["codeSize"][name] for name in ("heights", "widths", "k")]
    if not all(isinstance(n, int) for row in numbers for n in row):
        raise BitstreamError("the header of the file holds sizes that are no numbers: it is damaged")
    if not contents or not all(isinstance(c, bytes) for c in contents):
        raise BitstreamError("the file has no payload: it is damaged")
    return header, contents


def _unpacked(data: bytes) -> Any:
    """The value that a file holds; no declared length may exceed the file's."""
    try:
        return msgpack.unpackb(data, object_pairs_hook=_once, ext_hook=_no_extension)
    except (ValueError, msgpack.UnpackException) as error:
        raise BitstreamError(f"the file is no whole .mcq file ({type(error).__name__}): it is damaged") from None


def _once(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in a map")
    return found


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"type {code} is not of version 0.1")


def _check_names(found: Any, wanted: Mapping[str, type], what: str) -> None:
    if not isinstance(found, dict) or set(found) != set(wanted):
        raise BitstreamError(f"the {what} of this .mcq file has not the fields of version 0.1: it is damaged")
    wrong = [name for name, kind in wanted.items() if not isinstance(found[name], kind)]
    if wrong:
        raise BitstreamError(f"{wrong[0]} in the {what} of this .mcq file is of the wrong type: it is damaged")


def _check_version(version: str) -> None:
    if not re.fullmatch(r"0\.1\.\d{1,4}", version):
        raise BitstreamError(f"this .mcq file is of version {version[:20]!r} and this program reads 0.1: convert it.")


def _image_shape(sizes: dict[str, int]) -> Shape:
    height, width, channels = sizes["height"], sizes["width"], sizes["channel"]
    good = 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS and channels in (1, 3)
    if not good:
        raise BitstreamError(f"the file declares an image of {height} x {width} x {channels}, which cannot be here.")
    return height, width, channels
