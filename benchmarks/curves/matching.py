"""The operating point at a target rate or quality: bisection over the settings of a method, ordered by its curve.

The search knows numbers only: what a setting measures comes from a function. It halves a bracket, two settings with the
target between them, until the target is met or they are neighbours; so it also ends at a crossing where the measured
curve is not monotone, and says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from benchmarks.classical.base import Anchor, Range
from core.codec import Method, Point, TesseraError

STEPS = 4096  # settings tried of a continuous parameter: 12 halvings, well below what moves a rate by a thousandth
LOG_SPAN = 8  # a range whose ends differ by this factor is divided evenly on the logarithmic axis
DIGITS = 5  # significant digits of such a setting
FEW = 16  # so many settings are all measured before a target is said to be out of range


@dataclass(frozen=True)
class Match:
    """How a search ended: the nearest setting tried, and on either side of the target the nearest (None: no such).

    Where the target is in range but not met, ``below`` and ``above`` are neighbours among the settings.
    """

    best: Point
    below: Point | None
    above: Point | None
    within: bool  # the target is met within the tolerance
    in_range: bool  # the target lies between two settings
    monotone: bool  # what was measured moves one way along the curve
    tried: dict[Point, float]


def settings(method: Method) -> tuple[Sequence[Point], tuple[int, int]]:
    """The settings a search may try, in the order of the curve, and the indices to start from.

    A method with weights for each point has its points. One that needs none, or whose one set of weights serves every
    rate, has what lies between its lowest and highest point (whole numbers where the field is an int), and a classical
    codec everything that its parameter may be; the search starts from the span of the points.
    Raises TesseraError for a method without a curve.
    """
    if method.curve is None or not method.points:
        raise TesseraError(f"{method.name} has no setting that moves along a rate-distortion curve.")
    numbers = [p for p in method.points if isinstance(p, (int, float))]
    if len(numbers) < len(method.points) or (method.trains_on and not method.variable_rate):
        return method.points, (0, len(method.points) - 1)
    low, high = min(numbers), max(numbers)
    limit = method.limits.get(method.curve) if isinstance(method, Anchor) else None
    if isinstance(limit, Range):
        kind, span = limit.whole, (limit.low, limit.high)
    else:
        kind, span = _whole(method), method.trained_range or (low, high)
    tried = list(range(math.ceil(span[0]), math.floor(span[1]) + 1)) if kind else _grid(*span)
    if not tried:
        raise TesseraError(f"{method.name} has no setting of {method.curve} between {span[0]} and {span[1]}.")
    return tried, (_nearest(tried, low), _nearest(tried, high))


def _whole(method: Method) -> bool:
    """Whether the field of the curve holds whole numbers."""
    kinds = {f.name: str(getattr(f.type, "__name__", f.type)) for f in fields(method)}  # type: ignore[arg-type]
    return kinds[str(method.curve)] == "int"


def _grid(low: float, high: float) -> list[float]:
    """STEPS + 1 settings from low to high, both included."""
    parts = [i / STEPS for i in range(STEPS + 1)]
    if low > 0 and high / low >= LOG_SPAN:
        values = [low * (high / low) ** part for part in parts]
    else:
        values = [low + (high - low) * part for part in parts]
    return sorted({float(f"{value:.{DIGITS}g}") for value in values} | {float(low), float(high)})


def _nearest(values: Sequence[float], wanted: float) -> int:
    return min(range(len(values)), key=lambda i: abs(values[i] - wanted))


def search(
    tried: Sequence[Point], start: tuple[int, int], measure: Callable[[Point], float], target: float, tolerance: float
) -> Match:
    """The setting whose measured value is nearest to the target, found by bisection.

    ``start`` are the indices of the first two measurements; where the target lies outside of them, the bracket grows to
    the end. The search stops when a value is within ``tolerance`` of the target or no setting is left inside the
    bracket. Where the ends do not enclose the target, a short list is measured whole: its curve may turn.
    """
    values: dict[int, float] = {}

    def off(i: int) -> float:
        if i not in values:
            values[i] = measure(tried[i])
        return values[i] - target

    def met() -> bool:
        return any(abs(value - target) <= tolerance for value in values.values())

    low, high = start
    if off(low) * off(high) > 0 and not met() and start != (0, len(tried) - 1):
        rising = values[high] > values[low]
        if (off(high) < 0) == rising:  # beyond the start's high end
            low, high = high, len(tried) - 1
        else:
            low, high = 0, low
    for i in range(len(tried)) if off(low) * off(high) > 0 and not met() and len(tried) <= FEW else ():
        off(i)
    while not met() and (wide := next((p for p in _brackets(values, target) if p[1] - p[0] > 1), None)):
        off(sum(wide) // 2)
    return _match(tried, values, target, tolerance)


def _brackets(values: Mapping[int, float], target: float) -> list[tuple[int, int]]:
    """Indices measured one after the other, in the order of the curve, with the target between their values."""
    return [(i, j) for i, j in itertools.pairwise(sorted(values)) if (values[i] < target) != (values[j] < target)]


def _match(tried: Sequence[Point], values: Mapping[int, float], target: float, tolerance: float) -> Match:
    best = min(values, key=lambda i: abs(values[i] - target))
    within = abs(values[best] - target) <= tolerance
    neighbours = [pair for pair in _brackets(values, target) if pair[1] - pair[0] == 1]
    nearest = min(neighbours, key=lambda p: sorted(abs(values[i] - target) for i in p), default=tuple(values))
    below = [i for i in nearest if values[i] < target]
    above = [i for i in nearest if values[i] >= target]
    ordered = [values[i] for i in sorted(values)]
    pairs = list(itertools.pairwise(ordered))
    return Match(
        best=tried[best],
        below=tried[max(below, key=lambda i: values[i])] if below else None,
        above=tried[min(above, key=lambda i: values[i])] if above else None,
        within=within,
        in_range=within or bool(_brackets(values, target)),
        monotone=all(a <= b for a, b in pairs) or all(a >= b for a, b in pairs),
        tried={tried[i]: values[i] for i in sorted(values)},
    )
