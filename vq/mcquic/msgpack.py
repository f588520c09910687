"""The part of MessagePack that ``.mcq`` files use: maps, arrays, text, bytes and whole numbers from 0.

Writing picks the shortest form of every value, as the reference library does. Reading allocates nothing from a
declared size and nests at most ``DEPTH`` deep. Specification: github.com/msgpack/msgpack, spec.md.
"""

from __future__ import annotations

import struct
from typing import Any

from core.bitstream import BitstreamError

DEPTH = 4
_SIZED = {0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4), 0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
          0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)}  # fmt: skip
_WHOLE = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}


def pack(value: Any) -> bytes:
    """The bytes of a value made of dict, list, str, bytes and int (0 to 2**64 - 1)."""
    match value:
        case dict():
            return _head(len(value), 0x80, 16, ((0xDE, ">H"), (0xDF, ">I"))) + b"".join(
                pack(key) + pack(item) for key, item in value.items()
            )
        case list() | tuple():
            return _head(len(value), 0x90, 16, ((0xDC, ">H"), (0xDD, ">I"))) + b"".join(map(pack, value))
        case str():
            raw = value.encode()
            return _head(len(raw), 0xA0, 32, ((0xD9, "B"), (0xDA, ">H"), (0xDB, ">I"))) + raw
        case bytes():
            return _head(len(value), 0, 0, ((0xC4, "B"), (0xC5, ">H"), (0xC6, ">I"))) + value
        case int() if not isinstance(value, bool):
            return _head(value, 0, 128, ((0xCC, "B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q")))
    raise TypeError(f"{type(value).__name__} is not packed")


def _head(size: int, short: int, below: int, forms: tuple[tuple[int, str], ...]) -> bytes:
    """A number in the shortest form there is: added to ``short`` if it is small, else after a type byte."""
    if 0 <= size < below:
        return bytes((short + size,))
    for kind, form in forms:
        if 0 <= size < 256 ** struct.calcsize(form):
            return bytes((kind,)) + struct.pack(form, size)
    raise ValueError(f"{size} is too large to be packed")


def unpack(data: bytes) -> Any:
    """The one value that the bytes hold; ``BitstreamError`` for anything cut off, left over or of another type."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise BitstreamError(f"the file goes on for {len(data) - reader.at} bytes behind its end: it is damaged")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise BitstreamError("the file ends inside a value: it is truncated or damaged")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, depth: int) -> Any:
        kind = self.take(1)[0]
        if kind < 0x80:
            return kind
        if kind in _WHOLE:
            return int.from_bytes(self.take(_WHOLE[kind]), "big")
        if kind in _SIZED:
            name, width = _SIZED[kind]
            return self.sized(name, int.from_bytes(self.take(width), "big"), depth)
        for low, high, name in ((0x80, 0x90, "map"), (0x90, 0xA0, "array"), (0xA0, 0xC0, "str")):
            if low <= kind < high:
                return self.sized(name, kind - low, depth)
        raise BitstreamError(f"the file holds a value of type 0x{kind:02x}, which no .mcq file has: it is damaged")

    def sized(self, name: str, size: int, depth: int) -> Any:
        if name == "bin":
            return self.take(size)
        if name == "str":
            return self.text(size)
        if depth >= DEPTH or size > len(self.data) - self.at:  # every item takes a byte at least
            raise BitstreamError("the file declares more values than it can hold: it is damaged")
        if name == "array":
            return [self.value(depth + 1) for _ in range(size)]
        pairs = [(self.value(depth + 1), self.value(depth + 1)) for _ in range(size)]
        if not all(isinstance(key, str) for key, _ in pairs) or len({key for key, _ in pairs}) != size:
            raise BitstreamError("the file names its values wrongly: it is damaged")
        return dict(pairs)

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise BitstreamError("the file holds text that is none: it is damaged") from None
