"""One command for everything: lists what is here, reads streams, and forwards to the scripts and families.

tessera list                                       # methods, data sets, metrics, published curves: what runs here
tessera list methods | datasets | metrics | curves [json=True]
tessera info photo.tsr                             # what a stream is
tessera decompress photo.tsr                       # by the method and weights that made it
tessera qres compress with method=qres3m_vr params.lmb=64 input=photo.png output=photo.tsr
tessera rd-curve with methods=qres3m_vr,jpeg       # = python benchmarks/rd_curve.py with ...
tessera rd-curve help                              # the options of a command
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from core import manual
from core.codec import TesseraError
from core.commandline import piped
from core.registry import unknown
from tessera import commands, streams

OWN = {
    "list": "Methods, data sets, metrics and published curves: what each is, and what runs here",
    "info": manual.first_line(streams.INFO),
    "decompress": manual.first_line(streams.DECOMPRESS),
    "help": "This page",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code (a command that is forwarded ends the process itself)."""
    word, *rest = (sys.argv[1:] if words is None else list(words)) or ["help"]
    if word in manual.WORDS and rest:
        word, rest = rest[0], ["help"]
    return piped(lambda: _run(word, rest))


def help_text() -> str:
    """All commands, a line for each."""
    lists = [(title, [(c.name, c.what) for c in found]) for title, found in _forwarded().items()]
    return manual.page(manual.docstring(__file__), (), ("commands", OWN.items()), *lists)


def _forwarded() -> dict[str, list[commands.Command]]:
    return {"scripts": commands.scripts(), "families": commands.families(), "parts": commands.parts()}


def _run(word: str, rest: list[str]) -> int:
    if word in manual.WORDS:
        print(help_text())
        return 0
    try:
        if word == "list":
            from tessera import listing

            return listing.main(rest)
        if word in OWN:
            return streams.info(rest) if word == "info" else streams.decompress(rest)
        known = {command.name: command for found in _forwarded().values() for command in found}
        if word.replace("_", "-") not in known and word not in known:
            raise unknown("command of tessera", word, {*known, *OWN})
        command = known.get(word) or known[word.replace("_", "-")]
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command.run(["--help" if w == "help" else w for w in rest])
    return 0


if __name__ == "__main__":
    sys.exit(main())
