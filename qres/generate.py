"""Pictures from a quantised hierarchical VAE besides coding: samples, blends, repairs, pictures with parts missing.

All of it is one walk down the decoder that differs in where the latent of each block comes from::

    known           the first blocks of a stream (``qres.preview`` reads them), or those of an image
    mean            blocks that are not known, at temperature 0
    drawn           z = mean + t * scale * N(0, 1) + t * U(-1/2, 1/2), at temperature t > 0
    known and drawn inpainting: drawn inside a box, known outside

Images are uint8 (H, W, C) or, where a function says so, float tensors (B, 3, H, W) in [0, 1] whose sides are multiples
of the model's stride. Source: Duan et al., arXiv 2208.13056, section 5.4 and appendix, and the authors' notebooks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image as pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from core.codec import Image, TesseraError
from core.finite import checked_picture
from core.images import as_grey, as_rgb, check_image, crop, pad
from qres.blocks import Gaussian, Latent
from qres.likelihood import code_log_likelihood
from qres.network import QResVAE

Box = tuple[float, float, float, float]  # left, top, right, bottom, as parts of width and height in 0..1
Shape = tuple[int, int, int]  # images, and sides of the coarsest latent
Given = Sequence[Tensor | None]  # latents (B, z, h, w) from coarse to fine; None and missing ones are drawn


@dataclass(frozen=True)
class Latents:
    """The quantised latents of images: ``z`` from coarse to fine, and the model's estimate of their bits."""

    z: tuple[Tensor, ...]
    bits: tuple[float, ...]  # per block, all images together
    shape: Shape
    condition: Tensor | None  # what the model makes of lambda


# -- walks down the decoder -----------------------------------------------------------------------------------------


@torch.inference_mode()
def latents(model: QResVAE, images: Tensor, lmb: float | None = None) -> Latents:
    """What the codec would transmit of images (B, 3, H, W) in [0, 1], at ``lmb`` (default: the model's)."""
    stride, condition = model.arch.stride, lambda_condition(model, lmb)
    if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] % stride or images.shape[3] % stride:
        raise TesseraError(f"latents need images (B, 3, H, W), sides multiples of {stride}, not {tuple(images.shape)}.")
    features, z, bits = model.features(images, condition), [], []

    def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
        symbols = torch.round(block.infer(f, features[f.shape[2]], condition) - prior.mean)
        bits.append(code_bits(symbols, prior))
        z.append(symbols + prior.mean)
        return z[-1]

    shape = (len(images), images.shape[2] // stride, images.shape[3] // stride)
    model.top_down(shape, visit, condition)
    return Latents(tuple(z), tuple(bits), shape, condition)


@torch.inference_mode()
def sample(
    model: QResVAE,
    shape: Shape,
    temperature: float = 1.0,
    seed: int | torch.Generator = 0,
    given: Given = (),
    box: Box | None = None,
    lmb: float | None = None,
    condition: Tensor | None = None,
) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] for ``shape`` (B, H / stride, W / stride), with ``given`` latents where there are.

    With ``box``, given latents are drawn anew inside it, except in blocks with one row or column. Temperature 0 takes
    the means of the priors. Raises ``TesseraError`` for given latents of another shape.
    """
    if temperature < 0 or min(shape) < 1:
        raise TesseraError(f"sampling needs a temperature of at least 0 and sizes above 0, not {temperature}, {shape}.")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    latent_count = len(model.arch.latents)
    if len(given) > latent_count:
        raise TesseraError(f"there are {len(given)} latents for a model of {latent_count}: give the first ones only.")

    def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
        z = given[i] if i < len(given) else None
        if z is None:
            return _draw(prior, temperature, generator)
        if z.shape != prior.mean.shape:
            raise TesseraError(f"latent {i} has shape {tuple(z.shape)} and must have {tuple(prior.mean.shape)}.")
        if box is None or min(z.shape[2:]) == 1:
            return z
        rows, columns = _slices(box, *z.shape[2:])
        z = z.clone()
        z[..., rows, columns] = _draw(prior, temperature, generator)[..., rows, columns]
        return z

    last = model.top_down(shape, visit, lambda_condition(model, lmb) if condition is None else condition)
    return _output(model, last, temperature, generator)


def lambda_condition(model: QResVAE, lmb: float | None) -> Tensor | None:
    """What the model makes of ``lmb`` (default: its own), None for a model of one rate."""
    device = next(model.parameters()).device
    return model.condition(torch.tensor([model.lmb if lmb is None else float(lmb)], device=device))


def _draw(prior: Gaussian, temperature: float, generator: torch.Generator) -> Tensor:
    """A sample of the prior, a normal plus a uniform of width 1, both shrunk by the temperature (drawn on the CPU)."""
    if temperature == 0:
        return prior.mean
    size, device = prior.mean.shape, prior.mean.device
    normal = torch.randn(size, generator=generator).to(device)
    uniform = (torch.rand(size, generator=generator) - 0.5).to(device)
    return prior.mean + temperature * (prior.scale * normal + uniform)


def _output(model: QResVAE, last: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """The picture in [0, 1] for the last state; the lossless model draws pixels too."""
    x = last.float()
    if model.out_net is not None:
        x = model.out_net["conv_mean"](last).float()
        if temperature > 0:
            scale = torch.exp(model.out_net["conv_scale"](last).float())
            x = x + temperature * scale * torch.randn(x.shape, generator=generator).to(x.device)
    return x.clamp(-1, 1) * 0.5 + 0.5


def _slices(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a box on a grid."""
    left, top, right, bottom = box
    return slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))


