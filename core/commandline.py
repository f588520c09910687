"""Command lines of the entry scripts that read results only (Sacred, which imports much, is for those that compute)."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from core import manual
from core.codec import TesseraError
from core.options import check_text
from core.registry import unknown

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def options(script: str, defaults: Mapping[str, str], words: Sequence[str]) -> dict[str, str]:
    """The values of ``[with] name=value ...``; unknown names are answered with the nearest ones."""
    values = dict(defaults)
    for word in words[1:] if words[:1] == ["with"] else words:
        name, equals, value = word.partition("=")
        if name not in defaults or not equals:
            raise unknown(f"option of {script} (written name=value)", name, defaults)
        check_text(name, value, defaults[name])
        values[name] = value
    return values


def gone() -> int:
    """Say that nobody reads the output any more (a closed pipe, as of ``| head``); returns the exit code."""
    sentence = (
        "error: the output was closed before its end: what was written is kept, the same command goes on from it."
    )
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the interpreter flushes both when it ends
            stream.flush()
            continue
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 2


def no_room(error: OSError) -> TesseraError:
    """The sentence for a disk that is full (or too full for this user, or this file); other errors are raised."""
    if error.errno not in FULL:
        raise error
    where = f"{error.filename2 or error.filename} cannot be written" if error.filename else "a file cannot be written"
    return TesseraError(f"{where} ({error.strerror}): make room, or choose another place; the same command goes on.")


def piped(main: Callable[[], int]) -> int:
    """The exit code of ``main``, whose output may be closed before its end."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        return gone()
    return code


def run(
    script: str, doc: str, defaults: Mapping[str, str], body: Callable[[dict[str, str]], None], words: Sequence[str]
) -> int:
    """Run a script's ``body`` with its options; returns the exit code: 0, or 2 after one sentence on stderr."""

    def main() -> int:
        if any(word in manual.WORDS for word in words):
            print(manual.page(doc, manual.table_options(defaults, manual.source_of(body))))
            return 0
        try:
            body(options(script, defaults, words))
        except (TesseraError, OSError) as error:  # a closed pipe is raised again, for ``piped``
            print(f"error: {error if isinstance(error, TesseraError) else no_room(error)}", file=sys.stderr)
            return 2
        return 0

    return piped(main)
