"""Pictures out of a quantised hierarchical VAE: each command writes one figure and says where.

python -m qres sample with method=qres3m_vr n=4 size=256 temperature=0.7 seed=0 output=sample.png
python -m qres progressive with method=qres3m_vr input=photo.png output=progressive.png     # and progressive.csv
python -m qres preview with method=qres3m_vr input=part.tsr output=preview.png              # a file that is cut, too
python -m qres bits with method=qres3m_vr input=photo.png output=bits.png                   # and bits.csv
python -m qres interpolate with method=qres3m_vr input=a.png,b.png output=interpolate.png
python -m qres inpaint with method=qres3m_vr input=face.png box=0.4,0.4,0.8,0.8 output=inpaint.png
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray

from benchmarks.measure.metrics import METRICS
from core import atomic
from core.bitstream import BitstreamError
from core.codec import Image, Method, TesseraError
from core.images import open_image, save_image
from core.places import default_results
from core.registry import METHODS
from experiments.compress import STREAM, open_codec, read
from experiments.wiring import default_params, sequence
from qres import generate, preview
from qres.bits import levels
from qres.codec import QResCodec

MAX_SIDE = 8192  # pixels of a sample


def sample_config() -> None:
    """Options of drawing pictures from noise (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"  # params.NAME=VALUE sets its hyper-parameters
    params = default_params(method)
    weights = "auto"  # auto, official, ours, or a path
    device = "cpu"  # or cuda
    n = 4  # pictures
    size = 256  # pixels, width and height
    height = None  # pixels, where it differs from the width
    temperature = 0.7  # 0: the most likely picture, 1: the prior itself
    seed = 0
    output = "sample.png"
    results = default_results()


def progressive_config() -> None:
    """Options of decoding level by level (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    input = None  # a picture, or a .tsr file of the same method, parameters and weights
    prefixes = True  # find the bytes of the file that each level needs
    output = "progressive.png"  # the numbers go beside it, as .csv
    results = default_results()


def preview_config() -> None:
    """Options of looking at the beginning of a stream (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    input = None  # a .tsr file, whole or cut anywhere
    levels = None  # of a whole file: use only the first latent blocks
    output = "preview.png"
    results = default_results()


def bits_config() -> None:
    """Options of a map of the bits of each level (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    input = None  # a picture
    output = "bits.png"  # the numbers go beside it, as .csv
    results = default_results()


def interpolate_config() -> None:
    """Options of blending two pictures (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    input = None  # two pictures of one size, a.png,b.png
    steps = 8
    output = "interpolate.png"
    results = default_results()


def inpaint_config() -> None:
    """Options of repainting a box (a Sacred config scope: each variable is one); defaults as published."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    input = None  # a picture
    box = (0.4, 0.4, 0.8, 0.8)  # left, top, right, bottom, as parts of width and height
    steps = 20
    temperature = 0.8
    n = 6  # repairs to draw
    seed = 0
    output = "inpaint.png"
    results = default_results()


def sample(config: Mapping[str, Any], run: Any) -> int:
    """Draw pictures from the prior."""
    width = _count(config, "size")
    height = width if config["height"] is None else _count(config, "height")
    if max(width, height) > MAX_SIDE:
        raise TesseraError(f"a sample of {width} x {height} pixels is too large: sides are at most {MAX_SIDE}.")
    n, temperature, seed = _count(config, "n"), _number(config, "temperature"), _seed(config)
    _output(config)
    _, codec = _open(config)
    images = generate.sample_images(codec.model, n, height, width, temperature, seed)
    return _save(config, generate.grid(images), f"{n} samples at temperature {temperature:g}")


def progressive(config: Mapping[str, Any], run: Any) -> int:
    """Decode a stream with 0, 1, ... levels; write the pictures and a table."""
    path, output = _input(config), _output(config)
    method, codec = _open(config)
    original = None if path.suffix == STREAM else open_image(path)
    stream = read(path) if original is None else codec.compress(original)
    views = _at(path, lambda: preview.progressive(codec, stream, bool(config["prefixes"])))
    height, width = views[0].image.shape[:2]
    pixels = height * width
    final = views[-1].image if original is None else original
    rows, captions = [], []
    for view in views:
        quality = METRICS["psnr"](final, view.image)
        bpp = view.bits / pixels if view.bytes is None else 8 * view.bytes / pixels
        rows.append((view.levels, f"{view.bits:.1f}", view.bytes or "", f"{bpp:.5f}", f"{quality:.4f}"))
        captions.append(f"{view.levels} levels, {bpp:.3f} bpp, {quality:.2f} dB")
    table = output.with_suffix(".csv")
    quality_name = "psnr" if original is not None else "psnr_to_last"
    _table(table, ("levels", "estimate_bits", "bytes", "bpp", quality_name), rows)
    images = [view.image for view in views] + ([] if original is None else [original])
    figure = generate.grid(images, [*captions, "original"])
    return _save(config, figure, f"{len(views)} levels of {path.name} ({method.name}), numbers in {table}")


def preview_command(config: Mapping[str, Any], run: Any) -> int:
    """Show what the beginning of a stream holds."""
    path = _input(config)
    _output(config)
    levels = None if config["levels"] is None else _count(config, "levels", 0)
    _, codec = _open(config)
    data = read(path)
    if levels is not None:
        image = _at(path, lambda: preview.decompress(codec, data, levels))
        return _save(config, image, f"{levels} levels of {path.name}")
    view = _at(path, lambda: preview.preview(codec, data))
    return _save(config, view.image, f"{view.levels} whole levels in {len(data)} bytes of {path.name}")


def bits(config: Mapping[str, Any], run: Any) -> int:
    """Draw where the bits of a picture go, one map for each latent block and one for all."""
    path, output = _input(config), _output(config)
    image = open_image(path)
    method, codec = _open(config)
    parts = levels(codec.model, image)
    height, width = image.shape[:2]
    total, pixels = sum(part.total for part in parts), height * width
    maps = {part.name: part.per_pixel(height, width) for part in parts}
    pictures, captions = (
        [image, _heat(np.sum(list(maps.values()), axis=0))],
        ["original", f"all: {total / pixels:.3f} bpp"],
    )
    rows = []
    for part in parts:
        rows.append((part.name, part.stride, part.channels, f"{part.total:.1f}", f"{part.total / total:.4f}"))
        pictures.append(_heat(maps[part.name]))
        captions.append(f"{part.name}, stride {part.stride}: {part.total / pixels:.4f} bpp ({part.total / total:.1%})")
    table = output.with_suffix(".csv")
    _table(table, ("block", "stride", "channels", "estimate_bits", "share"), rows)
    what = f"{total:.0f} bits of {path.name} ({method.name}), numbers in {table}; brightest: the most of each map"
    return _save(config, generate.grid(pictures, captions), what)


def interpolate(config: Mapping[str, Any], run: Any) -> int:
    """Blend two pictures through their latents."""
    paths = sequence(config["input"]) or []
    if len(paths) != 2:
        raise TesseraError(f"an interpolation is between two pictures, input=a.png,b.png, not {len(paths)}.")
    first, second = (open_image(str(path)) for path in paths)
    steps = _count(config, "steps")
    _output(config)
    _, codec = _open(config)
    images = generate.interpolate(codec.model, first, second, steps)
    return _save(config, generate.grid(images, columns=min(steps, 8)), f"{steps} steps from {paths[0]} to {paths[1]}")


def inpaint(config: Mapping[str, Any], run: Any) -> int:
    """Repaint a box several times."""
    image, box = open_image(_input(config)), _box(config["box"])
    n, steps, temperature = _count(config, "n"), _count(config, "steps"), _number(config, "temperature")
    hole, generator = generate.masked(image, box), torch.Generator().manual_seed(_seed(config))
    _output(config)
    _, codec = _open(config)
    drawn = [generate.inpaint(codec.model, image, box, steps, temperature, generator) for _ in range(n)]
    captions = ["masked", *(f"sample {i}" for i in range(1, n + 1)), "original"]
    return _save(config, generate.grid([hole, *drawn, image], captions), f"{n} repairs of {config['input']}")


COMMANDS: dict[str, tuple[Callable[[], None], Callable[..., int], None]] = {
    "sample": (sample_config, sample, None),
    "progressive": (progressive_config, progressive, None),
    "bits": (bits_config, bits, None),
    "preview": (preview_config, preview_command, None),
    "interpolate": (interpolate_config, interpolate, None),
    "inpaint": (inpaint_config, inpaint, None),
}


# -- reading the config ---------------------------------------------------------------------------------------------


def _open(config: Mapping[str, Any]) -> tuple[Method, QResCodec]:
    cls = METHODS.get(config["method"])
    if cls is not None and not cls.__module__.startswith("qres"):
        raise TesseraError(f"{config['method']} has no hierarchy of latents: use one of the qres methods.")
    method, codec = open_codec(config)
    assert isinstance(codec, QResCodec)
    return method, codec


def _input(config: Mapping[str, Any]) -> Path:
    if not config["input"]:
        raise TesseraError("there is nothing to do: give input=FILE.")
    path = Path(str(config["input"]))
    if not path.is_file():
        raise TesseraError(f"{path} is not a file: check the path.")
    return path


def _output(config: Mapping[str, Any]) -> Path:
    """Where the figure goes; refused before any work if it cannot be one."""
    path = Path(str(config["output"]))
    if path.suffix.lower() not in (".png", ".webp"):
        raise TesseraError(f"output={path} must end in .png or .webp, the formats figures are saved in.")
    return path


def _number(config: Mapping[str, Any], name: str) -> float:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise TesseraError(f"{name}={value} must be a number of at least 0.")
    return float(value)


def _count(config: Mapping[str, Any], name: str, least: int = 1) -> int:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TesseraError(f"{name}={value} must be a whole number of at least {least}.")
    return value


def _seed(config: Mapping[str, Any]) -> int:
    return _count(config, "seed", 0)


def _box(value: Any) -> generate.Box:
    try:
        left, top, right, bottom = (float(v) for v in sequence(value) or ())
    except (TypeError, ValueError):
        raise TesseraError(f"box={value} must be left,top,right,bottom in 0..1, like 0.4,0.4,0.8,0.8.") from None
    return left, top, right, bottom


# -- writing --------------------------------------------------------------------------------------------------------


def _at(path: Path, work: Callable[[], Any]) -> Any:
    """The result of work on a file, whose name its errors then begin with."""
    try:
        return work()
    except BitstreamError as error:
        raise TesseraError(f"{path}: {error}") from None


def _heat(values: NDArray[np.float64]) -> Image:
    """Non-negative values (H, W) in the colours of viridis, from 0 to their largest."""
    scaled = values / max(values.max(), 1e-12)
    picture: Image = np.rint(255 * colormaps["viridis"](scaled)[..., :3]).astype(np.uint8)
    return picture


def _table(path: Path, head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with atomic.writing(path) as part, part.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def _save(config: Mapping[str, Any], figure: Image, what: str) -> int:
    path = _output(config)
    save_image(path, figure)
    print(f"{path}: {what}")
    return 0
