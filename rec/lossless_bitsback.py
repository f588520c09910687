"""The ResNet VAE with bits back instead of relative entropy coding (HiLLoC; Townsend et al., ICLR 2020).

A stream of one image also carries its first bits: those that its latents were taken from. ``chain`` puts many images on
one stack, where only the first pays for them. Posteriors look at the image and at the levels above, so the order is
top-down. Encoder and decoder must find the same floats: streams need the encoder's own machine and libraries, and are
refused where the first bits are not found again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import bitstream
from core.bitstream import DecodeMismatch, Stream, SymbolCheck
from core.codec import Image, TesseraError
from core.frequencies import Tables
from core.images import check_image
from rec.bitsback import BitsBack, Packed
from rec.gaussian import Gaussian
from rec.latents import Settings, exact
from rec.likelihood import LOG_SCALES, MEANS, pixel_tables, scale_cell
from rec.lossless import levels_of, negative_elbo
from rec.models.hierarchy import Normal
from rec.models.pixels import PixelLogistic
from rec.models.resnet_vae import ResNetVAE

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class ChainCodec:
    """Base of codecs by bits back: ``coder`` and ``negative_elbo`` in a subclass; weights are those at construction."""

    rates = ("ideal", "asymptotic")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint

    def coder(self, shape: tuple[int, int, int]) -> tuple[BitsBack, int]:
        """What codes images of a shape (H, W, C), and how many latents each of them has."""
        raise NotImplementedError(f"{type(self).__name__} defines no coder")

    def negative_elbo(self, image: Image) -> float:
        """In bits: what the image adds to a long chain, up to chance."""
        raise NotImplementedError(f"{type(self).__name__} defines no negative ELBO")

    def rated(self, rate: str, image: Image) -> tuple[float, Image]:
        """The negative ELBO ('ideal'), or what the image really adds to the stack ('asymptotic'), in bits."""
        return (self.negative_elbo(image) if rate == "ideal" else self.chain([image]).net_bits[0]), image

    def compress(self, image: Image) -> bytes:
        """uint8 (H, W, 1 or 3) -> stream, the first bits included."""
        return self.pack(image)[0]

    def pack(self, image: Image) -> tuple[bytes, Packed]:
        """The stream of an image, and the chain of one that it carries."""
        packed = self.chain([image])
        height, width, channels = image.shape
        stream = Stream(self.fingerprint, height, width, channels, (packed.payload,), _check([image]))
        return bitstream.pack(stream), packed

    def decompress(self, stream: bytes) -> Image:
        read = bitstream.unpack(stream, self.fingerprint)
        (image,) = self.unchain(read.only_chunk(), 1, (read.height, read.width, read.channels))
        if _check([image]) != read.symbols_check:
            raise DecodeMismatch("the decoded pixels are not the encoded ones: decode on the encoder's machine")
        return image

    @exact
    def chain(self, images: Sequence[Image]) -> Packed:
        """Images of one shape on one stack."""
        shapes = {check_image(image).shape for image in images}
        if len(shapes) != 1:
            raise TesseraError(f"a chain has images of one size, not of {len(shapes)}.")
        height, width, channels = shapes.pop()
        coder, latents = self.coder((height, width, channels))
        data = [[image[:, :, c].reshape(-1).astype(np.int64) for c in range(channels)] for image in images]
        return coder.encode(data, latents)

    @exact
    def unchain(self, payload: bytes, count: int, shape: tuple[int, int, int]) -> list[Image]:
        """The images of ``chain``."""
        return [joined(parts, shape) for parts in self.coder(shape)[0].decode(payload, count)]

    def payload_bits(self, stream: bytes) -> int:
        """Bits of the stack, the first bits included."""
        return bitstream.payload_bits(stream)


class BitsBackCodec(ChainCodec):
    """Compress and decompress with one ResNet VAE."""

    def __init__(self, model: ResNetVAE, settings: Settings, name: str, digest: bytes) -> None:
        super().__init__(bitstream.fingerprint(name, digest, f"bits back, seed {settings.seed}"))
        self.model, self.seed = model.eval(), settings.seed

    def coder(self, shape: tuple[int, int, int]) -> tuple[BitsBack, int]:
        """See ``ChainCodec.coder``."""
        hierarchy = ImageHierarchy(self.model, shape)
        return BitsBack(hierarchy, seed=self.seed), hierarchy.latents

    def negative_elbo(self, image: Image) -> float:
        """See ``ChainCodec.negative_elbo``."""
        return negative_elbo(self.model, image)

    def bits(self, image: Image) -> float:
        """The negative ELBO in bits."""
        return self.negative_elbo(image)


class ImageHierarchy:
    """A ResNet VAE on images of one shape (H, W, C), as ``rec.bitsback`` sees it: latents in C order, a part a colour.

    Values are asked for level after level, so the features below the last level known are kept.
    """

    def __init__(self, model: ResNetVAE, shape: tuple[int, int, int]) -> None:
        self.model, self.shape = model, shape
        self.depth, self.parts = model.arch.num_res_blocks, shape[2]
        height, width = (side + side % model.stride for side in shape[:2])
        self.size = 1, height, width
        self.sizes = model.shapes(height, width)
        self._above: list[Floats] = []  # values that the features below belong to
        self._features = [model.start(self.size)]
        self._seen: tuple[bytes, list[tuple[Tensor, Tensor]]] = b"", []

    @property
    def latents(self) -> int:
        """Of one image, all levels."""
        return sum(int(np.prod(size)) for size in self.sizes)

    def prior(self, level: int, above: Sequence[Floats]) -> Gaussian:
        """p(z_level | above): loc and scale (n_level,)."""
        _, prior, _ = self.model.blocks[level].look(self._descended(above), None)
        return flat(prior)

    def posterior(self, level: int, x: Sequence[Ints], above: Sequence[Floats]) -> Gaussian:
        """q(z_level | x, above)."""
        _, _, posterior = self.model.blocks[level].look(self._descended(above), self._offsets(x)[level])
        return flat(posterior())

    def likelihood(self, part: int, latents: Sequence[Floats], known: Sequence[Ints]) -> tuple[Ints, Tables]:
        """The table of each sample of a colour, given all latents and the colours before it."""
        height, width, _ = self.shape
        out = self.model.finish(self._descended(latents))[:, :, :height, :width]
        return colour_tables(self.model, out, known)

    def _descended(self, above: Sequence[Floats]) -> Tensor:
        """The features below the levels whose values are known."""
        same = 0
        while same < min(len(above), len(self._above)) and np.array_equal(above[same], self._above[same]):
            same += 1
        self._above, self._features = self._above[:same], self._features[: same + 1]
        for level in range(same, len(above)):
            h, block = self._features[level], self.model.blocks[level]
            z = torch.from_numpy(above[level]).view(1, *self.sizes[level]).float().to(h.device)
            self._features.append(block.descend(h, block.look(h, None)[0], z))
            self._above.append(above[level].copy())
        return self._features[len(above)]

    def _offsets(self, x: Sequence[Ints]) -> list[tuple[Tensor, Tensor]]:
        image = joined(x, self.shape)
        if self._seen[0] != image.tobytes():
            self._seen = image.tobytes(), self.model.infer(levels_of(self.model, image))
        return self._seen[1]


def colour_tables(model: PixelLogistic, out: Tensor, known: Sequence[Ints]) -> tuple[Ints, Tables]:
    """The table of each sample of the colour after the ``known`` ones, and the tables, for ``out`` (1, n, H, W)."""
    planes = [torch.from_numpy(v.astype(np.float32)).view(1, *out.shape[2:]).to(out.device) for v in known]
    mean, log_scale = model.channel(out, len(known), lambda j: planes[j])
    means = MEANS.nearest(_numbers(mean))
    if log_scale is None:
        return pixel_tables(means, np.full(means.shape, scale_cell(model.pixel_log_scale())))
    return pixel_tables(means, LOG_SCALES.nearest(_numbers(log_scale)))


def joined(parts: Sequence[Ints], shape: tuple[int, int, int]) -> Image:
    """The image of a shape (H, W, C) whose colours are ``parts``, (H W,) each."""
    return np.stack([part.astype(np.uint8).reshape(shape[:2]) for part in parts], axis=2)


def _check(images: Sequence[Image]) -> int:
    check = SymbolCheck()
    for image in images:
        check.update(image.astype(np.int32))
    return check.digest()


def _numbers(x: Tensor) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = x.reshape(-1).cpu().numpy()
    return flat


def flat(normal: Normal) -> Gaussian:
    """Normals of a tensor, (n,) in C order."""
    loc, scale = (x.reshape(-1).cpu().numpy().astype(np.float64) for x in normal)
    return Gaussian(loc, scale)
