"""The table of LL-VQ-VAE, published beside measured: distinct vectors, quality, entropy, coded bits, pictures.

    python benchmarks/llvq_table.py with weights=FOLDER     # of the official files
    python benchmarks/llvq_table.py with dataset=fashion_mnist quantizers=sparse

Distinct vectors are counted over all training images; everything else is of the evaluation split, with the coder's
counts from training images. Rows that exist are not computed again. A data set that is not here leaves its published
numbers alone in the table.
"""

from __future__ import annotations

from experiments.studies.llvq import NAMED, llvq, llvq_config
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "codebook_llvq", llvq_config, NAMED)
ex.main(guarded(llvq))

if __name__ == "__main__":
    run(ex)
