"""Streams of a VQ-VAE: the codes of an image, entropy coded book by book.

The payload begins with one bit where the model has a prior: 1 says that the prior coded the rest, which happens
whenever that is shorter than the static tables. Static tables are made of the counts that travel with the weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from core import bitstream
from core.codec import Image
from core.entropy import ideal_bits
from core.finite import checked_counts
from core.frequencies import Tables, categorical_table
from core.planes import to_image
from core.stream import StreamReader, StreamWriter
from vq.vqvae.network import VQVAE

if TYPE_CHECKING:
    from vq.vqvae.searching import SearchingCodec

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
        return self.write(self._encoded(image), image.shape)

    def write(self, codes: list[Codes], shape: tuple[int, ...]) -> bytes:
        """The stream of codes (books, h, w) of each plane of an image of a shape (H, W, 1 or 3)."""
        writer, with_prior = StreamWriter(self.fingerprint, shape), self.with_prior(codes)
        if self.prior is not None:
            writer.encoder.encode_uniform([int(with_prior)], 1)
        for plane in codes:
            if self.prior is not None and with_prior:
                self.prior.encode(plane, writer.encoder)
                writer.note(plane)
            else:
                for symbols, tables in zip(plane, self.tables, strict=True):
                    writer.write(symbols, np.zeros(symbols.shape, np.int64), tables)
        return writer.finish()

    def decompress(self, stream: bytes) -> Image:
        reader = StreamReader(stream, self.fingerprint)
        height, width, channels = reader.shape
        with_prior = self.prior is not None and bool(reader.decoder.decode_uniform(1, 1)[0])
        planes = range(channels if self.model.channels == 1 else 1)
        codes = [self._plane(reader, self._grid(height, width), with_prior) for _ in planes]
        reader.finish()
        device = next(self.model.parameters()).device
        return to_image(self.model.decode(torch.from_numpy(np.stack(codes)).to(device)), *reader.shape)

    def with_prior(self, codes: list[Codes]) -> bool:
        """Whether the prior codes these codes of all planes in fewer bits than the static tables."""
        return self.prior is not None and sum(map(self._static_bits, codes)) > sum(map(self.prior.bits, codes))

    def searching(self, effort: int, weight: float = 1.0) -> SearchingCodec:
        from vq.vqvae.searching import SearchingCodec

        return SearchingCodec(self, effort, weight)

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

    def _plane(self, reader: StreamReader, shape: tuple[int, int, int], with_prior: bool) -> Codes:
        if self.prior is not None and with_prior:
            plane = self.prior.decode(shape, reader.decoder)
            reader.note(plane)
            return plane
        index = np.zeros(shape[1:], np.int64)
        return np.stack([reader.read(index, tables) for tables in self.tables]).astype(np.int64)

    def _static_bits(self, plane: Codes) -> float:
        pairs = zip(plane, self.tables, strict=True)
        return sum(ideal_bits(symbols, np.zeros(symbols.shape, np.int64), tables) for symbols, tables in pairs)

    def _share_bits(self, plane: Codes) -> float:
        pairs = zip(plane, self.weights, strict=True)
        return -sum(float(np.log2(weights[symbols] / weights.sum()).sum()) for symbols, weights in pairs)
