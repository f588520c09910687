"""Lossless methods on a data set: bits per dimension of real files that decode to the same samples.

    python benchmarks/lossless_table.py with dataset=kodak
    python benchmarks/lossless_table.py with methods=png,jpegxl_lossless dataset=cifar10 limit=100
    python benchmarks/lossless_table.py with method=rvae_small dataset=cifar10 limit=100 rate=ideal

The table has every lossless cell in the results and the published numbers beside them; the default ``methods`` are all
classical lossless codecs. Rates other than 'file' are what a method's codec can count beside its files
(``core.codec.HasRates``); a second table has them side by side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.store import Store
from benchmarks.tables.files import for_screen, to_files
from benchmarks.tables.results import lossless_rates, lossless_table
from core.registry import METHODS, discover
from experiments.evaluate import evaluate, evaluation_config, say
from experiments.request import Asked, Evaluation
from experiments.wiring import experiment, guarded, run, with_defaults

ex = experiment(__file__, "lossless_table", evaluation_config, {"smoke": {"limit": 1}})
with_defaults(ex, {"method": "png", "keep_images": False})


def classical() -> list[str]:
    """The names of all lossless methods that need no weights."""
    discover()
    return [name for name, method in METHODS.items() if method.lossless and not method.trains_on]


@ex.main
@guarded
def table(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure the lossless methods asked for and print the table."""
    request = Evaluation.of(config)
    if not config["methods"] and request.methods == (Asked("png"),):
        request = replace(request, methods=tuple(map(Asked, classical())))
    outcome = evaluate(request, str(sacred_run._id or ""))
    tables, store = request.folder / "tables", Store(request.results)
    for name, frame, what in (
        ("lossless", lossless_table(store), "Lossless methods"),
        ("lossless_rates", lossless_rates(store), "Lossless methods whose bits are counted in several ways"),
    ):
        if len(frame):
            caption = f"{what}: bits per dimension (mean over images)."
            print(for_screen(frame, caption))
            print(*to_files(frame, tables / name, caption), sep="\n")
    say(outcome)
    return outcome.code


if __name__ == "__main__":
    run(ex)
