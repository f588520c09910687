"""The commands every family offers: ``python -m FAMILY train|evaluate|compress|decompress with ...``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from core.commandline import piped
from core.registry import METHODS, discover, unknown
from experiments.wiring import Scope, experiment, fail, guarded, run, with_defaults


@dataclass(frozen=True)
class Command:
    """A word after ``python -m FAMILY``; its module is imported when it runs, not to be listed.

    ``module`` has a dictionary ``COMMANDS``: word -> (config scope, body, named configs); ``named`` are put over those.
    """

    module: str
    named: Mapping[str, Mapping[str, Any]] | None = None

    def load(self, word: str) -> tuple[Scope, Any, dict[str, Any]]:
        """The config scope, the body and the named configs of the word."""
        scope, body, named = import_module(self.module).COMMANDS[word]
        return scope, body, {**(named or {}), **(self.named or {})}


COMMANDS = {
    "train": Command("experiments.train"),
    "evaluate": Command("experiments.evaluate"),
    "compress": Command("experiments.compress"),
    "decompress": Command("experiments.compress"),
}


def main(family: str, defaults: Mapping[str, Any], extra: Mapping[str, Command] | None = None) -> NoReturn:
    """Run ``python -m FAMILY COMMAND with ...``; ``defaults`` replace configuration values where a command has them."""
    discover()
    commands = {**COMMANDS, **(extra or {})}
    word = sys.argv[1] if len(sys.argv) > 1 else "help"
    mine = sorted(n for n, m in METHODS.items() if m.__module__.partition(".")[0] == family)
    if word in ("help", "-h", "--help"):
        usage = f"python -m {family} {'|'.join(commands)} [print_config] with method={'|'.join(mine)} key=value ..."
        absent = {r for r in METHODS.refused.values() if r.module.partition(".")[0] == family}
        lines = [f"usage: {usage}", *sorted(f"left out: {refusal}." for refusal in absent)]
        raise SystemExit(piped(lambda: print(*lines, sep="\n") or 0))
    if word not in commands:
        fail(unknown(f"command of {family}", word, commands))
    scope, body, named = commands[word].load(word)
    ex = experiment(__file__, f"{family}_{word}", scope, named)
    known = ex.configurations[0]()
    with_defaults(ex, {key: value for key, value in defaults.items() if key in known})
    ex.main(guarded(body))
    run(ex, [f"-m {family} {word}", *sys.argv[2:]])
