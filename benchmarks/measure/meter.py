"""Seconds and megabytes: what an encoder and a decoder cost, and sentences that say what was counted."""

from __future__ import annotations

import re
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from core import crew

try:
    import resource
except ImportError:  # not a POSIX system: no child processes' time, no peak memory
    resource = None  # type: ignore[assignment]


def clock(device: str) -> float:
    """A running count of seconds, as ``time_note`` says; differences count."""
    if device != "cpu":
        cuda().synchronize()
        return time.perf_counter()
    if resource is None:
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def time_note(device: str) -> str:
    """What encode_s and decode_s count."""
    if device != "cpu":
        return "wall-clock seconds, device synchronised before and after"
    counted = "CPU seconds of the process and its finished children, all threads added up"
    return counted if crew.beside() == 1 else f"{counted}; measured while up to {crew.beside()} such processes ran"


def memory_note(device: str) -> str:
    """What peak_memory_mb counts."""
    if device != "cpu":
        return "peak device memory held by tensors while the image was coded, weights included"
    if _can_reset():
        return "peak resident memory of the whole process while the image was coded, libraries and weights included"
    return "peak resident memory of the whole process since it started"


def cuda() -> Any:
    """The module ``torch.cuda``, imported only where a device other than the CPU is measured."""
    import torch

    return torch.cuda


@cache
def _can_reset() -> bool:
    """Whether the kernel lets a process reset its own peak (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return "VmHWM" in Path("/proc/self/status").read_text()
    except OSError:
        return False


def reset_peak(device: str) -> None:
    """Start a new peak for ``peak_mb``, where that can be done."""
    if device != "cpu":
        cuda().reset_peak_memory_stats()
    elif _can_reset():
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb(device: str) -> float:
    """Megabytes (1e6 bytes), see ``memory_note``."""
    if device != "cpu":
        return float(cuda().max_memory_allocated()) / 1e6
    if _can_reset():
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 / 1e6 if found else float("nan")
    if resource is None:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
