"""Streams of one payload: reader mirrors writer, bytes are those of the container and the coder, damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from core.bitstream import BitstreamError, DecodeMismatch, Stream, SymbolCheck, pack
from core.entropy import Encoder, categorical_table
from core.stream import StreamReader, StreamWriter

NAME, SHAPE = b"test", (5, 7, 1)
TABLE = categorical_table(np.array([1.0, 2, 5]))
SYMBOLS, INDEX = np.array([[0, 1, 2], [2, 2, 1]]), np.zeros((2, 3), int)


def written(head: bytes = b"") -> bytes:
    writer = StreamWriter(NAME, SHAPE, head)
    writer.encoder.encode_uniform([9], 4)
    writer.write(SYMBOLS, INDEX, TABLE)
    writer.note([3])
    return writer.finish()


@pytest.mark.parametrize("head", [b"", b"\x01\x02"])
def test_the_bytes_are_those_of_container_and_coder(head):
    encoder, check = Encoder(), SymbolCheck()
    encoder.encode_uniform([9], 4)
    encoder.encode(SYMBOLS, INDEX, TABLE)
    check.update(np.array([*SYMBOLS.reshape(-1), 3]))
    assert written(head) == pack(Stream(NAME, *SHAPE, (head + encoder.finish(),), check.digest()))


def test_pinned_bytes():
    assert written(b"\x01\x02").hex() == "e5117465737412c3c6f2ce701f7e0507010290a5"


@pytest.mark.parametrize("head", [b"", b"\x01\x02"])
def test_reader_mirrors_writer(head):
    reader = StreamReader(written(head), NAME, len(head))
    assert reader.shape == SHAPE and reader.head == head
    assert reader.decoder.decode_uniform(1, 4).tolist() == [9]
    assert np.array_equal(reader.read(INDEX, TABLE), SYMBOLS)
    with pytest.raises(DecodeMismatch):
        reader.finish()  # one number is not noted yet
    reader.note([3])
    reader.finish()


def test_what_cannot_be_read_is_refused():
    with pytest.raises(BitstreamError, match="another method or checkpoint"):
        StreamReader(written(), b"else")
    short = pack(Stream(NAME, *SHAPE, (b"\x01",), 0))
    several = pack(Stream(NAME, *SHAPE, (b"\x01", b"\x02"), 0))
    for stream in (short, several):
        with pytest.raises(BitstreamError, match="no payload of this method"):
            StreamReader(stream, NAME, 2)
