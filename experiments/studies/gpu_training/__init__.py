"""Training on a GPU of a machine without package registries, where torch, numpy, Pillow and safetensors are enough.

    python -m experiments.studies.gpu_training pack --output training.pyz  # here: program and photographs, one file
    python3 training.pyz run --folder state --limit 9 qres34m_vr=20 qres3m_vr=6  # there, as often as it takes
    python3 training.pyz export --folder state --output pieces             # there: float16, pieces of 15 MB
    python -m experiments.studies.gpu_training join pieces --output runs   # here: weights.safetensors, meta.json

A job is trained by the loop of ``core.train`` for its minutes: the rate follows the time that is left, so that a run is
whole on any GPU and however often it is stopped. ``--limit`` is the minutes of one command; the next one goes on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from core.codec import Method, TesseraError
from core.registry import make_method
from core.train import TrainConfig
from experiments import packing

ENDLESS = 10**9  # steps


@dataclass(frozen=True)
class Job:
    """What is trained and how; ``small`` is (side, batch) of every second step, for pictures smaller than ``crop``."""

    method: str
    data: str = "photos"
    params: Mapping[str, Any] = field(default_factory=dict)
    crop: int = 256
    batch: int = 16
    small: tuple[int, int] = (0, 0)
    lr: float = 1e-3
    straight_through: bool = True


JOBS = {
    "qres34m_vr": Job("qres34m_vr"),
    "qres3m_vr": Job("qres3m_vr", batch=32, lr=2e-3),
    "qres3m_vr_ms_ssim": Job("qres3m_vr", params={"target": "ms_ssim"}, batch=32, lr=2e-3),
    "qres3m_lossless": Job(
        "qres3m_lossless", "lossless_pictures", crop=128, batch=32, small=(32, 256), lr=2e-3, straight_through=False
    ),
}


class Clock:
    """Seconds that a job has been trained, over all commands, as of the state that is saved."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.total = path, 60 * minutes
        self.before = float(json.loads(path.read_text())["seconds"]) if path.exists() else 0.0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + time.monotonic() - self.started

    @property
    def share(self) -> float:
        """Share of the job's time that is over, at most 1."""
        return min(1.0, self.seconds / self.total)

    def save(self) -> None:
        """Note the seconds; called when the state is saved."""
        from core import atomic

        atomic.write_text(self.path, json.dumps({"seconds": round(self.seconds, 1), "minutes": self.total / 60}) + "\n")


@dataclass(frozen=True)
class Timed(TrainConfig):
    """A recipe whose rate follows the clock: full for the share ``hold`` of the time, then a cosine to ``final_lr``."""

    clock: Clock | None = None

    def rate(self, step: int) -> float:
        """The learning rate now."""
        assert self.clock is not None
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        place = max(0.0, self.clock.share - self.hold) / (1 - self.hold)
        return self.lr * warm * (self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * place)))


def method_of(name: str, params: Mapping[str, Any]) -> Method:
    """A method; families cannot be listed inside an archive, so the one that has jobs is imported by name."""
    importlib.import_module("qres.methods")
    return make_method(name, params)


def recipe(job: Job, clock: Clock, device: str, crop: int | None, batch: int | None) -> tuple[Timed, int]:
    """The recipe of a job and the side of its crops; ``crop`` and ``batch`` replace the job's, for a trial."""
    small: dict[str, Any] = {"first_batch": batch or job.small[1], "first_again": 2} if job.small[0] else {}
    made = Timed(
        steps=ENDLESS, batch=batch or job.batch, lr=job.lr, hold=0.4, warmup=500, ema=0.9995, amp=True, device=device,
        save_every=1000, clock=clock, **small,
    )  # fmt: skip
    return made, crop or job.crop


def train(name: str, minutes: float, until: float, options: argparse.Namespace) -> bool:
    """Train a job in its folder till its minutes are over, or it is ``until`` (monotonic); whether they are over."""
    import torch

    from core.crops import Crops
    from core.train import fit
    from experiments.training_log import TrainingLog
    from experiments.validation import validation

    job, folder = JOBS[name], options.folder / name
    clock = Clock(folder / "clock.json", minutes)
    if clock.share >= 1:
        return True
    config, crop = recipe(job, clock, options.device, options.crop, options.batch)
    index = packing.index_of(options.archive)
    images = packing.pictures(options.archive, index["sets"][job.data]["files"])
    crops = Crops(images, crop, config.seed, (job.small[0], 0), config.first_again)
    held_out = packing.pictures(options.archive, index["sets"]["valid"]["files"])
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True
    model = method_of(job.method, job.params).model()
    model.straight_through = job.straight_through
    log, measure = TrainingLog(folder, 0), validation(held_out, config)
    _note(folder, name, config, crop, index)

    def saved(net: torch.nn.Module, step: int) -> dict[str, float]:
        clock.save()
        return measure(net, step)

    def over() -> bool:
        return clock.share >= 1 or time.monotonic() >= until

    clock.started = time.monotonic()  # reading pictures is no training
    try:
        fit(model, crops, config, folder, log, saved, over)
    except KeyboardInterrupt:
        clock.save()
        if not over():
            raise
    print(f"{name}: {clock.seconds / 60:.1f} of {minutes:g} minutes", flush=True)
    return clock.share >= 1


