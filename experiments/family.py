"""The commands every family offers: ``python -m FAMILY train|evaluate|compress|decompress with ...``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from benchmarks.store import Store
from benchmarks.tables.files import to_markdown
from benchmarks.tables.results import rd_table
from core.commandline import piped
from core.registry import METHODS, discover, unknown
from experiments import compress
from experiments import train as training
from experiments.evaluate import evaluate, evaluation_config, say
from experiments.wiring import Scope, experiment, fail, guarded, run, with_defaults

COMMANDS = {
    "train": (training.train_config, training.train, training.NAMED),
    "evaluate": (evaluation_config, None, {"smoke": {"limit": 1}}),
    **compress.COMMANDS,
}


def evaluate_command(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure a method and print the numbers."""
    outcome = evaluate(config, str(sacred_run._id or ""))
    if outcome.cells:
        from benchmarks.curves import curve

        keys = {result.key for result in outcome.cells}
        found = curve.measured(Store(config["results"]), outcome.cells[0].cell.dataset, pictures=outcome.pictures)
        print(to_markdown(rd_table([c for c in found if keys & set(c.cells)]), outcome.cells[0].about["title"]))
    say(outcome)
    return outcome.code


def main(
    family: str, defaults: Mapping[str, Any], extra: Mapping[str, tuple[Scope, Any, Any]] | None = None
) -> NoReturn:
    """Run ``python -m FAMILY COMMAND with ...``; ``defaults`` replace configuration values where a command has them."""
    discover()
    commands = {**COMMANDS, **(extra or {})}
    word = sys.argv[1] if len(sys.argv) > 1 else "help"
    mine = sorted(n for n, m in METHODS.items() if m.__module__.partition(".")[0] == family)
    if word in ("help", "-h", "--help"):
        usage = f"python -m {family} {'|'.join(commands)} [print_config] with method={'|'.join(mine)} key=value ..."
        raise SystemExit(piped(lambda: print(f"usage: {usage}") or 0))
    if word not in commands:
        fail(unknown(f"command of {family}", word, commands))
    scope, body, named = commands[word]
    ex = experiment(__file__, f"{family}_{word}", scope, named)
    known = ex.configurations[0]()
    with_defaults(ex, {key: value for key, value in defaults.items() if key in known})
    command = guarded(body or evaluate_command)
    ex.main(command)
    run(ex, [f"-m {family} {word}", *sys.argv[2:]])
