"""Preemption: a small training and a small sweep of cells, ended again and again at random points, end as undisturbed.

    python benchmarks/preemption.py                     # 50 ends; some ten minutes on a quiet machine
    python benchmarks/preemption.py with kills=500 seed=1

Both are the commands that a user types, each in processes of its own, on pictures made here. They are ended by SIGTERM,
by SIGKILL, and by a disk that is full (RLIMIT_FSIZE: no file grows beyond a random size); or a second process works in
the same folder until both are killed; or the clock jumps by up to three years either way, before it is killed. What
ends by itself is compared with the undisturbed one, byte for byte, and a new one begun. Writes tables/preemption and
records/preemption.json; the exit code is 1 when anything differed, was damaged, or failed in another way.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store import Store, records
from benchmarks.tables.files import for_screen
from core import atomic
from core.codec import TesseraError
from core.images import save_image
from core.places import default_results

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ("SIGTERM", "SIGKILL", "full disk", "second process", "jumping clock")
LONGEST_S = 1800.0  # of a run that nothing ends
NAMED = {"smoke": {"kills": 2, "steps": 6}}

# What python does at its start: every look at the clock tells another time. Measured intervals are not of this clock.
CLOCK = """
import os, random, time
_real, _gmtime, _localtime, _rng = time.time, time.gmtime, time.localtime, random.Random(os.getpid())
def _jumping():
    return _real() + _rng.uniform(-1e8, 1e8)
time.time = _jumping
time.time_ns = lambda: int(_jumping() * 1e9)
time.gmtime = lambda seconds=None: _gmtime(_jumping() if seconds is None else seconds)
time.localtime = lambda seconds=None: _localtime(_jumping() if seconds is None else seconds)
"""


def preemption_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    kills = 50  # of both together, which run beside each other
    steps = 60  # of the training
    methods = "jpeg,webp,avif,jpeg2000"  # of the sweep
    seed = 0  # of the points at which they are ended
    results = default_results()


@dataclass(frozen=True)
class Work:
    """A command that resumes: its words for a folder, its outcome there, and how far it has come."""

    name: str
    words: Callable[[Path], list[str]]
    outcome: Callable[[Path], str]
    progress: Callable[[Path], int]


@dataclass(frozen=True)
class Attempt:
    """How a start of the command ended: after ``seconds``, by ``code`` (negative: a signal), with these last words."""

    work: str
    fault: str
    seconds: float
    code: int
    progress: int
    words: str
    damaged: str = ""


def preemption(config: Mapping[str, Any], run: Any) -> int:
    """Run both, print, write the table and the record; returns the exit code."""
    if sys.platform != "linux":
        raise TesseraError("a full disk is played with prlimit, which this system lacks: run it on Linux.")
    if config["steps"] < 1:
        raise TesseraError(f"steps={config['steps']} must be at least 1.")
    table = records.Table(sacred_run=str(run._id or ""))
    with tempfile.TemporaryDirectory(prefix="tessera-preemption-") as name:
        folder = Path(name)
        pictures(folder / "pictures")
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(CLOCK)
        works = (training(folder, config["steps"]), sweep(folder, config["methods"]))
        kills = [config["kills"] - config["kills"] // 2, config["kills"] // 2]
        draws = [random.Random(f"{config['seed']}, {work.name}") for work in works]
        with ThreadPoolExecutor(len(works)) as pool:
            found = list(pool.map(_disturbed, works, [folder] * len(works), kills, draws))
    frame = pd.DataFrame([row for attempts, rounds in found for row in _rows(attempts, rounds)])
    good = (
        all(same for _, rounds in found for same in rounds) and not frame["damaged"].any() and not frame["failed"].any()
    )
    verdict = "all that ended by itself equals the undisturbed, byte for byte" if good else "NOT EQUAL"
    ended = sum(attempt.fault != "none" for attempts, _ in found for attempt in attempts)
    caption = f"A training and a sweep ended {ended} times at random points: {verdict}"
    print(for_screen(frame, caption))
    paths = table.write(frame, config["results"], "preemption", caption)
    record = {**records.read(paths[-1]), "attempts": [asdict(a) for attempts, _ in found for a in attempts]}  # type: ignore[dict-item]
    records.write(paths[-1], record)
    print(*paths, sep="\n")
    return 0 if good else 1


def pictures(folder: Path) -> None:
    """Six pictures of 96 x 80 pixels: smooth fields with noise, the same at every call."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:80, :96]
    for number in range(6):
        slopes = rng.uniform(-1, 1, (2, 3))
        plane = 128 + rows[..., None] * slopes[0] + columns[..., None] * slopes[1]
        noisy = plane + rng.normal(0, 8, (80, 96, 3))
        save_image(folder / f"{number}.png", noisy.clip(0, 255).astype(np.uint8))


def training(folder: Path, steps: int) -> Work:
    """Some steps of a small model; its outcome is the file of its weights."""

    def words(at: Path) -> list[str]:
        options = [f"dataset=folder:{folder / 'pictures'}", "scales=[1.0]", "amp=False", "batch=2", "crop=32"]
        options += [
            f"steps={steps}",
            "log_every=1",
            "save_every=5",
            f"folder={at / 'run'}",
            f"results={at / 'results'}",
        ]
        return ["-m", "vq", "train", "with", "method=vqvae", *options]

    def progress(at: Path) -> int:
        with suppress(OSError, IndexError, ValueError):
            return int((at / "run" / "train.csv").read_text().splitlines()[-1].partition(",")[0])
        return 0

    return Work("training", words, lambda at: atomic.sha256(at / "run" / "weights.safetensors"), progress)


