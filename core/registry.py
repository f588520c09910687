"""Things registered by name (methods, data sets, metrics) and the discovery of methods.

``discover()`` reads the packages beside ``core`` whose ``__init__.py`` has the line ``TESSERA_METHODS = True``, imports
those of their files with a line ``@METHODS.register("name")``, and then every entry point of the group
``tessera.methods``, so a file in a family, or a package of somebody else, adds a method and nothing has to list it.
What fails to import is left out with its reason (``METHODS.refused``); nobody else's methods suffer.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from core.codec import Method, TesseraError

ROOT = Path(__file__).resolve().parents[1]  # where this package and those of the methods lie
MARK = re.compile(rb"^TESSERA_METHODS = True\b", re.MULTILINE)
HEAD = 4096  # bytes of an __init__.py in which the mark must stand
REGISTERS = re.compile(r"""^@?(?:\w+\.)*METHODS\.register\((?:["']([^"']+)["'])?""", re.MULTILINE)

T = TypeVar("T")


class UnknownName(TesseraError, KeyError):
    """A name that is not registered; the text offers the nearest ones."""

    def __str__(self) -> str:
        return str(self.args[0])


class Taken(ValueError):
    """A name that is registered already, for something else."""

    def __init__(self, kind: str, name: str, known: object, item: object) -> None:
        super().__init__(f"{kind} '{name}' is registered twice, by {_module(known)} and by {_module(item)}")
        self.name = name


class Unusable(UnknownName):
    """A name whose module cannot be imported here; the text says why."""


@dataclass(frozen=True)
class Refusal:
    """Why what a module registers is not there."""

    module: str
    reason: str  # without a full stop

    def __str__(self) -> str:
        return f"{self.module} cannot be imported here ({self.reason})"


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for an unknown name: one sentence with the nearest known names (or all, when none is near)."""
    names = sorted(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    near = [folded[word] for word in difflib.get_close_matches(str(name).casefold(), folded, n=3, cutoff=0.5)]
    offer = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names) or 'none'}."
    return UnknownName(f"unknown {kind} '{name}': {offer}")


class Registry(Mapping[str, T]):
    """A read-only mapping from names to registered things, in order of registration.

    Example: ``METRICS = Registry[Metric]("metric")``, then ``@METRICS.register("psnr")`` on a class or function.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.refused: dict[str, Refusal] = {}  # by name, or by module where that does not say its names
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: store the decorated thing under ``name``; a second, different one is refused."""

        def add(item: T) -> T:
            known = self._items.get(name)
            if known is not None and getattr(known, "__qualname__", known) != getattr(item, "__qualname__", item):
                raise Taken(self.kind, name, known, item)
            if isinstance(item, type) and issubclass(item, Method):
                item.name = name
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> T:
        try:
            return self._items[name]
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, name: str) -> UnknownName:
        if name in self.refused:
            return Unusable(f"{self.kind} '{name}' cannot be used: {self.refused[name]}.")
        also = "".join(f" {refusal}." for refusal in dict.fromkeys(self.refused.values()))
        return UnknownName(f"{unknown(self.kind, name, self._items)}{also}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def forget_failed(self) -> None:
        """Drop what modules registered whose import then failed."""
        self._items = {name: item for name, item in self._items.items() if _module(item) in sys.modules}


METHODS: Registry[type[Method]] = Registry("method")


def make_method(name: str, params: Mapping[str, Any] | None = None) -> Method:
    """The method ``name`` with ``params``; unknown parameters are answered with the nearest known ones."""
    cls = METHODS[name]
    if name in METHODS.refused:
        _say_taken(name, _module(cls))
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for key in params or {}:
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
    return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in (params or {}).items()})


@cache
def _say_taken(name: str, module: str) -> None:
    """Say once that a method is not the one that somebody's package has under its name."""
    print(f"note: {METHODS.refused[name]}; {name} is the one of {module}.", file=sys.stderr)


@cache
def discover() -> tuple[str, ...]:
    """Import everything that registers methods (once per process); returns the names of the imported modules."""
    done = [_attempt(m, names, importlib.import_module, m) for p in method_packages() for m, names in _registering(p)]
    for plugin in sorted(entry_points(group="tessera.methods"), key=lambda e: e.name):
        done.append(_attempt(plugin.value, [plugin.name], type(plugin).load, plugin))
    return tuple(module for module in done if module)


@cache
def method_packages() -> tuple[str, ...]:
    """Sorted names of the packages beside ``core`` that say they define methods; none is imported."""
    return tuple(sorted(init.parent.name for init in ROOT.glob("*/__init__.py") if _marked(init)))


def reason(error: BaseException) -> str:
    """Why an import failed, in words, and what to do where a package is missing; no full stop."""
    if isinstance(error, ModuleNotFoundError) and error.name and not (ROOT / error.name.partition(".")[0]).is_dir():
        return f"the package {error.name} is not installed: pip install {error.name.partition('.')[0]}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')}"


def _module(item: object) -> str:
    return str(getattr(item, "__module__", __name__))


def _marked(init: Path) -> bool:
    with init.open("rb") as file:
        return MARK.search(file.read(HEAD)) is not None


def _registering(package: str) -> Iterator[tuple[str, list[str]]]:
    """Sorted (module, names it registers) of a package's public files that register methods, at any depth."""
    for path in sorted((ROOT / package).rglob("*.py")):
        *folders, file = path.relative_to(ROOT).with_suffix("").parts
        if file.startswith("_") or any(folder.startswith(("_", ".")) for folder in folders):
            continue
        names = REGISTERS.findall(path.read_text(encoding="utf-8", errors="replace"))
        if names:
            yield ".".join((*folders, file)), [name for name in names if name]


def _attempt(module: str, names: list[str], load: Callable[[Any], Any], argument: Any) -> str | None:
    """The module, loaded; or None, and the reason is kept."""
    try:
        load(argument)
        return module
    except (Exception, SystemExit) as error:  # of somebody's code: anything
        METHODS.forget_failed()
        names = [error.name] if isinstance(error, Taken) else names or [module]
        METHODS.refused.update(dict.fromkeys(names, Refusal(module, reason(error))))
        return None
