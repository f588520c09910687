"""Lattices on a toy source with ideal entropy coding: how far above Shannon's bound, as a figure and a table.

    python benchmarks/lattice_gap.py                    # normal2d: A2 reaches 0.4537 bit, no diagonal lattice 0.5092
    python benchmarks/lattice_gap.py with source=banana

Writes results/figures/lattice_gap_<source> and results/tables/lattice_gap_<source>.
"""

from __future__ import annotations

from experiments.studies.lattice_gap import NAMED, gap, gap_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "lattice_gap", gap_config, NAMED)
ex.main(guarded(gap))

if __name__ == "__main__":
    run(ex)
