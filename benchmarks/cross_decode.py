"""Do streams decode elsewhere? Every setting encodes, every setting decodes what every other one encoded.

    python benchmarks/cross_decode.py with method=qres34m                       # 12 crops of 256x256 of Kodak
    python benchmarks/cross_decode.py with method=qres34m dataset=kodak limit=24 crop=None weights=PATH
    python benchmarks/cross_decode.py with method=qres34m devices=cpu,cuda      # and from a GPU to a CPU and back
    python benchmarks/cross_decode.py with smoke                                # two small crops

Settings: threads, oneDNN on or off, memory format, batch size, device. A decoded image is wrong when a value differs by
more than one grey level from what its encoder's own setting decodes (for a lossless method: when it is not the
original). The table goes to results/tables/cross_decode_<method>, with
_whole behind it for whole images.
"""

# ruff: noqa: F841 (Sacred reads the local variables of a config scope)

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from benchmarks.datasets import open_dataset
from benchmarks.tables import to_files, to_markdown
from core import checkpoint
from core.codec import Image, Method, TesseraError
from core.registry import discover, make_method
from experiments.wiring import changed, default_params, experiment, guarded, run, sequence

NAMED = {"smoke": {"method": "qres3m_vr", "dataset": "sample", "limit": 2, "crop": 64, "threads": 1}}
T = TypeVar("T")


def cross_decode_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"  # auto, official, ours, or a path
    dataset = "kodak"
    limit = 12  # only the first images
    crop = 256  # side of the square cut from the middle of each image; None: whole images
    threads = 2  # runs with 1 and with so many
    devices = "cpu"  # cpu,cuda adds the GPU as encoder and as decoder
    results = "results"
    data_root = None


ex = experiment(__file__, "cross_decode", cross_decode_config, NAMED)


@dataclass(frozen=True)
class Setting:
    """Where and how a codec runs."""

    device: str
    threads: int
    onednn: bool
    layout: str  # contiguous or channels_last
    batch: int

    def __str__(self) -> str:
        kernels = f"{self.threads} thread{'s' * (self.threads > 1)}, oneDNN {'on' if self.onednn else 'off'}, "
        return f"{self.device}, {kernels if self.device == 'cpu' else ''}{self.layout}, batch {self.batch}"


def settings(devices: Sequence[str], threads: Sequence[int]) -> list[Setting]:
    """All combinations; threads and oneDNN do not matter on a GPU."""
    out = []
    for device in devices:
        ways = itertools.product(threads, (True, False)) if device == "cpu" else [(1, True)]
        for (count, onednn), layout, batch in itertools.product(ways, ("contiguous", "channels_last"), (1, 4)):
            out.append(Setting(device, count, onednn, layout, batch))
    return out


# -- coding ---------------------------------------------------------------------------------------------------------


def build(method: Method, model: Any, setting: Setting) -> Any:
    """The codec under a setting, which then holds for the whole process."""
    import torch

    torch.set_num_threads(setting.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a note on TF32 that does not apply
        torch.backends.mkldnn.set_flags(setting.onednn)
    if model is None:
        return method.codec(None)
    layout = torch.channels_last if setting.layout == "channels_last" else torch.contiguous_format
    if hasattr(model, "memory_format"):
        model.memory_format = layout
    return method.codec(model.to(setting.device).to(memory_format=layout))


def encode(codec: Any, batch: int, images: list[Image]) -> tuple[list[bytes], int]:
    """Streams of the images, and how many bytes they take without what makes them decodable elsewhere."""

    def streams() -> list[bytes]:
        groups = _groups(images, batch if hasattr(codec, "compress_batch") else 1)
        return [s for g in groups for s in (codec.compress_batch(g) if len(g) > 1 else [codec.compress(g[0])])]

    safe = streams()
    if not hasattr(codec, "portable"):
        return safe, sum(map(len, safe))
    codec.portable = False
    return safe, sum(map(len, streams()))


def decode(codec: Any, batch: int, streams: list[list[bytes]]) -> dict[bytes, Image | str]:
    """The images of lists of streams of one size; a sentence where decoding failed."""
    size = batch if hasattr(codec, "decompress_batch") else 1
    groups = [group for part in streams for group in _groups(part, size)]
    return {s: image for g in groups for s, image in zip(g, _decoded(codec, g), strict=True)}


def _decoded(codec: Any, streams: list[bytes]) -> list[Image | str]:
    try:
        return list(codec.decompress_batch(streams)) if len(streams) > 1 else [codec.decompress(streams[0])]
    except TesseraError as error:
        if len(streams) == 1:
            return [str(error)]
    return [_decoded(codec, [stream])[0] for stream in streams]  # one bad stream does not count for its batch


def _groups(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[a : a + size]) for a in range(0, len(items), size)]


