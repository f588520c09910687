"""Relative entropy coding: effective overhead and time against the KL for every coder, with the theorems' lines.

    python benchmarks/rec_overhead.py                             # every coder on both tracks
    python benchmarks/rec_overhead.py with coders=pfr,beam_search
    python benchmarks/rec_overhead.py with paper                  # ten times the samples

Writes results/rec_overhead/, results/tables/rec_overhead_{line,block} and results/figures/rec_overhead_*.
"""

from __future__ import annotations

from experiments.studies.rec_overhead import NAMED, overhead, overhead_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "rec_overhead", overhead_config, NAMED)
ex.main(guarded(overhead))

if __name__ == "__main__":
    run(ex)
