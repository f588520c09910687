"""Do streams decode elsewhere? Every setting encodes, every setting decodes what every other one encoded.

    python benchmarks/cross_decode.py with method=qres34m                       # 12 crops of 256x256 of Kodak
    python benchmarks/cross_decode.py with method=qres34m dataset=kodak limit=24 crop=0 weights=PATH
    python benchmarks/cross_decode.py with method=qres34m devices=cpu,cuda      # and from a GPU to a CPU and back
    python benchmarks/cross_decode.py with smoke                                # two small crops

Settings: threads, oneDNN on or off, memory format, batch size, device. A decoded image is wrong when a value differs by
more than one grey level from what its encoder's own setting decodes (for a lossless method: when it is not the
original). Images go through in groups of four; each group's counts are stored in results/cross_decode, and the same
command goes on after the last one. The table goes to results/tables/cross_decode_<method and parameters>, with _whole
behind it for whole images and _<legend> for weights that are not ours.
"""

# ruff: noqa: F841 (Sacred reads the local variables of a config scope)

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from benchmarks.datasets import open_dataset
from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from benchmarks.store.cell import variant_label
from benchmarks.store.names import slug
from benchmarks.tables.files import to_files, to_markdown
from core import checkpoint, devices
from core.codec import Image, Method, TesseraError
from core.registry import discover
from experiments.evaluate import say_refused
from experiments.wiring import changed, configured, default_params, experiment, guarded, run, sequence

NAMED = {"smoke": {"method": "qres3m_vr", "dataset": "sample", "limit": 2, "crop": 64, "threads": 1}}
T = TypeVar("T")


def cross_decode_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"  # auto, official, ours, or a path
    dataset = "kodak"
    limit = 12  # only the first images
    crop = 256  # side of the square cut from the middle of each image; 0: whole images
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
    torch.backends.mkldnn.set_flags(setting.onednn)
    if model is None:
        return method.codec(None)
    layout = torch.channels_last if setting.layout == "channels_last" else torch.contiguous_format
    if hasattr(model, "memory_format"):
        model.memory_format = layout
    return method.codec(model.to(setting.device).to(memory_format=layout))


@contextmanager
def settings_restored() -> Iterator[None]:
    """Threads and oneDNN are afterwards what they were before."""
    import torch

    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # a note that does not apply
        try:
            with torch.backends.mkldnn.flags(enabled=True):
                yield
        finally:
            torch.set_num_threads(threads)


def encode(codec: Any, batch: int, images: list[Image]) -> list[bytes]:
    """Streams of the images."""
    groups = _groups(images, batch if hasattr(codec, "compress_batch") else 1)
    return [s for g in groups for s in (codec.compress_batch(g) if len(g) > 1 else [codec.compress(g[0])])]


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
    """What a setting did, as an encoder and as a decoder."""

    bytes: int = 0
    plain_bytes: int = 0  # without what makes streams decodable elsewhere, encoded by the first setting
    encoder_decodes: int = 0
    encoder_wrong: int = 0
    encoder_errors: int = 0
    decoder_decodes: int = 0
    decoder_wrong: int = 0
    decoder_errors: int = 0
    decoder_ones: int = 0  # values that differ by one grey level

    def add(self, side: str, wrong: bool, error: bool) -> None:
        """Count one decoded image."""
        for name, more in (("decodes", 1), ("wrong", wrong), ("errors", error)):
            setattr(self, f"{side}_{name}", getattr(self, f"{side}_{name}") + int(more))

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def row(self, way: str) -> dict[str, Any]:
        """A row of the table."""
        names = [(side, what) for side in ("encoder", "decoder") for what in ("decodes", "wrong", "errors")]
        counts = {f"{side}: {what}": getattr(self, f"{side}_{what}") for side, what in names}
        extra = 100 * (self.bytes / self.plain_bytes - 1)
        start = {"setting": way, "bytes": self.bytes, "extra bytes (%)": extra}
        return start | counts | {"decoder: values off by one": self.decoder_ones}


