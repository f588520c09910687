"""Damaged streams: mutations that depend on (seed, number) alone, and a decoder they are given to."""

from __future__ import annotations

import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.datasets import open_dataset
from core import checkpoint
from core.bitstream import BitstreamError, DecodeMismatch, unpack
from core.codec import Codec, Image, Method, TesseraError

CRC = slice(6, 10)  # of our container, see docs/bitstream.md
GOOD = ("refused", "mismatch", "same picture")


@dataclass(frozen=True)
class Mutation:
    """A damaged stream, how it was made, and whether its CRC32 was made right again."""

    data: bytes
    kind: str
    signed: bool


def mutate(streams: Sequence[bytes], which: int, seed: int, number: int, signed: float) -> Mutation:
    """Mutation ``number`` of ``streams[which]``; a signed one leaves the header of the container alone."""
    draw = np.random.Generator(np.random.Philox(key=[seed, number]))
    stream = streams[which]
    start = _payload_start(stream)
    sign = start is not None and draw.random() < signed
    head, body = (stream[:start], stream[start:]) if sign else (b"", stream)
    kind = KINDS[int(draw.integers(len(KINDS)))]
    damaged = head + _damage(kind, body, streams[int(draw.integers(len(streams)))], draw)
    return Mutation(_sign(damaged) if sign else damaged, kind, sign)


KINDS = ("cut", "flip", "burst", "extend", "splice", "drop", "empty")


def _damage(kind: str, body: bytes, other: bytes, draw: np.random.Generator) -> bytes:
    at = int(draw.integers(len(body) + 1))
    many = int(draw.integers(1, 17))
    if kind == "cut":
        return body[:at]
    if kind == "flip":
        flipped = bytearray(body)
        for place in draw.integers(8 * len(body), size=many) if body else ():
            flipped[place // 8] ^= 1 << place % 8
        return bytes(flipped)
    if kind == "burst":
        return body[:at] + draw.bytes(many) + body[at + many :]
    if kind == "extend":
        return body + (draw.bytes(many) if draw.random() < 0.5 else bytes(many))
    if kind == "splice":
        return body[:at] + other[int(draw.integers(len(other) + 1)) :]
    if kind == "drop":
        return body[:at] + body[at + many :]
    return b""


def _payload_start(stream: bytes) -> int | None:
    """Where the chunks of a stream in our container begin, or None for other formats."""
    try:
        return len(stream) - sum(map(len, unpack(stream, None).chunks))
    except BitstreamError:
        return None


def _sign(stream: bytes) -> bytes:
    crc = zlib.crc32(stream[CRC.stop :], zlib.crc32(stream[: CRC.start]))
    return stream[: CRC.start] + crc.to_bytes(4, "little") + stream[CRC.stop :]


@dataclass
class Target:
    """A decoder with streams that it decodes, and what they decode to."""

    codec: Codec
    streams: list[bytes]
    pictures: list[Image]
    checksums: bool  # whether every stream is in our container, so that another picture is a failure
    limit_s: float

    def outcome(self, mutation: Mutation, which: int) -> tuple[str, float, str]:
        """(outcome, seconds, what was raised) of decoding a mutation of stream ``which``."""
        started, text = time.perf_counter(), ""
        if mutation.data in self.streams:  # a splice may be another whole stream
            which = self.streams.index(mutation.data)
        try:
            with _alarm(self.limit_s):
                decoded = self.codec.decompress(mutation.data)
            same = decoded.shape == self.pictures[which].shape and np.array_equal(decoded, self.pictures[which])
            word = "same picture" if same else "another picture"
        except DecodeMismatch:
            word = "mismatch"
        except BitstreamError:
            word = "refused"
        except Exception as error:  # whatever else comes is what is looked for
            word, text = type(error).__name__, " ".join(str(error).split())[:200]
        seconds = time.perf_counter() - started
        return ("too slow" if seconds > self.limit_s else word), seconds, text

    def allows(self, word: str) -> bool:
        """Whether an outcome is one that damaged streams may have."""
        return word in GOOD or (word == "another picture" and not self.checksums)


@contextmanager
def _alarm(limit_s: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after ``limit_s`` seconds (once native code returns)."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"longer than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def sizes(side: int) -> tuple[tuple[int, int, int], ...]:
    """Height, width and channels of the parts of photographs that are coded."""
    return (side, side, 3), (side // 2 + 1, 3 * side // 4 - 1, 3), (5 * side // 16, 35 * side // 32, 1)


def make_target(method: Method, weights: str, limit_s: float, seed: int = 0, side: int = 64) -> tuple[Target, str]:
    """The target of a method and the id of its weights; raises what missing weights raise."""
    if not 16 <= side <= 256:
        raise TesseraError(f"side={side} must be from 16 to 256 pixels.")
    reason = method.skip("sample")
    if reason:
        raise TesseraError(f"{method.name} cannot run here: {reason}.")
    if weights == "fresh":
        import torch

        torch.manual_seed(seed)
        name, model = "fresh", method.model()
    else:
        found = checkpoint.find(method, weights)
        name, model = (found.id, checkpoint.load(method, found)) if found else ("", None)
    codec = method.codec(model)
    photographs = open_dataset("sample").images
    parts = [photographs[i].read()[100 : 100 + h, 100 : 100 + w, :c] for i, (h, w, c) in enumerate(sizes(side))]
    streams = [codec.compress(np.ascontiguousarray(part)) for part in parts]
    checksums = all(_payload_start(stream) is not None for stream in streams)
    return Target(codec, streams, [codec.decompress(s) for s in streams], checksums, limit_s), name
