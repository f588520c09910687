"""Processes that train together from one command: stopped, resumed, killed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core import launch
from core.codec import TesseraError
from tests.core.test_train import CONFIG, as_json

ROOT = Path(__file__).resolve().parents[2]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
pair = pytest.mark.skipif(CORES < 2 or sys.platform == "win32", reason="needs two cores")

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from core import launch, parallel
from core.codec import TesseraError
from core.train import TrainConfig, fit
sys.path.insert(0, sys.argv[1])
from tests.core.test_train import Tiny, batches

def interrupted(number, frame): raise KeyboardInterrupt
def log(step, values):
    print("step", step, flush=True)
    time.sleep(float(sys.argv[4]))

signal.signal(signal.SIGTERM, interrupted)
if launch.wanted(2, "cpu"):
    sys.exit(launch.together(2, 1))
folder = Path(sys.argv[2])
folder.mkdir(exist_ok=True)
(folder / f"{parallel.rank()}.json").write_text(json.dumps([os.getpid(), sorted(os.sched_getaffinity(0))]))
if os.environ["RANK"] == sys.argv[5]:
    sys.exit("error: this one alone")
torch.set_num_threads(1)
try:
    with parallel.process_group(torch.device("cpu")):
        trained = fit(Tiny(0.1), batches, TrainConfig(**json.loads(sys.argv[3])), folder, log)
        torch.save(trained.state_dict(), folder / f"rank{parallel.rank()}.pt")
except TesseraError as error:
    sys.exit(f"error: {error}")
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(folder: Path, pause: float = 0.0, fails: int = -1) -> subprocess.Popen[str]:
    script = folder.parent / "together.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(ROOT), str(folder), as_json(CONFIG), str(pause), str(fails)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def after(running: subprocess.Popen[str], line: str) -> None:
    """Wait for a line of its output."""
    assert running.stdout is not None
    while (said := running.stdout.readline()).strip() != line:
        assert said, running.communicate()


def ranks(folder: Path) -> list[int]:
    return [json.loads((folder / f"{rank}.json").read_text())[0] for rank in (0, 1)]


def gone(number: int) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pair
def test_stopped_and_resumed_two_processes_end_with_the_same_weights(tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    done = start(whole)
    out, err = done.communicate(timeout=300)
    assert done.returncode == 0 and out.splitlines().count("step 30") == 1, err
    cores = [json.loads((whole / f"{rank}.json").read_text())[1] for rank in (0, 1)]
    assert all(len(own) == 1 for own in cores) and cores[0] != cores[1]

    running = start(parted, pause=0.05)
    after(running, "step 9")
    running.send_signal(signal.SIGTERM)
    assert running.wait(120) == 130 and all(map(gone, ranks(parted)))
    assert 9 <= torch.load(parted / "state.pt", weights_only=True)["step"] < 30
    again = start(parted)
    assert again.wait(300) == 0
    states = [torch.load(f / f"rank{r}.pt", weights_only=True) for f in (whole, parted) for r in (0, 1)]
    assert all(torch.equal(states[0][name], other[name]) for other in states[1:] for name in states[0])


@pair
@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_killed_ends_the_other_with_a_sentence(tmp_path, victim):
    running = start(tmp_path / "run", pause=0.05)
    after(running, "step 9")
    os.kill(ranks(tmp_path / "run")[victim], signal.SIGKILL)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1 and f"process {victim} of 2 was ended by signal 9" in err, err
    assert "Traceback" not in err and all(map(gone, ranks(tmp_path / "run")))
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 7


@pair
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children of their parent's death")
def test_none_is_left_when_the_command_is_killed(tmp_path):
    running = start(tmp_path / "run", pause=0.05)
    after(running, "step 3")
    running.kill()
    running.wait()
    assert all(map(gone, ranks(tmp_path / "run")))
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] >= 3, "they saved before they ended"


@pair
def test_the_sentence_of_any_process_is_shown(tmp_path):
    running = start(tmp_path / "run", fails=1)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1 and "error: this one alone" in err


def test_what_cannot_be_started_is_refused(monkeypatch):
    with pytest.raises(TesseraError, match="need 2000 cores and there are"):
        launch.together(1000, 2)
    with pytest.raises(TesseraError, match="on GPUs start the command with torchrun"):
        launch.wanted(2, "cuda")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(TesseraError, match="torchrun has started 4 processes: leave processes=2 out"):
        launch.wanted(2, "cpu")
    assert not launch.wanted(4, "cpu") and not launch.wanted(1, "cpu")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("batch=3",), "batch=3 cannot be shared by 2 processes: use a multiple of 2"),
        (("first_crop=64", "first_batch=5"), "first_batch=5 cannot be shared by 2 processes"),
        (("processes=0",), "processes=0 must be a whole number, at least 1"),
    ],
)
def test_what_two_processes_cannot_share_is_one_sentence(command, pictures, words, sentence):
    where = ("dataset=folder:pictures", "scales=[1.0]", "folder=run", "processes=2")
    ended = command("qres", "train", "with", "smoke", *where, *words)
    assert ended.code == 2 and sentence in ended.sentence


@pair
def test_the_command_trains_in_two_processes(pictures, tmp_path):
    where = ("dataset=folder:pictures", "scales=[1.0]", "folder=run", "processes=2")
    words = [sys.executable, "-m", "qres", "train", "with", "smoke", "steps=2", *where]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Grad strides" not in done.stderr, done.stderr
    made = json.loads((tmp_path / "run" / "meta.json").read_text())["made"]
    assert made["processes"] == 2 and made["threads"] == 1
    assert done.stdout.count("step 2 of 2") == 1 and (tmp_path / "results" / "sacred" / "1").is_dir()
    assert not (tmp_path / "results" / "sacred" / "2").exists()
