"""Options that users type: what each may be, in one table for every command.

``RULES`` goes by the option's name, which means the same in every command; an option without a rule is checked against
the type of its default. Values are those of ``NAME=VALUE`` read as Python literals, or of a configuration file.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.codec import TesseraError

MOST = 2**31 - 1  # of counts
WORD = (str, int, float)


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``."""

    low: int = 0
    high: int = MOST

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number, at least {self.low}{'' if self.high == MOST else f' and at most {self.high}'}"


@dataclass(frozen=True)
class Number:
    """A finite number from ``low`` to ``high``; without ``low`` itself where it is ``above``."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        lower = f"{'above' if self.above else 'at least'} {self.low:g}" if self.low > -math.inf else ""
        upper = f"at most {self.high:g}" if self.high < math.inf else ""
        return " and ".join(filter(None, (f"a number {lower}".strip(), upper)))


@dataclass(frozen=True)
class Text:
    """Words, not empty."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and bool(value.strip())

    def __str__(self) -> str:
        return "text, not empty"


@dataclass(frozen=True)
class Words:
    """One word or number, or several as a,b; not empty."""

    def __contains__(self, value: object) -> bool:
        several = value if isinstance(value, (list, tuple)) else [value]
        return bool(several) and all(self._good(one) for one in several)

    @staticmethod
    def _good(one: object) -> bool:
        if isinstance(one, bool) or not isinstance(one, WORD):
            return False
        return bool(one.strip(" ,")) if isinstance(one, str) else math.isfinite(one)

    def __str__(self) -> str:
        return "a word or number, or several as a,b"


@dataclass(frozen=True)
class Numbers:
    """Numbers above 0, as a,b."""

    def __contains__(self, value: object) -> bool:
        several = value if isinstance(value, (list, tuple)) else [value]
        return bool(several) and all(one in Number(0, above=True) for one in several)

    def __str__(self) -> str:
        return "numbers above 0, as a,b"


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    known: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(one) and value == one for one in self.known)

    def __str__(self) -> str:
        return " or ".join(map(str, self.known))


Rule = Whole | Number | Text | Words | Numbers | OneOf
MAY_BE_EMPTY = frozenset({"limit", "published"})
COUNT, SEED, POSITIVE = Whole(1), Whole(0, 2**63 - 1), Number(0, above=True)
SWITCH = OneOf((True, False))
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("method", "dataset", "results", "source", "experiment", "anchor", "metric", "rate", "split"), Text()
    ),
    **dict.fromkeys(("weights", "device", "output", "url", "schedule", "optimizer", "data_root"), Text()),
    **dict.fromkeys(("folder", "init", "reference"), Text()),
    **dict.fromkeys(("methods", "points", "coders", "devices", "batches", "kinds", "curves", "published"), Words()),
    **dict.fromkeys(("quantizers", "input", "names", "columns"), Words()),
    **dict.fromkeys(("batch", "cycles", "threads", "log_every", "save_every", "repeats", "seeds"), COUNT),
    **dict.fromkeys(("vectors", "samples", "block_samples", "processes", "size", "height", "width", "n"), COUNT),
    **dict.fromkeys(("coded", "mutations", "jobs"), COUNT),
    **dict.fromkeys(("limit", "steps"), Whole()),  # 0 is refused where it is known of what
    "seed": SEED,
    "bootstrap": Whole(0, 10**6),
    "alpha": OneOf(("white", "black")),
    "depth": OneOf((8,)),
    "figures": SWITCH,
    "amp": OneOf((True, False, "auto")),
    "check": OneOf(("yes", "no")),
    "scales": Numbers(),
    **dict.fromkeys(("lr", "clip", "limit_s", "connect_s", "read_s"), POSITIVE),
    "ema": Number(0, 1),
    "signed": Number(0, 1),
    "temperature": Number(0),
}


def literal(text: str) -> Any:
    """What a user typed as a Python value: a number, True, None, a tuple; other text as it is."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()
    except (TypeError, MemoryError, RecursionError):
        raise TesseraError(f"{text[:40]} cannot be read as a value; write a number, text, or several as a,b.") from None


def check(name: str, value: Any, default: Any, typed: str | None = None) -> None:
    """Raise ``TesseraError`` for a value that an option cannot have, ``typed`` being what the user wrote.

    None and an empty value are good where the default is one of them, and for some options: no limit, no curves.
    """
    if (value is None or value == "") and (default in (None, "") or name in MAY_BE_EMPTY):
        return
    rule = _rule(name, default)
    if isinstance(default, dict) or rule is None:
        good, wanted = isinstance(value, dict) == isinstance(default, dict), "written as NAME.PART=VALUE"
    else:
        good, wanted = value in rule, str(rule)
    if not good:
        raise TesseraError(f"{name}={value if typed is None else typed} must be {wanted}.")


def check_text(name: str, text: str, default: str) -> None:
    """``check`` for a command whose options are all text, with a default written as the user would."""
    rule = _rule(name, literal(default))
    check(name, text if isinstance(rule, Text) else literal(text), literal(default), text)


def _rule(name: str, default: Any) -> Rule | None:
    """The rule of an option; None where anything goes that is no dictionary."""
    if isinstance(default, bool):
        return SWITCH
    if name in RULES and not (default and isinstance(default, str) and isinstance(RULES[name], Whole)):
        return RULES[name]  # a word is no count: width=column of figures and tables
    if isinstance(default, int):
        return Whole(0, 2**63 - 1)
    if isinstance(default, float):
        return Number()
    return Text() if isinstance(default, str) else None
