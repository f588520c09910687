"""Images to streams and back without loss with a ResNet VAE: a sample of every latent, then every pixel.

One range-coded payload holds the latents of all levels, from the top, and then the grey levels, colour by colour, with
the tables of ``rec.likelihood``. Encoder and decoder run the same generative pass on the same samples, so that their
predictions differ at most in the last digits, and ``core.portable`` makes the tables agree. What is decoded from
anything else than that is noticed by the check of all pixels. Sides are padded to even numbers for the latents (the
last row and column are repeated); padding has no coded pixels, and of a grey image one colour is coded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import bitstream
from core.codec import Image
from core.entropy import ideal_bits
from core.frequencies import Tables
from core.images import check_image
from core.planes import to_planes
from core.portable import Reader, Writer, bands
from rec.latents import LatentCoder, Settings, exact, repeatable
from rec.likelihood import LOG_SCALES, MEANS, pixel_tables, scale_cell
from rec.models.hierarchy import LN2, Draws, Normal
from rec.models.pixels import PixelLogistic
from rec.models.resnet_vae import ResNetVAE

if TYPE_CHECKING:
    from rec.refine import Refinement, SearchingLossless

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Account:
    """Where the bits of an image go. ``*_ideal``: KL, and -log2 of the model's masses at the coded latents."""

    latents_kl: float  # with the posteriors as they were met: after coded samples, which may have moved them
    latents_counted: float  # what the coder's own analysis counts (K ln n of beam search)
    latents_file: float  # side information included
    residual_ideal: float
    residual_file: float
    file: int  # the whole stream

    @property
    def accounted(self) -> float:
        """The published accounting: the coder's count and an ideal residual, without side information or headers."""
        return self.latents_counted + self.residual_ideal


class LosslessCodec:
    """Compress and decompress with one model; the weights are those at construction."""

    rates = ("ideal", "accounted")

    def __init__(self, model: ResNetVAE, settings: Settings, name: str, digest: bytes) -> None:
        self.model, self.latents = model.eval(), LatentCoder(settings)
        self.fingerprint = bitstream.fingerprint(name, digest, repr(settings))

    def compress(self, image: Image) -> bytes:
        return self.encode(image)[0]

    def rated(self, rate: str, image: Image) -> tuple[float, Image]:
        """The negative ELBO ('ideal'), or the published count of what was coded ('accounted'), in bits."""
        return (self.bits(image) if rate == "ideal" else self.account(image).accounted), image

    def account(self, image: Image) -> Account:
        """Where the bits of an image's stream go."""
        return self.encode(image)[1]

    def searching(self, effort: int) -> SearchingLossless:
        """The codec that refines posteriors for ``effort`` gradient steps (``core.codec.HasSearch``)."""
        from rec.refine import SearchingLossless

        return SearchingLossless(self, effort)

    @exact
    def encode(self, image: Image, refinement: Refinement | None = None) -> tuple[bytes, Account]:
        """The stream of an image, and where its bits go; ``refinement`` betters its posteriors."""
        x, writer, levels = levels_of(self.model, image), Writer(self.fingerprint, image.shape), []

        def visit(i: int, prior: Normal, posterior: Callable[[], Normal]) -> Tensor:
            q = posterior() if refinement is None else refinement.posterior(i, posterior())
            z, _, level = self.latents.encode(i, q, prior, writer.encoder)
            levels.append(level)
            if refinement is not None:
                refinement.know(z)
            return z

        out = self.model.generate(self.model.infer(x), (1, *x.shape[2:]), visit)
        residual = Residual(self.model, out[:, :, : image.shape[0], : image.shape[1]])
        ideal = residual.write(image, writer)
        stream = writer.finish()
        latents = sum(level.file_bits for level in levels)
        account = Account(
            latents_kl=sum(level.kl_bits for level in levels),
            latents_counted=sum(level.ideal_bits for level in levels),
            latents_file=latents,
            residual_ideal=ideal,
            residual_file=self.payload_bits(stream) - latents,
            file=8 * len(stream),
        )
        return stream, account

    @exact
    def decompress(self, stream: bytes) -> Image:
        reader = Reader(stream, self.fingerprint)
        rows, columns, channels = reader.shape

        def visit(i: int, prior: Normal, posterior: Callable[[], Normal]) -> Tensor:
            return self.latents.decode(i, prior, reader.decoder)[0]

        height, width = (side + side % self.model.stride for side in (rows, columns))
        out = self.model.generate(None, (1, height, width), visit)
        image = Residual(self.model, out[:, :, :rows, :columns]).read(channels, reader)
        reader.finish()
        return image

    def bits(self, image: Image) -> float:
        """The negative ELBO in bits."""
        return negative_elbo(self.model, image)

    def payload_bits(self, stream: bytes) -> int:
        """Bits of coded latents and pixels."""
        return bitstream.payload_bits(stream)


