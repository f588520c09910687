"""Search at the encoder: better symbols for one picture under the same weights, in streams that the decoder knows.

The encoder's posterior means are a first guess. Here they are free variables, of all latent blocks together, and follow
the gradient of rate + lambda x distortion through the whole top-down path; the weights stay as they are. Rounding is
annealed: a symbol between two integers stands for both, in shares that steepen until only the nearer one is left, the
two-point distribution of stochastic Gumbel annealing (Yang, Bamler, Mandt, NeurIPS 2020, arXiv 2006.04240) with its
mean in the place of its samples. The rate is the coder's (``code_log_likelihood``), the distortion that of the picture
without padding, clamped to what can be shown.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from core import devices
from core.codec import Image, TesseraError, check_effort
from core.images import as_rgb
from qres.blocks import Gaussian
from qres.likelihood import code_log_likelihood
from qres.network import LN2, MS_SSIM_SCALE, QResVAE

if TYPE_CHECKING:
    from qres.codec import QResCodec

RATE = 0.04  # of Adam, in steps between symbols; falls to nothing along a cosine
SOFT, HARD = 4.0, 1000.0  # steepness of rounding at the first and at the last step
CHECKS = 10  # looks at the rounded result, evenly spread over the steps
PATIENCE = 4  # looks without a gain that end the search, once rounding is steep (half of the steps)
TILE, OVERLAP = 768, 128  # sides of the windows of large pictures, in pixels of the picture
LEAST_SIDE = 161  # of what MS-SSIM can compare


@dataclass(frozen=True)
class Window:
    """Rows and columns of a padded picture that are searched together, and the part of them that is kept."""

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]

    def cut(self, x: Tensor, stride: int) -> Tensor:
        """The window of a tensor (B, C, H / stride, W / stride)."""
        rows, columns = (slice(s.start // stride, s.stop // stride) for s in self.outer)
        return x[..., rows, columns]

    def keep(self, found: Tensor, into: Tensor, stride: int) -> None:
        """Put the kept part of what a window found into the whole."""
        rows, columns = (
            slice((i.start - o.start) // stride, (i.stop - o.start) // stride)
            for i, o in zip(self.inner, self.outer, strict=True)
        )
        to_rows, to_columns = (slice(s.start // stride, s.stop // stride) for s in self.inner)
        into[..., to_rows, to_columns] = found[..., rows, columns]


class SearchingCodec:
    """A codec that spends up to ``steps`` gradient steps on each picture; its streams are the plain codec's.

    A stream is the plain one unless the searched one is better in nats per dimension + lambda x distortion, bytes and
    decoded pictures of both compared.
    """

    def __init__(self, codec: QResCodec, steps: int) -> None:
        check_effort(steps, least=1)
        if codec.model.out_net is not None:
            raise TesseraError(f"a lossless model has no lambda to search with: leave search={steps} out.")
        self.codec, self.steps, self.network = codec, steps, fixed(codec.model)

    def compress(self, image: Image) -> bytes:
        return self.compress_batch([image])[0]

    def decompress(self, stream: bytes) -> Image:
        return self.codec.decompress(stream)

    def payload_bits(self, stream: bytes) -> int:
        return self.codec.payload_bits(stream)

    def compress_batch(self, images: Sequence[Image]) -> list[bytes]:
        plain = self.codec.compress_batch(images)
        if self.network.target == "ms_ssim" and min(min(image.shape[:2]) for image in images) < LEAST_SIDE:
            return plain
        sizes = [image.shape[:2] for image in images]
        means = search(self.network, self.codec.tensor(images), sizes, self.codec.means(images), self.steps)
        pairs = zip(images, zip(plain, self.codec.compress_batch(images, means), strict=True), strict=True)
        return [min(streams, key=partial(self._cost, image)) for image, streams in pairs]

    def _cost(self, image: Image, stream: bytes) -> float:
        """Rate + lambda x distortion of a stream, in nats per dimension."""
        shown, wanted = (_signed(x) for x in (self.codec.decompress(stream), image))
        dims = 3 * image.shape[0] * image.shape[1]
        return 8 * len(stream) * LN2 / dims + self.network.lmb * float(distortion(self.network.target, shown, wanted))


@torch.inference_mode(False)
def fixed(model: QResVAE) -> QResVAE:
    """A copy of the model whose weights take no gradient, folded at its own lambda where its kind can be."""
    device = next(model.parameters()).device
    made = copy.deepcopy(model).cpu()
    made = made.at_lambda() if made.embedding is not None and type(made) is QResVAE else made
    made.memory_format = model.memory_format
    return made.to(device).eval().requires_grad_(False)


@torch.inference_mode(False)
def search(
    network: QResVAE, images: Tensor, sizes: Sequence[tuple[int, int]], means: Sequence[Tensor], steps: int
) -> list[Tensor]:
    """Better posterior means of padded images (B, 3, H, W) in [0, 1], whose true sizes are ``sizes``.

    ``means`` are the encoder's, (B, z, h, w) for each block; large images are searched window by window.
    """
    found = [mean.clone() for mean in means]
    height, width = images.shape[2:]
    for window in windows(height, width, network.stride):
        rows, columns = window.outer
        inside = [(min(h, rows.stop) - rows.start, min(w, columns.stop) - columns.start) for h, w in sizes]
        strides = [images.shape[2] // mean.shape[2] for mean in found]
        start = [window.cut(mean, stride) for mean, stride in zip(found, strides, strict=True)]
        better = Descent(network, window.cut(images, 1), inside, start).run(steps)
        for mean, part, stride in zip(found, better, strides, strict=True):
            window.keep(part, mean, stride)
    return found


def windows(height: int, width: int, stride: int) -> Iterator[Window]:
    """Windows of about ``TILE`` pixels that cover a padded picture, in reading order; small pictures are one."""
    for rows, columns in itertools.product(_spans(height, stride), _spans(width, stride)):
        yield Window((rows[0], columns[0]), (rows[1], columns[1]))


def _spans(length: int, stride: int) -> list[tuple[slice, slice]]:
    """(what is searched, what is kept) along one axis, all borders multiples of ``stride``."""
    cells, margin = length // stride, -(-OVERLAP // stride)
    count = -(-length // TILE)
    borders = [cells * i // count for i in range(count + 1)]
    outer = [(max(a - margin, 0), min(b + margin, cells)) for a, b in itertools.pairwise(borders)]
    return [
        (slice(low * stride, high * stride), slice(a * stride, b * stride))
        for (low, high), (a, b) in zip(outer, itertools.pairwise(borders), strict=True)
    ]


class Descent:
    """The search on one window: images (B, 3, H, W) in [0, 1], the sizes shown, and the means to start from."""

    def __init__(
        self, network: QResVAE, images: Tensor, sizes: Sequence[tuple[int, int]], means: Sequence[Tensor]
    ) -> None:
        self.network, self.sizes = network, sizes
        self.images = [2 * x[None, :, :h, :w] - 1 for x, (h, w) in zip(images.clone(), sizes, strict=True)]
        self.shape = (len(images), images.shape[2] // network.stride, images.shape[3] // network.stride)
        self.start = [mean.clone() for mean in means]
        with torch.no_grad():  # None for a folded network
            self.condition = network.condition(images.new_full((len(images),), network.lmb))
        self.autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=devices.bfloat16(str(images.device)))

    def run(self, steps: int) -> list[Tensor]:
        """The best means found, those of the start where none is better."""
        with torch.enable_grad(), torch.autocast(self.start[0].device.type, enabled=False):
            return self._run(steps)

    def _run(self, steps: int) -> list[Tensor]:
        best, cost = [mean.clone() for mean in self.start], self.rounded(self.start)
        variables = [mean.clone().requires_grad_() for mean in self.start]
        optimiser = torch.optim.Adam(variables, lr=RATE)
        looks = {math.ceil(steps * i / CHECKS) for i in range(1, CHECKS + 1)}
        vain = 0
        for step in range(steps):
            done = step / max(steps - 1, 1)
            optimiser.param_groups[0]["lr"] = RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            optimiser.zero_grad()
            loss = self._loss(variables, SOFT * (HARD / SOFT) ** done).sum()
            if not torch.isfinite(loss):
                break
            loss.backward()
            optimiser.step()
            if step + 1 in looks:
                now = self.rounded(variables)
                better = now < cost
                vain = 0 if better.any() or step < steps // 2 else vain + 1
                if vain == PATIENCE:
                    break
                for old, new in zip(best, variables, strict=True):
                    old[better] = new.detach()[better]
                cost = torch.where(better, now, cost)
        return best

    def _loss(self, means: Sequence[Tensor], steepness: float) -> Tensor:
        """Nats + lambda x distortion of each image, (B,), with soft symbols."""
        nats = torch.zeros(self.shape[0], device=means[0].device)

        def visit(i: int, block: Any, f: Tensor, prior: Gaussian) -> Tensor:
            nonlocal nats
            symbols = means[i] - prior.mean
            low = torch.floor(symbols).detach()
            share = soft_share(symbols - low, steepness)
            below, above = (code_log_likelihood(s, prior.scale) for s in (low, low + 1))
            nats = nats - torch.lerp(below, above, share).sum((1, 2, 3))
            return low + share + prior.mean

        with self.autocast:
            output = self.network.top_down(self.shape, visit, self.condition)
        return nats + self._distortion(output)

    @torch.no_grad()
    def rounded(self, means: Sequence[Tensor]) -> Tensor:
        """Nats + lambda x distortion of each image, (B,), with the symbols that the coder writes."""
        nats = torch.zeros(self.shape[0], device=means[0].device)

        def visit(i: int, block: Any, f: Tensor, prior: Gaussian) -> Tensor:
            nonlocal nats
            symbols = torch.round(means[i] - prior.mean)
            nats = nats - code_log_likelihood(symbols, prior.scale).sum((1, 2, 3))
            return symbols + prior.mean

        return nats + self._distortion(self.network.top_down(self.shape, visit, self.condition))

    def _distortion(self, output: Tensor) -> Tensor:
        """lambda x distortion x dimensions of each image, (B,), in nats."""
        crops = [x[None, :, :h, :w].float() for x, (h, w) in zip(output, self.sizes, strict=True)]
        errors = [
            image.numel() * distortion(self.network.target, x, image)
            for x, image in zip(crops, self.images, strict=True)
        ]
        return self.network.lmb * torch.stack(errors)


def soft_share(fraction: Tensor, steepness: float) -> Tensor:
    """The share of the upper of two integers, for a fraction in [0, 1] between them; a step at 1/2 when steep."""
    below, above = (torch.atanh(x.clamp(1e-4, 1 - 1e-4)) for x in (fraction, 1 - fraction))
    return torch.sigmoid(steepness * (below - above))


def distortion(target: str, output: Tensor, image: Tensor) -> Tensor:
    """The distortion of an image (1, 3, H, W) in (-1, 1), as the loss weighs it and as it is shown: clamped."""
    output = output.clamp(-1, 1)
    if target == "mse":
        return ((output - image) ** 2).mean()
    similarity: Tensor = ms_ssim((output + 1) / 2, (image + 1) / 2, data_range=1.0)
    return MS_SSIM_SCALE * (1 - similarity)


def _signed(image: Image) -> Tensor:
    """uint8 (H, W, 1 or 3) -> (1, 3, H, W) in (-1, 1)."""
    pixels = torch.from_numpy(np.ascontiguousarray(as_rgb(image))).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1
