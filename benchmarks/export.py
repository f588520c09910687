"""Points of curves, measured and published, as files that other programs read.

    python benchmarks/export.py with dataset=kodak folder=points                # CompressAI's JSON, a file per curve
    python benchmarks/export.py with dataset=kodak curves=qres3m_vr,vtm18 folder=points
    python benchmarks/export.py with dataset=kodak format=csv folder=points     # one file of all points
    python -m compressai.utils.plot -f points/kodak/*.json -m psnr-rgb          # what draws the former

The JSON is what CompressAI writes and its compressai.utils.plot reads: name, description, and results with lists of
bpp, psnr-rgb, ms-ssim-rgb, ...; beside them stands where the numbers come from. MS-SSIM is linear there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.bd_table import one_set, parse_limit
from benchmarks.curves import compressai, given, tidy
from benchmarks.store import Store
from core import commandline
from core.codec import TesseraError
from core.places import default_results

DEFAULTS = {
    "dataset": "kodak",
    "curves": "",  # labels, and files of your own to convert; default: all, measured and published
    "limit": "",  # the limit= of the measurements; default: those without one
    "format": "compressai",  # or csv
    "folder": "points",  # where the files go
    "results": default_results(),
}


def export(options: dict[str, str]) -> None:
    """Write the files and say where they are."""
    if options["format"] not in ("compressai", "csv"):
        raise TesseraError(f"format={options['format']} must be compressai or csv.")
    labels, own = given.asked(options["curves"])
    found, title, _ = one_set(
        Store(options["results"]), options["dataset"], parse_limit(options["limit"]), may_be_empty=bool(own)
    )
    mine = given.read(own, options["dataset"], title)
    if own and not labels:
        found = []
    write = compressai.export if options["format"] == "compressai" else tidy.export
    paths = write(given.chosen(found, labels, mine), Path(options["folder"]))
    print(*paths, sep="\n") if len(paths) < 4 else print(f"{len(paths)} files in {paths[0].parent}")


if __name__ == "__main__":
    sys.exit(commandline.run("export.py", __doc__, DEFAULTS, export, sys.argv[1:]))
