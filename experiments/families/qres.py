"""Commands of the quantised hierarchical VAEs besides those of every family."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.family import Command, Offer

FIGURES = ("sample", "progressive", "bits", "preview", "interpolate", "inpaint")
COMMANDS = {
    **dict.fromkeys(FIGURES, Command("experiments.families.qres_figures")),
    "sizes": Command("experiments.studies.official_sizes"),
    "pictures": Command("experiments.studies.qres_pictures"),
}


def offer(words: Sequence[str]) -> Offer:
    """The command line of ``python -m qres``."""
    return Offer(words, {"method": "qres3m_vr"}, COMMANDS)