def sweep(folder: Path, methods: str) -> Work:
    """The curves of some codecs; their outcome is all numbers of their cells but for seconds and memory."""

    def words(at: Path) -> list[str]:
        options = [f"methods={methods}", f"dataset=folder:{folder / 'pictures'}", f"results={at / 'results'}"]
        return ["benchmarks/rd_curve.py", "with", *options]

    def outcome(at: Path) -> str:
        found = {}
        for result in Store(at / "results").cells():
            frame = result.images
            kept = frame[[c for c in map(str, frame) if not c.endswith("_s") and c != "peak_memory_mb"]]
            found[result.key] = [result.cell.json, kept.to_csv(index=False)]
        return records.digest(found)

    def progress(at: Path) -> int:
        return len(list((at / "results" / "cells").glob("[!.]*/cell.json")))

    return Work("sweep", words, outcome, progress)


def _disturbed(work: Work, folder: Path, kills: int, rng: random.Random) -> tuple[list[Attempt], list[bool]]:
    """All attempts at a piece of work, and of each that came to its end whether it is as if undisturbed."""
    quiet = folder / f"{work.name}-undisturbed"
    first = _attempt(work, quiet, "none", LONGEST_S, rng, folder)
    if first.code:
        raise TesseraError(f"the {work.name} cannot be run undisturbed: {first.words}")
    wanted, attempts, rounds = work.outcome(quiet), list[Attempt](), list[bool]()
    place = folder / f"{work.name}-0"
    while True:
        ended = sum(a.fault != "none" for a in attempts)
        fault = FAULTS[ended % len(FAULTS)] if ended < kills else "none"
        delay = rng.uniform(0, first.seconds) if ended < kills else LONGEST_S
        attempt = _attempt(work, place, fault, delay, rng, folder)
        done = attempt.code == 0
        attempts.append(Attempt(**{**asdict(attempt), "fault": "none"}) if done else attempt)
        print(
            f"{work.name}: {ended} of {kills} ends; {fault}, exit code {attempt.code} {attempt.words[:100]}", flush=True
        )
        if done:
            rounds.append(work.outcome(place) == wanted)
            place = folder / f"{work.name}-{len(rounds)}"
        if done and ended >= kills:
            return attempts, rounds
        if not done and fault == "none":
            return attempts, [*rounds, False]


def _attempt(work: Work, at: Path, fault: str, delay: float, rng: random.Random, folder: Path) -> Attempt:
    """Start the command and end it as the fault says, ``delay`` seconds later unless it ends before."""
    at.mkdir(exist_ok=True)
    started, environment = time.perf_counter(), {**os.environ, "OMP_NUM_THREADS": "1"}
    if fault == "jumping clock":
        environment["PYTHONPATH"] = os.pathsep.join([str(folder / "clock"), os.environ.get("PYTHONPATH", "")])
        _move_times(at, rng)
    limit = rng.randrange(1 << rng.randrange(8, 21)) if fault == "full disk" else None
    said = at / "said.txt"
    with _running(work.words(at), environment, limit, said) as one:
        if fault == "second process":
            time.sleep(rng.uniform(0, delay))
            with _running(work.words(at), environment, None, at / "said-second.txt") as other:
                _wait(other, rng.uniform(0, delay))
                _wait(one, rng.uniform(0, delay / 2))
                other.kill()
        else:
            _wait(one, LONGEST_S if fault == "full disk" else delay)
        if one.poll() is None:
            one.send_signal(signal.SIGTERM if fault == "SIGTERM" else signal.SIGKILL)
        one.wait(LONGEST_S)
    spent = time.perf_counter() - started
    words = (said.read_text(errors="replace").strip().splitlines() or [""])[-1]
    damaged = without_folders("; ".join(Store(at / "results").scan()[1]))
    code, progress = one.returncode, work.progress(at)
    return Attempt(work.name, fault, round(spent, 3), code, progress, without_folders(words)[:200], damaged)


def without_folders(text: str) -> str:
    """A message with the last part alone of every absolute path, cut ones too: where it ran is no result."""
    for place in (ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(tempfile.gettempdir()), Path.home()):
        if place != Path(place.anchor):  # these may have blanks in their names
            text = text.replace(f"{place}{os.sep}", "/")
    return re.sub(r"(?<![\w.:/])/(?:[^\s\"'/]*/)*", "", text)


@contextmanager
def _running(
    words: list[str], environment: Mapping[str, str], limit: int | None, said: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The command with files of at most ``limit`` bytes; killed when the block is left, with all that it started."""

    with said.open("wb") as file, (said.parent / "out.txt").open("wb") as out:
        command = [sys.executable, *words]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=file, start_new_session=True)
        if limit is not None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _move_times(at: Path, rng: random.Random) -> None:
    """Let files have been written at any time within three years of now."""
    for path in at.rglob("*"):
        with suppress(OSError):
            moment = time.time() + rng.uniform(-1e8, 1e8)
            os.utime(path, (moment, moment))


def _rows(attempts: list[Attempt], rounds: list[bool]) -> Iterator[dict[str, Any]]:
    """A row for each fault, and one for what was let go on to its end."""
    for fault in (*FAULTS, "none"):
        mine = [a for a in attempts if a.fault == fault]
        codes = sorted({a.code for a in mine})
        allowed = {"SIGTERM": (130, -15, 143), "full disk": (1, 2)}.get(fault, (-9,) if fault != "none" else (0,))
        if mine:
            yield {
                "work": mine[0].work,
                "ended by": "itself" if fault == "none" else fault,
                "times": len(mine),
                "exit codes": " ".join(map(str, codes)),
                "as undisturbed": f"{sum(rounds)} of {len(rounds)}" if fault == "none" else "",
                "damaged": sum(bool(a.damaged) for a in mine),
                "failed": sum(a.code not in allowed for a in mine),
            }
