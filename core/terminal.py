"""The terminal: how wide it is, and whether colours belong there."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap

PAGE = 100  # columns of text that goes to a file or a pipe
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def width() -> int:
    """Columns for text on stdout: those of the terminal, or of COLUMNS; ``PAGE`` for a file or a pipe."""
    return max(40, shutil.get_terminal_size((PAGE, 24)).columns)


def coloured() -> bool:
    """Whether ANSI codes may be printed: to a terminal, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def plain(text: str) -> str:
    """The text without ANSI codes where they do not belong."""
    return text if coloured() else _ANSI.sub("", text)


def fitted(table: str, columns: int | None = None) -> str:
    """A Markdown table for the screen: as it is for a file or a pipe, and where its lines fit the terminal.

    Where they do not, cells are wrapped, the widest columns first, and each row takes as many lines as it needs; where
    the terminal is too narrow even for that, each row becomes a list of ``column: value``.
    """
    if columns is None:
        if not sys.stdout.isatty():
            return table
        columns = width()
    return "\n".join(_fitted(block, columns) for block in _blocks(table))


LEAST = 7  # columns of a cell


def _blocks(text: str) -> list[list[str]]:
    """Lines in groups: those of a table together, others each for itself."""
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|") and blocks and blocks[-1][0].startswith("|"):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    return blocks


def _fitted(lines: list[str], columns: int) -> str:
    if not lines[0].startswith("|") or max(map(len, lines)) <= columns:
        return "\n".join(lines)
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in lines]
    head, body = rows[0], [row for row in rows[1:] if not all(set(cell) <= set(":- ") and cell for cell in row)]
    wide = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    room = columns - 3 * len(head) - 1
    if room < LEAST * len(head):
        return "\n".join(_listed(head, row) for row in body)
    while sum(wide) > room:
        wide[wide.index(max(wide))] -= 1
    rule = "| " + " | ".join("-" * n for n in wide) + " |"
    return "\n".join([_wrapped(head, wide), rule, *(_wrapped(row, wide) for row in body)])


def _wrapped(row: list[str], wide: list[int]) -> str:
    cells = [textwrap.wrap(cell, n) or [""] for cell, n in zip(row, wide, strict=True)]
    lines = [[cell[i] if i < len(cell) else "" for cell in cells] for i in range(max(map(len, cells)))]
    return "\n".join("| " + " | ".join(f"{c:<{n}}" for c, n in zip(line, wide, strict=True)) + " |" for line in lines)


def _listed(head: list[str], row: list[str]) -> str:
    return "\n".join([*(f"{name}: {cell}" for name, cell in zip(head, row, strict=True) if cell), ""])
