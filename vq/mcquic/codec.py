"""Streams of McQuic: the codes of every level under static tables, or under a context model over the code grids.

Codes are whole numbers and their tables integers made of what the checkpoint stores, so decoding the codes is the same
on every machine; only the picture painted from them may differ in the last digits, as with ``decoding`` bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import bitstream
from core.codec import Image
from core.finite import checked_counts, checked_picture
from core.frequencies import Tables, categorical_table
from core.images import as_grey, as_rgb, check_image
from core.stream import StreamReader, StreamWriter
from vq.mcquic import inference, mcq
from vq.mcquic.network import McQuic

if TYPE_CHECKING:
    from vq.mcquic.searching import SearchingCodec

Codes = NDArray[np.int64]  # (m, h, w), one level


class McQuicCodec:
    """Compress and decompress with one model, in Tessera's container or, with ``container`` mcq, in ``.mcq`` files.

    Either kind of stream is decoded, whatever ``container`` says. The weights are those at construction.
    """

    def __init__(
        self, model: McQuic, name: str, digest: bytes, container: str = "tessera", decoding: torch.dtype = torch.float32
    ) -> None:
        self.model, self.container = model.eval(), container
        self.network = inference.network(model, decoding)
        frequencies = [checked_counts(f, "frequencies of codes").astype(np.float32) for f in model.frequencies()]
        self.tables: list[Tables] = [categorical_table(f) for f in frequencies]
        self.shares = [f.astype(np.float64) / f.sum(1, keepdims=True, dtype=np.float64) for f in frequencies]
        kept = [level._quantizer.kept for level in model._quantizer._encoders]
        self.codebook_sizes = tuple(k for k, n in zip(model.k, kept, strict=True) for _ in range(n))
        self.context = None if model.context is None else model.context.fixed(model.codebooks())
        self.files = mcq.Files(model.recipe.target, frequencies)
        point = () if kept == [model.m] * len(kept) else (",".join(map(str, kept)),)
        self.fingerprint = bitstream.fingerprint(name, *point, digest)

    def compress(self, image: Image) -> bytes:
        check_image(image)
        if self.container == "mcq":
            return self.files.pack(image.shape, self._encoded(mcq.tensor(as_rgb(image), self.files.align)))
        return self.write(self._codes(image), image)

    def write(self, codes: Sequence[Codes], image: Image) -> bytes:
        """The stream in Tessera's container of the codes of an image, finest level first."""
        writer = StreamWriter(self.fingerprint, image.shape)
        if self.context is not None:
            self.context.encode(codes, writer.encoder)
        else:
            for level, tables in zip(codes, self.tables, strict=True):
                writer.encoder.encode(level, _groups(level.shape), tables)
        for level in codes:
            writer.note(level)
        return writer.finish()

    def decompress(self, stream: bytes) -> Image:
        """Stream or ``.mcq`` file -> uint8 (H, W, 1 or 3); ``BitstreamError`` for a damaged or foreign one."""
        if mcq.recognised(stream):
            (height, width, channels), codes = self.files.unpack(stream)
            image = mcq.picture(self._decoded(codes), height, width, self.files.align)
            return image if channels == 3 else as_grey(image)
        reader = StreamReader(stream, self.fingerprint)
        decoder, grids = reader.decoder, self._grids(*reader.shape[:2])
        if self.context is not None:
            codes = self.context.decode(grids, decoder)
        else:
            codes = [decoder.decode(_groups(g), t).astype(np.int64) for g, t in zip(grids, self.tables, strict=True)]
        for level in codes:
            reader.note(level)
        reader.finish()
        return _picture(self._decoded(codes), *reader.shape)

    def searching(self, effort: int, weight: float = 1.0) -> SearchingCodec:
        from vq.mcquic.searching import SearchingCodec

        return SearchingCodec(self, effort, weight)

    def codes(self, image: Image) -> list[Codes]:
        """The codes of an image, (h, w) for each codebook of each level, finest level first."""
        return [group for level in self._codes(image) for group in level]

    def bits(self, image: Image) -> float:
        """The model's estimate: -log2 of the codes' shares, or what the context model says."""
        codes = self._codes(image)
        if self.context is not None:
            return self.context.bits(codes)
        shares = (np.maximum(s, 2.0**-24)[_groups(c.shape), c] for s, c in zip(self.shares, codes, strict=True))
        return float(-sum(np.log2(share).sum() for share in shares))

    def payload_bits(self, stream: bytes) -> int:
        return mcq.payload_bits(stream) if mcq.recognised(stream) else bitstream.payload_bits(stream)

    def _codes(self, image: Image) -> list[Codes]:
        return self._encoded(self.model.tensor(check_image(image)))

    @torch.inference_mode()
    def _encoded(self, x: Tensor) -> list[Codes]:
        return [level[0].cpu().numpy() for level in self.network.encode(x.to(self.model.device))]

    @torch.inference_mode()
    def _decoded(self, codes: Sequence[Codes]) -> Tensor:
        """Codes -> (3, H, W), not clamped, around (-1, 1)."""
        found: Tensor = self.network.decode([torch.from_numpy(c)[None].to(self.model.device) for c in codes])[0]
        return found.float()

    def _grids(self, height: int, width: int) -> list[tuple[int, int, int]]:
        s = self.model.stride
        return self.model.grids(-(-height // s) * s, -(-width // s) * s)


def _groups(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The number of the codebook of every code (m, h, w)."""
    return np.broadcast_to(np.arange(shape[0])[:, None, None], shape)


def _picture(x: Tensor, height: int, width: int, channels: int) -> Image:
    """(3, H', W') around (-1, 1) -> uint8 (H, W, 1 or 3), rounded."""
    cut = (checked_picture(x)[:, :height, :width] + 1).mul_(127.5)
    levels = cut.clamp_(0, 255).round_().to(torch.uint8).cpu()
    image = np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
    return image if channels == 3 else as_grey(image)
