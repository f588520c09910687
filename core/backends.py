"""The coders behind ``core.entropy``: constriction's range coder and, for comparison, torchac.

A writer takes ``put(symbols, runs, tables)`` (table entries in coding order, and the runs of one table in them) and
``put_uniform(values, bits)``; the reader mirrors it call by call. Entries are int32 from 0, values int64.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import constriction
import numpy as np
from numpy.typing import NDArray

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.frequencies import PRECISION, Ints, Tables

Entries = NDArray[np.int32]
Runs = list[tuple[int, int, int]]  # (table, start, stop), in coding order and without gaps


class Writer(Protocol):
    """What a coder offers an encoder."""

    def put(self, entries: Entries, runs: Runs, tables: Tables) -> None:
        """Append table entries."""

    def put_uniform(self, values: Ints, bits: int) -> None:
        """Append whole numbers below ``2**bits``, 1 to 16 bits each."""

    def finish(self) -> bytes:
        """Everything appended so far, as bytes."""


class Reader(Protocol):
    """What a coder offers a decoder; each call mirrors one of the writer's."""

    def get(self, count: int, runs: Runs, tables: Tables) -> Entries:
        """The next ``count`` table entries."""

    def get_uniform(self, count: int, bits: int) -> Ints:
        """The next ``count`` whole numbers of ``bits`` bits."""


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Turn whatever a coder raises on impossible data into ``BitstreamError``."""
    try:
        yield
    except (BitstreamError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # panics of the Rust library derive from BaseException
        raise BitstreamError("the stream is damaged: its symbols do not fit the tables of this method") from error


def table_model(tables: Tables, i: int) -> Any:
    """Table i as constriction's model, whose cumulative frequencies are exactly the table's; None for one entry."""
    if i not in tables.models:
        # With perfect=False the library gives each symbol 1 / 2**24 and shares the rest in proportion: frequencies
        # less one make that proportion a whole number, and every sum on the way is exact in float64.
        weights = ((tables.frequencies[i] << (PRECISION - tables.precision)) - 1).astype(np.float64)
        known = constriction.stream.model.Categorical(weights, perfect=False) if len(weights) > 1 else None
        tables.models[i] = known  # a table of one entry has nothing to code, and the library refuses it
    return tables.models[i]


@cache
def _uniform(bits: int) -> Any:
    return constriction.stream.model.Uniform(1 << bits)


class RangeWriter:
    """Constriction's range encoder: 64-bit state, 32-bit words, written as big-endian bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def put(self, entries: Entries, runs: Runs, tables: Tables) -> None:
        """One call of the library per table that occurs."""
        for i, start, stop in runs:
            if (model := table_model(tables, i)) is not None:
                self._coder.encode(entries[start:stop], model)

    def put_uniform(self, values: Ints, bits: int) -> None:
        """Whole numbers below ``2**bits`` at ``bits`` bits each."""
        if values.size:
            self._coder.encode(values.astype(np.int32), _uniform(bits))

    def finish(self) -> bytes:
        """The fewest bytes that decode; the decoder reads zeros past the end."""
        words = self._coder.get_compressed()
        if not words.size:
            return b""
        done, (low, span) = self._coder.pos()
        sealed: bytes = words.astype(">u4").tobytes()
        if int(words[done]) << 32 >= low:  # else a carry ran through the end: the sealed words stay as they are
            sealed = sealed[: 4 * done] + _shortest(low, min(low + span, 1 << 64))
        return sealed.rstrip(b"\0")


def _shortest(low: int, high: int) -> bytes:
    """The big-endian fraction with the fewest trailing digits in [low, high), two 64-bit numbers."""
    for zeros in range(64, 0, -8):
        point = -(-low >> zeros) << zeros
        if point < high:
            return point.to_bytes(8, "big")
    return low.to_bytes(8, "big")


class RangeReader:
    """Mirror of ``RangeWriter``."""

    def __init__(self, data: memoryview) -> None:
        padded = bytes(data) + bytes(-len(data) % 4)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def get(self, count: int, runs: Runs, tables: Tables) -> Entries:
        """The next entries, one call of the library per table that occurs."""
        out = np.zeros(count, dtype=np.int32)
        with _damage():
            for i, start, stop in runs:
                if (model := table_model(tables, i)) is not None:
                    out[start:stop] = self._coder.decode(model, stop - start)
        return out

    def get_uniform(self, count: int, bits: int) -> Ints:
        """The next whole numbers of ``bits`` bits."""
        with _damage():
            values: Ints = self._coder.decode(_uniform(bits), count).astype(np.int64) if count else np.zeros(0, int)
        return values


