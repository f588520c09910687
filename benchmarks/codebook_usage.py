"""Use of codebooks on a data set: effective size, perplexity, entropy, dead codes, beside bits and distortion.

    python benchmarks/codebook_usage.py with dataset=fashion_mnist methods=vqvae,vqvae_ema,fsq limit=1000
    python benchmarks/codebook_usage.py with dataset=fashion_mnist method=vqvae_ema points=64 weights=PATH

``vqvae_table.py`` has all of it for the VQ-VAE family, ``llvq_table.py`` is the table of LL-VQ-VAE.

Cells that exist are not computed again, and every stored cell of these methods is shown, whatever weights it was
measured with: one command per checkpoint, then one with all methods. The table goes to <results>/tables, the figures
to <results>/figures.
"""

from __future__ import annotations

from typing import Any

from benchmarks.curves.usage import counted, usage_table
from benchmarks.figures import paper
from benchmarks.figures.usage import usage_figures
from benchmarks.store import Store
from benchmarks.store.names import set_name, stem_of
from benchmarks.tables.files import for_screen, to_files
from core.codec import TesseraError
from core.registry import METHODS
from experiments.evaluate import evaluate, evaluation_config, say
from experiments.request import Evaluation
from experiments.wiring import experiment, guarded, run_or_moved, with_defaults

ex = experiment(__file__, "codebook_usage", evaluation_config, {"smoke": {"limit": 2}})
with_defaults(ex, {"method": "vqvae_ema", "dataset": "fashion_mnist", "keep_images": False})


@ex.main
@guarded
def codebook_usage(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure what is missing, then print and write the table and the figures of every stored cell asked for."""
    request = Evaluation.of(config)
    names = request.names
    for name in names:
        METHODS[name]  # an unknown name is answered before anything is measured
    outcome = evaluate(request, str(sacred_run._id or ""))
    images = outcome.images
    assert images is not None
    cells = counted(Store(request.results), images.name, names)
    asked = (images.split, images.limit, outcome.pictures)
    cells = [r for r in cells if (r.cell.split, r.cell.limit, r.pictures) == asked]
    if not cells and not outcome.failed:
        raise TesseraError(f"no stored cell of {', '.join(names)} on {request.dataset} has codes: measure them first.")
    if cells:
        title = cells[0].about["title"]
        frame = usage_table(cells)
        print(for_screen(frame, f"Codebook usage on {title}"))
        name = stem_of(f"{set_name(request.dataset, title, outcome.pictures)}_{'+'.join(names)}")
        stem = request.folder / "tables" / f"codebook_{name}"
        written = to_files(frame, stem, f"Codebook usage on {title}")
        for figure in usage_figures(cells, name, title):
            written += paper.render(figure, request.folder / "figures")
        print(*written, sep="\n")
    say(outcome)
    return outcome.code


if __name__ == "__main__":
    run_or_moved(ex, {"llvq": "llvq_table", "vqvae": "vqvae_table"})
