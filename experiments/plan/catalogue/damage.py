"""Damaged streams of every family."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import DAY, made
from experiments.plan.catalogue.lattice import LATTICES
from experiments.plan.catalogue.vq import CODEBOOKS
from experiments.plan.task import Task

FUZZED = (  # damaged streams of every family: system, decoders, weights
    ("qres", "methods=qres34m_lossless", "fresh"),
    ("mcquic", "methods=mcquic_small", "ours"),
    ("mcquic", "methods=mcquic", "fresh"),
    ("vqvae", f"methods={','.join(CODEBOOKS)}", "ours"),
    ("llvq", f"methods={','.join(LATTICES)}", "ours"),
    ("rec", "methods=rvae_small,irec2_small", "ours"),
    ("rec", "method=rvae_small params.coder=bits_back", "ours"),
)


def fuzz() -> Iterator[Task]:
    """Damaged streams, 20,000 for each decoder, and work that is ended at random points."""
    yield made("vqvae", "preemption", "python benchmarks/preemption.py", ["tables/preemption.csv"])
    for system, chosen, weights in FUZZED:
        label = chosen.partition("=")[2].replace(" params.", "_").replace("=", "_")  # as the command names its file
        names = label.split(",")
        command = f"python benchmarks/fuzz.py with {chosen} weights={weights} mutations=20000 side=16 signed=0.2"
        short = names[0] if len(names) == 1 else system
        yield made(system, f"fuzz-{short}", command, [f"fuzz/{name}.json" for name in names], minutes=DAY)
