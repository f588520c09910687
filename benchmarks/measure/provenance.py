"""Provenance of numbers: commit, versions, machine and command, without names of hosts or absolute paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure.meter import cuda
from benchmarks.store.store import now

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numpy", "constriction", "pillow", "imagecodecs")


def provenance(device: str = "cpu", sacred_run: str = "") -> dict[str, Any]:
    """Commit and dirty flag, versions, processor, GPU, threads, start and command, as JSON values."""
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "cpu": _cpu(),
        "gpu": cuda().get_device_name() if device != "cpu" else "",
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", ""),
        "started": now(),
        "command": command_line(sys.argv),
        "sacred_run": sacred_run,
    }


def git_state(root: Path = ROOT) -> tuple[str, bool | None]:
    """The commit of the checkout and whether files outside ``results`` differ; ('', None) where git knows neither."""
    if not (root / ".git").exists():
        return "", None
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--", ".", ":(exclude)results")
    return commit or "", None if status is None else bool(status)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return found[1].strip() if found else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def command_line(argv: Iterable[str]) -> str:
    """The command as typed, with paths made relative and the addresses of databases cut to their scheme."""
    words = [_relative(re.sub(r"\b([\w+]+)://\S*", r"\1:...", word)) for word in argv]
    if words and words[0].endswith("__main__.py"):
        words[0] = "-m " + words[0].removesuffix("/__main__.py").replace("/", ".")
    return " ".join(["python", *words])


def _relative(word: str) -> str:
    """Absolute paths inside a word: relative to the checkout or the working directory, else the last part alone."""
    return re.sub(r"(?<![\w.~-])/[^\s=:,;'\"]*", lambda found: _shorter(Path(found[0])), word)


def _shorter(path: Path) -> str:
    for base in (ROOT, Path.cwd()):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name
