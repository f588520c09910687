"""Defaults of the overfitted codec's commands."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.family import Command, Offer


def offer(words: Sequence[str]) -> Offer:
    """The command line of ``python -m overfit``."""
    return Offer(words, {"method": "coolchic_small"}, {"start": Command("experiments.studies.overfit_start")})
