"""The container: what is packed is unpacked, in the agreed bytes; anything else is a BitstreamError with a sentence."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from core.bitstream import (
    MAX_PIXELS,
    MAX_SIDE,
    BitstreamError,
    DecodeMismatch,
    Stream,
    SymbolCheck,
    fingerprint,
    pack,
    payload_bits,
    unpack,
)
from core.entropy import LIMIT, Decoder, Encoder
from core.frequencies import categorical_table, gaussian_tables

NAME = fingerprint("qres3m", "checkpoint")
SMALL = Stream(NAME, 32, 32, 3, (b"payload",), 0x01020304)
GAUSSIAN = gaussian_tables(np.geomspace(0.11, 32, 64))
CODEBOOK = categorical_table(np.arange(1, 17))
INDEX = (np.arange(90) * 37 % 64).reshape(9, 10)
SYMBOLS = np.arange(90).reshape(9, 10) % 7 - 3
CODES = np.arange(60) * 11 % 16


def with_crc(data: bytes) -> bytes:
    """The same bytes with the CRC32 that a writer would have put there."""
    crc = zlib.crc32(data[10:], zlib.crc32(data[:6]))
    return data[:6] + crc.to_bytes(4, "little") + data[10:]


def assert_law(stream: Stream, header: int) -> None:
    """unpack(pack(s)) is s, the header has the stated bytes, and the payload is all the rest."""
    data = pack(stream)
    assert unpack(data, stream.fingerprint) == unpack(bytearray(data), None) == unpack(memoryview(data), None) == stream
    assert len(data) == header + sum(map(len, stream.chunks))
    assert payload_bits(data) == 8 * (len(data) - header)


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ({}, 16),
        ({"channels": 1}, 16),
        ({"chunks": (b"",)}, 16),
        ({"height": 1, "width": 1, "symbols_check": 0}, 16),
        ({"height": 512, "width": 768}, 18),
        ({"height": MAX_SIDE, "width": MAX_PIXELS // MAX_SIDE, "symbols_check": 2**32 - 1}, 19),
        ({"chunks": ()}, 17),
        ({"chunks": (b"a", b"", b"bc")}, 19),
        ({"chunks": (b"x" * 300, b"y")}, 19),
        ({"chunks": (b"\0",) * 1000}, 17 + 1 + 999),
    ],
)
def test_what_is_packed_is_unpacked(changes, header):
    assert_law(replace(SMALL, **changes), header)


def test_the_bytes_are_pinned():
    assert pack(SMALL).hex() == "e510" + NAME.hex() + "0f67f2ec" + "04030201" + "2020" + b"payload".hex()
    grey = replace(SMALL, channels=1, height=300, chunks=(b"ab", b"c"))
    assert pack(grey).hex() == "e513" + NAME.hex() + "e21489ac" + "04030201" + "ac0220" + "0202" + b"abc".hex()
    assert fingerprint("qres3m", b"\x01") == bytes.fromhex("e5571398")
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 0},
        {"width": MAX_SIDE + 1},
        {"height": MAX_SIDE, "width": MAX_SIDE},
        {"channels": 2},
        {"fingerprint": b"abc"},
        {"symbols_check": 2**32},
        {"symbols_check": -1},
        {"chunks": (b"",) * 65536},
        {"chunks": ("text",)},
    ],
)
def test_streams_that_cannot_be_packed(changes):
    with pytest.raises(BitstreamError):
        pack(replace(SMALL, **changes))


HEAD = pack(SMALL)[:14]
SEVERAL = bytes((HEAD[0], HEAD[1] | 2)) + HEAD[2:]
HUGE = b"\xff\xff\xff\xff\x0f"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG picture.*check the path"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "JPEG picture"),
        (b"hello", "something else"),
        (pack(SMALL)[:15], "truncated: 15 bytes"),
        (pack(SMALL)[:-1], "damaged or truncated"),
        (pack(SMALL) + b"\0", "damaged or truncated"),
        (bytes((HEAD[0], 0x20)) + pack(SMALL)[2:], "version 2 and this program reads version 1"),
        (with_crc(bytes((HEAD[0], 0x14)) + pack(SMALL)[2:]), "flags"),
        (with_crc(HEAD + b"\0\x20"), "0 x 32 pixels"),
        (with_crc(HEAD + b"\x80\x80\x04\x20"), "65536 x 32 pixels"),
        (with_crc(HEAD + HUGE + HUGE), "4294967295 x 4294967295 pixels"),
        (with_crc(HEAD + b"\xa0\x00\x20"), "shortest form"),
        (with_crc(HEAD + b"\x20\xa0"), "cut off"),
        (with_crc(HEAD + b"\xff\xff\xff\xff\xff\xff"), "shortest form"),
        (with_crc(SEVERAL + b"\x20\x20"), "cut off"),
        (with_crc(SEVERAL + b"\x20\x20" + HUGE), "4294967295 chunks, which cannot"),
        (with_crc(SEVERAL + b"\x20\x20\x01abc"), "1 chunks, which cannot"),
        (with_crc(SEVERAL + b"\x20\x20\x02\x05abc"), "add up"),
        (with_crc(SEVERAL + b"\x20\x20\x02" + HUGE + b"abc"), "add up"),
        (with_crc(SEVERAL + b"\x20\x20\x00abc"), "add up"),
        ("text", "bytes, not str"),
        (None, "bytes, not NoneType"),
        (memoryview(b"abcdef")[::2], "contiguous"),
    ],
)
def test_what_is_no_stream_gets_a_sentence(data, sentence):
    with pytest.raises(BitstreamError, match=sentence):
        unpack(data, NAME)


def test_a_stream_of_another_checkpoint():
    other = fingerprint("qres3m", "another checkpoint")
    with pytest.raises(BitstreamError, match=rf"another method or checkpoint.*{NAME.hex()}, expected {other.hex()}"):
        unpack(pack(SMALL), other)


def test_symbol_check():
    check = SymbolCheck()
    assert check.digest() == 0
    check.update(np.array([[1, -1]]))
    check.update(np.array([], dtype=float))
    check.update(np.array([2], dtype=np.uint8))
    assert check.digest() == zlib.crc32(np.array([1, -1, 2], dtype="<i4").tobytes())
    check.verify(check.digest())
    with pytest.raises(DecodeMismatch, match="floating point differs"):
        check.verify(check.digest() ^ 1)
    for bad in (np.array([0.5]), np.array([2**31])):
        with pytest.raises(ValueError):
            check.update(bad)


def test_symbol_check_depends_on_order_and_layout_only():
    array = np.arange(12).reshape(3, 4)
    checks = []
    for symbols in (array, array.T.copy().T, array.astype(np.int8).ravel(), array[::-1]):
        check = SymbolCheck()
        check.update(symbols)
        checks.append(check.digest())
    assert checks[0] == checks[1] == checks[2] != checks[3]


# Fuzzing: a toy codec of two chunks, as a method would write it


def compress() -> bytes:
    first, second, check = Encoder(), Encoder(), SymbolCheck()
    first.encode(SYMBOLS, INDEX, GAUSSIAN)
    second.encode(CODES, CODES * 0, CODEBOOK)
    check.update(SYMBOLS)
    check.update(CODES)
    return pack(Stream(NAME, 9, 10, 3, (first.finish(), second.finish()), check.digest()))


def decompress(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    stream = unpack(data, NAME)
    if len(stream.chunks) != 2:
        raise BitstreamError("the stream does not have the two chunks of this method")
    symbols = Decoder(stream.chunks[0]).decode(INDEX, GAUSSIAN)
    codes = Decoder(stream.chunks[1]).decode(CODES * 0, CODEBOOK)
    check = SymbolCheck()
    check.update(symbols)
    check.update(codes)
    check.verify(stream.symbols_check)
    return symbols, codes


def mutations(data: bytes, count: int) -> list[bytes]:
    """Truncations, bit flips, bursts, extensions and the empty stream, from a fixed seed."""
    rng = np.random.default_rng(0)
    made = [b""]
    for i in range(count - 1):
        at, broken = int(rng.integers(len(data))), bytearray(data)
        if i % 4 == 0:
            broken = broken[:at]
        elif i % 4 == 1:
            broken[at] ^= 1 << int(rng.integers(8))
        elif i % 4 == 2:
            broken[at : at + 8] = rng.bytes(len(broken[at : at + 8]))
        else:
            broken += rng.bytes(int(rng.integers(1, 9)))
        made.append(bytes(broken))
    return made


def test_two_thousand_mutations_are_all_refused():
    data = compress()
    np.testing.assert_array_equal(decompress(data)[0], SYMBOLS)
    for broken in mutations(data, 2000):
        if broken != data:
            with pytest.raises(BitstreamError):
                unpack(broken, NAME)


def test_two_thousand_mutations_that_reach_the_coder():
    data, outcomes = compress(), {"refused": 0, "mismatch": 0, "same": 0}
    for broken in mutations(data, 2000):
        try:
            symbols, codes = decompress(with_crc(broken))
        except DecodeMismatch:
            outcomes["mismatch"] += 1
        except BitstreamError:
            outcomes["refused"] += 1
        else:  # only harmless damage may pass: bytes beyond the last symbol, or another picture size
            np.testing.assert_array_equal(symbols, SYMBOLS)
            np.testing.assert_array_equal(codes, CODES)
            outcomes["same"] += 1
    assert min(outcomes.values()) > 50


def test_drifted_tables_are_a_mismatch():
    """The intact stream of an encoder whose floats chose another table for one symbol."""
    drifted, check = INDEX.copy(), SymbolCheck()
    drifted[0, 0] += 1
    encoder = Encoder()
    encoder.encode(SYMBOLS, drifted, GAUSSIAN)
    check.update(SYMBOLS)
    with pytest.raises(DecodeMismatch):
        found = SymbolCheck()
        found.update(Decoder(encoder.finish()).decode(INDEX, GAUSSIAN))
        found.verify(check.digest())
    assert np.abs(SYMBOLS).max() < LIMIT