@settings_restored()
def measure(method: Method, model: Any, images: list[Image], ways: list[Setting]) -> list[Tally]:
    """What each setting did with images of one size."""
    encoded = [encode(build(method, model, way), way.batch, images) for way in ways]
    plain = encoded[0]
    if hasattr(codec := build(method, model, ways[0]), "portable"):
        codec.portable = False
        plain = encode(codec, ways[0].batch, images)
    distinct = [sorted({streams[i] for streams in encoded}) for i in range(len(images))]
    rounds = [[s for s in r if s is not None] for r in itertools.zip_longest(*distinct)]
    print(f"{len(images)} images, {sum(map(len, rounds))} different streams", flush=True)
    decoded = [decode(build(method, model, way), way.batch, rounds) for way in ways]
    tallies = [Tally(sum(map(len, streams)), sum(map(len, plain))) for streams in encoded]
    tolerance = 0 if method.lossless else 1
    for e, streams in enumerate(encoded):
        for image, stream in zip(images, streams, strict=True):
            own = decoded[e][stream]
            expected = image if method.lossless or isinstance(own, str) else own
            for d, found in enumerate(result[stream] for result in decoded):
                error = isinstance(found, str)
                off = np.abs((expected if isinstance(found, str) else found).astype(np.int16) - expected)
                for tally, side in ((tallies[e], "encoder"), (tallies[d], "decoder")):
                    tally.add(side, bool(off.max() > tolerance), error)
                tallies[d].decoder_ones += int((off == 1).sum())
    return tallies


def groups(images: Sequence[Image]) -> Iterator[list[Image]]:
    """Up to four images of one size at a time, as the largest batch takes."""
    for _, same in itertools.groupby(images, key=lambda image: image.shape):
        yield from _groups(list(same), 4)


def stored(
    config: dict[str, Any],
    what: dict[str, Any],
    images: list[Image],
    measured: Callable[[list[Image]], list[Tally]],
) -> list[Tally]:
    """The counts of a group, measured first when they are missing."""
    pixels = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
    facts = {**what, "images": pixels}
    path = Path(config["results"]) / "cross_decode" / f"{what['method']}_{records.digest(facts)[:16]}.json"
    if (known := records.read(path, ("settings", "provenance"))) is None:
        tallies = dict(zip(what["ways"], map(asdict, measured(images)), strict=True))
        known = {**facts, "settings": tallies, "provenance": provenance()}
        records.write(path, known)
    return [Tally(**known["settings"][way]) for way in what["ways"]]


def crops(config: dict[str, Any]) -> list[Image]:
    """The images, or a square from the middle of each."""
    out = []
    pictures = open_dataset(config["dataset"], config["limit"], config["data_root"])
    say_refused(pictures)
    for named in pictures:
        image, side = named.read(), config["crop"] or 2**30
        top, left = (max(n - side, 0) // 2 for n in image.shape[:2])
        out.append(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return sorted(out, key=lambda image: image.shape)  # a batch needs one size


@ex.main
@guarded
def cross_decode(config: dict[str, Any], sacred_run: Any) -> int:
    """Encode, decode, count, write the table."""
    discover()
    method = configured(config)
    own = {} if method.curve is None or method.point == config["params"][method.curve] else {method.curve: method.point}
    params = {**changed(config["params"], config["method"]), **own}
    weights = checkpoint.find(method, config["weights"])
    model = checkpoint.load(method, weights) if weights else None
    places = [devices.available(name) for name in sequence(config["devices"]) or ["cpu"]]
    ways = settings(places, sorted({1, config["threads"]}))
    images, totals = crops(config), [Tally() for _ in ways]
    what: dict[str, Any] = {"method": method.name, "params": {**config["params"], **own}}
    what |= {"weights": weights.id if weights else None, "ways": [str(way) for way in ways]}
    for group in groups(images):
        found = stored(config, what, group, lambda part: measure(method, model, part, ways))
        totals = [a + b for a, b in zip(totals, found, strict=True)]
    frame = pd.DataFrame([tally.row(str(way)) for way, tally in zip(ways, totals, strict=True)])
    shape = f"crops of {config['crop']}x{config['crop']}" if config["crop"] else "whole images"
    source = f", weights {weights.id}" if weights else ""
    label = variant_label(method.name, params, {})
    caption = f"Streams of {label} across settings: {len(images)} {shape} of {config['dataset']}{source}"
    origin = f"_{slug(weights.legend)}" if weights and weights.origin != "ours" else ""
    stem = f"cross_decode_{slug(label)}{'' if config['crop'] else '_whole'}{origin}"
    print(to_markdown(frame, caption))
    for path in to_files(frame, Path(config["results"]) / "tables" / stem, caption):
        print(path)
    failures = int(frame["decoder: wrong"].sum() + frame["decoder: errors"].sum())
    return 1 if failures else 0


if __name__ == "__main__":
    run(ex)
