"""The single list of what the paper contains: cells, figures and tables, each by one shell command a user could type.

python -m experiments.plan                  # a summary: how much of each part is done, missing, failed, or cannot run
python -m experiments.plan qres             # the tasks of a part, and why some cannot run: paper, qres, vecvq, ...
python -m experiments.plan run paper        # run what is missing in stages (./run_all.sh paper), then the report
python -m experiments.plan run jpeg-kodak   # a task by its name, with what has to come before it
python -m experiments.plan run paper jobs=1 # one task at a time, for seconds that nothing beside lengthens

This module needs the standard library alone until something is counted or run: the Snakefile reads it, too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.places import default_results
from experiments.plan.catalogue import JOBS, TASKS
from experiments.plan.task import ROOT, Task, chosen

if TYPE_CHECKING:
    from experiments.plan.state import State

PARTS = {
    "quick": "real curves on the embedded images",
    "paper": "everything",
    "classical": "classical codecs, and the data sets",
    "qres": "quantised hierarchical VAEs",
    "mcquic": "multi-codebook quantisers",
    "vecvq": "codes on toy sources",
    "vqvae": "the VQ-VAE family",
    "llvq": "lattices",
    "rec": "relative entropy coding",
    "overfit": "the overfitted codec",
}  # the jobs, in words
OPTIONS = ("results=", "jobs=")


def run(tasks: Sequence[Task], results: str, jobs: int = 1, done: Mapping[str, State] | None = None) -> int:
    """Run every task of which something is missing, ``jobs`` at once; returns 0, or 1 when something failed.

    ``done`` are states of tasks, by their names, that are known to be complete: they are not looked at again.
    """
    from experiments.plan.schedule import perform_all
    from experiments.plan.state import state, summary, table

    known = dict(done or {})
    failed = perform_all(tasks, results, jobs, known)
    states = [known.get(task.name) or state(task, results) for task in tasks]
    left = [found for found in states if found.word != "done" or found.reasons]
    if left:
        print(f"\nNot computed here:\n{table(left)}")
    root = Path(results)
    print(f"\nfigures  {root / 'figures'}\ntables   {root / 'tables'}\npage     {root / 'report' / 'index.html'}")
    print(summary(states))
    return 1 if failed else 0


def main(words: Sequence[str]) -> int:
    """``[run|task|markers] [NAME ...] [results=DIR] [jobs=N]``: by default tasks are listed, without a name summed up.

    ``task`` runs one task whatever comes before it, ``markers`` tells Snakemake what is done: both are for Snakemake.
    """
    from core import crew, manual
    from core.codec import TesseraError
    from core.registry import unknown

    if any(word in manual.WORDS for word in words):
        options = [("results=results", "the results folder")]
        options.append(("jobs=N", "tasks at once, of one thread each; default: a task for each processor"))
        print(manual.page(__doc__, (), ("parts", PARTS.items()), ("options", options)))
        return 0
    names = [w for w in words if not w.startswith(OPTIONS)]
    verb = names.pop(0) if names[:1] and names[0] in ("run", "task", "markers") else "table"
    try:
        results, jobs = _options([w for w in words if w.startswith(OPTIONS)])
        known = {*JOBS, *(task.name for task in TASKS)}
        for name in names:
            if name not in known:
                raise unknown("job or task of the plan", name, {*known, "run"})
        if verb == "table" and not names:
            return overview(results)
        return _do(verb, names or ["quick" if verb == "run" else "paper"], results, crew.jobs(jobs))
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here.", file=sys.stderr)
        return 130


def _options(words: Sequence[str]) -> tuple[str, int | None]:
    """The results folder and the number of jobs, None as by default."""
    from core.options import check_text, literal

    given = dict(word.split("=", 1) for word in words)
    check_text("results", given.get("results", "results"), "results")
    check_text("jobs", given.get("jobs", "1"), "1")
    return given.get("results", default_results()), literal(given.get("jobs", "None"))


def overview(results: str) -> int:
    """Print a line for each part of the plan, what failed, and how to see more."""
    from experiments.plan.state import counted, state, summary

    states = {task.name: state(task, results) for task in TASKS}
    parts = [name for name in PARTS if name != "paper"]
    lines = {name: counted(states[task.name] for task in TASKS if name in task.jobs) for name in parts}
    print(f"{'':12}{'done':>6}{'missing':>9}{'failed':>8}{'cannot run':>12}   results")
    for name, (words, there, wanted) in lines.items():
        row = f"{words['done']:>6}{words['missing']:>9}{words['failed']:>8}{words['cannot run']:>12}"
        print(f"{name:12}{row}   {f'{there} of {wanted}':<13} {PARTS[name]}")
    print(f"\n{summary(states.values())}")
    for found in states.values():
        for text in found.failed[:1]:
            print(f"failed: {found.task.name}: {text}")
    print("\npython -m experiments.plan NAME   the tasks of a part (or of paper: all), and why some cannot run here")
    print("python -m experiments.plan run NAME   runs what is missing of it")
    return 0


def _do(verb: str, names: Sequence[str], results: str, jobs: int) -> int:
    from core.codec import TesseraError
    from experiments.plan import runner
    from experiments.plan import state as progress

    if verb == "task":
        return max(runner.perform(task, results) for task in chosen(TASKS, names) if task.name in names)
    if verb != "table" and not (ROOT / "pyproject.toml").is_file():
        raise TesseraError("the plan runs in a checkout of the repository, where it keeps its results: clone it.")
    if verb in ("run", "markers"):
        states: dict[str, State] = {}

        def complete(task: Task) -> bool:
            states[task.name] = progress.state(task, results, notes=False)
            return states[task.name].complete

        needed = chosen(TASKS, names, complete)
        if verb == "run":
            done = {task.name: states[task.name] for task in needed if task.kind != "report"}
            return run(needed, results, jobs, {name: state for name, state in done.items() if state.complete})
        progress.refresh_markers(chosen(TASKS, names), needed, results)
        return 0
    listed = [progress.state(task, results) for task in chosen(TASKS, names)]
    print(f"{progress.table(listed)}\n\n{progress.summary(listed)}")
    return 0


if __name__ == "__main__":
    from core.commandline import piped

    sys.exit(piped(lambda: main(sys.argv[1:])))
