"""Any table as CSV, Markdown and LaTeX: one look, the right number of digits."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.store import StoreError
from core import atomic, terminal

DIGITS = {"BD-rate (%)": 2, "bpp": 4, "bpd": 4, "PSNR (dB)": 3, "MS-SSIM": 5, "MS-SSIM (dB)": 3, "MSE": 3}
DIGITS |= {"parameters (M)": 2, "encode: kMAC/pixel": 1, "decode: kMAC/pixel": 1}
MISSING = "–"
ESCAPES = {c: "\\" + c for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}


def to_files(frame: pd.DataFrame, stem: str | Path, caption: str) -> list[Path]:
    """Write ``stem`` .csv, .md and .tex (a booktabs table with the caption); returns the three paths.

    Numbers are rounded by the kind of their column; CSV keeps ten significant digits. Raises StoreError.
    """
    base = Path(stem)
    texts = {".csv": to_csv(frame), ".md": to_markdown(frame, caption), ".tex": to_latex(frame, caption, base.name)}
    paths = [base.with_name(base.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        try:
            atomic.write_text(path, text)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another folder.") from error
    return paths


def to_csv(frame: pd.DataFrame) -> str:
    """The table as CSV with numbers to ten significant digits; what is missing is empty."""
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def to_markdown(frame: pd.DataFrame, caption: str) -> str:
    """The caption and a GitHub-flavoured table; columns of numbers are aligned right."""
    right = _right_aligned(frame)
    lines = [f"**{caption}**", "", _markdown_row(str(c) for c in frame)]
    lines.append("|" + "|".join("---:" if r else "---" for r in right) + "|")
    return "\n".join([*lines, *(_markdown_row(row) for row in formatted(frame))]) + "\n"


def for_screen(frame: pd.DataFrame, caption: str) -> str:
    """The table as Markdown for the screen: where it is wider than the terminal, its cells are wrapped."""
    return terminal.fitted(to_markdown(frame, caption))


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A ``table`` environment in the style of booktabs, every text escaped."""
    align = "".join("r" if r else "l" for r in _right_aligned(frame))
    rows = [" & ".join(escape(cell) for cell in row) + r" \\" for row in formatted(frame)]
    head = " & ".join(escape(str(c)) for c in frame) + r" \\"
    top = [r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}", rf"\label{{tab:{label}}}"]
    body = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*top, *body, r"\end{table}"]) + "\n"


def escape(text: str) -> str:
    """Text as LaTeX prints it literally."""
    return "".join(ESCAPES.get(c, c) for c in text)


def formatted(frame: pd.DataFrame) -> list[list[str]]:
    """The cells of all rows as text, numbers rounded by the kind of their column."""
    columns = [str(c) for c in frame]
    return [[_text(v, c) for v, c in zip(row, columns, strict=True)] for row in frame.itertuples(index=False)]


def _right_aligned(frame: pd.DataFrame) -> list[bool]:
    return [any(_is_number(v) for v in frame[c]) for c in frame]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(value: Any, column: str) -> str:
    if value is None or (_is_number(value) and math.isnan(value)):
        return MISSING
    if not _is_number(value):
        return str(value)
    if not math.isfinite(value) or isinstance(value, numbers.Integral):
        return str(value)
    sign = "+" if column.startswith("BD-") else ""
    return f"{value:{sign}.{_digits(column)}f}"


def _digits(column: str) -> int:
    if column.endswith(("images)", ", published")):
        return DIGITS["bpd"]
    return DIGITS.get(column, 3)
