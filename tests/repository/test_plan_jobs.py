"""The plan and an evaluation by several processes: the same results, an order that can be read, and stopping."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.store import Store
from core import crew
from experiments.plan.schedule import perform_all
from experiments.plan.task import ROOT, Task

TOLD = "import os, sys, time\nfrom pathlib import Path\nhere = Path({here!r})\n"
TOLD += "(here / 'log').open('a').write('{name}<\\n')\nprint('words of {name}')\n{code}\n"
TOLD += "(here / 'log').open('a').write('{name}>\\n')\n(here / '{name}.out').touch()\n"


def job(
    folder: Path, name: str, code: str = "", after: tuple[str, ...] = (), stage: str = "evaluate", script: str = ""
) -> Task:
    """A task whose script notes when it begins and ends."""
    path = folder / (script or f"{name}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOLD.format(here=str(folder), name=name, code=code))
    kind = "weights" if stage == "train" else "files"
    return Task(
        name, stage, "files" if kind == "files" else kind, f"python {path}", (), (str(f"{name}.out"),), after, minutes=2
    )


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().split()


def test_tasks_run_side_by_side_behind_what_they_need_and_print_in_order(tmp_path, capfd):
    slow, quick, last = "time.sleep(1.5)", "assert (here / 'log').read_text().count('<') > 1", ""
    tasks = [job(tmp_path, "a", slow), job(tmp_path, "b", quick), job(tmp_path, "c", last, ("a",)), job(tmp_path, "d")]
    tasks.append(job(tmp_path, "page", stage="report"))
    assert perform_all(tasks, str(tmp_path), 2) == 0
    happened = log(tmp_path)
    assert happened.index("b>") < happened.index("a>"), "b ran beside a"
    assert happened.index("c<") > happened.index("a>") and happened[-2:] == ["page<", "page>"]
    said = [line for line in capfd.readouterr().out.splitlines() if line.startswith(("words", "["))]
    begun = [line.split()[1].rstrip(":") for line in said[::2]]
    assert [line.removeprefix("words of ") for line in said[1::2]] == begun and begun == ["a", "b", "d", "c", "page"]
    assert perform_all(tasks, str(tmp_path), 2) == 0 and log(tmp_path) == happened, "what is done is not run again"


def test_what_measures_speed_runs_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "measures_speed", property(lambda task: task.name.startswith("speed")))
    names = ("a", "speed-one", "b", "speed-two", "c")
    assert perform_all([job(tmp_path, name, "time.sleep(0.2)") for name in names], str(tmp_path), 3) == 0
    happened = log(tmp_path)
    for name in ("speed-one", "speed-two"):
        assert happened[happened.index(f"{name}<") + 1] == f"{name}>"


def test_the_last_task_has_all_processors(tmp_path):
    tell = "(here / 'jobs').open('a').write(os.environ['TESSERA_JOBS'] + ' ' + os.environ['TESSERA_BESIDE'] + '\\n')"
    tasks = [job(tmp_path, "a", tell), job(tmp_path, "b", tell), job(tmp_path, "c", tell, ("a", "b"))]
    assert perform_all(tasks, str(tmp_path), 2) == 0
    assert (tmp_path / "jobs").read_text().splitlines() == ["1 2", "1 2", "2 1"]


def test_a_task_that_fails_does_not_stop_those_beside_it(tmp_path, capfd):
    tasks = [job(tmp_path, "a", "sys.exit('no')"), job(tmp_path, "b", "time.sleep(0.5)"), job(tmp_path, "c")]
    assert perform_all(tasks, str(tmp_path), 2) == 1
    assert "failed: a: no (exit code 1)" in capfd.readouterr().err and {"b>", "c>"} <= set(log(tmp_path))


def test_stopped_the_commands_end_and_the_next_run_goes_on(tmp_path):
    stay = "if not (here / 'again').exists(): time.sleep(600)"
    tasks = [job(tmp_path, "a", stay), job(tmp_path, "b", stay)]
    code = "from experiments.plan.schedule import perform_all\nfrom experiments.plan.task import Task\n"
    code += f"perform_all({tasks!r}, {str(tmp_path)!r}, 2)"
    runner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (tmp_path / "log").exists() or len(log(tmp_path)) < 2:
        assert time.monotonic() < end and runner.poll() is None
        time.sleep(0.05)
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(60)
    (tmp_path / "again").touch()
    assert perform_all(tasks, str(tmp_path), 2) == 0
    assert sorted(log(tmp_path)) == ["a<", "a<", "a>", "b<", "b<", "b>"]


def numbers(results: str) -> dict[str, list[list[object]]]:
    """Everything that a measurement determines: not times and memory."""
    frames = {result.key: result.images for result in Store(results).cells()}
    return {
        key: f[[c for c in f if c[-2:] != "_s" and c != "peak_memory_mb"]].values.tolist() for key, f in frames.items()
    }


@pytest.mark.parametrize(("asked", "count"), [(("methods=jpeg,webp",), 16), (("method=qres3m_vr", "points=8,64"), 2)])
def test_cells_measured_side_by_side_are_those_of_one_process_and_say_so(command, pictures, asked, count):
    words = ("benchmarks/rd_curve.py", "with", *asked, "dataset=folder:pictures", "limit=1")
    one = command(*words, "results=one", "jobs=1")
    two = command(*words, "results=two", "jobs=2")
    assert one.code == two.code == 0 and numbers("one") == numbers("two") and len(numbers("two")) == count
    told = [[line.split(" (")[0] for line in ended.out.splitlines() if line.startswith("[")] for ended in (one, two)]
    assert told[0] == told[1] and len(told[0]) == count, "lines in the order of the cells"
    for results, jobs in (("one", 1), ("two", 2)):
        for cell in Store(results).cells():
            assert cell.provenance["jobs"] == jobs
            assert ("while up to 2 such processes" in cell.about["time_note"]) == (jobs == 2)


def test_a_cell_whose_process_is_killed_is_a_failure_and_the_others_are_there(command, pictures, monkeypatch):
    from experiments import evaluate

    def measure(job, *rest):
        if job.cell.point == 10:
            import os

            os.kill(os.getpid(), signal.SIGKILL)
        return real(job, *rest)

    real = evaluate._measure
    monkeypatch.setattr(evaluate, "_measure", measure)
    words = ("benchmarks/rd_curve.py", "with", "method=jpeg", "dataset=folder:pictures", "points=5,10,20", "jobs=2")
    ended = command(*words)
    assert ended.code == 1 and "jpeg at 10 on" in ended.err and "signal 9" in ended.err
    assert len(Store("results").cells()) == 2 and len(Store("results").failures()) == 1
    monkeypatch.setattr(evaluate, "_measure", real)
    assert command(*words).code == 0 and len(Store("results").cells()) == 3 and not Store("results").failures()


@pytest.mark.parametrize("script", ["benchmarks/rd_curve.py", "benchmarks/report.py"])
def test_jobs_are_a_whole_number(command, script):
    assert "jobs=0 must be a whole number, at least 1" in command(script, "with", "jobs=0").sentence


def test_the_plan_knows_jobs(command, monkeypatch):
    from experiments.plan import schedule

    given = []
    monkeypatch.setattr(schedule, "perform_all", lambda tasks, results, jobs, done: given.append(jobs) or 0)
    command("experiments.plan", "run", "jpeg-sample", "jobs=3")
    command("experiments.plan", "run", "jpeg-sample")
    assert given == [3, crew.jobs()]
    assert command("experiments.plan", "run", "quick", "jobs=0").code == 2
