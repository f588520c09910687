"""Long work on machines that may vanish: a training and a sweep ended at random points end as if undisturbed.

    python benchmarks/preemption.py                     # 50 ends; some ten minutes on a quiet machine
    python benchmarks/preemption.py with kills=500 seed=1
    python benchmarks/preemption.py with smoke

Ended by SIGTERM, SIGKILL, a full disk, with a second process in the same folder, and while the clock jumps; results are
compared byte for byte. Writes results/tables/preemption and results/records/preemption.json.
"""

from __future__ import annotations

from experiments.studies.preemption import NAMED, preemption, preemption_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "preemption", preemption_config, NAMED)
ex.main(guarded(preemption))

if __name__ == "__main__":
    run(ex)
