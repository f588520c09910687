"""State of the plan's tasks: counted from what is stored, with the reasons why something cannot run here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path
from typing import Any

from benchmarks.datasets import open_dataset, training_set
from benchmarks.store import Store
from benchmarks.store.store import now
from core import atomic, checkpoint, places
from core.codec import TesseraError
from core.registry import METHODS, discover
from experiments.evaluate import Outcome, evaluation_config, plan_jobs
from experiments.plan.task import ROOT, Task
from experiments.request import Evaluation


@dataclass
class State:
    """How far a task is: results there and wanted, why some failed, and why some cannot be had here."""

    task: Task
    done: int = 0
    wanted: int = 0
    failed: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything that can be had here is there."""
        return bool(self.wanted) and self.done == self.wanted

    @property
    def word(self) -> str:
        """done, failed, missing (with their number), or cannot run: nothing of it can be computed here."""
        if self.complete:
            return "done"
        if self.failed:
            return "failed"
        return f"{self.wanted - self.done} missing" if self.wanted else "cannot run"


def state(task: Task, results: str, notes: bool = True) -> State:
    """The state of a task, from what is stored; the network is not asked.

    With ``notes``, what the last attempt found counts: that it failed, or that it cannot be done here.
    """
    discover()
    found = State(task)
    with checkpoint.offline():
        try:
            COUNTERS[task.kind](task, results, found)
        except TesseraError as error:
            found.reasons.append(str(error))
    text, kind = _noted(task, results) if notes and not found.complete else ("", "")
    if kind == "failed":
        found.failed.append(text)
    elif kind:
        found.wanted, found.reasons = found.done, text.splitlines()
    return found


def table(states: Iterable[State]) -> str:
    """The plan as lines: state, results, command, and reasons below."""
    lines = []
    for s in states:
        lines.append(f"{s.word:>12}  {s.done:>3}/{s.wanted:<3}  {s.task.name}: {s.task.command}")
        lines += [f"{'':>23}{text}" for text in dict.fromkeys([*(f"failed: {t}" for t in s.failed), *s.reasons])]
    return "\n".join(lines)


def counted(states: Iterable[State]) -> tuple[dict[str, int], int, int]:
    """The number of tasks of each kind, of results that are there, and of results that can be had."""
    words, listed = ("done", "failed", "missing", "cannot run"), list(states)
    counts = {word: sum(s.word.endswith(word) for s in listed) for word in words}
    return counts, sum(s.done for s in listed), sum(s.wanted for s in listed)


def summary(states: Iterable[State]) -> str:
    """Numbers of tasks and results of each kind, in one line."""
    counts, there, wanted = counted(states)
    return f"{', '.join(f'{n} {word}' for word, n in counts.items())}; {there} of {wanted} results are there"


def note(task: Task, results: str, text: str, kind: str = "failed") -> None:
    """Note why a task came to nothing (``kind``: failed, cannot run); an empty text removes the note."""
    path = task.note(results)
    if text:
        document = {"name": task.name, "command": task.command, "kind": kind, "text": text, "when": now()}
        atomic.write_text(path, json.dumps(document, indent=1) + "\n")
    else:
        path.unlink(missing_ok=True)


def write_marker(task: Task, results: str, word: str) -> None:
    """Tell Snakemake that a task is done, or that it cannot be done here."""
    path = task.marker(results)
    if not path.is_file() or path.read_text() != f"{word}\n":
        atomic.write_text(path, f"{word}\n")


def refresh_markers(tasks: Iterable[Task], needed: Iterable[Task], results: str) -> None:
    """Make the markers say what is done now, by whatever means, and what nobody needs: all others go."""
    wanted = {task.name for task in needed}
    for task in tasks:
        if state(task, results, notes=False).complete:
            write_marker(task, results, "done")
        elif task.name not in wanted:
            write_marker(task, results, "not needed")
        else:
            task.marker(results).unlink(missing_ok=True)


def _noted(task: Task, results: str) -> tuple[str, str]:
    try:
        stored = json.loads(task.note(results).read_text())
        return str(stored["text"]), str(stored["kind"])
    except (OSError, ValueError, KeyError):
        return "", ""


# What counts


def _cells(task: Task, results: str, found: State) -> None:
    outcome, store = Outcome(), Store(results)
    _check_script(task)
    _, jobs = plan_jobs(_evaluation(task, results), outcome)
    noted = {failure.key: failure.text for failure in store.failures()}
    lacking = [job.cell for job in jobs if not store.has(job.cell)]
    found.wanted, found.done = len(jobs) + outcome.unfetched, len(jobs) - len(lacking)
    found.failed += [f"{c.label} at {c.point}: {noted[c.key]}" for c in lacking if c.key in noted]
    found.reasons += [*outcome.skipped, *outcome.failed]


