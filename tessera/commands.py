"""Commands that are forwarded, found by where they lie: a file in benchmarks/, a family, a part of experiments/.

Nothing is imported to list them: what a command does is the first line of its docstring.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core import manual
from core.registry import method_packages

ROOT = Path(__file__).resolve().parents[1]
PARTS = {  # name -> module run with python -m
    "plan": "experiments.plan",
    "prepare": "experiments.prepare",
    "store": "benchmarks.store",
}


@dataclass(frozen=True)
class Command:
    """A command line to forward to: ``python SCRIPT`` or ``python -m MODULE``."""

    name: str
    module: str
    path: Path

    @property
    def what(self) -> str:
        """What it does, in a line."""
        return manual.first_line(manual.docstring(self.path))

    @property
    def typed(self) -> str:
        """The command it stands for."""
        path = self.path.relative_to(ROOT).as_posix()
        return f"python {path}" if self.path.parent.name == "benchmarks" else f"python -m {self.module}"

    def run(self, words: Sequence[str]) -> None:
        """Run it in this process, as if it had been typed; it ends the process with its exit code."""
        sys.argv[:] = [str(self.path), *words]
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)


def scripts() -> list[Command]:
    """The scripts of benchmarks/: what one types there."""
    files = sorted((ROOT / "benchmarks").glob("[!_]*.py"))
    return [Command(path.stem.replace("_", "-"), f"benchmarks.{path.stem}", path) for path in files]


def families() -> list[Command]:
    """The families of methods that are run with ``python -m``."""
    files = [ROOT / package / "__main__.py" for package in method_packages() if package != "benchmarks"]
    return [Command(path.parent.name, path.parent.name, path) for path in files if path.is_file()]


def parts() -> list[Command]:
    """Parts of experiments/ and benchmarks/ that are run by themselves."""
    return [Command(name, module, ROOT / module.replace(".", "/") / "__main__.py") for name, module in PARTS.items()]
