"""Memory that a training step frees stays with the process: returned to the system, it must be faulted in again."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt
_MOST = 2**31 - 1


def keep() -> bool:
    """Tell glibc to keep what is freed, from now on in this process; False where the C library is another one."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        sizes = (2**30, 2**25)  # the larger one is refused by older versions
        return any(library.mallopt(_MMAP, size) for size in sizes) and bool(library.mallopt(_TRIM, _MOST))
    return False
