"""``python -m benchmarks.store list|sync|publish|migrate``: the results listed, indexed, shipped, or converted."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence

from benchmarks.store.publish import publish
from benchmarks.store.store import Store, StoreError
from core import places
from core.codec import TesseraError
from core.options import check_text


def _listing(store: Store) -> Iterator[str]:
    for result in store.scan()[0]:
        cell = result.cell
        where = f"{cell.dataset} {cell.split} {'all' if cell.limit is None else cell.limit}"
        rate = f"{result.means.get('bpp', math.nan):.4f} bpp"
        yield f"{result.key}  {result.label}  point {cell.point}  {where}  {result.count} images  {rate}"


def _published(results: str, patterns: Sequence[str]) -> int:
    gone, left = publish(results, patterns or ("*",))
    print(*gone, f"{len(gone)} published; now: python benchmarks/report.py with results={places.SHIPPED}", sep="\n")
    print(*left, sep="\n", end="\n" if left else "", file=sys.stderr)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (2 for a failure the user can act on)."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.store", description="List, index, publish or convert results."
    )
    parser.add_argument("command", choices=("list", "sync", "publish", "migrate"))
    parser.add_argument("patterns", nargs="*", help="publish: only names below the folder that match (default: all)")
    usual = places.default_results()
    parser.add_argument("--results", default=usual, help=f"the results folder (default: {usual}, beside the shipped)")
    parser.add_argument("--url", help="SQLAlchemy URL of the database (default: store.sqlite in the results folder)")
    options = parser.parse_args(arguments)
    store = Store(options.results)
    try:
        check_text("results", options.results, "results")
        if options.patterns and options.command != "publish":
            raise StoreError(f"{options.command} takes no patterns: leave {' '.join(options.patterns)} out.")
        if options.command == "publish":
            return _published(options.results, options.patterns)
        if options.command == "sync":
            print(f"{store.sync(options.url)} cells new or changed")
        elif options.command == "migrate":
            from benchmarks.store.migrate import migrate

            print(f"{migrate(store)} cells rewritten")
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
