"""Command lines of the entry scripts that read results only (Sacred, which imports much, is for those that compute)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from core.codec import TesseraError
from core.registry import unknown


def options(script: str, defaults: Mapping[str, str], words: Sequence[str]) -> dict[str, str]:
    """The values of ``[with] name=value ...``; unknown names are answered with the nearest ones."""
    values = dict(defaults)
    for word in words[1:] if words[:1] == ["with"] else words:
        name, equals, value = word.partition("=")
        if name not in defaults or not equals:
            raise unknown(f"option of {script} (written name=value)", name, defaults)
        values[name] = value
    return values


def run(
    script: str, doc: str, defaults: Mapping[str, str], body: Callable[[dict[str, str]], None], words: Sequence[str]
) -> int:
    """Run a script's ``body`` with its options; returns the exit code: 0, or 2 after one sentence on stderr."""
    if any(word in ("-h", "--help", "help") for word in words):
        print(doc)
        return 0
    try:
        body(options(script, defaults, words))
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
