"""The plan: it is whole, it tells how far it is, and its tasks are run to the end whatever happens to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.store import Store
from core.registry import METHODS, discover
from experiments.evaluate import Outcome, plan_jobs
from experiments.plan import __main__ as plan
from experiments.plan import catalogue
from experiments.plan import runner as attempt
from experiments.plan import state as progress
from experiments.plan.catalogue.classical import LOSSLESS
from experiments.plan.catalogue.lattice import UNSHIPPED
from experiments.plan.runner import holding, perform
from experiments.plan.task import ROOT, STAGES, Task, chosen, ordered
from experiments.request import Asked

# The list


def test_names_are_unique_and_everything_can_be_put_in_order():
    names = [task.name for task in catalogue.TASKS]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w.=-]+", name) for name in names)
    assert not {before for task in catalogue.TASKS for before in task.after} - set(names)
    for job in catalogue.JOBS:
        found = chosen(catalogue.TASKS, [job])
        places = {task.name: i for i, task in enumerate(found)}
        assert found[-1] is catalogue.REPORT and all(places[b] < places[t.name] for t in found for b in t.after)
        stages = [STAGES.index(task.stage) for task in found]
        assert stages == sorted(stages), "prepare, train, evaluate, report"
    paper, parts = (
        {t.name for t in chosen(catalogue.TASKS, ["paper"])},
        {t.name for t in chosen(catalogue.TASKS, catalogue.SYSTEMS)},
    )
    assert parts == paper > {t.name for t in chosen(catalogue.TASKS, ["quick"])}


def test_what_is_done_needs_nothing():
    first = Task("first", "prepare", "data", "true", (), ("kodak",))
    second = Task("second", "train", "weights", "true", (), ("runs/x",), ("first",))
    third = Task("third", "evaluate", "cells", "true", ("job",), (), ("second",))
    tasks = (third, first, second)
    assert [t.name for t in chosen(tasks, ["job"])] == ["first", "second", "third"]
    assert [t.name for t in chosen(tasks, ["job"], lambda task: task is second)] == ["second", "third"]
    with pytest.raises(ValueError, match="wait for each other"):
        ordered(
            [Task("a", "train", "data", "true", (), (), ("b",)), Task("b", "train", "data", "true", (), (), ("a",))]
        )


def test_every_method_with_shipped_results_is_in_it():
    discover()
    cells = [json.loads(path.read_text())["cell"] for path in (ROOT / "results" / "cells").glob("*/cell.json")]
    measured = {cell["method"] for cell in cells} & {*METHODS}
    assert len(measured) > 30
    words = {name for task in catalogue.TASKS if task.stage == "evaluate" for option in ("method", "methods")
             for name in task.options.get(option, "").split(",")}  # fmt: skip
    assert not measured - words
    classical = {n for n in measured if METHODS[n].lossless and not METHODS[n].trains_on}
    assert classical <= set(LOSSLESS)


def test_shipped_weights_are_made_by_tasks():
    """Every checkpoint that is shipped is the output of a training in the plan."""
    entries = json.loads((ROOT / "checkpoints" / "manifest.json").read_text())["checkpoints"]
    shipped = {str(Path("checkpoints", entry["path"]).parent) for entry in entries if "path" in entry}
    shipped |= {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("checkpoints/**/meta.json")}
    patterns = [output for task in catalogue.TASKS if task.kind == "weights" for output in task.outputs]
    assert not [folder for folder in shipped if not any(Path(folder).match(pattern) for pattern in patterns)]


def test_what_is_trained_is_measured():
    """Weights that are not shipped are in a folder that an evaluation names, or that another training starts from."""
    used = {t.options[name] for t in catalogue.TASKS for name in ("weights", "init") if name in t.options}
    trainings = [task for task in catalogue.TASKS if task.kind == "weights"]
    shipped = [t.name for t in trainings for o in t.outputs if o.startswith("checkpoints/") and list(ROOT.glob(o))]
    assert len(shipped) > 40
    assert not [task.name for task in trainings if task.name not in shipped and not used & set(task.outputs)]
    lattices = {t.name.removeprefix("train-") for t in trainings if t.name.startswith("train-lattice_")}
    assert {name for name in lattices if f"train-{name}" not in shipped} == set(UNSHIPPED)


def test_the_list_needs_the_standard_library_alone():
    code = "import sys, experiments.plan.__main__\n"
    code += "print(sorted({*sys.modules} & {*sys.argv}))"
    heavy = ["numpy", "torch", "pandas", "sacred", "core.codec", "benchmarks"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# How far it is

RD = "python benchmarks/rd_curve.py with"
JPEG = Task("jpeg", "evaluate", "cells", f"{RD} method=jpeg dataset=folder:pictures points=20,50", ("paper",))


def test_cells_done_missing_failed(command, pictures):
    assert progress.state(JPEG, "results").word == "2 missing"
    assert command("benchmarks/rd_curve.py", "with", "method=jpeg", "dataset=folder:pictures", "points=20").code == 0
    found = progress.state(JPEG, "results")
    assert (found.word, found.done, found.wanted) == ("1 missing", 1, 2)
    _, jobs = plan_jobs(progress._evaluation(JPEG, "results"), Outcome())
    store = Store("results")
    (lacking,) = (job.cell for job in jobs if not store.has(job.cell))
    store.record_failure(lacking, "boom")
    found = progress.state(JPEG, "results")
    assert found.word == "failed" and "failed: jpeg at 50: boom" in progress.table([found])
    assert command("benchmarks/rd_curve.py", *JPEG.words[2:]).code == 0
    assert progress.state(JPEG, "results").word == "done" and "1 done, 0 failed" in progress.summary(
        [progress.state(JPEG, "results")]
    )


def test_a_parameter_in_the_command_counts_as_set_although_it_is_the_default(pictures, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    task = Task("x", "evaluate", "cells", f"{RD} method=jpeg dataset=folder:pictures params.quality=50", ())
    assert progress._evaluation(task, "elsewhere").methods == (Asked("jpeg", {"quality": 50}),)
    assert progress.state(task, "results").word == "1 missing"


@pytest.mark.parametrize(
    ("kind", "words", "reason"),
    [
        ("cells", "python benchmarks/rd_curve.py with method=jpge dataset=sample", "unknown method 'jpge'"),
        (
            "cells",
            "python benchmarks/rd_curve.py with method=jpeg dataset=folder:nowhere",
            "no images of folder:nowhere",
        ),
        ("cells", "python benchmarks/nothing.py with method=jpeg", "benchmarks/nothing.py is not part of this version"),
        ("files", "python -m nobody train with method=jpeg", "nobody is not part of this version"),
        ("files", "python -m qres train with method=qres9", "no method qres9 in this version"),
        ("weights", "torchrun --nproc-per-node 2 -m qres train with device=cuda", "needs 2 GPU"),
        ("weights", "python -m qres train with dataset=folder:nowhere", "no images of folder:nowhere"),
        ("weights", "python -m qres train with init=runs/nowhere", "runs/nowhere is not there"),
    ],
)
def test_what_cannot_run_says_why(monkeypatch, tmp_path, kind, words, reason):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    stage = "train" if kind == "weights" else "evaluate"
    found = progress.state(Task("x", stage, kind, words, (), ("runs/none-of-this",)), str(tmp_path))
    assert found.word == "cannot run" and any(reason in text for text in found.reasons)


def test_looking_asks_no_network(monkeypatch, tmp_path):
    """Official weights that nobody fetched are missing cells; that they cannot be had is known once that was tried."""
    monkeypatch.setattr("core.checkpoint.fetch", lambda *a, **b: pytest.fail("the network was asked"))
    task = Task("x", "evaluate", "cells", "python benchmarks/rd_curve.py with method=qarv_base dataset=sample", ())
    found = progress.state(task, str(tmp_path))
    assert found.word == "8 missing" and "have not been fetched" in found.reasons[0]
    progress.note(task, str(tmp_path), "the host cannot be reached", "cannot run")
    found = progress.state(task, str(tmp_path))
    assert found.word == "cannot run" and found.reasons == ["the host cannot be reached"]
    assert progress.state(task, str(tmp_path), notes=False).word == "8 missing", "the next run tries again"


def test_the_table_of_a_part(capsys, tmp_path):
    assert plan.main(["mcquic", f"results={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "mcquic-kodak: python benchmarks/rd_curve.py with method=mcquic" in out and "llvq" not in out
    assert plan.main(["qers"]) == 2 and "did you mean qres" in capsys.readouterr().err


# Running a task


def job(folder: Path, code: str, minutes: float = 1) -> Task:
    """A task whose command is a script; ``turn`` counts its calls, and ``out`` is what it has to leave."""
    script = folder / "job.py"
    script.write_text(
        "import os, signal, subprocess, sys, time\nfrom pathlib import Path\n"
        f"here = Path({str(folder)!r})\nout = here / 'results' / 'out.csv'\n"
        "calls = here / 'calls'\nturn = len(calls.read_text()) if calls.exists() else 0\n"
        "calls.write_text('x' * (turn + 1))\n"
        f"out.parent.mkdir(exist_ok=True)\n{code}\n"
    )
    return Task("job", "evaluate", "files", f"python {script}", (), ("out.csv",), minutes=minutes)


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text())


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(attempt, "GRACE_S", 0.5)
    return str(tmp_path / "results")


def test_a_task_that_fails_is_tried_again(tmp_path, results, capfd):
    task = job(tmp_path, "if turn < 2: sys.exit('not yet')\nout.touch()")
    assert perform(task, results) == 0 and calls(tmp_path) == 3
    assert task.marker(results).read_text() == "done\n" and not task.note(results).exists()
    assert "attempt 2 of 3: not yet (exit code 1); trying again" in capfd.readouterr().err


def test_a_task_that_keeps_failing_is_noted_and_gone_when_it_works(tmp_path, results):
    task = job(tmp_path, "print('broken pipe', file=sys.stderr)\nif turn < 3: sys.exit(1)\nout.touch()")
    assert perform(task, results) == 1 and calls(tmp_path) == 3 and not task.marker(results).exists()
    found = progress.state(task, results)
    assert found.word == "failed" and "broken pipe (exit code 1)" in progress.table([found])
    assert perform(task, results) == 0 and progress.state(task, results).word == "done"
    assert not task.note(results).exists()


def test_a_task_that_hangs_is_ended_with_all_it_started(tmp_path, results):
    """It ignores SIGTERM and has a child; the second attempt works."""
    hang = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nif turn == 0:\n"
    hang += "    child = subprocess.Popen(['sleep', '600'])\n    (here / 'child').write_text(str(child.pid))\n"
    hang += "    time.sleep(600)\n"
    task = job(tmp_path, hang + "out.touch()", minutes=1.5 / 60)
    started = time.monotonic()
    assert perform(task, results) == 0 and calls(tmp_path) == 2 and time.monotonic() - started < 20
    child = int((tmp_path / "child").read_text())
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]


def test_a_mistake_is_not_tried_again_and_says_what_cannot_run(tmp_path, results):
    task = job(tmp_path, "print('error: no weights here', file=sys.stderr); sys.exit(2)")
    assert perform(task, results) == 0 and calls(tmp_path) == 1
    assert task.marker(results).read_text() == "cannot run\n"
    assert progress.state(task, results).reasons == ["error: no weights here"]


def test_a_command_that_leaves_nothing_has_failed(tmp_path, results, capfd):
    assert perform(job(tmp_path, "pass"), results) == 1
    assert "did not leave all that it should" in capfd.readouterr().err


RUNNER = "import sys\nfrom experiments.plan.runner import _attempt, holding\nfrom experiments.plan.task import Task\n"


def runner(task: Task, results: str, before: str = "") -> subprocess.Popen[str]:
    """Another process at work on a task."""
    code = f"import os, signal, subprocess\n{before}{RUNNER}"
    code += f"with holding({task!r}, {results!r}) as handle: print(_attempt({task!r}, {results!r}, handle).code)"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_a_killed_runner_left_running_is_ended_before_the_next_begins(tmp_path, results):
    task = job(
        tmp_path, "(here / f'pid{turn}').write_text(str(os.getpid()))\nif turn == 0: time.sleep(600)\nout.touch()"
    )
    first = runner(task, results)
    wait_for(tmp_path / "pid0")
    first.send_signal(signal.SIGKILL)
    first.wait()
    orphan = int((tmp_path / "pid0").read_text())
    os.kill(orphan, 0)  # it lives on
    assert perform(task, results) == 0 and calls(tmp_path) == 2
    assert not Path(f"/proc/{orphan}").exists() or "Z" in Path(f"/proc/{orphan}/stat").read_text().split()[2]


def test_a_runner_at_work_is_waited_for(tmp_path, results):
    task = job(tmp_path, "(here / f'at{turn}').touch()\nif turn == 0: time.sleep(1.5)\nout.touch()")
    first = runner(task, results)
    wait_for(tmp_path / "at0")
    assert not (tmp_path / "results" / "out.csv").exists()
    with holding(task, results):
        assert (tmp_path / "results" / "out.csv").exists(), "the other one was not disturbed"
    assert first.communicate()[0].strip() == "0"


def test_sigterm_reaches_the_command(tmp_path, results):
    code = (
        "signal.signal(signal.SIGTERM, lambda *a: ((here / 'saved').touch(), sys.exit(130)))\n(here / 'at').touch()\n"
    )
    task = job(tmp_path, code + "time.sleep(600)")
    first = runner(task, results)
    wait_for(tmp_path / "at")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert (tmp_path / "saved").exists() and first.returncode


def test_sigterm_while_a_command_starts_ends_it_too(tmp_path, results):
    hasty = "start = subprocess.Popen.__init__\n"
    hasty += "def init(*a, **k): start(*a, **k); os.kill(os.getpid(), signal.SIGTERM)\n"
    first = runner(job(tmp_path, "time.sleep(600)"), results, hasty + "subprocess.Popen.__init__ = init\n")
    out, _ = first.communicate(timeout=60)  # which waits for the command, too: it holds the same end of the pipe
    assert first.returncode and not out


def test_run_reports_what_is_left(tmp_path, results, capfd):
    good = job(tmp_path, "out.touch()")
    bad = Task("bad", "evaluate", "files", "python benchmarks/nothing.py", (), ("never",))
    assert plan.run([good, bad], results) == 0
    out = capfd.readouterr().out
    assert (
        "[1/2] job: python" in out
        and "cannot run    0/0    bad" in out
        and "1 done, 0 failed, 0 missing, 1 cannot" in out
    )
    assert plan.run([good], results) == 0 and calls(tmp_path) == 1, "what is done is not run again"


def test_two_processes_train_what_one_trains(command, pictures, tmp_path):
    """A training cell with torchrun: two gloo processes on the CPU, by the command of the plan."""
    common = f"with smoke dataset=folder:{pictures} scales=[1.0] amp=False steps=3"
    words = f"torchrun --nproc-per-node 2 -m qres train {common} folder={tmp_path}/two"
    task = Task("two", "train", "weights", words, (), (f"{tmp_path}/two",), minutes=5)
    assert task.processes == 2 and progress.state(task, "results").word == "1 missing"
    assert perform(task, str(tmp_path / "there")) == 0 and progress.state(task, "results").word == "done"
    assert command("qres", "train", *common.split(), "folder=one").code == 0
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.allclose(one[k], two[k], atol=2e-4) for k in one)
    rows = [(tmp_path / name / "train.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) == 4, "one process writes the log"
    sacred = list((tmp_path / "there" / "sacred").glob("[0-9]*"))
    assert len(sacred) == 1, "one run is recorded, not one for each process"


def test_a_plan_with_a_wrong_kind_is_refused():
    with pytest.raises(ValueError, match="a kind one of"):
        Task("x", "evaluate", "cell", "true", ())
