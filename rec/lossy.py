"""Images to streams and back with a lossy VAE: a sample of every latent from the top, and nothing else.

Encoder and decoder run the same generative pass and differ in where a latent comes from. Padding repeats the last row
and column to a multiple of the model's stride (its rate is counted), and is cut off after.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from core import bitstream
from core.codec import Image
from core.images import check_image
from core.planes import to_image, to_planes
from core.stream import StreamReader, StreamWriter
from rec.latents import LatentCoder, Level, Settings, exact, repeatable
from rec.models.hierarchy import LN2, Draws, Normal
from rec.models.level_vae import LevelVAE

if TYPE_CHECKING:
    from rec.refine import Refinement, SearchingLossy


class Ideal(NamedTuple):
    """What a perfect coder would give: the KL in bits, and the image decoded from exact posterior samples."""

    bits: float
    image: Image


class _Done(Exception):
    """The encoder has what it needs."""


class LossyCodec:
    """Compress and decompress with one model; the weights are those at construction."""

    rates = ("ideal",)

    def __init__(self, model: LevelVAE, settings: Settings, name: str, digest: bytes) -> None:
        self.model, self.latents = model.eval(), LatentCoder(settings)
        self.fingerprint = bitstream.fingerprint(name, digest, repr(settings))

    def compress(self, image: Image) -> bytes:
        return self.encode(image)[0]

    def searching(self, effort: int) -> SearchingLossy:
        """The codec that refines posteriors for ``effort`` gradient steps (``core.codec.HasSearch``)."""
        from rec.refine import SearchingLossy

        return SearchingLossy(self, effort)

    @exact
    def encode(self, image: Image, refinement: Refinement | None = None) -> tuple[bytes, list[Level]]:
        """The stream of an image, and what its latents cost, from the top; ``refinement`` betters its posteriors."""
        x, writer, levels = self.tensor(image), StreamWriter(self.fingerprint, image.shape), []
        last = len(self.model.shapes(*x.shape[2:])) - 1

        def visit(i: int, prior: Normal, posterior: Callable[[], Normal]) -> Tensor:
            q = posterior() if refinement is None else refinement.posterior(i, posterior())
            z, counted, level = self.latents.encode(i, q, prior, writer.encoder)
            writer.note(counted)
            if refinement is not None:
                refinement.know(z)
            levels.append(level)
            if i == last:
                raise _Done
            return z

        with suppress(_Done):
            self.model.generate(self.model.infer(x * 255), (1, *x.shape[2:]), visit)
        return writer.finish(), levels

    @exact
    def decompress(self, stream: bytes) -> Image:
        reader = StreamReader(stream, self.fingerprint)
        height, width = (-(-side // self.model.stride) * self.model.stride for side in reader.shape[:2])

        def visit(i: int, prior: Normal, posterior: Callable[[], Normal]) -> Tensor:
            z, counted = self.latents.decode(i, prior, reader.decoder)
            reader.note(counted)
            return z

        out = self.model.generate(None, (1, height, width), visit)
        reader.finish()
        return to_image(out, *reader.shape)

    def bits(self, image: Image) -> float:
        """What a perfect coder would need: the KL of every latent in bits, padding included."""
        return self.ideal(image).bits

    @exact
    def ideal(self, image: Image) -> Ideal:
        """Rate and image of a perfect coder, with exact samples of the posteriors (always the same ones)."""
        x, draws = self.tensor(image), Draws()
        with repeatable():
            out = self.model.generate(self.model.infer(x * 255), (1, *x.shape[2:]), draws)
        bits = sum(float(k.double().sum()) for k in draws.kls) / LN2
        return Ideal(bits, to_image(out, *image.shape))

    def rated(self, rate: str, image: Image) -> tuple[float, Image]:
        """What a perfect coder would need, in bits, and what it would decode."""
        bits, shown = self.ideal(image)
        return bits, shown

    def payload_bits(self, stream: bytes) -> int:
        """Bits of coded latents."""
        return bitstream.payload_bits(stream)

    def tensor(self, image: Image) -> Tensor:
        """uint8 (H, W, 1 or 3) -> (1, 3, H', W') in [0, 1], continued to multiples of the stride."""
        device = next(self.model.parameters()).device
        return to_planes(check_image(image), 3, self.model.stride).to(device)