def levels_of(model: PixelLogistic, image: Image) -> Tensor:
    """Grey levels (1, 3, H', W') with sides that the model takes."""
    return torch.round(to_planes(check_image(image), 3, model.stride) * 255).to(model.log_scale.device)


@exact
def negative_elbo(model: ResNetVAE, image: Image) -> float:
    """In bits, with exact samples of the posteriors (always the same ones); padding has latents but no pixels."""
    x, draws = levels_of(model, image), Draws()
    height, width, channels = image.shape
    with repeatable():
        out = model.generate(model.infer(x), (1, *x.shape[2:]), draws)
    nats = -model.log_likelihood(out, x)[:, :channels, :height, :width].double().sum()
    return float(nats + sum(k.double().sum() for k in draws.kls)) / LN2


class Residual:
    """The pixels of an image under the model's prediction ``out``, (1, outputs, H, W): write and read mirror."""

    def __init__(self, model: ResNetVAE, out: Tensor) -> None:
        self.model, self.out = model, out
        self.planes: list[Tensor] = []  # colours that both sides know

    def write(self, image: Image, writer: Writer) -> float:
        """Write every sample; what an ideal coder would need for them, in bits."""
        bits = 0.0
        for c in range(image.shape[2]):
            pixels = image[:, :, c].reshape(-1).astype(np.int32)
            mean, log_scale = self._prediction(c)
            for band in bands(len(pixels)):
                index, tables = self._tables(writer, mean[band], None if log_scale is None else log_scale[band])
                writer.write(pixels[band], index, tables)
                bits += ideal_bits(pixels[band], index, tables)
            self._know(pixels)
        return bits

    def read(self, channels: int, reader: Reader) -> Image:
        """The image (H, W, channels)."""
        planes = []
        for c in range(channels):
            mean, log_scale = self._prediction(c)
            pixels = np.empty(mean.size, np.int32)
            for band in bands(len(pixels)):
                index, tables = self._tables(reader, mean[band], None if log_scale is None else log_scale[band])
                pixels[band] = reader.read(index, tables)
            self._know(pixels)
            planes.append(pixels.astype(np.uint8).reshape(self.out.shape[2:]))
        return np.stack(planes, axis=2)

    def _prediction(self, c: int) -> tuple[Floats, Floats | None]:
        """Means and log-scales of a colour's samples, in levels, (n,) in C order."""
        mean, log_scale = self.model.channel(self.out, c, lambda j: self.planes[j])
        return _flat(mean), None if log_scale is None else _flat(log_scale)

    def _tables(self, coder: Writer | Reader, mean: Floats, log_scale: Floats | None) -> tuple[Ints, Tables]:
        """The table of each sample, and the tables; writer and reader find the same cells."""
        means = coder.cells(mean, MEANS)
        if log_scale is None:
            scales = np.full(means.shape, scale_cell(self.model.pixel_log_scale()))
        else:
            scales = coder.cells(log_scale, LOG_SCALES)
        return pixel_tables(means, scales)

    def _know(self, pixels: NDArray[np.int32]) -> None:
        plane = torch.from_numpy(pixels.astype(np.float32)).view(1, *self.out.shape[2:])
        self.planes.append(plane.to(self.out.device))


def _flat(x: Tensor) -> Floats:
    flat: Floats = x.reshape(-1).cpu().numpy()
    return flat
