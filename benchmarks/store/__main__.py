"""``python -m benchmarks.store list|sync``: the results, listed or copied into a database."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence

from benchmarks.store.store import Store
from core.codec import TesseraError
from core.options import check_text


def _listing(store: Store) -> Iterator[str]:
    for result in store.scan()[0]:
        cell = result.cell
        where = f"{cell.dataset} {cell.split} {'all' if cell.limit is None else cell.limit}"
        rate = f"{result.means.get('bpp', math.nan):.4f} bpp"
        yield f"{result.key}  {result.label}  point {cell.point}  {where}  {result.count} images  {rate}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (2 for a failure the user can act on)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description="List or index the results.")
    parser.add_argument("command", choices=("list", "sync"))
    parser.add_argument("--results", default="results", help="the results folder (default: results)")
    parser.add_argument("--url", help="SQLAlchemy URL of the database (default: store.sqlite in the results folder)")
    options = parser.parse_args(arguments)
    store = Store(options.results)
    try:
        check_text("results", options.results, "results")
        if options.command == "sync":
            print(f"{store.sync(options.url)} cells new or changed")
        else:
            for line in _listing(store):
                print(line)
    except TesseraError as error:
        print(error, file=sys.stderr)
        return 2
    for text in [
        *store.scan()[1],
        *(f"failed: {f.cell.label} on {f.cell.dataset}: {f.text}" for f in store.failures()),
    ]:
        print(text, file=sys.stderr)
    return 0


if __name__ == "__main__":
    from core.commandline import piped

    sys.exit(piped(main))
