"""Cost of a training step, with plain torch and with the compiled kernels, interleaved on the same machine.

    python benchmarks/train_speed.py
    python benchmarks/train_speed.py with methods=qres34m_vr batch=4 crop=128 repeats=10

Two processes of one thread take the same steps of the same untrained model in turns: one with TESSERA_KERNELS=0, one
with kernels and memory that is kept. Seconds are process CPU time; the ratio is the median over neighbouring steps.
Each also says how far the untrained model's gradients under bfloat16 autocast are from those in float32, as a share of
their norm.
"""

from __future__ import annotations

from experiments.studies.train_speed import NAMED, train_speed, train_speed_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "speed_training", train_speed_config, NAMED)
ex.main(guarded(train_speed))

if __name__ == "__main__":
    run(ex)
