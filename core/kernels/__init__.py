"""Small C++ kernels, compiled once for the processor at hand; plain torch stands in where that is not possible."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from core.checkpoint import cache_dir

FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC")


@lru_cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled ``core/kernels/NAME.cpp``, or None, after one sentence, where it cannot be compiled or loaded.

    The file is kept in the cache folder under a name made of its source, the compiler and the processor. With
    ``TESSERA_KERNELS=0`` nothing is compiled.
    """
    if os.environ.get("TESSERA_KERNELS") == "0":
        return None
    source = Path(__file__).with_name(f"{name}.cpp")
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not sys.platform.startswith(("linux", "darwin")):
        return _without(name, "there is no C++ compiler")
    facts = " ".join((source.read_text(), compiler, *FLAGS, _processor()))
    target = cache_dir() / "kernels" / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.so"
    try:
        if not target.exists():
            _compile(compiler, source, target)
        return ctypes.CDLL(str(target))
    except subprocess.SubprocessError as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        return _without(name, f"{compiler} failed ({detail[0] if detail else 'no message'})")
    except OSError as error:
        return _without(name, f"{target} cannot be written or loaded ({error.strerror or error})")


def _compile(compiler: str, source: Path, target: Path) -> None:
    """Compile into a file of its own and rename it: several processes may do so at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / target.name
        command = [compiler, *FLAGS, "-o", str(part), str(source)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        part.replace(target)


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    wanted = ("model name", "flags", "features", "cpu part")
    return "\n".join(dict.fromkeys(line for line in lines if line.lower().startswith(wanted)))


def _without(name: str, reason: str) -> None:
    print(
        f"note: the fast {name} kernel is not used: {reason}; plain torch computes the same, slower.", file=sys.stderr
    )
