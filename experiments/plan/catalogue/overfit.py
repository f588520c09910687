"""The overfitted codec."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import WEEK, curve
from experiments.plan.task import Task

LONG = 10_000  # steps, ten times as many as by default


def overfit() -> Iterator[Task]:
    """Curves on all of Kodak: about two minutes an image and point on a core of its own, and ten times that."""
    yield curve("overfit", "coolchic_small", "kodak", minutes=WEEK)
    yield curve(
        "overfit", "coolchic_small", "kodak", f"params.steps={LONG}", f"coolchic_small-kodak-{LONG}", minutes=2 * WEEK
    )
