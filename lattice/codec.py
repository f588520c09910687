"""Streams of lattice autoencoders: the points of an image, coordinate by coordinate (``lattice.points_coder``)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from core import bitstream
from core.bitstream import Stream, SymbolCheck
from core.codec import Image
from core.entropy import Decoder, Encoder
from core.planes import to_image
from lattice.network import LatticeVAE

Ints = NDArray[np.int64]


class LatticeCodec:
    """Compress and decompress with one model; weights and counts are those at construction."""

    def __init__(self, model: LatticeVAE, name: str, digest: bytes) -> None:
        self.model = model.eval()
        self.model.coder.settle(model.quantizer.chain)
        self.coder = model.coder.fixed()
        self.fingerprint = bitstream.fingerprint(name, digest)

    def compress(self, image: Image) -> bytes:
        """uint8 (H, W, 1 or 3) of any size -> stream."""
        points, encoder, check = self.points(image), Encoder(), SymbolCheck()
        self.coder.encode(_rows(points), encoder)
        check.update(points)
        height, width, channels = image.shape
        chunks = (encoder.finish(),)
        return bitstream.pack(Stream(self.fingerprint, height, width, channels, chunks, check.digest()))

    def decompress(self, stream: bytes) -> Image:
        """Stream -> uint8 (H, W, 1 or 3); ``BitstreamError`` for a damaged or foreign stream."""
        read = bitstream.unpack(stream, self.fingerprint)
        decoder, check = Decoder(read.only_chunk()), SymbolCheck()
        shape = self._shape(read)
        points = self.coder.decode(int(np.prod(shape[:3])), decoder).reshape(shape)
        check.update(points)
        check.verify(read.symbols_check)
        return self._image(points, read)

    def points(self, image: Image) -> Ints:
        """The whole numbers of an image, (planes, h, w, blocks, rank)."""
        found: Ints = self.model.encode(self.model.planes(image)).cpu().numpy()
        return found

    def bits(self, image: Image) -> float:
        """What the image's points cost under the tables."""
        return self.coder.bits(_rows(self.points(image)))

    def payload_bits(self, stream: bytes) -> int:
        """Bits of entropy-coded symbols."""
        return bitstream.payload_bits(stream)

    def _shape(self, read: Stream) -> tuple[int, ...]:
        stride, q = self.model.stride, self.model.quantizer
        planes = read.channels if self.model.channels == 1 else 1
        return planes, -(-read.height // stride), -(-read.width // stride), q.blocks, q.rank

    def _image(self, points: Ints, read: Stream) -> Image:
        """The decoded image."""
        device = next(self.model.parameters()).device
        planes = self.model.decode(torch.from_numpy(points).to(device))
        return to_image(planes, read.height, read.width, read.channels)


def _rows(points: Ints) -> Ints:
    return points.reshape(-1, *points.shape[-2:])
