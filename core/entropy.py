"""Entropy coding of integers with integer tables: symbols in, bytes out, and back.

    encoder = Encoder();  encoder.encode(symbols, index, tables);  payload = encoder.finish()
    decoder = Decoder(payload);  symbols = decoder.decode(index, tables)

``index`` names one table per symbol. Symbols are coded grouped by table, which the decoder can repeat because it
knows the whole index array beforehand; a symbol outside its table is an escape followed by an Elias-gamma code.
``docs/bitstream.md`` has the conventions; constriction's range coder writes them by default, torchac is there to
compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.backends import BACKENDS, Entries, Reader, Runs, Writer
from core.bitstream import BitstreamError, bytes_like
from core.codec import TesseraError
from core.frequencies import PRECISION, Ints, Tables, categorical_table, gaussian_tables
from core.registry import unknown

__all__ = [
    "LIMIT",
    "Decoder",
    "Encoder",
    "SymbolError",
    "Tables",
    "categorical_table",
    "finite_symbols",
    "gaussian_tables",
    "ideal_bits",
]

LIMIT = 2**24  # symbols are below it in magnitude
MAX_UNIFORM = 32  # bits

Symbols = NDArray[np.int32]


class SymbolError(TesseraError):
    """Symbols or table indices that cannot be coded: not finite, not whole, too large, or outside their tables."""


class Encoder:
    """Writes symbols into one payload; ``finish`` may be called at any time and gives all that came before."""

    def __init__(self, backend: str = "constriction") -> None:
        self._writer: Writer = _backend(backend)[0]()

    def encode(self, symbols: ArrayLike, index: ArrayLike, tables: Tables) -> None:
        """Append symbols, int32 of any shape, each with the table that ``index`` (same shape) names.

        Raises ``SymbolError`` for symbols that are not whole, finite and below 2**24 in magnitude, that are outside a
        table without escape, or whose index names no table; nothing is written then.
        """
        shape, plan = _plan(index, tables)
        entries, escaped = _entries(_matching(symbols, shape)[plan.order], plan, tables)
        self._writer.put(entries, plan.runs, tables)
        if escaped is not None:
            _put_gamma(self._writer, escaped)

    def encode_uniform(self, values: ArrayLike, bits: int) -> None:
        """Append whole numbers of any shape, 0 to ``2**bits - 1`` (bits 1 to 32), at exactly ``bits`` bits each."""
        array = np.asarray(values)
        _check_bits(bits)
        if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= 1 << bits):
            raise SymbolError(f"uniform values of {bits} bits are integers from 0 to {(1 << bits) - 1}")
        flat = array.reshape(-1).astype(np.int64)
        for width, shift in _limbs(bits):
            self._writer.put_uniform(flat >> shift & ((1 << width) - 1), width)

    def finish(self) -> bytes:
        """The payload: no bytes when there was nothing to code."""
        return self._writer.finish()


class Decoder:
    """Reads a payload back, call by call in the encoder's order; ``BitstreamError`` when the data cannot be right.

    Not every damage shows: the container's CRC32 and symbol check are for that.
    """

    def __init__(self, data: bytes, backend: str = "constriction") -> None:
        self._reader: Reader = _backend(backend)[1](bytes_like(data))

    def decode(self, index: ArrayLike, tables: Tables) -> Symbols:
        """The next symbols, int32 in the shape of ``index``, which must equal the encoder's."""
        shape, plan = _plan(index, tables)
        count = int(plan.counts.sum())
        entries = self._reader.get(count, plan.runs, tables)
        values = entries + plan.spread(tables.offsets).astype(np.int32)
        if tables.escape:
            escaped = np.flatnonzero(entries == plan.spread(tables.widths))
            if escaped.size:
                _fill_escapes(values, escaped, plan, tables, _get_gamma(self._reader, escaped.size))
        out = np.empty(count, dtype=np.int32)
        out[plan.order] = values
        return out.reshape(shape)

    def decode_uniform(self, shape: int | tuple[int, ...], bits: int) -> Ints:
        """The next whole numbers of ``bits`` bits, int64 in the given shape."""
        _check_bits(bits)
        out: Ints = np.zeros(shape, dtype=np.int64)
        for width, shift in _limbs(bits):
            out |= self._reader.get_uniform(out.size, width).reshape(out.shape) << shift
        return out


