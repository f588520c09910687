"""Speed of the search for nearest codes, beside the matrix product alone, faiss and vector-quantize-pytorch in one run.

    python benchmarks/search_speed.py

Vectors and codes are standard normal. Seconds are the smallest of ``repeats`` after one warm-up, memory is what that
first call adds to the peak of the process. vector-quantize-pytorch gets fewer vectors where there are many codes,
because its memory is vectors times codes; compare it by nanoseconds per vector.
"""

from __future__ import annotations

from experiments.studies.search_speed import NAMED, search_speed, search_speed_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "speed_search", search_speed_config, NAMED)
ex.main(guarded(search_speed))

if __name__ == "__main__":
    run(ex)
