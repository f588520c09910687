"""Run a task of the plan: one at a time, within its time, tried again when it fails, and proved by what it left.

Whoever works on a task holds a lock that its command inherits, so that a runner that was killed with -9 and started
again neither works beside what it left running nor waits for it in vain. Commands resume, so an attempt is never lost.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from core.crew import STOPS, stops_wait
from experiments.plan.task import ROOT, Task

ATTEMPTS = 3
GRACE_S = 20.0  # from SIGTERM, on which training saves its state, to SIGKILL
KEPT = 5  # lines of stderr in a note
POLL_S = 0.2
LIMIT = "TESSERA_LIMIT_S"  # seconds for every attempt instead of the plan's minutes


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: the exit code (negative: a signal; None: out of time) and its last lines on stderr."""

    code: int | None
    lines: tuple[str, ...]

    @property
    def reason(self) -> str:
        """The end in words."""
        how = "ran out of time" if self.code is None else f"exit code {self.code}"
        return " ".join([*self.lines, f"({how})"])


def perform(task: Task, results: str) -> int:
    """Run a task and write its marker: 0 when it is done or cannot be done here, 1 when it failed."""
    from experiments.plan.state import note, state, write_marker

    with holding(task, results) as handle:
        ended = _attempts(task, results, handle)
    found = state(task, results, notes=False)
    if found.complete and ended.code in (0, 1, 2):
        note(task, results, "")
        write_marker(task, results, "done")
        return 0
    if not found.failed and (ended.code == 2 or found.word == "cannot run"):
        note(task, results, "\n".join(found.reasons or ended.lines), "cannot run")
        write_marker(task, results, "cannot run")
        return 0
    text = " ".join(found.failed) if found.failed else ended.reason
    if ended.code == 0:
        text = "the command ended well but did not leave all that it should."
    note(task, results, text)
    print(f"failed: {task.name}: {text}", file=sys.stderr)
    return 1


def _attempts(task: Task, results: str, handle: int) -> Ended:
    """Try until the exit code is 0, or 2: a mistake or something missing, which trying again does not change."""
    ended = Ended(0, ())
    for number in range(1, ATTEMPTS + 1):
        ended = _attempt(task, results, handle)
        if ended.code in (0, 2):
            break
        if number < ATTEMPTS:
            print(f"{task.name}: attempt {number} of {ATTEMPTS}: {ended.reason}; trying again", file=sys.stderr)
    return ended


def _attempt(task: Task, results: str, handle: int) -> Ended:
    limit = float(os.environ.get(LIMIT, 60 * task.minutes))
    lines: list[str] = []
    with ExitStack() as stack:
        with stops_wait():
            child = subprocess.Popen(
                task.argv(results),
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=(handle,),
                start_new_session=True,
                preexec_fn=lambda: _begin(handle),
            )
            stack.callback(_end, child)
            stack.enter_context(_passing_on(child))
        assert child.stderr is not None
        reader = threading.Thread(target=_forward, args=(child.stderr, lines), daemon=True)
        reader.start()
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = child.wait(limit)
    reader.join(GRACE_S)
    return Ended(code, tuple(lines[-KEPT:]))


def _begin(handle: int) -> None:
    """In the command's process, before it can lose its runner."""
    _sign(handle, os.getppid(), os.getpid())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _forward(pipe: IO[str], lines: list[str]) -> None:
    for line in pipe:
        sys.stderr.write(line)
        if line.strip():
            lines.append(line.strip())
            del lines[:-KEPT]


@contextmanager
def _passing_on(child: subprocess.Popen[str]) -> Iterator[None]:
    """SIGTERM and Ctrl-C reach the command, which is in a group of its own; then they end this process, too."""

    def stop(number: int, frame: object) -> None:
        _end(child)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(child: subprocess.Popen[str]) -> None:
    """End a command and all that it started: with SIGTERM, and what is left after a while with SIGKILL."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@contextmanager
def holding(task: Task, results: str | Path) -> Iterator[int]:
    """Hold the lock of a task; gives its file handle.

    A runner at work on it is waited for. A command whose runner was killed is ended: the next one resumes its work.
    """
    path = task.lock(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        told = False
        while not _locked(handle):
            if not told:
                print(f"{task.name}: waiting for {path.read_text().strip() or 'another process'}", file=sys.stderr)
                told = True
            _end_orphan(path)
            time.sleep(POLL_S)
        _sign(handle, os.getpid(), 0)
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(handle: int, runner: int, group: int) -> None:
    """Who holds the lock: host, runner, and the process group of its command (0: none yet)."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"host": os.uname().nodename, "runner": runner, "group": group}).encode(), 0)


def _end_orphan(path: Path) -> None:
    """Kill the command that holds the lock when its runner, on this machine, is gone."""
    try:
        held = json.loads(path.read_text())
    except ValueError:  # being written
        return
    if held["host"] == os.uname().nodename and held["group"] and not _alive(held["runner"]):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(held["group"], signal.SIGKILL)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
