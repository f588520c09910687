"""Cost of a quantiser per vector: lattices against codebooks, in nanoseconds on one CPU thread.

    python benchmarks/quantizer_speed.py

Latents are standard normal; each number is the median over repeats of the process's CPU time (synchronised wall time
on a GPU) for one call on a batch, divided by its vectors.
"""

from __future__ import annotations

from experiments.studies.quantizer_speed import NAMED, quantizer_speed, quantizer_speed_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "speed_quantizers", quantizer_speed_config, NAMED)
ex.main(guarded(quantizer_speed))

if __name__ == "__main__":
    run(ex)
