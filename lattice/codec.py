"""Streams of lattice autoencoders: the points of an image, coordinate by coordinate (``lattice.points_coder``)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from core import bitstream
from core.codec import Image
from core.planes import to_image
from core.stream import StreamReader, StreamWriter
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
        points, writer = self.points(image), StreamWriter(self.fingerprint, image.shape)
        self.coder.encode(_rows(points), writer.encoder)
        writer.note(points)
        return writer.finish()

    def decompress(self, stream: bytes) -> Image:
        reader = StreamReader(stream, self.fingerprint)
        shape = self._shape(*reader.shape)
        points = self.coder.decode(int(np.prod(shape[:3])), reader.decoder).reshape(shape)
        reader.note(points)
        reader.finish()
        device = next(self.model.parameters()).device
        planes = self.model.decode(torch.from_numpy(points).to(device))
        return to_image(planes, *reader.shape)

    def points(self, image: Image) -> Ints:
        """The whole numbers of an image, (planes, h, w, blocks, rank)."""
        found: Ints = self.model.encode(self.model.planes(image)).cpu().numpy()
        return found

    def bits(self, image: Image) -> float:
        """What the image's points cost under the tables."""
        return self.coder.bits(_rows(self.points(image)))

    def payload_bits(self, stream: bytes) -> int:
        return bitstream.payload_bits(stream)

    def _shape(self, height: int, width: int, channels: int) -> tuple[int, ...]:
        stride, q = self.model.stride, self.model.quantizer
        planes = channels if self.model.channels == 1 else 1
        return planes, -(-height // stride), -(-width // stride), q.blocks, q.rank


def _rows(points: Ints) -> Ints:
    return points.reshape(-1, *points.shape[-2:])
