"""The single list of what is computed: cells in stages, each one shell command a user could type.

python -m experiments.plan                  # the table: what is done, missing, or cannot run here, and why
python -m experiments.plan run quick        # run what is missing (./run_all.sh quick), then the report
python -m experiments.plan run paper
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.store import Store
from core.codec import TesseraError
from core.registry import unknown
from experiments.evaluate import Outcome, evaluation_config, plan_jobs
from experiments.wiring import ROOT, default_params

STILLS = "jpeg,jpeg2000,webp,avif,jpegxl,heic"
CODEBOOKS = "vqvae,vqvae_ema,vqvae_rot,vqvae_cosine,vqvae_ec,simvq,rvq,pq,fsq,lfq"


@dataclass(frozen=True)
class Task:
    """One evaluation: a script and its options. Its cells say whether it is done."""

    script: str
    options: Mapping[str, Any]
    jobs: tuple[str, ...]  # of run_all.sh

    @property
    def command(self) -> list[str]:
        """The shell command, as a user would type it."""
        return ["python", f"benchmarks/{self.script}.py", "with", *(f"{k}={v}" for k, v in self.options.items())]


BOTH, PAPER = ("quick", "paper"), ("paper",)
TASKS = (
    Task("rd_curve", {"method": "qres3m_vr", "dataset": "sample"}, BOTH),
    Task("rd_curve", {"methods": STILLS, "dataset": "sample"}, BOTH),
    Task("rd_curve", {"method": "x265", "dataset": "sample"}, BOTH),
    Task("rd_curve", {"method": "vvc", "dataset": "sample"}, PAPER),
    Task("lossless_table", {"dataset": "sample"}, BOTH),
    Task("rd_curve", {"method": "qres3m_vr", "dataset": "kodak"}, PAPER),
    Task("rd_curve", {"method": "qres3m_vr", "params.target": "ms_ssim", "dataset": "kodak"}, PAPER),
    Task("rd_curve", {"method": "qres3m", "dataset": "kodak"}, PAPER),
    Task("rd_curve", {"methods": STILLS, "dataset": "kodak"}, PAPER),
    Task("rd_curve", {"method": "x265", "dataset": "kodak"}, PAPER),
    Task("rd_curve", {"method": "vvc", "dataset": "kodak"}, PAPER),
    Task("lossless_table", {"dataset": "kodak"}, PAPER),
    Task("lossless_table", {"dataset": "cifar10"}, PAPER),
    Task("rd_curve", {"methods": CODEBOOKS, "dataset": "fashion_mnist", "limit": 1000}, PAPER),
    Task("rd_curve", {"method": "qres34m", "dataset": "kodak"}, PAPER),
    Task("rd_curve", {"method": "qres34m", "dataset": "clic_professional_test"}, PAPER),
    Task("rd_curve", {"method": "qres17m", "dataset": "celeba"}, PAPER),
    Task("lossless_table", {"method": "qres34m_lossless", "dataset": "kodak"}, PAPER),
)


@dataclass
class State:
    """How far a task is: cells done and wanted, and the reasons why some cannot run here."""

    task: Task
    done: int = 0
    wanted: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        """done, missing, or cannot run (nothing can be computed here)."""
        if not self.wanted:
            return "cannot run"
        return "done" if self.done == self.wanted else f"{self.wanted - self.done} missing"


def state(task: Task, results: str = "results") -> State:
    """The state of a task, from the cells in the results folder."""
    found, outcome, store = State(task), Outcome(), Store(results)
    try:
        _, jobs = plan_jobs(_config(task, results), outcome)
    except TesseraError as error:
        found.reasons.append(str(error))
        return found
    found.wanted = len(jobs)
    found.done = sum(store.has(job.cell) for job in jobs)
    found.reasons += [*outcome.skipped, *outcome.failed]
    return found


def table(states: Iterable[State]) -> str:
    """The plan as lines: state, cells, command, and reasons below."""
    lines = []
    for s in states:
        lines.append(f"{s.word:>12}  {s.done:>3}/{s.wanted:<3}  {' '.join(s.task.command)}")
        lines += [f"{'':>23}{reason}" for reason in s.reasons]
    return "\n".join(lines)


def run(job: str, results: str = "results") -> int:
    """Run every task of a job that has missing cells, then the report; returns 0, or 1 when something failed."""
    tasks = [task for task in TASKS if job in task.jobs]
    failed = 0
    for number, task in enumerate(tasks, start=1):
        before = state(task, results)
        if before.word.endswith("missing"):
            print(f"[{number}/{len(tasks)}] {' '.join(task.command)}", flush=True)
            failed += _execute([*task.command, f"results={results}"])
    if not _fresh(Path(results)):
        print(f"[{job}] report", flush=True)
        failed += _execute(["python", "benchmarks/report.py", "with", f"results={results}"])
    left = [s for s in (state(task, results) for task in tasks) if s.word != "done"]
    if left:
        print(f"\nNot computed here:\n{table(left)}")
    root = Path(results)
    print(f"\nfigures  {root / 'figures'}\ntables   {root / 'tables'}\npage     {root / 'report' / 'index.html'}")
    return 1 if failed else 0


def _config(task: Task, results: str) -> dict[str, Any]:
    """The configuration a task's command has: the defaults of evaluations and its options, as Sacred reads them."""
    from sacred.arg_parser import _convert_value
    from sacred.config import ConfigScope

    given = {name: _convert_value(str(value)) for name, value in task.options.items()}
    if task.script == "lossless_table" and "method" not in given:
        from benchmarks.lossless_table import classical

        given["methods"] = classical()
    plain = {name: value for name, value in given.items() if "." not in name}
    config = dict(ConfigScope(evaluation_config)(fixed=plain))
    params = {name.removeprefix("params."): value for name, value in given.items() if name.startswith("params.")}
    return {**config, "params": {**default_params(config["method"]), **params}, "results": results}


def _fresh(results: Path) -> bool:
    """Whether the report is newer than every cell and everything that draws it."""
    page = results / "report" / "index.html"
    code = (p for p in (ROOT / "benchmarks").rglob("*") if p.suffix in {".py", ".js", ".css", ".html"})
    sources = [*results.glob("cells/*/cell.json"), *results.glob("images/*"), *code]
    return page.is_file() and all(page.stat().st_mtime > source.stat().st_mtime for source in sources)


def _execute(command: Sequence[str]) -> int:
    """Run a command in the checkout with this interpreter; 1 when it failed."""
    return int(subprocess.run([sys.executable, *command[1:]], cwd=ROOT, check=False).returncode not in (0,))


def main(words: Sequence[str]) -> int:
    """``[run] [JOB] [results=DIR]``: without ``run`` the table is printed."""
    results = next((w.removeprefix("results=") for w in words if w.startswith("results=")), "results")
    names = [w for w in words if not w.startswith("results=")]
    known = {job for task in TASKS for job in task.jobs}
    try:
        for name in names:
            if name not in {*known, "run"}:
                raise unknown("job of the plan", name, known)
        if names[:1] == ["run"]:
            return run(names[1] if len(names) > 1 else "quick", results)
        chosen = [task for task in TASKS if not names or set(names) & set(task.jobs)]
        print(table(state(task, results) for task in chosen))
        return 0
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
