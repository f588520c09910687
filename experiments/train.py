"""Train a method on a data set: the one loop of ``core.train`` with logs, provenance and a checkpoint at the end.

Writes into ``<folder>`` (default runs/<method>-<point>-<seed>): ``run.json`` (what it is), ``state.pt`` (to resume),
``train.csv`` and TensorBoard events (the curve), and at the end ``weights.safetensors`` with ``meta.json``. The same
command resumes, also with more ``steps``; another one is refused in the same folder (``experiments.run_record``).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from PIL import Image as pillow

from benchmarks.datasets import fingerprints, open_dataset, training_set
from benchmarks.figures import paper
from benchmarks.figures.rd import training_figure
from benchmarks.measure.provenance import provenance
from core import atomic, checkpoint, devices, launch, memory, parallel
from core.codec import Image, Method, TesseraError
from core.finite import check_weights
from core.images import as_rgb
from core.registry import discover, make_method
from core.train import Crops, TrainConfig, fit, shares
from experiments.evaluate import say_refused
from experiments.run_record import claim, facts
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
    amp = True  # bfloat16 autocast
    seed = 0
    device = "cpu"
    threads = 1  # per process
    processes = 1  # that share each batch, on a CPU, each on cores of its own (on GPUs: torchrun)
    folder = None  # default: runs/<method>-<point>-seed<seed>
    init = None  # weights to start from
    straight_through = False  # QRes-VAE: decode rounded latents in training, instead of noisy ones
    hard_tail = 0.0  # QRes-VAE: share of the steps, at the end, with rounded latents and a frozen encoder
    lambda_draw = "log"  # QRes-VAE of all rates: lambda uniform in its logarithm, or cubic: in its cube root
    half = False  # store float16
    log_every = 100
    save_every = 500
    results = "results"
    data_root = None


NAMED = {
    "smoke": {"steps": 4, "batch": 2, "crop": 64, "log_every": 1, "save_every": 2},
    "paper": {"dataset": "folder:coco/train2017", "scales": (1.0,), "steps": 600_000, "batch": 64, "crop": 256,
              "lr": 2e-4, "schedule": "constant", "warmup": 0, "ema": 0.9999, "amp": False},
}  # fmt: skip


@runtime_checkable
class CountsCodes(Protocol):
    """A model whose entropy coder is made of counts over training images."""

    def calibrate(self, images: Sequence[Image]) -> None:
        """Count with the final weights, once, when training has ended."""

    def monitor(self, images: Sequence[Image]) -> dict[str, float]:
        """Usage of the codebooks over a few images, for the log."""


@dataclass(frozen=True)
class Upright(Crops):
    """Random crops as they are, neither flipped nor turned."""

    def sample(self, step: int, k: int) -> Image:
        """The uint8 crop (size, size, C) of sample k of a step."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, (step << 20) + k]))
        image = self.images[int(draw.integers(len(self.images)))]
        size = self.size_at(step)
        y, x = (int(draw.integers(0, side - size + 1)) for side in image.shape[:2])
        return image[y : y + size, x : x + size]


RECORDED = ("crop", "first_crop", "turns", "scales", "init", "straight_through", "hard_tail",
            "lambda_draw")  # of the recipe, besides the loop's  # fmt: skip
WATCHED = 256  # training images whose codes are counted for the log


def train(config: Mapping[str, Any], run: Any) -> int:
    """Train what a config asks for; returns the exit code 0."""
    discover()
    torch.set_num_threads(int(config["threads"]))
    method = make_method(config["method"], changed(config["params"], config["method"]))
    recipe = _recipe(config)
    if launch.wanted(config["processes"], recipe.device):
        shares(recipe, config["processes"])
        return launch.together(config["processes"], int(config["threads"]))
    if recipe.device == "cpu" and os.environ.get("TESSERA_KERNELS") != "0":
        memory.keep()
    folder = Path(config["folder"] or f"runs/{method.name}-{method.point}-seed{config['seed']}")
    torch.manual_seed(recipe.seed)
    start = None if config["init"] is None else checkpoint.find(method, config["init"], any_point=True)
    model = _initial(method, start)
    _set_options(model, config, method.name)
    stride = getattr(model, "stride", 1)
    for name in ("crop", "first_crop"):
        if (config[name] or 0) % stride:
            raise TesseraError(f"{name}={config[name]} must be a multiple of {stride} for {method.name}.")
    channels = getattr(method, "channels", 3)
    images, data = training_data(config, channels)
    crops = (Crops if config["turns"] else Upright)(
        images, config["crop"], recipe.seed, (config["first_crop"] or 0, recipe.first_steps)
    )
    before, data = claim(folder, facts(method, config, data, start)), checkpoint.inherited(data, start)
    with parallel.process_group(torch.device(recipe.device)):
        log = _Log(folder, recipe.steps, run) if parallel.is_main() else (lambda step, values: None)
        watch = (lambda net, step: net.monitor(images[:WATCHED])) if isinstance(model, CountsCodes) else None
        if config["validation"] is not None:
            watch = validation(config["validation"], config["data_root"], recipe)
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
    "lambda_draw": ("log", lambda value: value in ("log", "cubic"), "log or cubic"),
}


