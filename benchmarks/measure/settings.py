"""Settings of one machine (threads, batches, layouts, kernels, devices): streams of each, decoded by each."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from core.codec import HasBatches, HasPortable, Image, Method, TesseraError

T = TypeVar("T")


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
    groups = _groups(images, batch if isinstance(codec, HasBatches) else 1)
    return [s for g in groups for s in (codec.compress_batch(g) if len(g) > 1 else [codec.compress(g[0])])]


def decode(codec: Any, batch: int, streams: list[list[bytes]]) -> dict[bytes, Image | str]:
    """The images of lists of streams of one size; a sentence where decoding failed."""
    size = batch if isinstance(codec, HasBatches) else 1
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
    if isinstance(codec := build(method, model, ways[0]), HasPortable):
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
