"""Speed of the search for nearest codes, beside the matrix product alone, faiss and vector-quantize-pytorch."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.measure import meter
from benchmarks.store import records
from benchmarks.tables.files import for_screen
from core import onednn
from core.places import default_results
from vq import search

NAMED = {"smoke": {"vectors": 64, "repeats": 1}}
CODES, DIM = (512, 8192), 64
CHECKED = 2048  # vectors whose codes are compared with float64
COMPARED = {
    "faiss": "faiss-cpu is not installed, so IndexFlatL2 is left out: pip install faiss-cpu",
    "vector_quantize_pytorch": "vector-quantize-pytorch is not installed, so it is left out: see requirements.txt",
}


@dataclass(frozen=True)
class Way:
    """One way to find codes: ``find`` takes ``vectors`` rows and returns their codes, or None where it finds none."""

    name: str
    vectors: int
    find: Callable[[Tensor], Tensor | None]


def search_speed_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    vectors = 98304
    repeats = 5
    threads = 1
    results = default_results()


def search_speed(config: Mapping[str, Any], run: Any) -> int:
    """Measure, print, write results/tables/speed_search; returns 0."""
    torch.set_num_threads(int(config["threads"]))
    table, vectors = records.Table(), max(1, config["vectors"])
    frame = pd.DataFrame([row for codes in CODES for row in _rows(codes, vectors, config["repeats"])])
    threads = config["threads"]
    caption = f"Nearest of K codes, {vectors} vectors of {DIM}, {threads} thread{'s' * (threads > 1)} (CPU seconds)"
    print(for_screen(frame, caption))
    for module, sentence in COMPARED.items():
        if _module(module) is None:
            print(sentence)
    print(*table.write(frame, config["results"], "speed_search", caption), sep="\n")
    return 0


def _rows(codes: int, vectors: int, repeats: int) -> Iterator[dict[str, Any]]:
    """The table's rows for one codebook size."""
    draw = torch.Generator().manual_seed(0)
    rows, codebook = (torch.randn(n, DIM, generator=draw) for n in (vectors, codes))
    exact = _exact(rows[:CHECKED], codebook)
    measured = [(way, *_measure(way, rows[: way.vectors], repeats)) for way in _ways(rows, codebook)]
    ceiling = min(seconds / way.vectors for way, seconds, _, _ in measured if "product" in way.name)
    for way, seconds, memory, found in measured:
        each = seconds / way.vectors
        same = (
            None
            if found is None
            else f"{int((found[:CHECKED] == exact[: len(found)]).sum())} of {len(found[:CHECKED])}"
        )
        yield {
            "search": way.name,
            "K": codes,
            "vectors": way.vectors,
            "time (ms)": 1e3 * seconds,
            "ns/vector": 1e9 * each,
            "GFLOP/s": 2 * codes * DIM / each / 1e9,
            "times the product": each / ceiling,
            "extra memory (MB)": memory,
            "codes as in float64": same,
        }


def _ways(rows: Tensor, codebook: Tensor) -> Sequence[Way]:
    """The matrix products alone, ours, and what is installed to compare with."""
    ways = [
        Way("matrix product, default", len(rows), _product(codebook, packed=False)),
        Way("nearest (ours)", len(rows), lambda x: search.nearest(x, codebook)),
    ]
    if search.packs(codebook):
        ways.insert(1, Way("matrix product, oneDNN", len(rows), _product(codebook, packed=True)))
    if (faiss := _module("faiss")) is not None:
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(DIM)
        index.add(codebook.numpy())
        ways.append(
            Way("faiss IndexFlatL2", len(rows), lambda x: torch.from_numpy(index.search(x.numpy(), 1)[1])[:, 0])
        )
    if (other := _module("vector_quantize_pytorch")) is not None:
        layer = other.VectorQuantize(DIM, len(codebook)).eval()
        layer._codebook.embed.data.copy_(codebook[None])
        some = max(1, len(rows) * 512 // max(512, len(codebook)))  # its memory is vectors times codes
        ways.append(Way("vector-quantize-pytorch forward", some, lambda x: layer(x[None])[1][0]))
    return ways


def _product(codebook: Tensor, packed: bool) -> Callable[[Tensor], None]:
    """The search's matrix product with nothing behind it: what no search of this kind can beat."""
    step = max(1, search.SCORES // len(codebook))
    weight, scores = codebook.t().contiguous(), torch.empty(step, len(codebook))
    product = onednn.Linear(codebook, None, step) if packed else None

    def run(rows: Tensor) -> None:
        for part in rows.split(step):
            if product is not None:
                product(part)
            else:
                torch.mm(part, weight, out=scores[: len(part)])

    return run


def _measure(way: Way, rows: Tensor, repeats: int) -> tuple[float, float, Tensor | None]:
    """Seconds, megabytes added to the peak, and the codes."""
    with torch.inference_mode():
        _give_back()
        meter.reset_peak("cpu")
        before = meter.peak_mb("cpu")
        found = way.find(rows)
        memory = meter.peak_mb("cpu") - before
        seconds = []
        for _ in range(repeats):
            started = meter.clock("cpu")
            way.find(rows)
            seconds.append(meter.clock("cpu") - started)
    return min(seconds), memory, found


def _give_back() -> None:
    """Return freed memory to the system where the C library can, or the next search would be given it for nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _exact(rows: Tensor, codebook: Tensor) -> Tensor:
    """The nearest codes by the squared differences themselves, in float64."""
    book = codebook.double()
    return torch.cat([(part.double()[:, None] - book).square().sum(2).argmin(1) for part in rows.split(16)])


def _module(name: str) -> Any:
    """An optional package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
