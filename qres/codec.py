"""Images to streams and back with a quantised hierarchical VAE: one range-coded stream for all latent blocks.

Encoder and decoder run the same top-down path and differ in one line: where a latent's symbols come from.
Padding repeats the last row and column to a multiple of the model's stride (its rate is counted), and is cut off after.
Streams decode on other machines, devices, thread counts and batch sizes than the encoder's (``core.portable``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor

from core import bitstream
from core.codec import Image, TesseraError
from core.finite import checked_picture
from core.frequencies import gaussian_tables
from core.images import as_grey, as_rgb, check_image, crop, pad
from core.portable import PLAIN, PORTABLE, Grid, Reader, Writer, bands
from qres import inference
from qres.blocks import Gaussian, Latent
from qres.correction import Correction
from qres.likelihood import code_log_likelihood
from qres.network import QResVAE
from qres.search import SearchingCodec

LARGE = 2**27  # features of an encoder beyond which they are kept in bfloat16: 7 megapixels with qres34m
_LMB_STEPS = 4096  # a conditional model's lambda travels as round(4096 log2(lambda)) in two bytes


def _log_grid(low: float, high: float, cells: int) -> Grid:
    """Scales from low to high, evenly on the logarithmic axis; log-scales may differ by 5e-5."""
    width = math.log(high / low) / (cells - 1)
    return Grid(math.log(low), width, cells, steps=round(width / 1e-4), parts=4)


SCALES = _log_grid(0.1, 64, 48)  # standard deviations of latents that the coder knows
PIXEL_SCALES = _log_grid(0.11, 64, 48)  # the lossless model's, in grey levels
PIXEL_MEANS = Grid(0, 1, 256, steps=128, parts=2)  # grey levels; they may differ by 1 / 256


def scales(grid: Grid) -> np.ndarray:
    """The standard deviations in the middle of a logarithmic grid's cells, float64 (cells,)."""
    return np.exp(grid.start + grid.width * np.arange(grid.cells))


def lambda_code(lmb: float) -> int:
    """The 16-bit code of a lambda in [1, 65536)."""
    code = round(math.log2(lmb) * _LMB_STEPS) if 0 < lmb < math.inf else -1
    if not 0 <= code < 65536:
        raise TesseraError(f"lmb={lmb} cannot travel in a stream: use 1 to 65535.")
    return code


def coded_lambda(payload: bytes) -> float:
    """The lambda at the beginning of a conditional model's payload, to four digits."""
    return float(f"{2 ** (int.from_bytes(payload[:2], 'little') / _LMB_STEPS):.4g}")


class _Done(Exception):
    """The encoder has what it needs."""


