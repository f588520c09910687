"""Pictures of codes on toy sources: rate against distortion with bounds, partitions with codewords, animations.

Everything drawn comes in as numbers, so nothing here knows a method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import looks
from benchmarks.figures.figure import Axis, Figure, Series
from benchmarks.figures.paper import save, write
from benchmarks.figures.style import INK, PALETTE, RC
from benchmarks.store import StoreError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Floats = NDArray[np.float64]
RATE = Axis("rate", "rate", "bits per vector")
SNR = Axis("psnr_db", "-10 log10 of the squared error per dimension", "dB")
EXCESS = Axis("excess", "rate above the bound", "bits per vector")
FRAMES_PER_SECOND = 8
EDGE = (0.35, 0.38, 0.42)  # of cells


def decibels(distortion: float, dim: int) -> float:
    """-10 log10(D / dim) of a squared error D summed over ``dim`` dimensions."""
    return -10 * math.log10(distortion / dim)


@dataclass(frozen=True)
class Line:
    """A curve over distortions (SSE) and rates (bits per vector); ``kind`` is measured, published or bound."""

    label: str
    rates: tuple[float, ...]
    distortions: tuple[float, ...]
    kind: str = "measured"
    reference: str = ""


def rd_figure(name: str, title: str, dim: int, lines: Sequence[Line], notes: Sequence[str] = ()) -> Figure:
    """Rate on x, quality in decibels on y; bounds and published points on the same axes."""
    series = [
        _series(line, i, line.rates, tuple(decibels(d, dim) for d in line.distortions)) for i, line in enumerate(lines)
    ]
    return looks.applied(Figure(name, title, RATE, SNR, tuple(s for s in series if s.x), notes=tuple(notes)))


def excess_figure(
    name: str, title: str, lines: Sequence[Line], limit: Callable[[float], float], notes: Sequence[str] = ()
) -> Figure:
    """How many bits each point lies above ``limit(distortion)``, over its rate."""
    series = []
    for i, line in enumerate(lines):
        above = tuple(r - limit(d) for r, d in zip(line.rates, line.distortions, strict=True))
        series.append(_series(line, i, line.rates, above))
    return looks.applied(Figure(name, title, RATE, EXCESS, tuple(s for s in series if s.x), notes=tuple(notes)))


def _series(line: Line, style: int, x: tuple[float, ...], y: tuple[float, ...]) -> Series:
    order = sorted(range(len(x)), key=lambda i: x[i])
    values = tuple(x[i] for i in order), tuple(y[i] for i in order)
    return Series(line.label, *values, line.kind, style, reference=line.reference)


@dataclass(frozen=True)
class Partition:
    """A code as a picture needs it: codewords (K, d), d 1 or 2, their probabilities, and the winner on a grid.

    ``axes`` are the grid's coordinates per dimension, ``density`` and ``winner`` are over the grid, (n,) or
    (rows, columns) with rows along the second dimension.
    """

    points: Floats
    probabilities: Floats
    axes: tuple[Floats, ...]
    density: Floats
    winner: NDArray[np.int64]


def draw_partition(axes: Axes, part: Partition, title: str, scale: float = 1.0) -> None:
    """Density, cell boundaries, and codewords as discs whose area grows with -ln(1 - p); unused ones are hidden.

    ``scale`` shrinks the discs of small panels.
    """
    axes.clear()
    (_draw_plane if len(part.axes) == 2 else _draw_line)(axes, part, scale)
    axes.set_title(title)


def _draw_plane(axes: Axes, part: Partition, scale: float) -> None:
    x, y = part.axes
    extent = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
    axes.imshow(part.density, origin="lower", extent=extent, cmap="Blues", aspect="equal", interpolation="bilinear",
                vmax=float(part.density.max()) * 1.25)  # fmt: skip
    sideways = part.winner[:, 1:] != part.winner[:, :-1]
    upwards = part.winner[1:] != part.winner[:-1]
    edge = np.zeros(part.winner.shape, dtype=bool)
    edge[:, 1:] |= sideways
    edge[1:] |= upwards
    shade = np.broadcast_to((*EDGE, 0.0), (*edge.shape, 4)).copy()
    shade[edge, 3] = 0.75
    axes.imshow(shade, origin="lower", extent=extent, aspect="equal", interpolation="hanning")
    used = _used(part)
    area = 8 * math.sqrt(scale) - 260 * scale * np.log1p(-np.minimum(part.probabilities[used], 0.999))
    axes.scatter(
        part.points[used, 0],
        part.points[used, 1],
        s=area,
        color=PALETTE[1],
        edgecolors="white",
        linewidths=0.6,
        zorder=3,
    )
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.grid(False)


def _used(part: Partition) -> NDArray[np.bool_]:
    """Codewords that win somewhere on the grid, or lie off it and have some probability, (K,)."""
    pairs = zip(part.points.T, part.axes, strict=True)
    inside = np.all([(x >= axis[0]) & (x <= axis[-1]) for x, axis in pairs], axis=0)
    wins = np.isin(np.arange(len(part.points)), part.winner)
    found: NDArray[np.bool_] = np.where(inside, wins, part.probabilities > 1e-6)
    return found


def _draw_line(axes: Axes, part: Partition, scale: float) -> None:
    (x,) = part.axes
    axes.fill_between(x, part.density, color=PALETTE[0], alpha=0.25, linewidth=0, label="density")
    used = _used(part)
    places, heights = part.points[used][:, 0], part.probabilities[used]
    axes.vlines(places, 0, heights, color=PALETTE[1], linewidth=1.4)
    axes.plot(places, heights, "o", color=PALETTE[1], markersize=4 * scale, label="probability of each codeword")
    changes = np.flatnonzero(np.diff(part.winner))
    for i in changes:
        axes.axvline((x[i] + x[i + 1]) / 2, color=INK, linewidth=0.6, linestyle=":")
    axes.set_xlim(float(x[0]), float(x[-1]))
    axes.set_ylim(0, 1.08 * max(float(part.density.max()), float(heights.max(initial=0))))
    axes.legend(loc="upper right", fontsize=7)


def save_partition(part: Partition, title: str, stem: Path) -> list[Path]:
    """Write the picture as ``stem`` .png and .pdf; the same numbers give the same bytes."""
    from matplotlib import style

    with style.context(["default", RC]):
        canvas, axes = _canvas()
        draw_partition(axes, part, title)
        return save(canvas, stem, 140)


def save_panels(rows: Mapping[str, Sequence[tuple[Partition, str]]], title: str, stem: Path) -> list[Path]:
    """Write many pictures as one, ``stem`` .png and .pdf: a row per name, each panel with a title of its own."""
    from matplotlib import style
    from matplotlib.figure import Figure as Canvas

    columns = max(len(row) for row in rows.values())
    with style.context(["default", RC, {"axes.titleweight": "normal", "axes.titlesize": 8, "axes.titlepad": 4}]):
        canvas = Canvas(figsize=(2.1 * columns + 0.4, 2.25 * len(rows) + 0.4), layout="constrained")
        canvas.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        grid = canvas.subplots(len(rows), columns, squeeze=False)
        for axes_row, (name, row) in zip(grid, rows.items(), strict=True):
            for axes in axes_row[len(row) :]:
                axes.set_axis_off()
            for axes, (part, text) in zip(axes_row, row, strict=False):
                draw_partition(axes, part, text, 0.22)
                axes.tick_params(labelsize=6)
                if (legend := axes.get_legend()) is not None:
                    legend.remove()
            axes_row[0].set_ylabel(name)
        return save(canvas, stem, 140)


def save_animation(frames: Sequence[tuple[Partition, str]], path: Path) -> Path:
    """Write frames as a looping GIF; the last one stays for two seconds."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    pictures = []
    with style.context(["default", RC]):
        canvas, axes = _canvas()
        agg = FigureCanvasAgg(canvas)
        for part, title in frames:
            draw_partition(axes, part, title)
            agg.draw()
            pixels = np.asarray(agg.buffer_rgba())[..., :3]
            pictures.append(Image.fromarray(pixels))
    if not pictures:
        raise StoreError(f"{path} has no frames: nothing was trained.")
    colors = Image.new("P", (1, 1))  # the same for all frames: only what moves is stored
    colors.putpalette(_colors().ravel().tolist())
    pictures = [picture.quantize(palette=colors, dither=Image.Dither.NONE) for picture in pictures]
    durations = [1000 // FRAMES_PER_SECOND] * (len(pictures) - 1) + [2000]
    buffer = BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    write(path, buffer.getvalue())
    return path


def _colors() -> NDArray[np.uint8]:
    """What pictures of partitions are made of, (n, 3): densities, boundaries over them, discs and ink on white."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    densities = colormaps["Blues"](np.linspace(0, 0.8, 40))[:, :3]
    fading = np.linspace(0, 1, 9)[:, None]
    inks = [fading + (1 - fading) * np.array(to_rgb(color)) for color in (PALETTE[1], INK)]
    mixed = [(1 - part) * densities[::3] + part * np.array(EDGE) for part in (0.4, 0.75)]
    found: NDArray[np.uint8] = np.rint(255 * np.concatenate([densities, *inks, *mixed])).astype(np.uint8)
    return found


def _canvas() -> tuple[Canvas, Axes]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(4.6, 4.6), dpi=100)
    return canvas, canvas.add_subplot()


def published_lines(entries: Sequence[Mapping[str, Any]], source: str) -> list[Line]:
    """Published points of a source: rates per dimension and decibels become bits per vector and SSE.

    ``banana_tfc`` is isometric to ``banana``, so what was published for one holds for the other.
    """
    lines = []
    for entry in entries:
        if entry["toy_source"] == {"banana_tfc": "banana"}.get(source, source):
            dim = entry["dim"]
            rates = tuple(dim * r for r in entry["bits_per_dim"])
            lines.append(
                Line(f"{entry['title']}, NVTC", rates, tuple(dim * 10 ** (-p / 10) for p in entry["psnr_db"]),
                     "published", entry["source"])
            )  # fmt: skip
    return lines
