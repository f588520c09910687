"""Snakemake runs the plan: the same tasks and order, and the same results through failures, hangs and kill -9.

Snakemake lives in an environment of its own (``./run_all.sh setup-snakemake``); without it these tests are skipped.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from experiments.plan import catalogue
from experiments.plan.task import ROOT, chosen
from tests.support.snakemake import COUNTED, needs_snakemake, numbers, undisturbed, words

SMALL = ("png-sample-lossless", "jpegls-sample-lossless")  # of the quick plan


@pytest.fixture(autouse=True)
def _needs_snakemake() -> None:
    needs_snakemake()


def dry(results: Path, *more: str, profile: str = "local") -> str:
    done = subprocess.run(words(results, "-n", "-p", "markers=keep", *more, profile=profile), cwd=ROOT, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


def planned(said: str) -> dict[str, tuple[set[str], str]]:
    """Of a dry run: each task with what comes before it and its shell command."""
    found = {}
    for block in said.split("\nrule task:")[1:]:
        lines = [line.strip() for line in block.split("\n\n")[0].splitlines()]
        given = dict(line.split(": ", 1) for line in lines if ": " in line)
        before = {Path(path).name.removesuffix(".done") for path in given.get("input", "").split(", ") if path}
        command = next(line for line in block.splitlines() if "-m experiments.plan task" in line)
        found[given["wildcards"].removeprefix("name=")] = (before, command)
    return found


def test_snakefile_and_plan_agree(tmp_path):
    """All of the paper and a part: the same tasks, each behind the same others, each by the plan's own runner."""
    for job in ("paper", "quick"):
        tasks = [task for task in chosen(catalogue.TASKS, [job]) if task is not catalogue.REPORT]
        said = dry(tmp_path / "results", job)
        found = planned(said)
        assert {name: before for name, (before, _) in found.items()} == {t.name: set(t.after) for t in tasks}
        for name, (_, command) in found.items():
            assert f" -m experiments.plan task {name} results={tmp_path}/results" in command
        (whole,) = re.findall(rf"rule {job}:\n\s+input: (.*)", said)
        assert {Path(path).name.removesuffix(".done") for path in whole.split(", ")} == {task.name for task in tasks}
        assert "experiments.plan run report" in said


@pytest.mark.parametrize("profile", ["slurm", "k8s"])
def test_profiles_of_clusters_are_understood(tmp_path, profile):
    marker = tmp_path / "results" / "plan" / f"{SMALL[0]}.done"
    said = dry(tmp_path / "results", str(marker), f"root={ROOT}", profile=profile)
    assert set(planned(said)) == {SMALL[0]} and "mem_mb=8000" in said
    assert f"Using profile {ROOT}/profiles/{profile}" in said


# What python does at its start, in every process of the run: commands of the plan fail or hang at their first calls.
FAULTS = (
    COUNTED
    + """    if name == "png" and turn == 0:
        sys.stderr.write("injected failure\\n")
        os._exit(1)
    if name == "jpegls" and turn == 0:
        time.sleep(600)
    if name == "png" and turn == 1:
        os.kill(os.getpid(), 9)
"""
)


def test_killed_at_any_moment_with_failing_and_hanging_jobs_it_ends_as_if_undisturbed(tmp_path):
    """A part of the quick plan: a job fails, then is killed, one hangs; Snakemake itself is killed, then run again."""
    site, results = tmp_path / "site", tmp_path / "results"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAULTS)
    limit = str(max(25, 6 * undisturbed(tmp_path / "quiet", "png,jpegls")))  # a busy machine is no hang
    env = {**os.environ, "PYTHONPATH": str(site), "FAULTS_LOG": str(tmp_path / "calls"), "TESSERA_LIMIT_S": limit}
    targets = [str(task.marker(results)) for task in chosen(catalogue.TASKS, SMALL)]
    log = (tmp_path / "log").open("w")
    start = words(results, "--cores", "2", *targets)
    first = subprocess.Popen(start, cwd=ROOT, env=env, stdout=log, stderr=log)
    end = time.monotonic() + 300
    while not (tmp_path / "calls").exists() or len((tmp_path / "calls").read_text().split()) < 3:
        assert time.monotonic() < end and first.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)  # jobs are at work, or tried again, and live on
    first.wait()
    again = subprocess.run(start, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert all(Path(target).read_text() == "done\n" for target in targets)
    assert not (results / "failures" / "tasks").exists() or not list((results / "failures" / "tasks").iterdir())
    turns = (tmp_path / "calls").read_text().split()
    assert turns.count("png") >= 3 and turns.count("jpegls") >= 2, "every fault was met"
    assert numbers(results) == numbers(tmp_path / "quiet") and len(numbers(results)) == 2
    nothing = subprocess.run(start, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert nothing.returncode == 0 and "Nothing to be done" in nothing.stdout + nothing.stderr
    assert (tmp_path / "calls").read_text().split() == turns


def test_the_report_command_survives_odd_folders(tmp_path):
    """A results folder with a space in its name is one word of the job's command."""
    folder = tmp_path / "my results"
    marker = folder / "plan" / f"{SMALL[0]}.done"
    ((_, command),) = planned(dry(folder, str(marker))).values()
    assert f"results={folder}" in shlex.split(command)
