"""Train a method on a data set: the one loop of ``core.train`` with logs, provenance and a checkpoint at the end.

Writes into ``<folder>`` (default runs/<method>-<point>-<seed>): ``run.json`` (what it is), ``state.pt`` (to resume),
``train.csv`` and TensorBoard events (the curve), and at the end ``weights.safetensors`` with ``meta.json``. The same
command resumes, also with more ``steps``; another one is refused in the same folder (``experiments.run_record``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image as pillow

from benchmarks.datasets import fingerprints, open_dataset, training_set
from benchmarks.figures import paper
from benchmarks.figures.rd import training_figure
from benchmarks.measure.provenance import provenance
from core import checkpoint, devices, launch, memory, parallel
from core.codec import Adopts, Image, Method, TesseraError
from core.crops import Crops, Upright
from core.finite import check_weights
from core.images import as_rgb
from core.places import default_results
from core.registry import discover, make_method
from core.train import TrainConfig, fit, shares
from core.trainable import CountsCodes, HasTrainingOptions, Strided
from experiments import branch
from experiments.evaluate import say_refused
from experiments.run_record import claim, default_folder, facts
from experiments.training_log import TrainingLog
from experiments.validation import validation
from experiments.wiring import changed, default_params


def train_config() -> None:
    """Options of training (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"  # what to train; params.NAME=VALUE sets its hyper-parameters
    params = default_params(method)
    dataset = "bsds500"  # training images; the splits of evaluation sets are refused
    scales = (1.0, 0.6)  # each image is also used at these sizes
    steps = 12500
    batch = 4  # of all processes together
    crop = 128  # pixels
    first_crop = None  # of the first steps: smaller crops, first_batch of them at a time
    first_batch = None
    first_share = 0.25  # of the steps, with first_crop
    first_again = 0  # then every so manieth step has them again, for pictures smaller than crop; 0: none
    validation = None  # images to watch the loss on while training, such as photos_valid
    turns = True  # flip and turn crops; False for pictures that have an upright
    lr = 2e-3
    schedule = "cosine"  # or constant, drop:STEPS:FACTOR
    hold = 0.0  # share of the steps at the full rate, before the cosine falls
    cycles = 1  # of the cosine, each with a quarter of the rate of the one before
    optimizer = "adam"  # or adamax, lamb, soap
    warmup = 200
    clip = 2.0
    ema = 0.999
    amp = None  # bfloat16 autocast: True or False; default: where the device multiplies bfloat16 itself
    seed = 0
    device = "cpu"
    threads = 1  # per process
    processes = 1  # that share each batch, on a CPU, each on cores of its own (on GPUs: torchrun)
    folder = None  # default: runs/<method>-<point>-<parameters given>-seed<seed>
    init = None  # weights to start from, or the folder of a run that has not ended
    straight_through = False  # QRes-VAE, lattices: decode rounded latents in training, instead of noisy ones
    hard_tail = 0.0  # QRes-VAE: share of the steps, at the end, with rounded latents and a frozen encoder
    rate_warmup = 0.0  # lattices trained for rate: share of the steps in which the weight of the rate grows to its own
    lambda_draw = "log"  # QRes-VAE of all rates: lambda uniform in its logarithm, or cubic: in its cube root
    half = False  # store float16
    log_every = 100
    save_every = 500
    results = default_results()
    data_root = None


NAMED: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 4, "batch": 2, "crop": 64, "log_every": 1, "save_every": 2},
    "paper": {"dataset": "folder:coco/train2017", "scales": (1.0,), "steps": 600_000, "batch": 64, "crop": 256,
              "lr": 2e-4, "schedule": "constant", "warmup": 0, "ema": 0.9999, "amp": False},
}  # fmt: skip


RECORDED = ("crop", "first_crop", "turns", "scales", "init", "straight_through", "hard_tail",
            "rate_warmup", "lambda_draw")  # of the recipe, besides the loop's  # fmt: skip
WATCHED = 256  # training images whose codes are counted for the log


def train(config: Mapping[str, Any], run: Any) -> int:
    """Train what a config asks for; returns the exit code 0."""
    discover()
    torch.set_num_threads(int(config["threads"]))
    given = changed(config["params"], config["method"])
    method = make_method(config["method"], given)
    config = {**config, "amp": _autocast(config["amp"], config["device"])}
    recipe = _recipe(config)
    folder = Path(config["folder"] or default_folder(method, given, config["seed"]))
    start = branch.start(method, config["init"], folder)  # before the processes, which find what it keeps
    if launch.wanted(config["processes"], recipe.device):
        shares(recipe, config["processes"])
        return launch.together(config["processes"], int(config["threads"]))
    if recipe.device == "cpu" and os.environ.get("TESSERA_KERNELS") != "0":
        memory.keep()
    torch.manual_seed(recipe.seed)
    model = _initial(method, start)
    _set_options(model, config, method.name)
    stride = model.stride if isinstance(model, Strided) else 1
    for name in ("crop", "first_crop"):
        if (config[name] or 0) % stride:
            raise TesseraError(f"{name}={config[name]} must be a multiple of {stride} for {method.name}.")
    images, data = training_data(config, method.channels)
    crops = (Crops if config["turns"] else Upright)(
        images, config["crop"], recipe.seed, (config["first_crop"] or 0, recipe.first_steps), recipe.first_again
    )
    own, data = facts(method, config, data, start), checkpoint.inherited(data, start)
    before = claim(folder, own, data)
    with parallel.process_group(torch.device(recipe.device)):
        log = TrainingLog(folder, recipe.steps, run) if parallel.is_main() else (lambda step, values: None)
        watch = (lambda net, step: net.monitor(images[:WATCHED])) if isinstance(model, CountsCodes) else None
        if config["validation"] is not None:
            held_out = open_dataset(config["validation"], root=config["data_root"])
            watch = validation([as_rgb(image.read()) for image in held_out], recipe)
        trained = fit(model, crops, recipe, folder, log, watch)
        if parallel.is_main():
            if isinstance(trained, CountsCodes):
                trained.calibrate(images)
            meta = describe(method, recipe, {**config, "init": start and start.id}, data)
            meta = {**meta, "recipe": {**meta["recipe"], "steps_before": before}}
            weights = checkpoint.save(folder, trained, meta, half=config["half"])
            print(f"{weights.id}: {weights.path} ({weights.meta['bytes'] / 1e6:.1f} MB)")
            if (folder / "train.csv").exists():
                paper.render(training_figure(pd.read_csv(folder / "train.csv"), weights.id), folder)
    return 0