# -- the table ------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What went wrong, of how many images."""

    images: int = 0
    wrong: int = 0
    errors: int = 0
    ones: int = 0  # values that differ by one grey level

    def add(self, decoded: Image | str, expected: Image, tolerance: int) -> None:
        """Count one image."""
        self.images += 1
        if isinstance(decoded, str):
            self.errors += 1
            return
        difference = np.abs(decoded.astype(np.int16) - expected)
        self.wrong += bool(difference.max() > tolerance)
        self.ones += int((difference == 1).sum())


def measure(method: Method, model: Any, images: list[Image], ways: list[Setting]) -> pd.DataFrame:
    """One row per setting, with what it did as an encoder and as a decoder."""
    encoded, decoded = [], []
    for way in ways:
        encoded.append(encode(build(method, model, way), way.batch, images))
        print(f"encoded: {way}", flush=True)
    distinct = [sorted({streams[i] for streams, _ in encoded}) for i in range(len(images))]
    rounds = [[s for s in r if s is not None] for r in itertools.zip_longest(*distinct)]
    for way in ways:
        decoded.append(decode(build(method, model, way), way.batch, rounds))
        print(f"decoded: {way}, {sum(map(len, rounds))} different streams", flush=True)
    as_encoder, as_decoder = [Tally() for _ in ways], [Tally() for _ in ways]
    for e, (streams, _) in enumerate(encoded):
        for image, stream in zip(images, streams, strict=True):
            own = decoded[e][stream]
            expected = image if method.lossless or isinstance(own, str) else own
            for d in range(len(ways)):
                for tally in (as_encoder[e], as_decoder[d]):
                    tally.add(decoded[d][stream], expected, 0 if method.lossless else 1)
    return pd.DataFrame([_row(*row) for row in zip(ways, encoded, as_encoder, as_decoder, strict=True)])


def _row(way: Setting, encoded: tuple[list[bytes], int], encoder: Tally, decoder: Tally) -> dict[str, Any]:
    size = sum(map(len, encoded[0]))
    return {
        "setting": str(way),
        "bytes": size,
        "extra bytes (%)": 100 * (size / encoded[1] - 1),
        "encoder: decodes": encoder.images,
        "encoder: wrong": encoder.wrong,
        "encoder: errors": encoder.errors,
        "decoder: decodes": decoder.images,
        "decoder: wrong": decoder.wrong,
        "decoder: errors": decoder.errors,
        "decoder: values off by one": decoder.ones,
    }


def crops(config: dict[str, Any]) -> list[Image]:
    """The images, or a square from the middle of each."""
    out = []
    for named in open_dataset(config["dataset"], config["limit"], config["data_root"]).images:
        image, side = named.read(), config["crop"] or 2**30
        top, left = (max(n - side, 0) // 2 for n in image.shape[:2])
        out.append(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return sorted(out, key=lambda image: image.shape)  # a batch needs one size


@ex.main
@guarded
def cross_decode(config: dict[str, Any], sacred_run: Any) -> int:
    """Encode, decode, count, write the table."""
    discover()
    method = make_method(config["method"], changed(config["params"], config["method"]))
    weights = checkpoint.find(method, config["weights"])
    model = checkpoint.load(method, weights) if weights else None
    ways = settings(sequence(config["devices"]) or ["cpu"], sorted({1, config["threads"]}))
    images = crops(config)
    frame = measure(method, model, images, ways)
    what = f"crops of {config['crop']}x{config['crop']}" if config["crop"] else "whole images"
    source = f", weights {weights.id}" if weights else ""
    caption = f"Streams of {method.name} across settings: {len(images)} {what} of {config['dataset']}{source}"
    stem = f"cross_decode_{method.name}{'' if config['crop'] else '_whole'}"
    print(to_markdown(frame, caption))
    for path in to_files(frame, Path(config["results"]) / "tables" / stem, caption):
        print(path)
    failures = int(frame["decoder: wrong"].sum() + frame["decoder: errors"].sum())
    return 1 if failures else 0


if __name__ == "__main__":
    run(ex)
