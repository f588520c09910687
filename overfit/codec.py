"""Images to streams and back: fit, round, code; the decoder needs nothing but the stream.

A payload is the weights (``overfit.weights``), then the grids of latents, the coarsest first, all in one range coder.
"""

from __future__ import annotations

import numpy as np
import torch

from core import bitstream
from core.bitstream import Stream, SymbolCheck
from core.codec import Image
from core.finite import checked_latents
from core.images import as_rgb, check_image
from overfit import exact, fit, layout, weights
from overfit.coder import Decoder, encoded
from overfit.exact import Latents
from overfit.layout import Floats
from overfit.tables import LIMIT, laplace


class OverfitCodec:
    """Encoder for a lambda and a number of steps; its decoder reads the streams of all of them."""

    def __init__(self, name: str, lmb: float, steps: int) -> None:
        self.lmb, self.steps = lmb, steps
        self.fingerprint = bitstream.fingerprint(name, weights.START.read_bytes())

    def compress(self, image: Image) -> bytes:
        check_image(image)
        target = np.ascontiguousarray(as_rgb(image).transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
        with fit.one_thread():
            latents, vector = fit.fit(
                target, self.lmb, fit.Recipe(self.steps), torch.from_numpy(weights.start()).float()
            )
            latents = checked_latents(latents).clamp(-LIMIT, LIMIT).round()
            groups = self._quantised(target, latents, checked_latents(vector))
        grids = layout.split_grids(latents.numpy().astype(np.int32), layout.grid_sides(*target.shape[1:]))
        return self.write(groups, grids, image.shape)

    def _quantised(self, target: fit.Floats32, latents: torch.Tensor, vector: torch.Tensor) -> list[weights.Coded]:
        """The weights as they are sent, each group in the steps that cost least."""
        loss, pixels, noise = fit.loss_of(target, self.lmb), target[0].size, fit.noise_table(1.0)

        def cost(trial: Floats, group: int) -> float:
            part = fit.RATE if group in layout.CONTEXT_GROUPS else fit.ERROR
            found = loss(latents, torch.from_numpy(trial).float(), 0.0, noise, 0, part)
            return float(found.error + self.lmb * found.bits / pixels)

        return weights.chosen(vector.double().numpy(), cost, self.lmb / pixels)

    def write(self, groups: list[weights.Coded], grids: list[Latents], shape: tuple[int, ...]) -> bytes:
        """The stream of coded weights and grids, the finest first, of an image of a shape (H, W, C)."""
        vector, parts, check = weights.vector(groups), weights.intervals(groups), SymbolCheck()
        for group in groups:
            check.update(group.numbers)
        for level in range(layout.LEVELS)[::-1]:
            grid = grids[level]
            base, tables = exact.predict(grid, level, vector)
            places = exact.order(grid.shape)
            parts.append(laplace().intervals(tables[places], (grid.ravel() - base)[places]))
            check.update(grid)
        payload = encoded(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        height, width, channels = shape
        return bitstream.pack(Stream(self.fingerprint, height, width, channels, (payload,), check.digest()))

    def decompress(self, stream: bytes) -> Image:
        read, check = bitstream.unpack(stream, self.fingerprint), SymbolCheck()
        decoder = Decoder(read.only_chunk())
        groups = weights.decode(decoder)
        for group in groups:
            check.update(group.numbers)
        vector, grids = weights.vector(groups), list[Latents]()
        for level, side in reversed(list(enumerate(layout.grid_sides(read.height, read.width)))):
            grids.insert(0, exact.decode_grid(decoder, side, level, vector))
            check.update(grids[0])
        check.verify(read.symbols_check)
        planes = exact.picture(grids, vector)
        if read.channels == 1:
            planes = ((planes.sum(0, keepdims=True, dtype=np.int32) + 1) // 3).astype(np.uint8)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def payload_bits(self, stream: bytes) -> int:
        """Bits of weights and latents."""
        return bitstream.payload_bits(stream)
