"""How fast codecs are and where the time goes, beside what this machine can do at all, measured in the same run.

    python benchmarks/speed.py with method=qres3m_vr
    python benchmarks/speed.py with method=qres34m weights=PATH                # a 512x768 crop, one CPU thread
    python benchmarks/speed.py with method=qres34m weights=fresh height=2048 width=2048 repeats=1
    python benchmarks/speed.py with methods=qres3m_vr,jpeg
    python benchmarks/speed.py with method=qres34m device=cuda batches=1,16    # images per second
    python benchmarks/speed.py with experiment=quantizers                      # quantisers alone, ns per vector
    python benchmarks/speed.py with experiment=search                          # nearest codes, beside other searches
    python benchmarks/speed.py with experiment=training                        # steps, plain and with our kernels
    python benchmarks/speed.py with smoke

Seconds are process CPU time on a CPU (what other processes take does not count) and synchronised wall time on a GPU;
each is the median of ``repeats`` after one warm-up. The table goes to results/tables/speed_<methods>.
"""

# ruff: noqa: F841 (Sacred reads the local variables of a config scope)

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.datasets import open_dataset
from benchmarks.measure import meter
from benchmarks.store import records
from benchmarks.tables.files import to_markdown
from core import checkpoint, devices, entropy
from core.codec import Image, Method
from core.images import open_image, save_image
from core.registry import discover
from experiments.studies import quantizer_speed, search_speed, train_speed
from experiments.wiring import changed, configured, default_params, experiment, guarded, run_named, sequence

NAMED = {"smoke": {"method": "qres3m_vr", "weights": "fresh", "height": 64, "width": 64, "repeats": 1}}
CODING = ("encode", "encode_uniform", "finish", "decode", "decode_uniform")


def speed_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    methods = None  # several at once (then without params)
    params = default_params(method)
    weights = "auto"  # auto, official, ours, a path, or fresh (untrained: same work, other streams)
    dataset = "sample"  # whose first image is cut, or tiled, to height x width
    height = 512
    width = 768
    repeats = 3
    threads = 1
    device = "cpu"  # or cuda
    batches = "1"  # e.g. 1,16: images at once, where the codec can
    results = "results"
    data_root = None


ex = experiment(__file__, "speed", speed_config, NAMED)


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


def picture(config: dict[str, Any]) -> Image:
    """The first image of the data set, tiled and cut to the size."""
    image = open_dataset(config["dataset"], 1, config["data_root"]).images[0].read()
    height, width = config["height"], config["width"]
    times = (-(-height // image.shape[0]), -(-width // image.shape[1]), 1)
    return np.ascontiguousarray(np.tile(image, times)[:height, :width])


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
    if batch > 1 and hasattr(codec, "compress_batch"):
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
    if device == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        packed = torch.ops.mkldnn._reorder_linear_weight(w, 2048)
        product = lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")  # noqa: E731
        jobs["matrix product, oneDNN (GFLOP/s)"] = (product, 2 * 2048 * 768 * 768 / 1e9)
    with torch.inference_mode():
        return {name: work / min(timed(device, job)[1] for _ in range(8)) for name, (job, work) in jobs.items()}


@ex.main
@guarded
def speed(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure, print, write the table."""
    import torch

    discover()
    torch.set_num_threads(config["threads"])
    config = {**config, "device": devices.available(config["device"])}
    several = sequence(config["methods"])
    params = {} if several else changed(config["params"], config["method"])
    table, image, rows = records.Table(config["device"], str(sacred_run._id or "")), picture(config), []
    limits = ceilings(config["device"])
    best = max((value for name, value in limits.items() if "GFLOP" in name), default=float("nan"))
    for name in several or [config["method"]]:
        method = configured({**config, "method": str(name), "params": {**default_params(str(name)), **params}})
        model = method.model() if config["weights"] == "fresh" else None
        if config["weights"] != "fresh" and (weights := checkpoint.find(method, config["weights"])):
            model = checkpoint.load(method, weights)
        model = model.to(config["device"]) if model is not None else None
        for batch in sequence(str(config["batches"])) or ["1"]:
            row = measure(method, model, image, int(batch), config)
            share = {
                f"{w}: of the ceiling": (row[f"{w}: GFLOP/s"] or float("nan")) / best for w in ("encode", "decode")
            }
            rows.append(row | share)
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    size = f"{config['height']}x{config['width']}"
    where = (
        f"{config['threads']} thread{'s' * (config['threads'] > 1)}" if config["device"] == "cpu" else config["device"]
    )
    reached = ", ".join(f"{name.replace(' (', ' ').rstrip(')')} {value:.0f}" for name, value in limits.items())
    caption = f"Speed on an image of {size}, {where} ({meter.time_note(config['device'])}). Ceilings: {reached}"
    print(to_markdown(frame, caption))
    stem = "speed_" + "_".join(dict.fromkeys(row["method"] for row in rows))
    print(*table.write(frame, config["results"], stem, caption), sep="\n")
    return 0


if __name__ == "__main__":
    run_named(ex, {"quantizers": quantizer_speed.ex, "search": search_speed.ex, "training": train_speed.ex})
