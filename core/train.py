"""One training loop that does not know the model.

A model's forward returns a ``Step``; everything random is derived from (seed, step), so a run that was killed and
resumed ends with the same weights, bit for bit on CPU, whatever the number of interruptions.
"""

from __future__ import annotations

import math
import re
import signal
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from threading import Event
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core import adam, atomic, parallel
from core.codec import TesseraError
from core.crops import early
from core.lamb import Lamb
from core.soap import Soap
from core.trainable import ChangesInTime, Freezes


class Step(NamedTuple):
    """What a model's forward returns in training."""

    loss: Tensor  # scalar to minimise
    bits: Tensor  # scalar, bits per pixel (or per sample), for the log
    distortion: Tensor  # scalar in the model's own measure, for the log
    codes: tuple[Tensor, ...] = ()  # indices per level, for usage statistics


@dataclass(frozen=True)
class TrainConfig:
    """How to train. ``batch`` is the global batch over all ranks; ``ema`` the decay of the averaged weights."""

    steps: int
    batch: int = 8
    lr: float = 2e-4
    first_batch: int = 0  # of the first steps, whose crops are smaller (``Crops.first``); 0: as the others
    first_steps: int = 0
    first_again: int = 0  # then every so manieth step, too; 0: none
    schedule: str = "cosine"  # or "constant", "constant:N": zero from step N on, "drop:N:F": times F every N steps
    hold: float = 0.0  # share of the steps before the cosine begins to fall
    cycles: int = 1  # of the cosine, each with a quarter of the rate of the one before
    optimizer: str = "adam"  # or "adamax", "lamb", "soap"
    warmup: int = 200
    final_lr: float = 0.01  # of lr, at the end of the cosine
    clip: float = 2.0
    skip_above: float = 10.0  # a step whose gradient norm exceeds this many running medians is not taken
    ema: float = 0.999
    amp: bool = False  # bfloat16 autocast
    seed: int = 0
    device: str = "cpu"
    log_every: int = 50
    save_every: int = 500

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        name, _, last = self.schedule.partition(":")
        if name == "constant" and (last.isdigit() or not last):
            return self.lr * warm if not last or step < int(last) else 0.0
        if name == "drop" and (drop := _DROP.fullmatch(last)):
            return self.lr * warm * float(drop[2]) ** min(step // int(drop[1]), DROPS)
        if self.schedule != "cosine":
            raise TesseraError(f"unknown schedule '{self.schedule}': known are constant, constant:N, cosine, drop:N:F.")
        held = self.hold * self.steps
        place = max(0.0, step - held) * self.cycles / max(1.0, self.steps - held)
        cycle = min(int(place), self.cycles - 1)
        wave = 0.5 * (1 + math.cos(math.pi * (place - cycle)))
        return self.lr * 0.25**cycle * warm * (self.final_lr + (1 - self.final_lr) * wave)

    def batch_at(self, step: int) -> int:
        """The global batch of a step, counted from 0."""
        small = self.first_batch and early(step, self.first_steps, self.first_again)
        return self.first_batch if small else self.batch


Batch = Callable[[int, range], Tensor]  # (step, the samples of the global batch this rank takes) -> model input
Log = Callable[[int, dict[str, float]], None]
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "lamb": Lamb,
    "soap": Soap,
}
DROPS = 4  # of the learning rate, at most
_DROP = re.compile(r"([1-9]\d*):(\d*\.?\d+)")
STUCK = 20  # steps in a row that cannot be taken
WINDOW = 100  # gradient norms kept for the running median


