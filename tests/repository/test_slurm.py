"""The plan on a real SLURM of one node: jobs fail, are killed and run out of time, Snakemake is killed; same results.

It needs root, SLURM's daemons (``profiles/slurm/one_node.sh install``) and Snakemake's environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from experiments.plan import catalogue
from experiments.plan.task import ROOT, chosen
from tests.support.snakemake import COUNTED, needs_snakemake, numbers, undisturbed, words

SCRIPT = ROOT / "profiles" / "slurm" / "one_node.sh"
METHODS = ("png", "jpegls", "webp_lossless", "jpeg2000_lossless")
BEFORE_CHECKS_S = 3
PATIENCE_S = 300

# What python does at its start, in every process of the run. At their first call png fails, jpegls and webp_lossless
# hang, and jpeg2000_lossless takes as long as nobody lets it go on.
FAULTS = (
    COUNTED
    + """    if turn == 0 and name == "png":
        sys.stderr.write("injected failure\\n")
        os._exit(1)
    while turn == 0 and not (name == "jpeg2000_lossless" and log.with_name("go").exists()):
        time.sleep(0.1)
"""
)


@pytest.fixture
def node() -> Iterator[Path]:
    """A SLURM of one node with four processors; its folder, which has a short name because of its sockets."""
    needs_snakemake()
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("slurmctld") or not shutil.which("munged"):
        lacking = "a SLURM node needs root and profiles/slurm/one_node.sh install: the profile is not tested on one"
        assert "CI" not in os.environ or os.geteuid() != 0 or not shutil.which("apt-get"), lacking
        pytest.skip(lacking)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    try:
        subprocess.run([SCRIPT, "start", folder], check=True, timeout=60, env={**os.environ, "CPUS": "4"})
        yield folder
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)
        assert not folder.exists()


def wait_until(what: Callable[[], bool], running: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end and running.poll() is None, log.read_text()
        time.sleep(0.1)


def test_a_node_is_one_sentence_where_it_cannot_be(tmp_path):
    def said(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            [SCRIPT, *arguments], env={**os.environ, **more}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        return done.stderr

    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("bash", "id", "env", "sed"):
        (bare / name).symlink_to(shutil.which(name) or name)
    assert "unknown command 'begin'" in said("begin")
    if os.geteuid() == 0:
        assert "munged slurmctld slurmd sbatch not found: run" in said("start", str(tmp_path / "x"), PATH=str(bare))
        (tmp_path / "slurm.conf").touch()
        if shutil.which("slurmctld"):
            assert "has a SLURM already" in said("start", str(tmp_path))
    else:
        assert "run this as root" in said("start", str(tmp_path / "x"))


def test_failing_killed_and_late_jobs_and_a_killed_snakemake_change_nothing(node, tmp_path):
    site, results, log, calls = (tmp_path / name for name in ("site", "results", "log", "calls"))
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAULTS)
    env = {**os.environ, "PYTHONPATH": str(site), "FAULTS_LOG": str(calls)}
    targets = [str(t.marker(results)) for t in chosen(catalogue.TASKS, [f"{name}-sample-lossless" for name in METHODS])]
    checks = f"--slurm-init-seconds-before-status-checks={BEFORE_CHECKS_S}"
    start = words(results, "--seconds-between-status-checks", "2", checks, *targets, profile="slurm")
    start.remove(checks)
    start.insert(1, checks)

    def slurm(*command: str) -> str:
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=30).stdout

    def job(name: str) -> str:
        """The number of the job at work on a method."""
        lines = slurm("squeue", "--noheader", "--states=running", "--format=%i %k").splitlines()
        return next(line.split()[0] for line in lines if f"{name}-sample" in line)

    def turns(name: str) -> int:
        return calls.read_text().split().count(name) if calls.exists() else 0

    with log.open("wb") as file:
        first = subprocess.Popen(start, cwd=ROOT, env=env, stdout=file, stderr=file)
        wait_until(lambda: all(turns(name) for name in METHODS) and turns("png") == 2, first, log)
        soon = datetime.now().astimezone() + timedelta(seconds=2)
        slurm("scontrol", "update", f"JobId={job('jpegls')}", f"EndTime={soon:%Y-%m-%dT%H:%M:%S}")
        slurm("scancel", "--full", "--signal=KILL", job("webp_lossless"))
        wait_until(lambda: turns("webp_lossless") == 2 and turns("jpegls") == 2, first, log)
        first.send_signal(signal.SIGKILL)  # a job is at work, and lives on
        first.wait()
    states = slurm("squeue", "--noheader", "--states=all", "--format=%T").split()
    assert {"TIMEOUT", "CANCELLED", "RUNNING"} <= set(states), states
    again = subprocess.Popen(start, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (tmp_path / "go").touch()
    said, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, said
    assert all(Path(target).read_text() == "done\n" for target in targets)
    assert "sacctmgr" not in log.read_text() + said
    undisturbed(tmp_path / "quiet", ",".join(METHODS))
    assert numbers(results) == numbers(tmp_path / "quiet") and len(numbers(results)) == len(METHODS)