class QResCodec:
    """Compress and decompress with one model at one lambda; ready as soon as it is made.

    The weights are those at construction. ``portable=False`` saves what makes streams decodable elsewhere (below 1 %
    of the bytes); such streams still say so, and a wrong decode of them is still noticed.
    """

    def __init__(self, model: QResVAE, name: str, digest: bytes, portable: bool = True) -> None:
        self.model, self.portable = model.eval(), portable
        self.device = next(model.parameters()).device
        self.deferred = self.device.type != "cpu"  # code when all blocks are queued: no block waits for the coder
        self.network = inference.Network(model) if inference.available(model) else model
        self.correction = Correction(scales(SCALES))
        self.pixel_tables = gaussian_tables(scales(PIXEL_SCALES)) if model.out_net is not None else None
        self.fingerprint = bitstream.fingerprint(name, digest)
        kinds = [layer[0] for layer in (*model.arch.decoder, ("end",))]
        latents = [after for kind, after in itertools.pairwise(kinds) if kind == "latent"]
        self._level_ends = {i for i, after in enumerate(latents) if after != "latent"}  # last blocks of a resolution
        self._code = lambda_code(model.lmb) if model.embedding is not None else None
        self._head = 0 if self._code is None else 2  # bytes in front of the payload: the code of lambda

    def compress(self, image: Image) -> bytes:
        return self.compress_batch([image])[0]

    def decompress(self, stream: bytes) -> Image:
        return self.decompress_batch([stream])[0]

    @torch.inference_mode()
    def compress_batch(self, images: Sequence[Image], means: Sequence[Tensor] | None = None) -> list[bytes]:
        """Images of one padded size at once; each stream is as good as one from ``compress``.

        ``means``, the posterior means of each block (B, z, h, w), take the place of the encoder's (lossy models).
        """
        for image in images:
            check_image(image)
        mode, head = PORTABLE if self.portable else PLAIN, (self._code or 0).to_bytes(self._head, "little")
        writers = [Writer(self.fingerprint, image.shape, mode, head) for image in images]
        later: list[tuple[Tensor, Tensor]] = []

        def write(symbols: Tensor, prior_scale: Tensor) -> None:
            size = symbols[0, 0].numel()
            for writer, values, scale in zip(writers, _rows(symbols), _rows(torch.log(prior_scale)), strict=True):
                for band in bands(len(values), size):
                    writer.channels(values[band], scale[band], SCALES, self.correction, size)

        def encode(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            if means is None:
                last_use = i in self._level_ends  # memory of large images
                e = features.pop(f.shape[2]) if last_use else features[f.shape[2]]
                symbols = torch.round(block.infer(f, e, condition) - prior.mean)
                del e
            else:
                symbols = torch.round(means[i] - prior.mean)
            if self.deferred:
                later.append((symbols, prior.scale))
            else:
                write(symbols, prior.scale)
            if i == len(self.model.arch.latents) - 1 and self.pixel_tables is None:
                raise _Done
            return symbols + prior.mean

        with _full_precision(self.device):
            condition = self._condition([self._code] * len(images))
            features = self._features(images, condition) if means is None else {}
            with suppress(_Done):
                last = self.network.top_down(self._shape(images), encode, condition)
            for block in later:
                write(*block)
            if self.pixel_tables is not None:
                for image, writer, (mean, scale) in zip(images, writers, self._pixel_prior(last, images), strict=True):
                    pixels = as_rgb(image).reshape(-1).astype(np.int32)
                    for band in bands(len(pixels)):
                        symbols = pixels[band] - writer.cells(mean[band], PIXEL_MEANS)
                        writer.symbols(symbols, scale[band], PIXEL_SCALES, self.pixel_tables)
                        writer.note(pixels[band])
        return [writer.finish() for writer in writers]

    @torch.inference_mode()
    def decompress_batch(self, streams: Sequence[bytes]) -> list[Image]:
        """Streams of images of one padded size at once, whatever batch they were encoded in."""
        readers = [Reader(stream, self.fingerprint, self._head) for stream in streams]
        codes = [int.from_bytes(reader.head, "little") if self._head else None for reader in readers]
        images = [np.empty((*reader.shape[:2], 3), dtype=np.uint8) for reader in readers]

        def decode(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            symbols = np.empty((len(readers), prior.mean[0].numel()), dtype=np.float32)
            size = prior.mean[0, 0].numel()
            for reader, values, scale in zip(readers, symbols, _rows(torch.log(prior.scale)), strict=True):
                for band in bands(len(values), size):
                    values[band] = reader.channels(scale[band], SCALES, self.correction, size)
            found = torch.from_numpy(symbols).view(prior.mean.shape)
            return torch.empty_like(prior.mean).copy_(found) + prior.mean  # in the encoder's memory layout

        with _full_precision(self.device):
            condition = self._condition(codes)
            last = self.network.top_down(self._shape(images), decode, condition)
            if self.pixel_tables is not None:
                for image, reader, (mean, scale) in zip(images, readers, self._pixel_prior(last, images), strict=True):
                    pixels = image.reshape(-1)
                    for band in bands(len(pixels)):
                        levels = reader.cells(mean[band], PIXEL_MEANS)
                        levels += reader.symbols(scale[band], PIXEL_SCALES, self.pixel_tables)
                        reader.note(levels)
                        pixels[band] = levels.clip(0, 255)
        for reader in readers:
            reader.finish()
        if self.pixel_tables is None:
            images = [crop(_levels(x), *reader.shape[:2]) for x, reader in zip(last, readers, strict=True)]
        return [image if r.shape[2] == 3 else as_grey(image) for image, r in zip(images, readers, strict=True)]

    @torch.inference_mode()
    def means(self, images: Sequence[Image]) -> list[Tensor]:
        """The encoder's posterior means of each block, (B, z, h, w), coarse to fine."""
        found: list[Tensor] = []

        def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            found.append(block.infer(f, features[f.shape[2]], condition))
            return torch.round(found[-1] - prior.mean) + prior.mean

        with _full_precision(self.device):
            condition = self._condition([self._code] * len(images))
            features = self._features(images, condition)
            self.network.top_down(self._shape(images), visit, condition)
        return found

    def searching(self, effort: int) -> SearchingCodec:
        return SearchingCodec(self, effort)

    @torch.inference_mode()
    def bits(self, image: Image) -> float:
        """The model's estimate: -log2 of the mass of every quantised latent (and pixel), padding included."""
        x = self.tensor([image])
        condition = self._condition([self._code])
        features = self.network.features(x, condition)
        nats = 0.0

        def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            nonlocal nats
            symbols = torch.round(block.infer(f, features[f.shape[2]], condition) - prior.mean)
            nats -= float(code_log_likelihood(symbols, prior.scale).double().sum())
            return symbols + prior.mean

        last = self.network.top_down(self._shape([image]), visit, condition)
        if self.pixel_tables is not None:
            height, width, _ = image.shape
            log_mass = self.model.pixel_log_likelihood(last, (x - 0.5) * 2)[..., :height, :width]
            nats -= float(log_mass.double().sum())
        return nats / math.log(2)

    def payload_bits(self, stream: bytes) -> int:
        return bitstream.payload_bits(stream) - 8 * self._head

    def tensor(self, images: Sequence[Image]) -> Tensor:
        """uint8 (H, W, C) each -> padded (B, 3, H', W') in [0, 1]."""
        self._shape(images)
        padded = np.stack([pad(as_rgb(image), self.model.arch.stride) for image in images])
        return torch.from_numpy(padded).to(self.device).permute(0, 3, 1, 2).float().div_(255)

    def _features(self, images: Sequence[Image], condition: Tensor | None) -> dict[int, Tensor]:
        features = self.network.features(self.tensor(images), condition)
        if sum(f.numel() for f in features.values()) > LARGE:  # the decoder does not need them: half the memory
            features = {height: features.pop(height).bfloat16() for height in list(features)}
        return features

    def _shape(self, images: Sequence[Image]) -> tuple[int, int, int]:
        """(B, H' / stride, W' / stride), the size of the coarsest latent, which all images must share."""
        stride = self.model.arch.stride
        sizes = {(-(-image.shape[0] // stride), -(-image.shape[1] // stride)) for image in images}
        if len(sizes) != 1:
            raise TesseraError(f"a batch needs images of one size (padded to multiples of {stride}); split it by size.")
        return (len(images), *sizes.pop())

    def _condition(self, codes: Sequence[int | None]) -> Tensor | None:
        lambdas = [2 ** (code / _LMB_STEPS) for code in codes if code is not None]
        return self.model.condition(torch.tensor(lambdas, device=self.device)) if lambdas else None

    def _pixel_prior(self, last: Tensor, images: Sequence[Image]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each image, predicted grey levels and log-scales in levels, both (H * W * 3,); padding is not coded."""
        for x, image in zip(last.split(1), images, strict=True):
            height, width, _ = image.shape
            mean, scale = (y[0, :, :height, :width].permute(1, 2, 0) for y in self.network.pixel_prior(x))
            yield _rows((mean * 127.5 + 127.5)[None])[0], _rows((scale + math.log(127.5))[None])[0]


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Float32 products with all their digits, whatever the caller chose for training: no TF32, no autocast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _rows(x: Tensor) -> np.ndarray:
    """(B, ...) -> float32 (B, n) in C order on the CPU."""
    return x.cpu().flatten(1).numpy()


def _levels(x: Tensor) -> Image:
    """(3, H, W) in (-1, 1) -> uint8 (H, W, 3)."""
    levels = checked_picture(x).float().clamp(-1, 1).mul_(127.5).add_(127.5).round_()
    return levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
