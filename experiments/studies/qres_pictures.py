"""Pictures that papers on hierarchical VAEs show of a model, with the numbers below them, one record per kind.

python -m qres pictures with method=qres3m_vr                               # the weights we ship
python -m qres pictures with method=qres3m_vr kinds=samples,inpainting seed=1
python -m qres pictures with method=qres34m weights=official

``benchmarks/report.py`` draws the figures from these records; those that exist are not made again. All input is cut out
of photographs that may be redistributed.

A record is <results>/qres_pictures/<kind>-<hash of what it depends on>.json: named rows of pictures, each with the
caption and the numbers that belong to it, and the file it lies in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.datasets import open_dataset
from benchmarks.measure.metrics import METRICS
from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from core import checkpoint, places
from core.codec import Image, TesseraError
from core.images import save_image
from core.registry import unknown
from experiments.compress import open_codec
from experiments.wiring import default_params, sequence
from qres import generate, preview
from qres.codec import QResCodec

TEMPERATURES = (0.0, 0.5, 0.7, 1.0)
SAMPLE_SIDE = 128  # pixels
PER_ROW = 4
VIEWS = 8  # previews of a file, at most
BLENDS = 6  # pictures from the first to the second
REPAIRS = 2
BOX = (0.35, 0.35, 0.65, 0.65)  # left, top, right, bottom, as parts of width and height
# Parts of photographs that may be redistributed (benchmarks/datasets/sample.py): top, left, height, width in pixels.
FACE = ("astronaut", (20, 145, 160, 160))
CAT = ("chelsea", (40, 110, 160, 160))
CUP = ("coffee", (100, 200, 160, 240))


def pictures_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"  # params.NAME=VALUE sets its hyper-parameters
    params = default_params(method)
    weights = "auto"  # auto, official, ours, or a path
    device = "cpu"  # or cuda
    kinds = None  # samples, progressive, interpolation, inpainting; default: all
    seed = 0
    results = places.default_results()


@dataclass(frozen=True)
class Shown:
    """A picture, what stands below it, and its numbers."""

    image: Image
    caption: str
    numbers: Mapping[str, float]


Rows = list[tuple[str, list[Shown]]]


def pictures(config: Mapping[str, Any], run: Any) -> int:
    """Make what is missing and say where it is."""
    names = [str(name) for name in sequence(config["kinds"]) or KINDS]
    for name in names:
        if name not in KINDS:
            raise unknown("kind of pictures", name, KINDS)
    method, codec = open_codec(config)
    if not isinstance(codec, QResCodec):
        raise TesseraError(f"{config['method']} has no hierarchy of latents: use one of the qres methods.")
    weights = checkpoint.find(method, str(config["weights"]))
    params = asdict(method)  # type: ignore[call-overload]
    for name in names:
        facts = {"kind": name, "method": method.name, "params": params, "seed": int(config["seed"])}
        facts |= {"weights": "" if weights is None else weights.id}
        print(_make(name, facts, codec, Path(config["results"])), flush=True)
    return 0


def _make(kind: str, facts: dict[str, Any], codec: QResCodec, results: Path) -> Path:
    """The record of a kind, made first when it is not there; its pictures are written before it."""
    path = results / "qres_pictures" / f"{kind}-{records.digest(facts)[:8]}.json"
    if records.read(known := places.find(path, results), ("kind", "rows")) is not None:
        return known
    title, made = KINDS[kind](codec, facts["seed"])
    rows = []
    for i, (name, shown) in enumerate(made):
        files = [f"{path.stem}-{i}-{j}.webp" for j in range(len(shown))]
        for file, one in zip(files, shown, strict=True):
            save_image(path.with_name(file), one.image)
        cells = [{"file": file, "caption": one.caption, **one.numbers} for file, one in zip(files, shown, strict=True)]
        rows.append({"name": name, "pictures": cells})
    title = f"{facts['method']}: {title}"
    records.write(path, {**facts, "title": title, "rows": rows, "provenance": provenance(str(codec.device))})
    return path


def samples(codec: QResCodec, seed: int) -> tuple[str, Rows]:
    """Draws from the prior, one row for each temperature, equal noise in every row."""
    rows: Rows = []
    for t in TEMPERATURES:
        n = 1 if t == 0 else PER_ROW  # at 0 all are the same
        images = generate.sample_images(codec.model, n, SAMPLE_SIDE, SAMPLE_SIDE, t, seed)
        rows.append((f"t = {t:g}", [Shown(image, "", {"temperature": t}) for image in images]))
    return "unconditional samples at temperature t", rows


def progressive(codec: QResCodec, seed: int) -> tuple[str, Rows]:
    """A stream decoded with its first latent blocks, by the bytes of the file that they need."""
    original = _part(*CUP)
    pixels = original.shape[0] * original.shape[1]
    views = preview.progressive(codec, codec.compress(original))
    shown = []
    for i in sorted({round(k * (len(views) - 1) / (VIEWS - 1)) for k in range(VIEWS)}):
        view = views[i]
        assert view.bytes is not None
        bpp, psnr = 8 * view.bytes / pixels, METRICS["psnr"](original, view.image)
        caption = f"{view.levels} of {views[-1].levels} levels\n{bpp:.3f} bpp, {psnr:.1f} dB"
        numbers = {"levels": view.levels, "bytes": view.bytes, "bpp": bpp, "psnr": psnr}
        shown.append(Shown(view.image, caption, numbers))
    shown.append(Shown(original, "original\n24 bpp", {"bpp": 24.0}))
    across = math.ceil(math.sqrt(len(shown)))
    return "one file, decoded level by level", [("", shown[i : i + across]) for i in range(0, len(shown), across)]


def interpolation(codec: QResCodec, seed: int) -> tuple[str, Rows]:
    """From one picture to another by blending their quantised latents; the originals stand at both ends."""
    first, second = _part(*FACE), _part(*CAT)
    steps = [i / (BLENDS - 1) for i in range(BLENDS)]
    blends = generate.interpolate(codec.model, first, second, BLENDS)
    shown = [Shown(image, f"{a:.1f}", {"blend": a}) for image, a in zip(blends, steps, strict=True)]
    return "blends of quantised latents", [("", [Shown(first, "original", {}), *shown, Shown(second, "original", {})])]


def inpainting(codec: QResCodec, seed: int) -> tuple[str, Rows]:
    """A hole, repairs drawn one after the other, and what was there."""
    rows: Rows = []
    generator = torch.Generator().manual_seed(seed)
    for name, part in (FACE, CAT):
        original = _part(name, part)
        drawn = [generate.inpaint(codec.model, original, BOX, seed=generator) for _ in range(REPAIRS)]
        shown = [Shown(image, f"repair {i}", {}) for i, image in enumerate(drawn, start=1)]
        rows.append(
            ("", [Shown(generate.masked(original, BOX), "masked", {}), *shown, Shown(original, "original", {})])
        )
    return "a box repainted from what surrounds it", rows


KINDS: dict[str, Callable[[QResCodec, int], tuple[str, Rows]]] = {
    "samples": samples,
    "progressive": progressive,
    "interpolation": interpolation,
    "inpainting": inpainting,
}


COMMANDS: dict[str, tuple[Callable[[], None], Callable[..., int], None]] = {
    "pictures": (pictures_config, pictures, None)
}


def _part(name: str, place: tuple[int, int, int, int]) -> Image:
    """A part of an embedded photograph, uint8 (height, width, 3)."""
    image = next(image.read() for image in open_dataset("sample") if image.name == name)
    top, left, height, width = place
    return image[top : top + height, left : left + width].copy()
