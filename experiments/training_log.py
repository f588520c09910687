"""Log of a training run: lines on the screen, ``train.csv``, TensorBoard events where it is installed, and Sacred's."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import atomic
from core.codec import TesseraError


class TrainingLog:
    """What a run says of its steps; resuming cuts what is repeated."""

    def __init__(self, folder: Path, steps: int, run: Any = None) -> None:
        self.path, self.steps, self.run = folder / "train.csv", steps, run
        self.last = -1  # the step of the last line, which training and monitoring share
        self.pace = Pace(steps)
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"))
        except ImportError:
            print("TensorBoard is not installed: train.csv has the same numbers.")

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
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
            if self.writer is not None:
                self.writer.add_scalar(name, value, step)
            if self.run is not None:
                self.run.log_scalar(name, float(value), step)
        shown = " ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "step")
        left = self.pace.left(step) if "loss" in values else ""
        print(f"step {step}{f' of {self.steps}' if self.steps else ''}: {shown}{left}", flush=True)

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open() as file:
            return list(csv.DictReader(file))


class Pace:
    """How long a run still takes at the speed of its last steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.before: tuple[int, float] | None = None  # a step of this process, and when it was done

    def left(self, step: int) -> str:
        """`` (about 1 h 20 min left)`` behind a line, or nothing where that is not known (yet)."""
        now = time.monotonic()
        (last, then), self.before = self.before or (step, now), (step, now)
        if step in (last, self.steps) or not self.steps:
            return ""
        minutes = round((self.steps - step) * (now - then) / (step - last) / 60)
        days, hours = minutes // 1440, minutes % 1440 // 60
        parts = (days, "d", hours, "h") if days else (hours, "h", minutes % 60, "min") if hours else (minutes, "min")
        return f" (about {' '.join(map(str, parts))} left)" if minutes else ""


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic.writing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
