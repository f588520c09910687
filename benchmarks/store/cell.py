"""The identity of a result: what was measured, on which images, with which weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from core.codec import Point, TesseraError
from core.registry import METHODS


class StoreError(TesseraError):
    """Results that cannot be written, or a cell that cannot be read."""


@dataclass(frozen=True)
class Cell:
    """The identity of one evaluation: what was measured, on which images, with which weights.

    ``variant`` holds the method's parameters except the one that moves along the curve; its values must be JSON
    values (tuples and NumPy scalars are converted, 16.0 becomes 16). Two equal cells have one key.
    ``pictures`` is the fingerprint of what was measured: other pictures under the same names are another cell. It is
    empty in cells that were stored before keys had it; their record beside the key says it (``CellResult.pictures``).
    """

    method: str
    variant: Mapping[str, Any]
    point: Point | None
    dataset: str
    split: str
    limit: int | None = None
    seed: int = 0
    checkpoint: str = ""
    rate: str = "file"
    device: str = "cpu"
    pictures: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "variant", plain(dict(self.variant)))
        object.__setattr__(self, "point", plain(self.point))

    @property
    def json(self) -> str:
        """The canonical JSON: sorted keys, no spaces; without ``pictures`` where they are empty, as it always was."""
        facts = {name: value for name, value in asdict(self).items() if value or name != "pictures"}
        return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def key(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.json.encode()).hexdigest()[:16]

    @property
    def question(self) -> str:
        """What was asked, whatever the pictures: the key of the same cell without them."""
        return replace(self, pictures="").key

    @property
    def label(self) -> str:
        """Display name for progress lines; tables use ``CellResult.label``, which needs no registered method."""
        cls = METHODS.get(self.method)
        return variant_label(self.method, self.variant, cls.parameters() if cls else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """The cell of a parsed JSON object; TypeError on missing or unknown fields."""
        return cls(**values)


def plain(value: Any) -> Any:
    """A value as JSON has it: tuples become lists, NumPy scalars numbers, whole floats integers."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(k): plain(value[k]) for k in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise StoreError(f"a cell cannot be identified by the value {value}: use a finite number.")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def variant_label(method: str, variant: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """'jpeg', or 'jpeg(subsampling=4:4:4)': only parameters that differ from the defaults are shown."""
    shown = [f"{k}={v}" for k, v in sorted(variant.items()) if k not in defaults or plain(defaults[k]) != v]
    return f"{method}({', '.join(shown)})" if shown else method
