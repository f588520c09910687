"""Speed of codecs and where the time goes, beside what this machine can do at all, measured in the same run.

    python benchmarks/speed.py with method=qres3m_vr
    python benchmarks/speed.py with method=qres34m weights=PATH                # a 512x768 crop, one CPU thread
    python benchmarks/speed.py with method=qres34m weights=fresh height=2048 width=2048 repeats=1
    python benchmarks/speed.py with methods=qres3m_vr,jpeg
    python benchmarks/speed.py with method=qres34m device=cuda batches=1,16    # images per second
    python benchmarks/speed.py with smoke

Of quantisers alone: ``quantizer_speed.py``; of the search for nearest codes: ``search_speed.py``; of training steps:
``train_speed.py``.

Seconds are process CPU time on a CPU (what other processes take does not count) and synchronised wall time on a GPU;
each is the median of ``repeats`` after one warm-up. The table goes to results/tables/speed_<methods>.
"""

# ruff: noqa: F841 (Sacred reads the local variables of a config scope)

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.datasets import open_dataset
from benchmarks.measure import meter
from benchmarks.measure.speed import ceilings, measure
from benchmarks.store import records
from benchmarks.tables.files import for_screen
from core import checkpoint, devices
from core.codec import Image
from core.places import default_results
from core.registry import discover
from experiments.wiring import changed, configured, default_params, experiment, guarded, run_or_moved, sequence

NAMED = {"smoke": {"method": "qres3m_vr", "weights": "fresh", "height": 64, "width": 64, "repeats": 1}}


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
    results = default_results()
    data_root = None


ex = experiment(__file__, "speed", speed_config, NAMED)


def picture(config: dict[str, Any]) -> Image:
    """The first image of the data set, tiled and cut to the size."""
    image = open_dataset(config["dataset"], 1, config["data_root"]).images[0].read()
    height, width = config["height"], config["width"]
    times = (-(-height // image.shape[0]), -(-width // image.shape[1]), 1)
    return np.ascontiguousarray(np.tile(image, times)[:height, :width])


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
    print(for_screen(frame, caption))
    stem = "speed_" + "_".join(dict.fromkeys(row["method"] for row in rows))
    print(*table.write(frame, config["results"], stem, caption), sep="\n")
    return 0


if __name__ == "__main__":
    run_or_moved(ex, {"quantizers": "quantizer_speed", "search": "search_speed", "training": "train_speed"})
