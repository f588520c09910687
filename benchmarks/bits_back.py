"""Bits back over a chain of images, in the orders of Bit-Swap, BB-ANS and HiLLoC: net bits, first bits, files.

    python benchmarks/bits_back.py                                   # every image of CIFAR-10's test split that is here
    python benchmarks/bits_back.py with limit=20 rows=Bit-Swap,BB-ANS
    python benchmarks/bits_back.py with files=100                    # only so many images into files of their own

Every chain and every file is decoded again and compared. Writes results/bits_back/ and results/tables/bits_back_<set>.
"""

from __future__ import annotations

from experiments.studies.bits_back import NAMED, bits_back, bits_back_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "bits_back", bits_back_config, NAMED)
ex.main(guarded(bits_back))

if __name__ == "__main__":
    run(ex)