def code_bits(symbols: Tensor, prior: Gaussian) -> float:
    """The model's estimate of integer symbols under a prior, in bits."""
    return -float(code_log_likelihood(symbols, prior.scale).double().sum()) / math.log(2)


# -- from and to uint8 images ---------------------------------------------------------------------------------------


def to_tensor(model: QResVAE, image: Image) -> Tensor:
    """uint8 (H, W, 1 or 3) -> (1, 3, H', W') in [0, 1], padded to multiples of the model's stride."""
    padded = pad(as_rgb(check_image(image)), model.arch.stride)
    device = next(model.parameters()).device
    return torch.from_numpy(padded).to(device).permute(2, 0, 1)[None].float() / 255


def to_images(x: Tensor, height: int, width: int, channels: int = 3) -> list[Image]:
    """(B, 3, H', W') in [0, 1] -> uint8 images (height, width, channels); grey is the mean of the three."""
    levels = (checked_picture(x) * 255).round().permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    pictures = [crop(picture, height, width) for picture in levels]
    return [as_grey(picture) for picture in pictures] if channels == 1 else pictures


def sample_images(
    model: QResVAE, n: int, height: int, width: int, temperature: float = 1.0, seed: int = 0, lmb: float | None = None
) -> list[Image]:
    """``n`` pictures (height, width, 3) from noise alone; equal seeds give equal pictures."""
    stride = model.arch.stride
    if n < 1 or height < 1 or width < 1:
        raise TesseraError(f"samples need a number and a size above 0, not {n} of {height} x {width}.")
    shape = (n, -(-height // stride), -(-width // stride))
    return to_images(sample(model, shape, temperature, seed, lmb=lmb), height, width)


def interpolate(model: QResVAE, first: Image, second: Image, steps: int = 8, lmb: float | None = None) -> list[Image]:
    """``steps`` pictures from the first to the second, by blending their quantised latents in equal steps."""
    if first.shape[:2] != second.shape[:2]:
        raise TesseraError(
            f"two pictures of one size are needed, not {first.shape[1]}x{first.shape[0]} and "
            f"{second.shape[1]}x{second.shape[0]}: crop one."
        )
    if steps < 2:
        raise TesseraError(f"an interpolation has at least 2 steps, not {steps}.")
    a, b = (latents(model, to_tensor(model, image), lmb) for image in (first, second))
    out = []
    for alpha in np.linspace(0, 1, steps).tolist():
        z = [(1 - alpha) * p + alpha * q for p, q in zip(a.z, b.z, strict=True)]
        out += to_images(sample(model, a.shape, given=z, condition=a.condition), *first.shape[:2])
    return out


def masked(image: Image, box: Box) -> Image:
    """The image with mid-grey in the box; ``TesseraError`` for a box that is not inside or is empty."""
    rows, columns = _slices(_check_box(box), *image.shape[:2])
    out = image.copy()
    out[rows, columns] = 128
    return out


def inpaint(
    model: QResVAE,
    image: Image,
    box: Box,
    steps: int = 20,
    temperature: float = 0.8,
    seed: int | torch.Generator = 0,
    lmb: float | None = None,
) -> Image:
    """Repaint the box of a picture, whose content there is not used; returns the last full sample, as published.

    Each step takes the latents of the current picture, draws them anew inside the box, and pastes the box of what
    comes out into the picture with the hole.
    """
    height, width, channels = image.shape
    left, top, right, bottom = _check_box(box)
    if steps < 1:
        raise TesseraError(f"inpainting has at least 1 step, not {steps}.")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    hole = to_tensor(model, image)
    across, down = width / hole.shape[3], height / hole.shape[2]  # the box is on the picture, latents are on its pad
    inner = (left * across, top * down, right * across, bottom * down)
    rows, columns = _slices(box, height, width)
    hole[..., rows, columns] = 0.5
    current = drawn = hole
    for _ in range(steps):
        known = latents(model, current, lmb)
        drawn = sample(model, known.shape, temperature, generator, known.z, inner, condition=known.condition)
        current = hole.clone()
        current[..., rows, columns] = drawn[..., rows, columns]
    return to_images(drawn, height, width, channels)[0]


def _check_box(box: Box) -> Box:
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise TesseraError(f"a box is left, top, right, bottom in 0..1, left < right and top < bottom, not {box}.")
    return box


# -- figures --------------------------------------------------------------------------------------------------------


def grid(images: Sequence[Image], captions: Sequence[str] = (), columns: int | None = None, gap: int = 8) -> Image:
    """Pictures side by side on white, row by row, each with a line of text below it; default: about a square."""
    if not images:
        raise TesseraError("a figure needs at least one picture.")
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    height, width = (max(image.shape[side] for image in images) for side in (0, 1))
    text = max(12, width // 32)
    line = text * 3 // 2 if captions else 0
    rows = -(-len(images) // columns)
    size = (gap + columns * (width + gap), gap + rows * (height + line + gap))
    canvas = pillow.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=text)
    for i, image in enumerate(images):
        x, y = gap + i % columns * (width + gap), gap + i // columns * (height + line + gap)
        canvas.paste(pillow.fromarray(as_rgb(image)), (x, y))
        if i < len(captions):
            draw.text((x, y + height + text // 8), captions[i], fill="black", font=font)
    return np.array(canvas)
