"""Tasks of the plan side by side: each behind those it comes after, their output shown one task after the other."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping, Sequence
from functools import partial

from core.crew import Crew, LostError
from experiments.plan.runner import perform
from experiments.plan.state import state
from experiments.plan.task import Task


def perform_all(tasks: Sequence[Task], results: str, jobs: int = 1, done: Container[str] = ()) -> int:
    """Run every task of which something is missing; returns how many failed. ``done`` are names of complete ones.

    Up to ``jobs`` are run at once, by processes of this one with one thread each; a task beside which nothing could
    run has all processors. What measures speed runs while nothing else does, the report when all else has ended.
    """
    waiting = {number: task for number, task in enumerate(tasks, start=1) if task.name not in done}
    running, failed = dict[int, Task](), 0
    with Crew(jobs) as crew:
        while waiting or running:
            while number := _next(waiting, running, jobs):
                task = waiting.pop(number)
                before = state(task, results, notes=False)
                if before.wanted <= before.done:
                    continue
                work = partial(_announced, f"[{number}/{len(tasks)}]", task, results)
                if jobs == 1:
                    failed += work()
                    continue
                running[number] = task
                alone = len(running) == 1 and not _next(waiting, running, jobs)
                crew.start(str(number), work, alone)
            if running:
                name, code = crew.wait()
                ended = running.pop(int(name))
                if isinstance(code, LostError):
                    print(f"failed: {ended.name}: {code}.", file=sys.stderr)
                failed += 1 if isinstance(code, LostError) else code
    return failed


def _next(waiting: Mapping[int, Task], running: Mapping[int, Task], jobs: int) -> int:
    """The number of the first task that may begin now; 0 for none."""
    at_work = list(running.values())
    unfinished = {task.name for task in (*waiting.values(), *at_work)}
    free = jobs - sum(min(task.processes, jobs) for task in at_work)
    if any(task.measures_speed for task in at_work):
        return 0
    for number, task in waiting.items():
        behind = unfinished & set(task.after) or (task.stage == "report" and len(unfinished) > 1)
        crowded = (task.measures_speed and at_work) or (task.gpus and any(other.gpus for other in at_work))
        if not behind and not crowded and min(task.processes, jobs) <= free:
            return number
    return 0


def _announced(number: str, task: Task, results: str) -> int:
    print(f"{number} {task.name}: {task.command}", flush=True)
    return perform(task, results)
