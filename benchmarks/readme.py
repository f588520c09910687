"""Put the generated tables into README.md, the model cards and pages of methods: no number there is typed by hand.

    python benchmarks/readme.py            # rewrite the blocks between '<!-- table: NAME -->' and '<!-- end -->'
    python benchmarks/readme.py check=yes  # exit 2 when a page does not match results/tables

NAME is a file of results/tables without its suffix, optionally followed by the columns to show:
``<!-- table: bd_psnr_kodak | curve; BD-rate (%) -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from benchmarks.curves.bd import NARROW_MARK, NARROW_NOTE
from core import atomic, commandline
from core.codec import TesseraError

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: (?P<name>[^|>]+?)(?: \| (?P<columns>[^>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, tables: Path) -> str:
    """The text with every block replaced by its table as Markdown; TesseraError when a table is missing."""
    return BLOCK.sub(lambda block: block[1] + _table(block, tables) + block[4], text)


def pages() -> list[Path]:
    """The pages with generated tables: README.md, and those of model cards and pages of methods that have any."""
    others = [*sorted((ROOT / "checkpoints").glob("*/README.md")), *sorted((ROOT / "docs" / "methods").glob("*.md"))]
    return [ROOT / "README.md", *(path for path in others if BLOCK.search(path.read_text()))]


def _table(block: re.Match[str], tables: Path) -> str:
    path = tables / f"{block['name'].strip()}.md"
    if not path.is_file():
        raise TesseraError(f"a page wants {path}, which is not there: run ./run_all.sh report first.")
    rows = [line for line in path.read_text().splitlines() if line.startswith("|")]
    foot = (
        f"\n{NARROW_MARK} {NARROW_NOTE[0].upper()}{NARROW_NOTE[1:]}.\n" if any(NARROW_MARK in r for r in rows) else ""
    )
    if not block["columns"]:
        return "\n".join(rows) + f"\n{foot}"
    frame = pd.DataFrame([_cells(row) for row in rows[2:]], columns=_cells(rows[0]))
    wanted = [name.strip() for name in block["columns"].split(";")]
    lines = [wanted, ["---"] * len(wanted), *frame[wanted].to_numpy().tolist()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + foot


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def update(options: dict[str, str]) -> None:
    """Rewrite the pages, or compare them when ``check`` is yes."""
    for path in pages():
        before = path.read_text()
        after = filled(before, ROOT / "results" / "tables")
        if after != before and options["check"] == "yes":
            raise TesseraError(f"{path.name} does not match results/tables: run python benchmarks/readme.py.")
        if after != before:
            atomic.write_text(path, after)


if __name__ == "__main__":
    sys.exit(commandline.run("readme.py", __doc__, {"check": "no"}, update, sys.argv[1:]))
