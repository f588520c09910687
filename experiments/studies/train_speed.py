"""Cost of a training step, with plain torch and with the compiled kernels, interleaved on the same machine."""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Mapping
from copy import deepcopy
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from benchmarks.tables.files import for_screen, to_files
from core import memory
from core.codec import TesseraError
from core.places import default_results
from core.registry import discover, make_method
from core.train import TrainConfig, Trainer
from experiments.wiring import sequence

NAMED = {"smoke": {"methods": "qres3m_vr", "batch": 1, "crop": 64, "repeats": 2}}
SIDES = ("plain", "kernels")


def train_speed_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    methods = "qres34m_vr,qres3m_vr"
    batch = 4
    crop = 128
    repeats = 8  # steps of each side, after two that are not counted
    results = default_results()


def train_speed(config: Mapping[str, Any], run: Any) -> int:
    """Measure, print, write results/training_speed.json and results/tables/speed_training; returns 0."""
    for name in ("batch", "crop", "repeats"):
        if config[name] < 1:
            raise TesseraError(f"{name}={config[name]} must be at least 1.")
    discover()
    methods = sequence(config["methods"]) or []
    for name in methods:
        if make_method(name, {}).model() is None:
            raise TesseraError(f"{name} has nothing to train: choose a method with weights.")
    facts = {key: config[key] for key in ("batch", "crop", "repeats")}
    origin = provenance() | {"threads": 1}
    measured = [{"method": name, **measure(name, **facts)} for name in methods]
    records.write(Path(config["results"]) / "training_speed.json", {**facts, "rows": measured, "provenance": origin})
    caption = f"A training step of {config['batch']} crops of {config['crop']}, one thread (CPU seconds)"
    frame = pd.DataFrame([_row(found, config["batch"] * config["crop"] ** 2) for found in measured])
    print(for_screen(frame, caption))
    print(*to_files(frame, Path(config["results"]) / "tables" / "speed_training", caption), sep="\n")
    return 0


def measure(method: str, batch: int, crop: int, repeats: int) -> dict[str, Any]:
    """Seconds of each step, the error of gradients and page faults of a step, for each side."""
    start = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    try:
        for side in SIDES:
            pipes[side], theirs = start.Pipe()
            workers.append(start.Process(target=_serve, args=(theirs, side, method, batch, crop), daemon=True))
            workers[-1].start()
            theirs.close()
        steps: dict[str, list[tuple[float, int]]] = {side: [] for side in SIDES}
        for number in range(repeats + 2):
            for side in SIDES if number % 2 else SIDES[::-1]:
                pipes[side].send("step")
                steps[side].append(pipes[side].recv())
        error = {}
        for side in SIDES:
            pipes[side].send("gradients")
            error[side] = float(pipes[side].recv())
    except EOFError:
        raise TesseraError(f"a process that trains {method} ended early: see its message above.") from None
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    counted = {side: found[2:] for side, found in steps.items()}
    return {
        side: {"seconds": [s for s, _ in found], "faults": [n for _, n in found], "gradient_error": error[side]}
        for side, found in counted.items()
    }


def _row(found: Mapping[str, Any], pixels: int) -> dict[str, Any]:
    plain, fast = (found[side]["seconds"] for side in SIDES)
    ratios = [a / b for a, b in zip(plain, fast, strict=True)]
    seconds = [statistics.median(values) for values in (plain, fast)]
    return {
        "method": found["method"],
        "plain (s)": seconds[0],
        "kernels (s)": seconds[1],
        "plain (kpx/s)": pixels / seconds[0] / 1e3,
        "kernels (kpx/s)": pixels / seconds[1] / 1e3,
        "times as fast": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "gradient error, plain": found["plain"]["gradient_error"],
        "gradient error, kernels": found["kernels"]["gradient_error"],
    }


def _serve(pipe: Connection, side: str, method: str, batch: int, crop: int) -> None:
    """One side, in a process of its own: a step for each message "step", at the end the error of its gradients."""
    if side == "plain":
        os.environ["TESSERA_KERNELS"] = "0"
    else:
        memory.keep()
    torch.set_num_threads(1)
    discover()
    torch.manual_seed(0)
    model: Any = make_method(method, {}).model()
    run = Trainer(model, TrainConfig(steps=1000, batch=batch, amp=True))
    images = torch.rand(batch, make_method(method, {}).channels, crop, crop)
    model.train()
    start = deepcopy(model.state_dict())
    while pipe.recv() == "step":
        faults, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
        run.advance(model, images)
        spent = time.process_time() - started
        pipe.send((spent, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults))
    model.load_state_dict(start)
    exact, rounded = (gradients(model, images, amp) for amp in (False, True))
    pipe.send(float((rounded - exact).norm() / exact.norm()))


def gradients(model: nn.Module, images: torch.Tensor, amp: bool) -> torch.Tensor:
    """All gradients of a training step with fixed noise, end to end, float64; under bfloat16 autocast if ``amp``."""
    torch.manual_seed(1)
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        loss = model(images.contiguous(memory_format=torch.channels_last)).loss
    loss.backward()
    return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])
