"""Things registered by name (methods, data sets, metrics) and the discovery of methods.

``discover()`` imports the public modules of the packages that define methods, in sorted order, and then every entry
point of the group ``tessera.methods``, so a third-party package adds a method by declaring one.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from core.codec import Method, TesseraError

FAMILIES = ("lattice", "qres", "rec", "vq")
PLUGINS = ("benchmarks.classical.methods",)  # methods the ruler itself brings: the classical codecs

T = TypeVar("T")


class UnknownName(TesseraError, KeyError):
    """A name that is not registered; the text offers the nearest ones."""

    def __str__(self) -> str:
        return str(self.args[0])


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for an unknown name: one sentence with the nearest known names (or all, when none is near)."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names) or 'none'}."
    return UnknownName(f"unknown {kind} '{name}': {offer}")


class Registry(Mapping[str, T]):
    """A read-only mapping from names to registered things, in order of registration.

    Example: ``METRICS = Registry[Metric]("metric")``, then ``@METRICS.register("psnr")`` on a class or function.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: store the decorated thing under ``name``; a second, different one is refused."""

        def add(item: T) -> T:
            known = self._items.get(name)
            if known is not None and getattr(known, "__qualname__", known) != getattr(item, "__qualname__", item):
                raise ValueError(f"{self.kind} '{name}' is registered twice: {known!r} and {item!r}")
            if isinstance(item, type) and issubclass(item, Method):
                item.name = name
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> T:
        try:
            return self._items[name]
        except KeyError:
            raise unknown(self.kind, name, self._items) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


METHODS: Registry[type[Method]] = Registry("method")


def make_method(name: str, params: Mapping[str, Any] | None = None) -> Method:
    """The method ``name`` with ``params``; unknown parameters are answered with the nearest known ones."""
    cls = METHODS[name]
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for key in params or {}:
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
    return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in (params or {}).items()})


@cache
def discover() -> tuple[str, ...]:
    """Import everything that registers methods (once per process); returns the imported module names."""
    modules = [m for family in FAMILIES if importlib.util.find_spec(family) for m in _public_modules(family)]
    modules += [plugin for plugin in PLUGINS if importlib.util.find_spec(plugin.partition(".")[0])]
    for module in modules:
        importlib.import_module(module)
    plugins = sorted(entry_points(group="tessera.methods"), key=lambda e: e.name)
    for plugin in plugins:
        plugin.load()
    return (*modules, *(p.value for p in plugins))


def _public_modules(package: str) -> list[str]:
    """Sorted dotted names of a package's modules whose names do not start with an underscore."""
    path = importlib.import_module(package).__path__
    return sorted(f"{package}.{m.name}" for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))
