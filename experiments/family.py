"""The commands every family offers: ``python -m FAMILY train|evaluate|compress|decompress with ...``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn

from core import manual
from core.codec import TesseraError
from core.commandline import piped
from core.registry import METHODS, discover, unknown
from experiments.wiring import ROOT, Scope, experiment, fail, guarded, run, with_defaults


@dataclass(frozen=True)
class Command:
    """A word after ``python -m FAMILY``; its module is imported when it runs, not to be listed.

    ``module`` has a dictionary ``COMMANDS``: word -> (config scope, body, named configs); ``named`` are put over those.
    """

    module: str
    named: Mapping[str, Mapping[str, Any]] | None = None

    def what(self, word: str) -> str:
        """What the word does, in a line; its module is read, not imported."""
        return manual.command_line(ROOT / f"{self.module.replace('.', '/')}.py", word)

    def load(self, word: str) -> tuple[Scope, Any, dict[str, Any]]:
        """The config scope, the body and the named configs of the word."""
        scope, body, named = import_module(self.module).COMMANDS[word]
        return scope, body, {**(named or {}), **(self.named or {})}


@dataclass(frozen=True)
class Offer:
    """What a family makes of a command line: its words, defaults of options, and commands besides those of all."""

    words: Sequence[str]
    defaults: Mapping[str, Any]
    commands: Mapping[str, Command] = field(default_factory=dict)


GREY, TINY = ("fashion_mnist", "mnist"), ("cifar10", "imagenet32")  # how the names of data sets begin


def given(words: Sequence[str]) -> dict[str, str]:
    """The options on a command line, as they are written."""
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}


def colour_crop(data: str) -> int | None:
    """The crop for training on a data set in colour, by its name: whole small pictures, or 128 pixels; None if grey."""
    return None if data.startswith(GREY) else 32 if data.startswith(TINY) else 128


COMMANDS = {
    "train": Command("experiments.train"),
    "evaluate": Command("experiments.evaluate"),
    "compress": Command("experiments.compress"),
    "decompress": Command("experiments.compress"),
}


def main(family: str) -> NoReturn:
    """Run ``python -m FAMILY COMMAND with ...``.

    ``experiments/families/FAMILY.py``, where there is one, says what the family's command line means: its function
    ``offer`` takes the words and returns an ``Offer``, whose defaults go to the commands that have such options.
    """
    discover()
    try:
        offered = _offer(family, sys.argv)
    except TesseraError as error:
        fail(error)
    sys.argv[:] = offered.words
    commands = {**COMMANDS, **offered.commands}
    word = sys.argv[1] if len(sys.argv) > 1 else "help"
    if word in manual.WORDS:
        raise SystemExit(piped(lambda: print(help_text(family, commands)) or 0))
    if word not in commands:
        fail(unknown(f"command of {family}", word, commands))
    scope, body, named = commands[word].load(word)
    ex = experiment(__file__, f"{family}_{word}", scope, named)
    known = ex.configurations[0]()
    with_defaults(ex, {key: value for key, value in offered.defaults.items() if key in known})
    ex.main(guarded(body))
    run(ex, [f"-m {family} {word}", *sys.argv[2:]], about(family, word, body))


def _offer(family: str, words: Sequence[str]) -> Offer:
    name = f"experiments.families.{family}"
    return import_module(name).offer(words) if find_spec(name) else Offer(words, {})


def help_text(family: str, commands: Mapping[str, Command]) -> str:
    """What a family is for, a line for each of its commands, its methods, and what cannot be imported."""
    words = [(word, command.what(word)) for word, command in commands.items()]
    words.append(("COMMAND help", "examples and options of a command"))
    mine = {n: m for n, m in METHODS.items() if m.__module__.partition(".")[0] == family}
    methods = [(name, manual.first_line(mine[name].__doc__)) for name in sorted(mine)]
    refused = [(n, f"{r}.") for n, r in sorted(METHODS.refused.items()) if r.module.partition(".")[0] == family]
    usage = f"usage: python -m {family} COMMAND [print_config] with key=value ..."
    lists = (("commands", words), ("methods", methods), ("left out", refused))
    return manual.page(f"{_docstring(family)}\n\n{usage}", (), *lists)


def about(family: str, word: str, body: Callable[..., int]) -> str:
    """What a command of a family does, with the examples that the family and the command's module give."""
    module = sys.modules.get(body.__module__)
    shown = manual.examples((_docstring(family), (module and module.__doc__) or ""), f"-m {family} {word}")
    return "\n\n".join(filter(None, (inspect.cleandoc(body.__doc__ or ""), "\n".join(shown))))


def _docstring(family: str) -> str:
    return manual.docstring(ROOT / family / "__main__.py")
