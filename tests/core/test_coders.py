"""The coder's bytes: agreed, exact, readable by another decoder, and harmless when damaged."""

from __future__ import annotations

import itertools

import constriction
import numpy as np
import pytest
import scipy.stats

from core.backends import table_model
from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import LIMIT, Decoder, Encoder, ideal_bits
from core.frequencies import Tables, categorical_table, entropy_bits, gaussian_tables

GAUSSIAN = gaussian_tables(np.geomspace(0.11, 32, 64))
CODEBOOK = categorical_table([5, 0, 1, 90])
INDEX = (np.arange(60) * 37 % 64).reshape(3, 4, 5)
SYMBOLS = np.arange(60).reshape(3, 4, 5) % 7 - 3  # escapes where the scale is small
SYMBOLS[1, 2] = [300, -300, 10**6, 0, 1 - LIMIT]
PINNED = (
    "fffffffffc11feeeffff5322ab0e2d2f36428492cbf29134e9979549239f29a9fc550cef949c7034e9f8e43d765c795df660"
    "b107885019bf687af661ec8db6f1ace9c9200a76db4dfe95a770f08a979fff17900f08540c9139ffcb3f8b"
)


@pytest.mark.parametrize(
    "tables", [GAUSSIAN, gaussian_tables([0.5, 7.0, 30.0], precision=16), CODEBOOK, categorical_table(np.ones(3000))]
)
def test_the_coder_has_exactly_our_integers(tables):
    """The first symbol of a crafted stream is the table entry at the quantile of its first 64 bits."""
    unit = (2**64 - 1) >> 24
    for i in (0, tables.size // 2, tables.size - 1):
        edges = [0, *np.cumsum(tables.frequencies[i] << 24 - tables.precision).tolist()]
        for entry, (start, stop) in enumerate(itertools.pairwise(edges)):
            for point in (start * unit, stop * unit - 1):
                words = np.array([point >> 32, point & 0xFFFFFFFF], dtype=np.uint32)
                assert constriction.stream.queue.RangeDecoder(words).decode(table_model(tables, i)) == entry


# The agreed bytes


def pinned_stream() -> bytes:
    encoder = Encoder()
    encoder.encode(SYMBOLS, INDEX, GAUSSIAN)
    encoder.encode(np.array([3, 3, 0, 1, 2]), np.zeros(5, int), CODEBOOK)
    encoder.encode_uniform(np.array([1, 2**20 - 1]), 20)
    return encoder.finish()


def test_the_bytes_are_pinned():
    assert pinned_stream().hex() == PINNED


class PlainDecoder:
    """A decoder written from docs/bitstream.md alone, one symbol at a time with Python integers."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.low, self.span, self.point = data, 0, 0, 2**64 - 1, 0
        self.point = self.word() << 32 | self.word()

    def word(self) -> int:
        part = self.data[self.at : self.at + 4]
        self.at += 4
        return int.from_bytes(part + bytes(4 - len(part)), "big")

    def entry(self, row: list[int]) -> int:
        unit = self.span >> 24
        place, entry, before = (self.point - self.low) % 2**64 // unit, 0, 0
        while before + row[entry] <= place:
            before += row[entry]
            entry += 1
        self.low, self.span = (self.low + unit * before) % 2**64, unit * row[entry]
        if self.span < 2**32:
            self.low, self.span = (self.low << 32) % 2**64, self.span << 32
            self.point = (self.point << 32) % 2**64 | self.word()
        return entry

    def bits(self, count: int) -> int:
        return self.entry([2 ** (24 - count)] * 2**count)

    def decode(self, index: list[int], tables: Tables) -> list[int]:
        out, escaped = [0] * len(index), []
        for i in sorted(range(len(index)), key=lambda i: index[i]):
            row = tables.frequencies[index[i]].tolist()
            entry = self.entry(row) if len(row) > 1 else 0
            out[i] = entry + int(tables.offsets[index[i]])
            if tables.escape and entry == len(row) - 1:
                escaped.append(i)
        powers = [max(2 ** (23 - k), 1) for k in range(1, 24)] + [1] * 4
        lengths = [self.entry([2**24 - sum(powers), *powers]) for _ in escaped]
        for i, length in zip(escaped, lengths, strict=True):
            excess = 1
            for _ in range(length):
                excess = 2 * excess + self.bits(1)
            bottom = int(tables.offsets[index[i]])
            top = bottom + len(tables.frequencies[index[i]]) - 2
            out[i] = bottom - excess // 2 if excess % 2 == 0 else top + (excess + 1) // 2
        return out


def test_another_decoder_reads_the_pinned_bytes():
    decoder = PlainDecoder(bytes.fromhex(PINNED))
    assert decoder.decode(INDEX.ravel().tolist(), GAUSSIAN) == SYMBOLS.ravel().tolist()
    assert decoder.decode([0] * 5, CODEBOOK) == [3, 3, 0, 1, 2]
    high = [decoder.bits(4), decoder.bits(4)]
    assert [h << 16 | decoder.bits(16) for h in high] == [1, 2**20 - 1]


# Damage


def test_damaged_payloads_raise_or_differ():
    payload = pinned_stream()
    rng, raised = np.random.default_rng(7), 0
    for _ in range(500):
        damaged = bytearray(payload)
        for _ in range(rng.integers(1, 8)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            decoded = Decoder(bytes(damaged[: rng.integers(len(damaged) + 1)])).decode(INDEX, GAUSSIAN)
        except BitstreamError:
            raised += 1
        else:
            assert decoded.shape == INDEX.shape and np.abs(decoded).max() < LIMIT
    assert raised < 500


def test_impossible_data_is_an_error():
    with pytest.raises(BitstreamError, match="damaged"):
        Decoder(b"\xff" * 16).decode(np.zeros(3, int), CODEBOOK)


def test_an_escape_beyond_the_limit_is_an_error():
    encoder = Encoder()
    escape = Tables((np.array([1, 2**24 - 1]),), np.zeros(1, int))
    lengths = Tables((np.array([2**24 - 27] + [1] * 27),), np.zeros(1, int))
    encoder.encode([1], [0], escape)
    encoder.encode([0], [0], lengths)
    payload = encoder.finish()
    row = Tables((np.array([1, 2**24 - 1]),), np.array([LIMIT]), escape=True)
    with pytest.raises(BitstreamError, match="magnitude"):
        Decoder(payload).decode([0], row)


# Back-ends and imports


def test_torchac_round_trip():
    try:
        Encoder("torchac")
    except TesseraError as error:
        pytest.skip(str(error))
    rng, codes = np.random.default_rng(8), np.arange(6).reshape(2, 3) % 4
    index = rng.integers(0, 64, 50_000)
    symbols = np.rint(rng.normal(size=index.size) * np.geomspace(0.11, 32, 64)[index])
    symbols[::1000] += 10**6
    encoder = Encoder("torchac")
    encoder.encode(symbols, index, GAUSSIAN)
    encoder.encode(codes, codes * 0, CODEBOOK)
    payload = encoder.finish()
    decoder = Decoder(payload, "torchac")
    np.testing.assert_array_equal(decoder.decode(index, GAUSSIAN), symbols)
    np.testing.assert_array_equal(decoder.decode(codes * 0, CODEBOOK), codes)
    assert 8 * len(payload) < 1.02 * ideal_bits(symbols, index, GAUSSIAN) + 1000
    encoder = Encoder("torchac")
    encoder.encode_uniform([[1, 2**31]], 32)
    assert Decoder(encoder.finish(), "torchac").decode_uniform((1, 2), 32).tolist() == [[1, 2**31]]
    for damaged in (payload[:7], payload[: len(payload) // 2], b""):
        with pytest.raises(BitstreamError):
            decoder = Decoder(damaged, "torchac")
            decoder.decode(index, GAUSSIAN), decoder.decode(codes * 0, CODEBOOK)


def test_entropy_of_counts():
    assert entropy_bits([1, 1, 2]) == pytest.approx(1.5) and entropy_bits(np.ones((4, 4))) == pytest.approx(4)
    for alone in ([], [0, 0], [0, 7]):
        assert entropy_bits(alone) == 0 and not np.signbit(entropy_bits(alone))
    counts = np.random.default_rng(0).integers(0, 50, 300)
    assert entropy_bits(counts) == pytest.approx(scipy.stats.entropy(counts, base=2))