def finite_symbols(x: ArrayLike) -> Symbols:
    """Whole numbers held in floats as int32, same shape; ``SymbolError`` for NaN, infinity, fractions, |x| >= 2**24."""
    array = np.asarray(x)
    if not array.size:
        return np.zeros(array.shape, dtype=np.int32)
    if array.dtype.kind not in "iuf":
        raise SymbolError(f"symbols are whole numbers, not {array.dtype}")
    low, high = array.min(), array.max()  # NaN if there is any
    if not (low > -LIMIT and high < LIMIT):
        raise SymbolError(
            f"symbols from {low} to {high} cannot be coded: they must be finite and below {LIMIT} in magnitude; "
            "check the network's weights and input for NaN or overflow"
        )
    whole = array.astype(np.int32, copy=False)
    if array.dtype.kind == "f" and not np.array_equal(whole, array):
        raise SymbolError("symbols must be whole numbers: round them before coding")
    return whole


def ideal_bits(symbols: ArrayLike, index: ArrayLike, tables: Tables) -> float:
    """What the symbols cost in bits under the integer tables, escapes included: -sum(log2(f / 2**precision))."""
    shape, plan = _plan(index, tables)
    entries, escaped = _entries(_matching(symbols, shape)[plan.order], plan, tables)
    starts, costs = tables.costs
    total = costs[entries + plan.spread(starts)].sum()
    if escaped is not None:
        lengths = _bit_lengths(escaped)
        total += _LENGTHS.costs[1][lengths].sum() + lengths.sum()
    return float(total)


def _backend(name: str) -> Any:
    if name not in BACKENDS:
        raise unknown("entropy coder", name, BACKENDS)
    return BACKENDS[name]


# Grouping: encoder and decoder visit the symbols table by table, in C order within a table.


@dataclass(frozen=True)
class _Plan:
    """The order in which the symbols of one call are coded, and the runs of one table in it."""

    order: Any  # indices into the flat array, or a slice that keeps it as it is
    used: Ints  # tables that occur, ascending
    counts: Ints  # symbols of each

    def spread(self, per_table: Ints) -> Ints:
        """Per-table numbers as per-symbol numbers, in coding order."""
        return np.repeat(per_table[self.used], self.counts)

    @property
    def runs(self) -> Runs:
        """(table, start, stop) of every run."""
        stops = np.cumsum(self.counts)
        return list(zip(self.used.tolist(), (stops - self.counts).tolist(), stops.tolist(), strict=True))


def _plan(index: ArrayLike, tables: Tables) -> tuple[tuple[int, ...], _Plan]:
    """The shape of the index array and how its symbols are coded."""
    array = np.asarray(index)
    if array.dtype.kind not in "iu" and array.size:
        raise SymbolError(f"table indices are integers, not {array.dtype}")
    flat = array.reshape(-1)
    if flat.size and not 0 <= flat.min() <= flat.max() < tables.size:
        raise SymbolError(f"table indices from {flat.min()} to {flat.max()} do not fit {tables.size} tables")
    small = flat.astype(np.uint8 if tables.size <= 256 else np.uint16 if tables.size <= 65536 else np.int64)
    counts = np.bincount(small, minlength=tables.size)
    used = np.flatnonzero(counts)
    order = np.argsort(small, kind="stable") if len(used) > 1 else slice(None)  # a radix sort on such small integers
    return array.shape, _Plan(order, used, counts[used])