def _evaluation(task: Task, results: str) -> Evaluation:
    """The evaluation that the task's command asks for."""
    given = {name.removeprefix("params.") for name in task.options if name.startswith("params.")}
    return replace(Evaluation.of(_configured(task, evaluation_config, ("params",)), given), results=results)


def _configured(task: Task, scope: Callable[[], None], groups: Iterable[str]) -> dict[str, Any]:
    """The configuration a task's command has: the defaults of a scope and its options, as Sacred reads them."""
    from sacred.arg_parser import _convert_value
    from sacred.config import ConfigScope

    given = {name: _convert_value(value) for name, value in task.options.items()}
    config = dict(ConfigScope(scope)(fixed={name: v for name, v in given.items() if "." not in name}))
    for group in groups:
        mine = {name.partition(".")[2]: v for name, v in given.items() if name.startswith(f"{group}.")}
        config[group] = {**config[group], **mine}
    return config


def _toy(task: Task, results: str, found: State) -> None:
    from experiments.studies import toy

    config = _configured(task, toy.toy_config, ("params", "source_params"))
    paths = [job.path(Path(results)) for job in toy.jobs(config)]
    found.wanted, found.done = len(paths), sum(places.find(path, results).is_file() for path in paths)


def _files(task: Task, results: str, found: State) -> None:
    there = sum(bool(places.listed(results, pattern)) for pattern in task.outputs)
    found.reasons += [] if there == len(task.outputs) else list(_obstacles(task))
    found.wanted, found.done = (there if found.reasons else len(task.outputs)), there


def _weights(task: Task, results: str, found: State) -> None:
    found_here = (glob(str(ROOT / pattern)) for pattern in task.outputs)  # noqa: PTH207 (a pattern may be absolute)
    folders = [Path(folder) for folders in found_here for folder in folders]
    found.done = int(any((f / "meta.json").is_file() and (f / "weights.safetensors").is_file() for f in folders))
    found.reasons += [] if found.done else list(_obstacles(task))
    found.wanted = int(not found.reasons)


def _data(task: Task, results: str, found: State) -> None:
    facts = task.outputs[0]
    found.wanted = 1
    try:
        open_dataset(facts)
        found.done = 1
    except TesseraError as error:
        found.reasons.append(str(error))


def _report(task: Task, results: str, found: State) -> None:
    """Whether the page is newer than every cell and record it shows and everything that draws it."""
    page = Path(results) / "report" / "index.html"
    code = (p for p in (ROOT / "benchmarks").rglob("*") if p.suffix in {".py", ".js", ".css", ".html"})
    shown = ("cells/*/cell.json", "images/*", "llvq/*.json", "qres_pictures/*.json")
    sources = [*(path for pattern in shown for path in places.listed(results, pattern)), *code]
    found.wanted = 1
    found.done = int(page.is_file() and all(page.stat().st_mtime > source.stat().st_mtime for source in sources))


COUNTERS: Mapping[str, Callable[[Task, str, State], None]] = {
    "cells": _cells,
    "toy": _toy,
    "files": _files,
    "weights": _weights,
    "data": _data,
    "report": _report,
}


# What stands in the way


def _check_script(task: Task) -> None:
    """Refuse a command that this version does not have."""
    words = task.words
    name = words[words.index("-m") + 1] if "-m" in words else words[1]
    places = [ROOT / name] if name.endswith(".py") else [ROOT / name / "__main__.py"]
    if not any(place.is_file() for place in places):
        raise TesseraError(f"{name} is not part of this version.")


def _obstacles(task: Task) -> Iterator[str]:
    """Why a command that makes no cells cannot run here: no such script or method, no device, no data."""
    _check_script(task)
    options = task.options
    names = (options.get("methods") or options.get("method") or "").split(",")
    yield from (f"{name}: {METHODS.refused[name]}." for name in names if name in METHODS.refused)
    unknown = [name for name in names if name and name not in METHODS and name not in METHODS.refused]
    if unknown:
        yield f"there is no method {', '.join(unknown)} in this version."
    if options.get("device", "cpu").startswith("cuda"):
        import torch

        if torch.cuda.device_count() < task.gpus:
            yield f"it needs {task.gpus} GPU(s), here are {torch.cuda.device_count()}."
    for name in task.data or ([options["dataset"]] if "dataset" in options else []):
        try:
            training_set(name) if task.stage == "train" else open_dataset(name)
        except TesseraError as error:
            yield str(error)
    for name, value in options.items():
        if name == "init" and not (ROOT / value).exists():
            yield f"its start {value} is not there: train it first."
