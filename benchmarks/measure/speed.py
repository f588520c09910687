"""Seconds of a codec and of its parts, multiply-adds, memory, and what the machine could do at most."""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import meter
from core import entropy
from core.codec import HasBatches, Image, Method
from core.images import open_image, save_image

CODING = ("encode", "encode_uniform", "finish", "decode", "decode_uniform")


class Stopwatch:
    """Seconds spent inside the entropy coder."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds, self._depth = device, 0.0, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time added up (of nested calls, the outermost one's)."""

        def timed(*arguments: Any, **options: Any) -> Any:
            started, self._depth = meter.clock(self.device), self._depth + 1
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                self.seconds += 0.0 if self._depth else meter.clock(self.device) - started

        return timed


@contextmanager
def coding_time(device: str) -> Iterator[Stopwatch]:
    """Time what happens in ``core.entropy`` inside the block."""
    watch = Stopwatch(device)
    before = [(c, n, getattr(c, n)) for c in (entropy.Encoder, entropy.Decoder) for n in CODING if hasattr(c, n)]
    for owner, name, function in before:
        setattr(owner, name, watch.wrap(function))
    try:
        yield watch
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def timed(device: str, work: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns and the seconds it took."""
    started = meter.clock(device)
    result = work()
    return result, meter.clock(device) - started


def measure(method: Method, model: Any, image: Image, batch: int, config: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    device, pixels = config["device"], image.shape[0] * image.shape[1]
    codec, prepare = timed(device, lambda: method.codec(model))
    compress, decompress = _batched(codec, batch)
    images = [image] * batch
    streams = compress(images)
    decompress(streams)  # the warm-up
    rows = []
    meter.reset_peak(device)
    for _ in range(config["repeats"]):
        with coding_time(device) as encoding:
            _, encode = timed(device, lambda: compress(images))
        with coding_time(device) as decoding:
            _, decode = timed(device, lambda: decompress(streams))
        rows.append((encode, encoding.seconds, decode, decoding.seconds))
    encode, encoding_s, decode, decoding_s = (statistics.median(column) / batch for column in zip(*rows, strict=True))
    peak = meter.peak_mb(device)
    macs = (None, None) if model is None else multiply_adds(method, model, image)
    return {
        "method": method.name,
        "batch": batch,
        "encode (s)": encode,
        "decode (s)": decode,
        "encode: coder (s)": encoding_s,
        "decode: coder (s)": decoding_s,
        "prepare (s)": prepare,
        "file I/O (s)": files(image, streams[0], device),
        "bpp": 8 * len(streams[0]) / pixels,
        "peak memory (MB)": peak,
        "parameters": None if model is None else sum(p.numel() for p in model.parameters()),
        "encode: kMAC/pixel": None if macs[0] is None else macs[0] / pixels / 1e3,
        "decode: kMAC/pixel": None if macs[1] is None else macs[1] / pixels / 1e3,
        "encode: GFLOP/s": None if macs[0] is None else 2 * macs[0] / (encode - encoding_s) / 1e9,
        "decode: GFLOP/s": None if macs[1] is None else 2 * macs[1] / (decode - decoding_s) / 1e9,
    }


def _batched(codec: Any, batch: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions from images to streams and back: the codec's own for batches, or one by one."""
    if batch > 1 and isinstance(codec, HasBatches):
        return codec.compress_batch, codec.decompress_batch
    return lambda images: [codec.compress(i) for i in images], lambda streams: [codec.decompress(s) for s in streams]


def files(image: Image, stream: bytes, device: str) -> float:
    """Seconds to read the picture from a PNG file in memory and to write its stream to one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        save_image(path, image)
        _, seconds = timed(device, lambda: (open_image(path), (Path(folder) / "stream").write_bytes(stream)))
    return seconds


def multiply_adds(method: Method, model: Any, image: Image) -> tuple[float, float]:
    """Multiply-additions to encode and to decode an image, counted in the plain modules of the model."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):  # fused kernels are invisible to the counter
            codec = method.codec(None if model is None else model.requires_grad_(False))  # the counter's hooks need it
            small = np.ascontiguousarray(image[:256, :256])
            with FlopCounterMode(display=False) as encode:
                stream = codec.compress(small)
            with FlopCounterMode(display=False) as decode:
                codec.decompress(stream)
    scale = image.shape[0] * image.shape[1] / (small.shape[0] * small.shape[1]) / 2
    return encode.get_total_flops() * scale, decode.get_total_flops() * scale


def ceilings(device: str) -> dict[str, float]:
    """What the machine reaches here and now: GFLOP/s of a matrix product and a convolution, GB/s of a copy."""
    import torch
    import torch.nn.functional as F

    from core import onednn

    x = torch.randn(2048, 768, device=device)
    w = torch.randn(768, 768, device=device)
    image = torch.randn(1, 192, 96, 96, device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(192, 192, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    big = torch.randn(2**25, device=device)
    jobs: dict[str, tuple[Callable[[], Any], float]] = {
        "matrix product, default (GFLOP/s)": (lambda: F.linear(x, w), 2 * 2048 * 768 * 768 / 1e9),
        "convolution 3x3 (GFLOP/s)": (lambda: F.conv2d(image, kernel, padding=1), 2 * 192 * 192 * 9 * 96 * 96 / 1e9),
        "copy (GB/s)": (lambda: big.clone(), 2 * 4 * 2**25 / 1e9),
    }
    if device == "cpu" and onednn.available():
        product = onednn.Linear(w, None, 2048)
        jobs["matrix product, oneDNN (GFLOP/s)"] = (lambda: product(x), 2 * 2048 * 768 * 768 / 1e9)
    with torch.inference_mode():
        return {name: work / min(timed(device, job)[1] for _ in range(8)) for name, (job, work) in jobs.items()}
