"""Streams of a VQ-VAE: the codes of an image, entropy coded book by book.

The payload begins with one bit where the model has a prior: 1 says that the prior coded the rest, which happens
whenever that is shorter than the static tables. Static tables are made of the counts that travel with the weights.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from core import bitstream
from core.bitstream import Stream, SymbolCheck
from core.codec import Image
from core.entropy import Decoder, Encoder, ideal_bits
from core.finite import checked_counts
from core.frequencies import Tables, categorical_table
from core.planes import to_image
from vq.vqvae.network import VQVAE

Codes = NDArray[np.int64]


class VQCodec:
    """Compress and decompress with one model, using its first ``books`` books (default: all).

    The weights and counts are those at construction.
    """

    def __init__(self, model: VQVAE, name: str, digest: bytes, books: int | None = None) -> None:
        self.model = model.eval()
        self.codebook_sizes = model.quantizer.codebook_sizes[:books]
        self.weights = [
            2 * checked_counts(c, "counts of codes") + 1 for c in model.counts[:books]
        ]  # never zero: any code can be sent
        self.tables: list[Tables] = [categorical_table(weights) for weights in self.weights]
        self.prior = None if model.prior is None else model.prior.fixed()
        self.fingerprint = bitstream.fingerprint(name, str(len(self.codebook_sizes)), digest)
        self._last: tuple[Image, list[Codes]] | None = None

    def compress(self, image: Image) -> bytes:
        """uint8 (H, W, 1 or 3) of any size -> stream."""
        codes, encoder, check = self._encoded(image), Encoder(), SymbolCheck()
        if self.prior is not None:
            dear = sum(map(self._static_bits, codes)) > sum(map(self.prior.bits, codes))
            encoder.encode_uniform([int(dear)], 1)
        for plane in codes:
            check.update(plane)
            if self.prior is not None and dear:
                self.prior.encode(plane, encoder)
            else:
                for symbols, tables in zip(plane, self.tables, strict=True):
                    encoder.encode(symbols, np.zeros(symbols.shape, np.int64), tables)
        height, width, channels = image.shape
        chunks = (encoder.finish(),)
        return bitstream.pack(Stream(self.fingerprint, height, width, channels, chunks, check.digest()))

    def decompress(self, stream: bytes) -> Image:
        """Stream -> uint8 (H, W, 1 or 3); ``BitstreamError`` for a damaged or foreign stream."""
        read = bitstream.unpack(stream, self.fingerprint)
        decoder, check = Decoder(read.only_chunk()), SymbolCheck()
        dear = self.prior is not None and bool(decoder.decode_uniform(1, 1)[0])
        codes = []
        for _ in range(read.channels if self.model.channels == 1 else 1):
            plane = self._plane(decoder, self._grid(read.height, read.width), dear)
            check.update(plane)
            codes.append(plane)
        check.verify(read.symbols_check)
        return self._image(codes, read)

    def codes(self, image: Image) -> list[Codes]:
        """The codes of an image per book, each (planes, h, w)."""
        return list(np.stack(self._codes(image), axis=1))

    def bits(self, image: Image) -> float:
        """The model's estimate: shares of the counts, or the prior in floats where that is cheaper."""
        codes = self._codes(image)
        static = sum(self._share_bits(plane) for plane in codes)
        if self.model.prior is None:
            return static
        with torch.inference_mode():
            nats = [self.model.prior(torch.from_numpy(c)[None]).sum() * c[0].size for c in codes]
        return 1 + min(static, float(sum(nats)) / math.log(2))

    def payload_bits(self, stream: bytes) -> int:
        """Bits of entropy-coded symbols."""
        return bitstream.payload_bits(stream)

    def _encoded(self, image: Image) -> list[Codes]:
        """The codes of each plane, (books, h, w), which are kept until the next image."""
        codes = self.model.encode(self.model.planes(image))[:, : len(self.codebook_sizes)]
        self._last = image.copy(), list(codes.cpu().numpy())
        return self._last[1]

    def _codes(self, image: Image) -> list[Codes]:
        """The same, for questions about an image that was just compressed."""
        known = self._last is not None and np.array_equal(self._last[0], image)
        return self._last[1] if known and self._last else self._encoded(image)

    def _grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Books, rows and columns of the codes of a plane."""
        stride = self.model.stride
        return len(self.codebook_sizes), -(-height // stride), -(-width // stride)

    def _plane(self, decoder: Decoder, shape: tuple[int, int, int], dear: bool) -> Codes:
        if self.prior is not None and dear:
            return self.prior.decode(shape, decoder)
        index = np.zeros(shape[1:], np.int64)
        return np.stack([decoder.decode(index, tables) for tables in self.tables]).astype(np.int64)

    def _image(self, codes: list[Codes], read: Stream) -> Image:
        """The decoded image of the planes' codes."""
        device = next(self.model.parameters()).device
        planes = self.model.decode(torch.from_numpy(np.stack(codes)).to(device))
        return to_image(planes, read.height, read.width, read.channels)

    def _static_bits(self, plane: Codes) -> float:
        pairs = zip(plane, self.tables, strict=True)
        return sum(ideal_bits(symbols, np.zeros(symbols.shape, np.int64), tables) for symbols, tables in pairs)

    def _share_bits(self, plane: Codes) -> float:
        pairs = zip(plane, self.weights, strict=True)
        return -sum(float(np.log2(weights[symbols] / weights.sum()).sum()) for symbols, weights in pairs)
