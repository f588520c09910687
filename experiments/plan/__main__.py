"""The single list of what the paper contains: cells, figures and tables, each by one shell command a user could type.

python -m experiments.plan                  # the table: what is done, missing, failed, or cannot run here, and why
python -m experiments.plan qres             # the same for a part: quick, paper, classical, qres, mcquic, vecvq, ...
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
from experiments.plan.task import Task, chosen


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
    """``[run|task|markers] [NAME ...] [results=DIR]``: without a verb the table is printed.

    ``task`` runs one task whatever comes before it, ``markers`` tells Snakemake what is done: both are for Snakemake.
    """
    from core.codec import TesseraError
    from core.options import check_text
    from core.registry import unknown

    results = next((w.removeprefix("results=") for w in words if w.startswith("results=")), default_results())
    names = [w for w in words if not w.startswith("results=")]
    verb = names.pop(0) if names[:1] and names[0] in ("run", "task", "markers") else "table"
    try:
        check_text("results", results, "results")
        known = {*JOBS, *(task.name for task in TASKS)}
        for name in names:
            if name not in known:
                raise unknown("job or task of the plan", name, {*known, "run"})
        return _do(verb, names or ["quick" if verb == "run" else "paper"], results)
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here.", file=sys.stderr)
        return 130


def _do(verb: str, names: Sequence[str], results: str) -> int:
    from experiments.plan import runner
    from experiments.plan import state as progress

    if verb == "task":
        return max(runner.perform(task, results) for task in chosen(TASKS, names) if task.name in names)
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
