"""Base of the classical codecs: checked parameters, and a note with versions that is written on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any, ClassVar

from benchmarks.classical import stills
from core.codec import Method, TesseraError

CHROMA = ("4:4:4", "4:2:0")
THUMBNAILS = frozenset({"cifar10", "imagenet32", "fashion_mnist"})  # 32x32 and smaller


@dataclass(frozen=True)
class Range:
    """The numbers a parameter may take, both ends included."""

    low: float
    high: float
    whole: bool = True

    def __contains__(self, value: object) -> bool:
        kinds = int if self.whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{'an integer' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"


Limits = Mapping[str, Range | tuple[Any, ...]]  # parameter -> what it may be


class Anchor(Method):
    """A classical codec: parameters are checked when it is made, and ``note`` is written when it is asked for."""

    limits: ClassVar[Limits] = {}
    origin: ClassVar[tuple[str, str, str]] = ("", "", "")  # package, its name for the library, the library's own name
    counts: ClassVar[str] = "rate = the whole file"  # what is fixed beside the parameters, and what the rate counts

    no_thumbnails: ClassVar[str] = ""  # why it is not run on sets of 32x32 images, after its name; '' where it is

    def __post_init__(self) -> None:
        for name, allowed in self.limits.items():
            value = getattr(self, name)
            if value not in allowed:
                offer = allowed if isinstance(allowed, Range) else "one of " + ", ".join(map(str, allowed))
                raise TesseraError(f"parameter {name}={value!r} of {self.name} must be {offer}")

    def library(self) -> str:
        """Name and version of what codes the image."""
        return stills.version(*self.origin)

    @property
    def note(self) -> str:  # type: ignore[override]  # reading it may load a library, so it is no class attribute
        """Library, version, parameters, and what the rate counts."""
        values = (f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.name != self.curve)  # type: ignore[arg-type]
        return ", ".join((self.library(), *values, self.counts))

    def skip(self, dataset: str) -> str | None:
        """A sentence when the package it runs on is not installed, or the data set holds images too small for it."""
        if self.no_thumbnails and dataset in THUMBNAILS:
            return f"{self.name} {self.no_thumbnails}"
        package = self.origin[0]
        module = "PIL" if package == "pillow" else package.replace("-", "_")
        return f"{self.name} needs {package}: run pip install {package}" if find_spec(module) is None else None