class Trainer:
    """A run that can be saved and resumed: model, averaged model, optimiser and step counter."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        device = torch.device(config.device)
        self.model: nn.Module = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = deepcopy(self.model).requires_grad_(False)
        self.config = config
        if config.optimizer not in OPTIMIZERS:
            raise TesseraError(f"unknown optimizer '{config.optimizer}': known are {', '.join(OPTIMIZERS)}.")
        self.optimizer = OPTIMIZERS[config.optimizer](self.model.parameters(), lr=config.lr)
        self.one_pass = adam.serves(self.optimizer, self.average)
        self.step = 0
        self.skipped = 0
        self.stuck = 0  # steps not taken since the last one that was
        self.norms: list[float] = []

    def save(self, path: Path) -> None:
        """Write the whole state atomically."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "skipped": self.skipped,
            "stuck": self.stuck,
            "norms": self.norms,
        }
        try:  # torch's writer turns the system's error into a RuntimeError
            with atomic.writing(path, also=(RuntimeError,)) as part, part.open("wb") as file:
                torch.save(state, file)
        except atomic.WriteError as error:
            left = f"the state before it is intact, {path}" if path.exists() else "none was saved before"
            raise TesseraError(
                f"the state after step {self.step} cannot be written ({error.strerror}): {left}; make room, and the "
                "same command goes on."
            ) from None

    def load(self, path: Path) -> None:
        """Continue from a saved state; raises TesseraError when it belongs to another model."""
        try:
            state = torch.load(path, map_location=self.config.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError, TypeError, OSError, EOFError, UnpicklingError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise TesseraError(
                f"cannot resume from {path}: it is damaged or was written for another model ({reason}); "
                "use another folder or delete it."
            ) from None
        self.step, self.skipped, self.norms = state["step"], state["skipped"], list(state["norms"])
        self.stuck = state.get("stuck", 0)

    def advance(self, wrapped: nn.Module, batch: Tensor) -> dict[str, float]:
        """One optimiser step on one batch; returns what to log. Bad steps are counted and not taken."""
        config, rate = self.config, self.config.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_mix(config.seed, self.step, parallel.rank()))
        if isinstance(self.model, ChangesInTime):
            self.model.begin_step(self.step, config.steps)
        device = torch.device(config.device)
        cast = torch.autocast(device.type, torch.bfloat16) if config.amp else nullcontext()
        self.optimizer.zero_grad(set_to_none=True)
        with cast:
            out: Step = wrapped(batch.to(device, memory_format=torch.channels_last, non_blocking=True))
        out.loss.backward()
        norm = adam.norm_of(self.optimizer) if self.one_pass else self._clip()
        good = math.isfinite(norm) and not self._outlier(norm)
        if good:
            self._take(norm)
        else:
            self.skipped += 1
        self.stuck = 0 if good else self.stuck + 1
        if self.stuck == STUCK:
            self._go_back()
        if math.isfinite(norm):
            self.norms = [*self.norms[-WINDOW + 1 :], norm]
        self.step += 1
        values = {"loss": out.loss, "bits": out.bits, "distortion": out.distortion}
        return {name: float(v.detach()) for name, v in values.items()} | {
            "lr": rate,
            "norm": norm,
            "skipped": self.skipped,
        }

    def _outlier(self, norm: float) -> bool:
        full = len(self.norms) >= WINDOW
        return full and norm > self.config.skip_above * statistics.median(self.norms)

    @torch.no_grad()
    def _go_back(self) -> None:
        """Go on from the averaged weights: from the present ones no step can be taken."""
        self.stuck = 0
        self.model.load_state_dict(self.average.state_dict())
        if parallel.is_main():
            print(
                f"note: {STUCK} steps in a row were not taken: from step {self.step + 1} on with the averaged weights."
            )

    def _clip(self) -> float:
        return float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))

    @torch.no_grad()
    def _take(self, norm: float) -> None:
        """The optimiser's step, then the average's; with plain Adam on a CPU both and clipping in one pass."""
        decay = self.config.ema * (1 - math.exp(-(self.step + 1) / 1000))
        averages = list(self.average.parameters())
        if self.one_pass:
            adam.step(self.optimizer, averages, 1 - decay, self.config.clip / (norm + 1e-6))
        else:
            self.optimizer.step()
            torch._foreach_lerp_(averages, [p.detach() for p in self.model.parameters()], 1 - decay)
        for old, new in zip(self.average.buffers(), self.model.buffers(), strict=True):
            old.copy_(new)


def fit(
    model: nn.Module,
    batches: Batch,
    config: TrainConfig,
    folder: Path,
    log: Log = lambda step, values: None,
    validate: Callable[[nn.Module, int], dict[str, float]] | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Train to ``config.steps``, resuming from ``folder/state.pt``; returns the averaged model in eval mode.

    ``log`` is called on rank 0 every ``log_every`` steps with means since the last call; ``validate`` when saving.
    SIGTERM, Ctrl-C and ``ended`` end the run with KeyboardInterrupt after the step at hand, saved.
    """
    state = folder / "state.pt"
    if parallel.is_main():
        folder.mkdir(parents=True, exist_ok=True)
    run = Trainer(model, config)
    if state.exists():
        run.load(state)
    run.model.train()
    wrapped = run.model
    if torch.distributed.is_initialized():
        unused = isinstance(model, Freezes) and model.freezes
        wrapped = DistributedDataParallel(run.model, find_unused_parameters=unused)
    parts = shares(config, parallel.world_size())
    with _stop_requests() as stop, ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(batches, run.step, parts[config.batch_at(run.step)])
        recent: list[dict[str, float]] = []
        while run.step < config.steps:
            batch = ahead.result()
            ahead = reader.submit(batches, run.step + 1, parts[config.batch_at(run.step + 1)])
            recent.append(run.advance(wrapped, batch))
            if run.step % config.log_every == 0 or run.step == config.steps:
                _report(log, run, recent)
                recent = []
            if run.step % config.save_every == 0 or run.step == config.steps:
                _save(run, state, log, validate)
            if parallel.any_rank(stop.is_set() or ended()):
                _save(run, state, log, None)
                raise KeyboardInterrupt
    average: nn.Module = run.average.eval()
    return average


def _save(run: Trainer, state: Path, log: Log, validate: Callable[[nn.Module, int], dict[str, float]] | None) -> None:
    if not parallel.is_main():
        return
    run.save(state)
    if validate is not None:
        log(run.step, validate(run.average.eval(), run.step))


def _report(log: Log, run: Trainer, recent: list[dict[str, float]]) -> None:
    keys = ("loss", "bits", "distortion")
    means = torch.tensor([[r[k] for k in keys] for r in recent]).mean(0).to(run.config.device)
    means = parallel.all_sum(means) / parallel.world_size()
    if parallel.is_main():
        last = recent[-1]
        log(run.step, dict(zip(keys, means.tolist(), strict=True)) | {k: last[k] for k in ("lr", "norm", "skipped")})


def shares(config: TrainConfig, ranks: int) -> dict[int, range]:
    """For each batch size, the samples that this rank takes; TesseraError where ``ranks`` cannot share it evenly."""
    found = {}
    for name, batch in (("batch", config.batch), ("first_batch", config.first_batch or config.batch)):
        if batch % ranks:
            raise TesseraError(f"{name}={batch} cannot be shared by {ranks} processes: use a multiple of {ranks}.")
        size = batch // ranks
        found[batch] = range(parallel.rank() * size, (parallel.rank() + 1) * size)
    return found


def _mix(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed for one step of one rank."""
    return hash((seed, step, rank)) & (2**63 - 1)  # hashes of integer tuples do not vary between processes


@contextmanager
def _stop_requests() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set, so that a run ends, and saves, between two steps and never inside one."""
    stop, before = Event(), {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda *_: stop.set())
    except ValueError:  # not in the main thread: signals are somebody else's
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
