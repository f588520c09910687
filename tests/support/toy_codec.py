"""A lossless codec of a few lines with its method, pictures for it, and a measurement of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.datasets import ImageSet, NamedImage
from benchmarks.measure import provenance
from benchmarks.measure.harness import describe, measure
from benchmarks.store import Cell, Store
from core.codec import Method

SHAPES = [(40, 30, 3), (33, 17, 1), (24, 24, 3)]


class Zip:
    """Lossless: height, width and channels in two bytes each, then deflated samples (right shifted by ``shift``)."""

    def __init__(self, level: int = 6, shift: int = 0) -> None:
        self.level, self.shift = level, shift

    def compress(self, image):
        return np.array(image.shape, "<u2").tobytes() + zlib.compress((image >> self.shift).tobytes(), self.level)

    def decompress(self, stream):
        shape = np.frombuffer(stream[:6], "<u2")
        return np.frombuffer(zlib.decompress(stream[6:]), np.uint8).reshape(shape) << self.shift


class Rich(Zip):
    """The same with an estimate, a payload and codes on two levels."""

    codebook_sizes = (256, 8)

    def bits(self, image):
        return 8.0 * image.size

    def payload_bits(self, stream):
        return 8 * len(stream) - 48

    def codes(self, image):
        return [image, image[::2] >> 5]


@dataclass(frozen=True)
class ZipMethod(Method):
    level: int = 6
    shift: int = 0
    curve = "shift"
    points = (0, 2, 4)
    name = "zip"
    note = "zlib"


def image_set(shapes=SHAPES, name: str = "toy", seed: int = 0, **changes) -> ImageSet:
    rng = np.random.default_rng(seed)
    arrays = {f"im/{i}": rng.integers(0, 256, shape, dtype=np.uint8) for i, shape in enumerate(shapes)}

    def named(key: str) -> NamedImage:
        array = arrays[key]
        return NamedImage(key, array.tobytes, lambda data: np.frombuffer(data, np.uint8).reshape(array.shape))

    return replace(ImageSet(name, "test", f"{name} test", tuple(map(named, arrays)), False, "none"), **changes)


def run(tmp_path, codec, images=None, point=0, lossless=False, **options):
    method, images = ZipMethod(shift=point), image_set() if images is None else images
    cell = Cell("zip", method.variant, point, images.name, images.split)
    about = {**describe(method, images), "lossless": lossless}
    return measure(cell, codec, images, Store(tmp_path), about=about, provenance=provenance.provenance(), **options)
