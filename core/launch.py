"""Several processes on one machine from one command: the command itself again, once for each, on cores of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from core import parallel
from core.codec import TesseraError

GRACE_S = 10  # for the others, when one has failed


def wanted(processes: int, device: str) -> bool:
    """Whether this process is to start ``processes`` that train together; False in one of them.

    Raises TesseraError for a GPU, and where torchrun has started another number.
    """
    if "WORLD_SIZE" in os.environ:
        if processes not in (1, parallel.world_size()):
            raise TesseraError(
                f"torchrun has started {parallel.world_size()} processes: leave processes={processes} out."
            )
        _end_with_parent()
        return False
    if processes > 1 and device != "cpu":
        raise TesseraError(f"processes={processes} is for device=cpu: on GPUs start the command with torchrun.")
    return processes > 1


def together(processes: int, threads: int) -> int:
    """Run this process's command in ``processes`` of ``threads`` threads; returns the exit code of the first to fail.

    SIGTERM and Ctrl-C reach all of them, and their state is saved. What the first one prints is shown, the errors of
    another only if it fails alone.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if processes * threads > len(cores):
        raise TesseraError(
            f"processes={processes} with threads={threads} need {processes * threads} cores and there are {len(cores)}."
        )
    with tempfile.TemporaryDirectory(prefix="tessera-") as folder:
        running: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(processes):
                running.append(_start(rank, processes, threads, Path(folder)))
                if hasattr(os, "sched_setaffinity"):
                    os.sched_setaffinity(running[-1].pid, cores[rank * threads : (rank + 1) * threads])
            first = _watch(running)
        except KeyboardInterrupt:
            _end(running, signal.SIGTERM)
            for process in running:
                process.wait()
            return 130
        finally:
            _end(running, signal.SIGKILL)
        if first is None:
            return 0
        code = running[first].returncode
        if code < 0:
            print(
                f"error: process {first} of {processes} was ended by signal {-code}; the same command goes on from the "
                "saved state.",
                file=sys.stderr,
            )
        elif first > 0 and running[0].returncode <= 0:
            print((Path(folder) / f"{first}.txt").read_text(errors="replace"), end="", file=sys.stderr)
        return code if code > 0 else 1


def _start(rank: int, processes: int, threads: int, folder: Path) -> subprocess.Popen[bytes]:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "OMP_NUM_THREADS": threads}
    own = {**{name: str(value) for name, value in names.items()}, "TESSERA_MEETING": str(folder / "meeting")}
    if sys.platform == "linux":
        own["GLOO_SOCKET_IFNAME"] = "lo"  # a machine's own name may lead nowhere
    command = [sys.executable, *sys.orig_argv[1:]]
    with contextlib.ExitStack() as stack:
        said: IO[bytes] | None = None
        if rank:
            said = stack.enter_context((folder / f"{rank}.txt").open("wb"))
        out = None if rank == 0 else subprocess.DEVNULL
        return subprocess.Popen(command, env={**os.environ, **own}, stdout=out, stderr=said, stdin=subprocess.DEVNULL)


def _watch(running: list[subprocess.Popen[bytes]]) -> int | None:
    """Wait for all; the number of the first that failed, after which the others have ``GRACE_S`` seconds."""
    failed: list[int] = []
    until = 0.0
    while any(process.poll() is None for process in running):
        if not failed and (failed := [i for i, process in enumerate(running) if process.poll()]):
            until = time.monotonic() + GRACE_S
        if failed and time.monotonic() > until:
            _end(running, signal.SIGTERM if time.monotonic() < until + GRACE_S else signal.SIGKILL)
        time.sleep(0.1)
    failed = failed or [i for i, process in enumerate(running) if process.returncode]
    return (
        min(failed, key=lambda i: running[i].returncode > 0) if failed else None
    )  # who was killed, before who noticed


def _end(running: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in running:
        if process.poll() is None:
            process.send_signal(number)


def _end_with_parent() -> None:
    """SIGTERM for this process when the one that started it dies (Linux)."""
    if "TESSERA_MEETING" in os.environ and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
