"""Cost of a quantiser per vector: lattices against codebooks, in nanoseconds on one CPU thread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.measure import meter
from benchmarks.store import records
from benchmarks.tables.files import for_screen
from core import devices
from core.places import default_results
from lattice.points import LATTICES
from lattice.quantizers import Codebook, DiagonalLattice, MovingCodebook
from lattice.reduction import Search, lll
from vq.search import nearest
from vq.vqvae.quantizers import FSQ

NAMED = {"smoke": {"vectors": 256, "repeats": 1}}
DIM = 64


def quantizer_speed_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    vectors = 12544  # of one call: 64 pictures of 14 x 14
    repeats = 15
    threads = 1
    device = "cpu"  # or cuda
    results = default_results()


def jobs(z: Tensor) -> list[tuple[str, str, int, Callable[[], Any]]]:
    """(quantiser, what runs, dimensions of its vectors, one call) over vectors z (N, 64)."""
    device = z.device
    torch.manual_seed(0)
    b, inverse = torch.rand(DIM, device=device) + 0.5, torch.empty(DIM, device=device)
    torch.reciprocal(b, out=inverse)
    buffer = torch.empty_like(z)
    made: list[tuple[str, str, int, Callable[[], Any]]] = [
        ("diagonal lattice", "rounding alone", DIM,
         lambda: torch.mul(torch.round(torch.mul(z, inverse, out=buffer), out=buffer), b, out=buffer)),
    ]  # fmt: skip
    published = {"diagonal lattice": DiagonalLattice(), "VQ, K=512": Codebook(), "VQ, EMA, K=512": MovingCodebook()}
    for name, module in published.items():
        module = module.to(device)
        made.append((name, "training step, forward", DIM, _forward(module, z)))
        made.append((name, "training step, forward and backward", DIM, _backward(module, z)))
    for size in (512, 8192):
        codebook = torch.randn(size, DIM, device=device)
        made.append((f"VQ, K={size}", "search and lookup", DIM, _search(codebook, z)))
    eight = z[:, :8].contiguous()
    for name, lattice in LATTICES.items():
        count = len(z) if lattice.dim <= 8 else max(1, len(z) // 16)
        part = z[:count, : lattice.dim].contiguous()
        made.append((f"{name}, {lattice.dim} dimensions", "exact nearest point", lattice.dim, _quantize(lattice, part)))
    for dim in (2, 4, 8):
        search = Search.of(lll(_skewed(dim))[0])
        part = z[:, :dim].contiguous()
        made.append((f"learned basis, {dim} dimensions", "Babai's plane", dim, _Bound(search.babai, part)))
        made.append((f"learned basis, {dim} dimensions", "exact nearest point", dim, _Bound(search.nearest, part)))
    fsq = FSQ([8, 8, 8]).to(device)
    made.append(("FSQ 8x8x8", "training step, forward", 3, _Bound(fsq, eight[:, :3].contiguous())))
    return made


def quantizer_speed(config: Mapping[str, Any], run: Any) -> int:
    """Measure, print, write the table."""
    torch.set_num_threads(int(config["threads"]))
    device = devices.available(config["device"])
    table = records.Table(device)
    z = torch.randn(max(1, config["vectors"]), DIM, generator=torch.Generator().manual_seed(0)).to(device)
    rows = []
    for name, what, dim, call in jobs(z):
        count = call.vectors if isinstance(call, _Bound) else len(z)
        seconds = [_timed(call, device) for _ in range(1 + config["repeats"])][1:]
        rows.append(
            {"quantiser": name, "what": what, "dimensions": dim, "ns/vector": 1e9 * statistics.median(seconds) / count,
             "least ns/vector": 1e9 * min(seconds) / count}
        )  # fmt: skip
    where = f"{config['threads']} thread{'s' * (config['threads'] > 1)}" if device == "cpu" else device
    caption = f"Cost of quantisers, {config['vectors']} vectors at once, {where} ({meter.time_note(device)})"
    frame = pd.DataFrame(rows)
    print(for_screen(frame, caption))
    print(*table.write(frame, config["results"], "speed_quantizers", caption), sep="\n")
    return 0


def _timed(call: Callable[[], Any], device: str) -> float:
    started = meter.clock(device)
    call()
    return meter.clock(device) - started


class _Bound:
    """A function with its argument, which knows how many vectors that is."""

    def __init__(self, function: Callable[[Tensor], Any], z: Tensor) -> None:
        self.function, self.z, self.vectors = function, z, len(z)

    def __call__(self) -> Any:
        with torch.no_grad():
            return self.function(self.z)


def _quantize(lattice: Any, z: Tensor) -> Callable[[], Any]:
    return _Bound(lattice.quantize, z)


def _search(codebook: Tensor, z: Tensor) -> Callable[[], Any]:
    return _Bound(lambda rows: codebook[nearest(rows, codebook)], z)


def _forward(module: torch.nn.Module, z: Tensor) -> Callable[[], Any]:
    return _Bound(module, z)


def _backward(module: torch.nn.Module, z: Tensor) -> Callable[[], Any]:
    def step() -> None:
        rows = z.detach().requires_grad_(True)
        out = module(rows)
        (out.vectors.sum() + out.loss).backward()

    return step


def _skewed(dim: int) -> Any:
    """A random basis, as training may make one."""
    return np.eye(dim) + 0.3 * np.random.default_rng(0).standard_normal((dim, dim))
