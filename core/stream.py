"""A stream of one payload: what every codec writes and reads beside its own symbols.

    writer = StreamWriter(fingerprint, image.shape);  writer.write(symbols, index, tables);  stream = writer.finish()
    reader = StreamReader(stream, fingerprint);  symbols = reader.read(index, tables);  reader.finish()

What does not go through ``write`` is written with ``encoder`` and ``note``d where the check of the stream shall cover
it; the reader does the same in the same order.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from core.bitstream import Stream, SymbolCheck, pack, unpack
from core.entropy import Decoder, Encoder, Symbols
from core.frequencies import Tables


class StreamWriter:
    """Writes the stream of an image of a shape (H, W, C); ``head`` is what stands before the coded symbols."""

    def __init__(self, fingerprint: bytes, shape: tuple[int, ...], head: bytes = b"") -> None:
        self.encoder, self._check = Encoder(), SymbolCheck()
        self._fingerprint, self._shape, self._head = fingerprint, shape, head

    def write(self, symbols: ArrayLike, index: ArrayLike, tables: Tables) -> None:
        """Append symbols (``Encoder.encode``) and note them."""
        self.encoder.encode(symbols, index, tables)
        self.note(symbols)

    def note(self, values: ArrayLike) -> None:
        """Let the check cover integers that the decoder must find (``SymbolCheck.update``)."""
        self._check.update(values)

    def finish(self) -> bytes:
        """The whole stream."""
        height, width, channels = self._shape
        chunks = (self._head + self.encoder.finish(),)
        return pack(Stream(self._fingerprint, height, width, channels, chunks, self._check.digest()))


class StreamReader:
    """Reads such a stream, whose head has ``head`` bytes; ``BitstreamError`` for a damaged or foreign one.

    ``shape`` is the image's, (H, W, C).
    """

    def __init__(self, stream: bytes, fingerprint: bytes, head: int = 0) -> None:
        read = unpack(stream, fingerprint)
        payload = read.only_chunk(least=head)
        self.shape = read.height, read.width, read.channels
        self.head, self.decoder, self._check = payload[:head], Decoder(payload[head:]), SymbolCheck()
        self._expected = read.symbols_check

    def read(self, index: ArrayLike, tables: Tables) -> Symbols:
        """The next symbols (``Decoder.decode``), noted."""
        symbols = self.decoder.decode(index, tables)
        self.note(symbols)
        return symbols

    def note(self, values: ArrayLike) -> None:
        """Mirror of ``StreamWriter.note``."""
        self._check.update(values)

    def finish(self) -> None:
        """Raise ``DecodeMismatch`` unless what was noted is what the encoder noted."""
        self._check.verify(self._expected)
