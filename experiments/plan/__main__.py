"""The single list of what the paper contains: cells, figures and tables, each by one shell command a user could type.

python -m experiments.plan                  # a summary: how much of each part is done, missing, failed, or cannot run
python -m experiments.plan qres             # the tasks of a part, and why some cannot run: paper, qres, vecvq, ...
python -m experiments.plan run paper        # run what is missing in stages (./run_all.sh paper), then the report
python -m experiments.plan run jpeg-kodak   # a task by its name, with what has to come before it

This module needs the standard library alone until something is counted or run: the Snakefile reads it, too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from core.places import default_results
from experiments.plan.catalogue import JOBS, TASKS
from experiments.plan.task import ROOT, Task, chosen

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


def run(tasks: Sequence[Task], results: str) -> int:
    """Run every task of which something is missing, in stages; returns 0, or 1 when something failed."""
    from experiments.plan.runner import perform
    from experiments.plan.state import state, summary, table

    failed = 0
    for number, task in enumerate(tasks, start=1):
        before = state(task, results, notes=False)
        if before.wanted > before.done:
            print(f"[{number}/{len(tasks)}] {task.name}: {task.command}", flush=True)
            failed += perform(task, results)
    states = [state(task, results) for task in tasks]
    left = [found for found in states if found.word != "done" or found.reasons]
    if left:
        print(f"\nNot computed here:\n{table(left)}")
    root = Path(results)
    print(f"\nfigures  {root / 'figures'}\ntables   {root / 'tables'}\npage     {root / 'report' / 'index.html'}")
    print(summary(states))
    return 1 if failed else 0


def main(words: Sequence[str]) -> int:
    """``[run|task|markers] [NAME ...] [results=DIR]``: without a verb tasks are listed, without a name summed up.

    ``task`` runs one task whatever comes before it, ``markers`` tells Snakemake what is done: both are for Snakemake.
    """
    from core import manual
    from core.codec import TesseraError
    from core.options import check_text
    from core.registry import unknown

    if any(word in manual.WORDS for word in words):
        print(
            manual.page(__doc__, (), ("parts", PARTS.items()), ("options", [("results=results", "the results folder")]))
        )
        return 0
    results = next((w.removeprefix("results=") for w in words if w.startswith("results=")), default_results())
    names = [w for w in words if not w.startswith("results=")]
    verb = names.pop(0) if names[:1] and names[0] in ("run", "task", "markers") else "table"
    try:
        check_text("results", results, "results")
        known = {*JOBS, *(task.name for task in TASKS)}
        for name in names:
            if name not in known:
                raise unknown("job or task of the plan", name, {*known, "run"})
        if verb == "table" and not names:
            return overview(results)
        return _do(verb, names or ["quick" if verb == "run" else "paper"], results)
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here.", file=sys.stderr)
        return 130


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


def _do(verb: str, names: Sequence[str], results: str) -> int:
    from core.codec import TesseraError
    from experiments.plan import runner
    from experiments.plan import state as progress

    if verb == "task":
        return max(runner.perform(task, results) for task in chosen(TASKS, names) if task.name in names)
    if verb != "table" and not (ROOT / "pyproject.toml").is_file():
        raise TesseraError("the plan runs in a checkout of the repository, where it keeps its results: clone it.")
    if verb in ("run", "markers"):
        needed = chosen(TASKS, names, lambda task: progress.state(task, results, notes=False).complete)
        if verb == "run":
            return run(needed, results)
        progress.refresh_markers(chosen(TASKS, names), needed, results)
        return 0
    states = [progress.state(task, results) for task in chosen(TASKS, names)]
    print(f"{progress.table(states)}\n\n{progress.summary(states)}")
    return 0


if __name__ == "__main__":
    from core.commandline import piped

    sys.exit(piped(lambda: main(sys.argv[1:])))
