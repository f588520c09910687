"""Small C++ kernels, compiled once for the processor at hand; plain torch stands in where that is not possible."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from core.checkpoint import cache_dir

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC")


LIMIT_S = 120  # a compiler that takes longer hangs


@lru_cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled ``core/kernels/NAME.cpp``, or None, after one sentence, where it cannot be compiled or loaded.

    The file is kept in the cache folder under a name made of its source, the compiler and the processor. With
    ``TESSERA_KERNELS=0`` nothing is compiled, and a compiler that has failed once is not called again.
    """
    if os.environ.get("TESSERA_KERNELS") == "0":
        return None
    source = Path(__file__).with_name(f"{name}.cpp")
    compiler = _compiler()
    if compiler is None:
        _note(name, "there is no C++ compiler")
        return None
    facts = " ".join((source.read_text(), compiler, *FLAGS, _processor()))
    target = cache_dir() / "kernels" / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.so"
    try:
        if not target.exists():
            if compiler in _failed:
                return None
            _compile(compiler, source, target)
        return ctypes.CDLL(str(target))
    except (_CompilerError, OSError) as error:
        if isinstance(error, _CompilerError):
            _failed.add(compiler)
            _note(name, f"{compiler} {error}")
        else:
            _note(name, f"{target} cannot be written or loaded ({error.strerror or error})")
        return None


_failed: set[str] = set()


class _CompilerError(Exception):
    """What a compiler did instead of compiling."""


def _compiler() -> str | None:
    if not sys.platform.startswith(("linux", "darwin")):
        return None
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def _compile(compiler: str, source: Path, target: Path) -> None:
    """Compile into a file of its own and rename it: several processes may do so at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, tempfile.TemporaryFile("w+") as said:
        part = Path(folder) / target.name
        command = [*shlex.split(compiler), *FLAGS, "-o", str(part), str(source)]
        try:
            # In a session of its own, so that all its processes can be ended; a file takes what no pipe then waits for.
            running = subprocess.Popen(
                command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise _CompilerError(f"cannot be started ({error.strerror or error})") from None
        try:
            code = running.wait(LIMIT_S)
        except BaseException as error:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise _CompilerError(f"did not end within {LIMIT_S} seconds") from None
            raise
        said.seek(0)
        lines = said.read().strip().splitlines() or ["no message"]
        if code or not part.exists():
            raise _CompilerError(f"failed ({lines[0]})")
        part.replace(target)


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    wanted = ("model name", "flags", "features", "cpu part")
    return "\n".join(dict.fromkeys(line for line in lines if line.lower().startswith(wanted)))


def _note(name: str, reason: str) -> None:
    print(
        f"note: the fast {name} kernel is not used: {reason}; plain torch computes the same, slower.", file=sys.stderr
    )