def _set_options(model: Any, config: Mapping[str, Any], method: str) -> None:
    for name, (default, allowed, wanted) in OPTIONS.items():
        value = config[name]
        if not allowed(value):
            raise TesseraError(f"{name}={value} must be {wanted}.")
        if value != default and not hasattr(model, name):
            raise TesseraError(f"{name}={value} is an option of the QRes-VAE methods, not of {method}.")
        if hasattr(model, name):
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
    usable = [image for image in scaled if min(image.shape[:2]) >= config["crop"]]
    return usable or scaled, {**data, "fingerprint": source.fingerprint, "fingerprints": fingerprints(stored)}


VALIDATED = 256  # pixels of the side of the held-out crops


def validation(name: str, root: str | None, recipe: TrainConfig) -> Callable[[torch.nn.Module, int], dict[str, float]]:
    """The loss of a model in eval mode on the middle 256 x 256 of each image of a set, at three lambdas if it has any.

    Only the middle crops are kept in memory. The values are named ``valid_loss_16``, ... or ``valid_loss``.
    """
    images = [middle(as_rgb(image.read()), VALIDATED) for image in open_dataset(name, root=root)]
    batch = torch.from_numpy(np.stack([i for i in images if i.shape[:2] == (VALIDATED, VALIDATED)])).permute(0, 3, 1, 2)

    @torch.no_grad()
    def measure(net: torch.nn.Module, step: int) -> dict[str, float]:
        own = getattr(net, "lmb", None)
        values: dict[str, float] = {}
        for lmb in (16.0, 64.0, 256.0) if getattr(net, "embedding", None) is not None else (own,):
            if lmb is not None:
                net.lmb = lmb
            with torch.autocast(torch.device(recipe.device).type, torch.bfloat16, enabled=recipe.amp):
                losses = [float(net(x.to(recipe.device)[None] / 255).loss) for x in batch]
            values["valid_loss" + (f"_{lmb:g}" if lmb else "")] = float(np.mean(losses))
        if own is not None:
            net.lmb = own
        return values

    return measure


def middle(image: Image, side: int) -> Image:
    """The middle square of an image, of the given side or what there is."""
    y, x = (max(0, (n - side) // 2) for n in image.shape[:2])
    return image[y : y + side, x : x + side]


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
                 "first_steps": round(config["first_share"] * config["steps"])}  # fmt: skip
    return TrainConfig(device=device, **first, **{name: config[name] for name in names})


def _initial(method: Method, start: checkpoint.Weights | None) -> torch.nn.Module:
    if start is not None and hasattr(method, "adopt"):  # what fits of weights for another point
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


class _Log:
    """Lines on the screen, ``train.csv``, TensorBoard events and Sacred's metrics; resuming cuts what is repeated."""

    def __init__(self, folder: Path, steps: int, run: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path, self.steps, self.run = folder / "train.csv", steps, run
        self.last = -1  # the step of the last line, which training and monitoring share
        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        try:
            self._write(step, values)
        except OSError as error:
            reason = error.strerror or str(error)
            raise TesseraError(
                f"{self.path.parent} cannot be written ({reason}): make room, and the same command goes on from the "
                "saved state."
            ) from None

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        row = {"step": step, **{name: float(f"{value:.6g}") for name, value in values.items()}}
        known = self._rows()
        same = next((old for old in known if int(old["step"]) == step), {}) if step == self.last else {}
        _write_csv(self.path, [*(old for old in known if int(old["step"]) < step), {**same, **row}])
        self.last = step
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
            if self.run is not None:
                self.run.log_scalar(name, float(value), step)
        shown = " ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "step")
        print(f"step {step} of {self.steps}: {shown}", flush=True)

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open() as file:
            return list(csv.DictReader(file))


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic.writing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


COMMANDS = {"train": (train_config, train, NAMED)}
