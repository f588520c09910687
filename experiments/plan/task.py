"""One entry of the plan: a shell command, what it leaves behind, and what has to come before it.

Nothing is imported that needs more than the standard library, so that Snakemake can read the plan from an environment
of its own.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.places import default_results

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("prepare", "train", "evaluate", "report")
KINDS = ("data", "weights", "cells", "toy", "files", "report")
MODULE = {"torchrun": ("-m", "torch.distributed.run", "--standalone")}


@dataclass(frozen=True)
class Task:
    """A command of the plan.

    ``kind`` says what makes it done: ``data``, the data set named in ``outputs`` can be read; ``weights``, a folder
    that matches one of ``outputs`` holds a checkpoint; ``cells`` and ``toy``, every result that the command asks for is
    stored; ``files``, every pattern of ``outputs`` below the results folder matches a file; ``report``, the page is
    newer than what it shows. ``after`` names tasks that come first, ``data`` what the command reads by default,
    ``minutes`` is the time after which an attempt is ended.
    """

    name: str
    stage: str
    kind: str
    command: str
    jobs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    minutes: float = 120

    def __post_init__(self) -> None:
        if self.stage not in STAGES or self.kind not in KINDS:
            raise ValueError(f"{self.name}: a stage is one of {STAGES}, a kind one of {KINDS}")

    @property
    def words(self) -> list[str]:
        """The command's words."""
        return shlex.split(self.command)

    @property
    def options(self) -> dict[str, str]:
        """The ``key=value`` words."""
        return {k: v for k, equals, v in (word.partition("=") for word in self.words) if equals}

    @property
    def processes(self) -> int:
        """How many processes ``torchrun`` starts; 1 for other commands."""
        words = self.words
        return int(words[words.index("--nproc-per-node") + 1]) if words[0] == "torchrun" else 1

    @property
    def measures_speed(self) -> bool:
        """Whether the command measures seconds, which work beside it would lengthen."""
        return any(word.endswith("speed.py") for word in self.words)

    @property
    def gpus(self) -> int:
        """How many GPUs the command uses."""
        return self.processes if self.options.get("device") == "cuda" else 0

    def argv(self, results: str) -> list[str]:
        """The command for a process, with this interpreter, writing below ``results``."""
        first, *rest = self.words
        more = [] if self.kind == "data" or results == default_results() else [f"results={results}"]
        return [sys.executable, *MODULE.get(first, ()), *rest, *_with(rest, more)]

    def marker(self, results: str | Path) -> Path:
        """The file that tells Snakemake that the task has been dealt with."""
        return Path(results) / "plan" / f"{self.name}.done"

    def lock(self, results: str | Path) -> Path:
        """The file that whoever works on the task holds a lock on."""
        return Path(results) / "plan" / f"{self.name}.lock"

    def note(self, results: str | Path) -> Path:
        """Where it is written why the last attempt came to nothing."""
        return Path(results) / "failures" / "tasks" / f"{self.name}.json"


def _with(words: Sequence[str], more: list[str]) -> list[str]:
    return more if not more or "with" in words else ["with", *more]


def ordered(tasks: Iterable[Task]) -> list[Task]:
    """Tasks by stage, each behind those it comes after; ValueError when that is impossible."""
    left = sorted(tasks, key=lambda task: STAGES.index(task.stage))
    names, placed, found = {task.name for task in left}, set[str](), list[Task]()
    while left:
        ready = next((t for t in left if not (set(t.after) & names) - placed), None)
        if ready is None:
            raise ValueError(f"tasks wait for each other: {', '.join(task.name for task in left)}")
        left.remove(ready)
        placed.add(ready.name)
        found.append(ready)
    return found


def chosen(
    tasks: Sequence[Task], names: Iterable[str], done: Callable[[Task], bool] = lambda task: False
) -> list[Task]:
    """The tasks of jobs or of these names, and what those that are not ``done`` come after, in order.

    Raises KeyError for a name that is none.
    """
    known: Mapping[str, Task] = {task.name: task for task in tasks}
    found: dict[str, Task] = {}

    def add(task: Task) -> None:
        if task.name not in found:
            found[task.name] = task
            for name in () if done(task) else task.after:
                add(known[name])

    for name in names:
        for task in [task for task in tasks if name in task.jobs] or [known[name]]:
            add(task)
    return ordered(found.values())