_BLOCK = 2**23  # cumulative frequencies held for one call of torchac


@cache
def _torchac() -> Any:
    """The compiled extension; its first import on a machine compiles it (about 15 s)."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), path))  # where pip puts ninja
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            import torchac
    except ImportError as error:
        raise TesseraError("torchac is not installed: pip install torchac ninja, or use constriction") from error
    except (RuntimeError, OSError) as error:
        raise TesseraError(
            f"torchac could not be compiled ({str(error).splitlines()[0]}): it needs ninja and a C++ compiler; install "
            "them or use constriction"
        ) from error
    finally:
        os.environ["PATH"] = path
    return torchac


def _cumulative(tables: Tables) -> NDArray[np.int16]:
    """All tables as torchac's 16-bit rows (K, width + 2), rescaled; the padding shares the last 65536th."""
    key = "torchac"
    if key not in tables.models:
        width = max(map(len, tables.frequencies))
        if width > 2**15 - 2:
            raise TesseraError(f"torchac takes tables of at most {2**15 - 2} symbols, not {width}: use constriction")
        rows = np.full((tables.size, width + 2), 65535, dtype=np.int64)
        for row, frequencies in zip(rows, tables.frequencies, strict=True):
            n = len(frequencies)
            before = np.concatenate([[0], np.cumsum(frequencies)[:-1]])
            row[:n] = (before * (65535 - n) >> tables.precision) + np.arange(n)
        tables.models[key] = rows.astype(np.uint16).view(np.int16)
    known: NDArray[np.int16] = tables.models[key]
    return known


def _blocks(runs: Runs, tables: Tables) -> Iterator[tuple[int, int, Any]]:
    """(start, stop, cumulative frequencies per symbol as a tensor), small enough to hold."""
    import torch

    rows = _cumulative(tables)
    index = np.repeat([i for i, _, _ in runs], [stop - start for _, start, stop in runs])
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(index), step):
        yield start, min(start + step, len(index)), torch.from_numpy(rows[index[start : start + step]])


class TorchacWriter:
    """Torchac: every block is one stream of its own, after its length in four bytes; uniform bits are packed."""

    def __init__(self) -> None:
        self._coder, self._out = _torchac(), bytearray()

    def put(self, entries: Entries, runs: Runs, tables: Tables) -> None:
        """One call of the library per block."""
        import torch

        for start, stop, rows in _blocks(runs, tables):
            part = self._coder.encode_int16_normalized_cdf(rows, torch.from_numpy(entries[start:stop].astype(np.int16)))
            self._out += len(part).to_bytes(4, "little") + part

    def put_uniform(self, values: Ints, bits: int) -> None:
        """Whole numbers below ``2**bits``, packed, padded to a byte per call."""
        self._out += np.packbits((values[:, None] >> np.arange(bits)[::-1]) & 1).tobytes()

    def finish(self) -> bytes:
        """Everything appended so far."""
        return bytes(self._out)


class TorchacReader:
    """Mirror of ``TorchacWriter``."""

    def __init__(self, data: memoryview) -> None:
        self._coder, self._data, self._at = _torchac(), bytes(data), 0

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise BitstreamError("the stream ends before its last symbol: it is truncated")
        self._at += count
        return self._data[self._at - count : self._at]

    def get(self, count: int, runs: Runs, tables: Tables) -> Entries:
        """The next entries, one call of the library per block."""
        out = np.zeros(count, dtype=np.int32)
        for start, stop, rows in _blocks(runs, tables):
            part = self._take(int.from_bytes(self._take(4), "little"))
            with _damage():
                out[start:stop] = self._coder.decode_int16_normalized_cdf(rows, part).numpy()
        for i, start, stop in runs:
            if out[start:stop].max(initial=0) >= len(tables.frequencies[i]):
                raise BitstreamError("the stream is damaged: it holds a symbol that is in no table")
        return out

    def get_uniform(self, count: int, bits: int) -> Ints:
        """The next whole numbers of ``bits`` bits."""
        packed = np.frombuffer(self._take(-(-count * bits // 8)), dtype=np.uint8)
        digits = np.unpackbits(packed, count=count * bits).reshape(count, bits).astype(np.int64)
        values: Ints = digits @ (1 << np.arange(bits)[::-1])
        return values


BACKENDS: dict[str, tuple[Callable[[], Writer], Callable[[memoryview], Reader]]] = {
    "constriction": (RangeWriter, RangeReader),
    "torchac": (TorchacWriter, TorchacReader),
}