# Of one family: what they are unless set, and the values that are allowed.
OPTIONS: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "straight_through": (False, lambda value: True, ""),
    "hard_tail": (0.0, lambda value: 0 <= value < 1, "at least 0 and less than 1"),
    "rate_warmup": (0.0, lambda value: 0 <= value < 1, "at least 0 and less than 1"),
    "lambda_draw": ("log", lambda value: value in ("log", "cubic"), "log or cubic"),
}


def _set_options(model: torch.nn.Module, config: Mapping[str, Any], method: str) -> None:
    known = model.training_options if isinstance(model, HasTrainingOptions) else ()
    for name, (default, allowed, wanted) in OPTIONS.items():
        value = config[name]
        if not allowed(value):
            raise TesseraError(f"{name}={value} must be {wanted}.")
        if value != default and name not in known:
            raise TesseraError(f"{name}={value} is no option of {method}: leave it out.")
        if name in known:
            setattr(model, name, value)


def training_data(config: Mapping[str, Any], channels: int = 3) -> tuple[list[Image], dict[str, Any]]:
    """The training images at all scales, as RGB or (``channels`` 1) as grey planes, and what the checkpoint says."""
    source = training_set(config["dataset"], config["data_root"])
    say_refused(source)
    stored = [image.read() for image in source]  # the fingerprints are of these: grey images count as grey
    arrays = (
        [as_rgb(i) for i in stored] if channels == 3 else [i[..., c : c + 1] for i in stored for c in range(i.shape[2])]
    )
    data = {"names": [source.name], "title": source.title, "license": source.license, "images": len(stored)}
    scaled = [_scaled(image, scale) for scale in config["scales"] for image in arrays]
    least = min(config["crop"], config.get("first_crop") or config["crop"])
    usable = [image for image in scaled if min(image.shape[:2]) >= least]
    return usable or scaled, {**data, "fingerprint": source.fingerprint, "fingerprints": fingerprints(stored)}


def describe(method: Method, recipe: TrainConfig, config: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The ``meta.json`` of a checkpoint: method, recipe, data and where it was made."""
    origin = provenance(recipe.device)
    return {
        "method": method.name,
        "params": dict(method.variant),
        "point": None if method.variable_rate else method.point,
        "recipe": asdict(recipe) | {k: config[k] for k in RECORDED},
        "data": dict(data),
        "licence": "MIT (weights made by this project)",
        "paper": method.paper,
        "made": {k: origin[k] for k in ("commit", "dirty", "versions", "cpu", "gpu", "threads", "command")}
        | {"processes": parallel.world_size()},
    }


def _autocast(asked: object, device: str) -> bool:
    """Whether to train under bfloat16 autocast."""
    own = devices.bfloat16(devices.available(device))
    if asked not in (True, False, None):
        raise TesseraError(f"amp={asked} must be True or False.")
    if asked is True and not own:
        print("note: this device has no arithmetic for bfloat16; amp=False is several times faster.", file=sys.stderr)
    return own if asked is None else bool(asked)


def _recipe(config: Mapping[str, Any]) -> TrainConfig:
    names = ("steps", "batch", "lr", "schedule", "hold", "cycles", "optimizer", "warmup", "clip", "ema", "amp", "seed",
             "log_every", "save_every")  # fmt: skip
    device = devices.available(config["device"])
    for name in ("steps", "batch", "crop", "cycles", "threads", "processes", "log_every", "save_every"):
        if config[name] < 1:
            raise TesseraError(f"{name}={config[name]} must be at least 1.")
    first = {}
    if config["first_crop"]:
        first = {"first_batch": config["first_batch"] or config["batch"],
                 "first_steps": round(config["first_share"] * config["steps"]),
                 "first_again": config["first_again"]}  # fmt: skip
    return TrainConfig(device=device, **first, **{name: config[name] for name in names})


def _initial(method: Method, start: checkpoint.Weights | None) -> torch.nn.Module:
    if start is not None and isinstance(method, Adopts):  # what fits of weights for another point
        state = checkpoint.read(start.path)
        check_weights(state, start.path)
        adopted: torch.nn.Module = method.adopt(state)
        return adopted
    model: torch.nn.Module | None = method.model() if start is None else checkpoint.load(method, start)
    if model is None:
        raise TesseraError(f"{method.name} has nothing to train: choose a method with weights.")
    return model


def _scaled(image: Image, scale: float) -> Image:
    """The image at a scale of its sides (Lanczos)."""
    if scale == 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    picture = pillow.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.asarray(picture.resize(size, pillow.Resampling.LANCZOS)).reshape(size[1], size[0], -1)


COMMANDS = {"train": (train_config, train, NAMED)}
