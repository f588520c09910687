"""Request for an evaluation, typed: built once from Sacred's configuration, or by other code from its own facts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from core.codec import Point, TesseraError
from core.places import default_results
from core.registry import discover
from experiments.wiring import changed, sequence


@dataclass(frozen=True)
class Asked:
    """A method by name, and the parameters that were set; all others have their defaults."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Methods at points on images: what ``experiments.evaluate`` measures, and where the results go."""

    methods: tuple[Asked, ...]
    points: tuple[Point, ...] | None = None  # None: each method's own
    dataset: str = "sample"
    limit: int | None = None  # only the first images
    alpha: str | None = None  # white or black: what is put behind transparent pictures of folder:PATH
    depth: int | None = None  # 8: pictures of folder:PATH are converted to 8 bits
    rate: str = "file"  # or a name in ``HasRates.rates``
    device: str = "cpu"
    weights: str = "auto"  # auto, official, ours, or a path
    seed: int = 0  # of weights that were trained here
    search: int = 0  # effort of a search at the encoder
    results: str = field(default_factory=default_results)
    data_root: str | None = None  # None: TESSERA_DATA, ./data
    jobs: int | None = 1  # cells measured at once; None: as many as there are processors
    keep_images: bool = False  # decoded pictures

    @classmethod
    def of(cls, config: Mapping[str, Any], given: Collection[str] | None = None) -> Self:
        """The evaluation a configuration asks for; options that its command does not have are as by default.

        ``given`` names the parameters that count as set although they have their defaults: those on the command line
        that runs, unless it is given. Raises ``TesseraError`` for options that do not go together.
        """
        discover()
        plain = {f.name: config[f.name] for f in fields(cls)[2:] if f.name in config}
        params = changed(config["params"], config["method"], given)
        points = sequence(config["points"]) if "points" in config else None
        several = sequence(config["methods"]) if "methods" in config else None
        if several is not None and (params or points is not None):
            raise TesseraError(
                "params.NAME=... and points=... go with method=NAME, not with methods=...: run it by itself."
            )
        methods = tuple(Asked(str(name)) for name in dict.fromkeys(several or ())) or (Asked(config["method"], params),)
        plain["weights"], plain["results"] = str(config["weights"]), str(config["results"])
        return cls(methods, tuple(dict.fromkeys(points)) if points else None, **plain)

    @property
    def names(self) -> list[str]:
        """Names of the methods."""
        return [asked.name for asked in self.methods]

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return Path(self.results)