def _note(folder: Path, name: str, config: Timed, crop: int, index: Mapping[str, Any]) -> None:
    """Write what a checkpoint of the job says of itself, ``draft.json``."""
    import numpy as np
    import torch

    from core import atomic

    job = JOBS[name]
    method, chosen = method_of(job.method, job.params), index["sets"][job.data]
    untold = {"steps", "schedule", "clock", "device"}
    plain = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in untold}
    meta = {
        "method": method.name,
        "params": dict(method.variant),
        "point": None,
        "recipe": {**plain, "schedule": "time", "crop": crop, "small": list(job.small), "scales": [1.0], "init": None,
                   "straight_through": job.straight_through},
        "data": {**{k: v for k, v in chosen.items() if k not in ("name", "files")}, "names": [chosen["name"]],
                 "images": len(chosen["files"])},
        "licence": "MIT (weights made by this project)",
        "paper": method.paper,
        "made": {
            "commit": index["commit"],
            "dirty": index["dirty"],
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "cpu": platform.machine(),
            "gpu": torch.cuda.get_device_name() if config.device != "cpu" else "",
            "threads": torch.get_num_threads(),
            "command": f"gpu_training run {name}={config.clock.total / 60 if config.clock else 0:g}",
            "processes": 1,
        },
    }  # fmt: skip
    atomic.write_text(folder / "draft.json", json.dumps(meta) + "\n")


def run(options: argparse.Namespace) -> int:
    """Train the jobs in order, each till its minutes are over, within the limit of one command."""
    until = time.monotonic() + 60 * options.limit
    left = [
        name for name, minutes in options.jobs if time.monotonic() >= until or not train(name, minutes, until, options)
    ]
    print(f"not done yet: {', '.join(left)}; the same command goes on." if left else "all done: export them.")
    return 0


def export(options: argparse.Namespace) -> int:
    """Write the averaged weights of every job begun, or of those named, as float16 in pieces."""
    import torch

    from core import atomic, checkpoint

    found = sorted(path.parent for path in options.folder.glob("*/state.pt"))
    for folder in [f for f in found if not options.names or f.name in options.names]:
        meta = json.loads((folder / "draft.json").read_text())
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        model = method_of(meta["method"], meta["params"]).model()
        model.load_state_dict(state["average"])
        meta["recipe"]["steps"] = state["step"]
        meta["recipe"]["seconds"] = json.loads((folder / "clock.json").read_text())["seconds"]
        checkpoint.save(folder / "export", model, meta, half=True)
        if (folder / "train.csv").exists():  # a run of fewer steps than it logs has none
            atomic.write_bytes(folder / "export" / "train.csv", (folder / "train.csv").read_bytes())
        print(*packing.split(folder / "export", folder.name, options.output, options.pieces), sep="\n")
    if not found:
        raise TesseraError(f"{options.folder} holds no run: give the folder of 'run'.")
    return 0


def _job(word: str) -> tuple[str, float]:
    name, _, minutes = word.partition("=")
    if name not in JOBS:
        raise argparse.ArgumentTypeError(f"unknown job '{name}': known are {', '.join(JOBS)}")
    return name, float(minutes)


def _pieces(word: str) -> range:
    first, _, last = word.partition("-")
    return range(int(first), int(last or first) + 1)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="gpu_training", description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    packed = commands.add_parser("pack", help="write the archive")
    packed.add_argument("--output", type=Path, default=Path("training.pyz"))
    packed.add_argument("--megabytes", type=float, default=48, help="of pictures, at most")
    packed.add_argument("--data-root")
    trained = commands.add_parser("run", help="train jobs, or go on with them")
    trained.add_argument("jobs", nargs="+", type=_job, metavar="JOB=MINUTES", help=", ".join(JOBS))
    trained.add_argument("--folder", type=Path, required=True, help="of the states")
    trained.add_argument("--limit", type=float, default=60, help="minutes of this command")
    trained.add_argument("--archive", type=Path, default=Path(sys.argv[0]))
    trained.add_argument("--device", default="cuda")
    trained.add_argument("--crop", type=int, help="other crops than the job's, for a trial")
    trained.add_argument("--batch", type=int, help="another batch than the job's, for a trial")
    exported = commands.add_parser("export", help="write weights in pieces")
    exported.add_argument("names", nargs="*", help="jobs; none: all")
    exported.add_argument("--folder", type=Path, required=True)
    exported.add_argument("--output", type=Path, required=True)
    exported.add_argument("--pieces", type=_pieces, help="FIRST-LAST, where not all can be taken along at once")
    joined = commands.add_parser("join", help="put pieces together")
    joined.add_argument("folder", type=Path)
    joined.add_argument("--output", type=Path, default=Path("runs"))
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; 2 and one sentence for a mistake, 130 when stopped."""
    options = arguments().parse_args(words)
    try:
        if options.command == "pack":
            for name, told in packing.pack(options.output, options.megabytes, options.data_root).items():
                print(f"{name}: {told['title']}; terms: {told['license']}")
            print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")
            return 0
        if options.command == "join":
            print(*packing.join(options.folder, options.output), sep="\n")
            return 0
        return {"run": run, "export": export}[options.command](options)
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here.", file=sys.stderr)
        return 130
