"""Parameters and multiply-additions per pixel of networks, counted once and kept: columns of bd_table.py from then on.

    python benchmarks/complexity.py with method=qres3m_vr
    python benchmarks/complexity.py with methods=qres34m,qres17m,mcquic                 # no weights needed
    python benchmarks/complexity.py with method=vqvae dataset=fashion_mnist             # grey pictures of 28x28

Networks are freshly initialised; what convolutions and matrix products multiply is counted while the first image of the
data set is encoded and decoded, at most 256x256 of it. Records with provenance go to <results>/complexity.
"""

# ruff: noqa: F841 (Sacred reads the local variables of a config scope)

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.datasets import open_dataset
from benchmarks.measure import complexity as counting
from benchmarks.store import Store
from benchmarks.tables.files import for_screen
from core.codec import TesseraError
from core.places import default_results
from core.registry import discover, make_method
from experiments.wiring import changed, default_params, experiment, guarded, run, sequence


def complexity_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    methods = None  # several at once (then without params)
    params = default_params(method)
    dataset = "sample"  # whose first image is coded
    results = default_results()
    data_root = None


ex = experiment(__file__, "complexity", complexity_config)


@ex.main
@guarded
def complexity(config: dict[str, Any], sacred_run: Any) -> int:
    """Count, print, and keep the records."""
    import torch

    discover()
    several = sequence(config["methods"])
    params = {} if several else changed(config["params"], config["method"])
    image = open_dataset(config["dataset"], 1, config["data_root"]).images[0].read()
    rows, paths = [], []
    for name in several or [config["method"]]:
        method = make_method(str(name), params)
        torch.manual_seed(0)
        model = method.model()
        if model is None:
            raise TesseraError(f"{method.name} has no network: there is nothing to count.")
        record = counting.count(method, model.eval(), image)
        paths.append(counting.write(Store(config["results"]).root, record))
        height, width, channels = record["size"]
        columns = {title: scale * record[key] for title, (key, scale) in counting.COLUMNS.items()}
        rows.append({"method": method.name, "counted at": f"{width}x{height}x{channels}", **columns})
    print(for_screen(pd.DataFrame(rows), "Parameters and multiply-additions per pixel"))
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    run(ex)