def _matching(symbols: ArrayLike, shape: tuple[int, ...]) -> Symbols:
    array = finite_symbols(symbols)
    if array.shape != shape:
        raise SymbolError(f"symbols of shape {array.shape} need table indices of the same shape, not {shape}")
    return array.reshape(-1)


def _entries(symbols: Symbols, plan: _Plan, tables: Tables) -> tuple[Entries, Ints | None]:
    """Table entries of symbols in coding order, and the excess of those that escaped (None if none did)."""
    widths = plan.spread(tables.widths.astype(np.int32))
    entries: Entries = symbols - plan.spread(tables.offsets.astype(np.int32))
    outside = entries.view(np.uint32) >= widths.view(np.uint32)  # negative entries count as huge
    if not outside.any():
        return entries, None
    escaped = np.flatnonzero(outside)
    if not tables.escape:
        raise SymbolError(f"symbol {symbols[escaped[0]]} is in no table entry, and its table has no escape")
    beyond, width = entries[escaped].astype(np.int64), widths[escaped].astype(np.int64)
    entries[escaped] = width
    return entries, np.where(beyond < 0, -2 * beyond, 2 * (beyond - width) + 1)


# Escapes: after a call's last run, the excess n >= 1 of each escaped symbol in Elias-gamma. Above the table
# n = 2 (s - top) - 1, below it n = 2 (bottom - s). First the bit lengths of all, then the bits of all.

_LENGTH_ROW = np.array([1 << max(PRECISION - 1 - k, 0) for k in range(28)], dtype=np.int64)  # 2**-(k + 1) as in unary
_LENGTH_ROW[0] += (1 << PRECISION) - _LENGTH_ROW.sum()
_LENGTHS = Tables((_LENGTH_ROW,), np.zeros(1, dtype=np.int64))  # of k, the number of bits after the leading one


def _bit_lengths(excess: Ints) -> Ints:
    """The number of bits after the leading one: floor(log2(n)), exact."""
    return np.frexp(excess)[1].astype(np.int64) - 1


def _shifts(lengths: Ints) -> tuple[Ints, Ints]:
    """For every bit of all numbers, in order: whose it is, and its place (highest first)."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    stops = np.cumsum(lengths)
    return owner, stops[owner] - 1 - np.arange(len(owner))


def _put_gamma(writer: Writer, excess: Ints) -> None:
    lengths = _bit_lengths(excess)
    writer.put(lengths.astype(np.int32), [(0, 0, len(lengths))], _LENGTHS)
    owner, shift = _shifts(lengths)
    writer.put_uniform(excess[owner] >> shift & 1, 1)


def _get_gamma(reader: Reader, count: int) -> Ints:
    lengths = reader.get(count, [(0, 0, count)], _LENGTHS).astype(np.int64)
    owner, shift = _shifts(lengths)
    bits = reader.get_uniform(len(owner), 1) << shift
    return (1 << lengths) + np.bincount(owner, weights=bits, minlength=count).astype(np.int64)


def _fill_escapes(values: Symbols, escaped: Ints, plan: _Plan, tables: Tables, excess: Ints) -> None:
    """Put the symbols that escaped in their places; an excess no encoder writes is damage."""
    bottom, width = plan.spread(tables.offsets)[escaped], plan.spread(tables.widths)[escaped]
    found = np.where(excess % 2 == 0, bottom - excess // 2, bottom + width + excess // 2)
    if np.abs(found).max() >= LIMIT:
        raise BitstreamError(f"the stream is damaged: it holds a symbol of {LIMIT} or more in magnitude")
    values[escaped] = found


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_UNIFORM:
        raise ValueError(f"uniform values have 1 to {MAX_UNIFORM} bits, not {bits}")


def _limbs(bits: int) -> list[tuple[int, int]]:
    """(bits, shift) of the parts a value is coded in: up to 16 bits at once, the high part of all values first."""
    return [(bits - 16, 16), (16, 0)] if bits > 16 else [(bits, 0)]
