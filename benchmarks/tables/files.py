"""Any table as CSV, Markdown and LaTeX: one look, the right number of digits."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.store import StoreError
from core import atomic, terminal
from core.codec import TesseraError
from core.registry import unknown

DIGITS = {"BD-rate (%)": 2, "bpp": 4, "bpd": 4, "PSNR (dB)": 3, "MS-SSIM": 5, "MS-SSIM (dB)": 3, "MSE": 3}
DIGITS |= {"parameters (M)": 2, "encode: kMAC/pixel": 1, "decode: kMAC/pixel": 1}
MISSING = "–"
WIDTHS = {"column": 252.0, "page": 516.0}  # points: of a page of two columns, as IEEE and CVPR have it
SIZES = {r"\small": 9.0, r"\footnotesize": 8.0, r"\scriptsize": 7.0}  # of type, in points
LETTER, GAP = 0.5, 6.0  # widths: of a character in ems, between columns in points
NARROWEST = 60.0  # points of a column whose texts are broken into lines
OPTIONAL = ("note", "interpolation", "points", "BD-", "95 % interval", "peak memory", "decode", "encode", "MSE", "bpd")
MINUS = re.compile(r"(?<![\w.])-(?=\d)")
NUMERIC = re.compile(r"[\[(]?[+-]?\d[\d.,/+\-\]) %†]*(?: to -?\d[\d.]*(?: †)?)?")
ESCAPES = {c: "\\" + c for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}


def to_files(
    frame: pd.DataFrame, stem: str | Path, caption: str, width: str = "auto", whole: bool = False
) -> list[Path]:
    """Write ``stem`` .csv, .md and .tex (a booktabs table with the caption); returns the three paths.

    Numbers are rounded by the kind of their column; CSV keeps ten significant digits. ``width`` and ``whole`` are
    for the LaTeX table, see ``to_latex``. Raises StoreError.
    """
    base = Path(stem)
    latex = to_latex(frame, caption, base.name, width, whole)
    texts = {".csv": to_csv(frame), ".md": to_markdown(frame, caption), ".tex": latex}
    paths = [base.with_name(base.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        try:
            atomic.write_text(path, text)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another folder.") from error
    return paths


def chosen(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns that a user names, in that order: 'BD-rate' is enough for 'BD-rate (%)', whatever the case.

    All for none; UnknownName where nothing, or more than one thing, is meant.
    """
    return frame[[_meant(name, [str(c) for c in frame]) for name in columns]] if columns else frame


def _meant(name: str, known: Sequence[str]) -> str:
    asked = name.casefold()
    for fits in (lambda c: c == asked, lambda c: re.split(r" [(]|, ", c)[0] == asked, lambda c: asked in c):
        found = [c for c in known if fits(c.casefold())]
        if len(found) == 1:
            return found[0]
    raise unknown("column", name, known)


def renamed(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The table with other names for its curves."""
    return frame.assign(curve=[names.get(c, c) for c in frame["curve"]]) if names and "curve" in frame else frame


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


def to_latex(frame: pd.DataFrame, caption: str, label: str, width: str = "auto", whole: bool = False) -> str:
    """A table in the style of booktabs, every text escaped, numbers to the right with a real minus, no empty column.

    ``width`` is 'column' or 'page' of a page of two columns, or 'auto': the first that holds it. What is too wide
    loses columns that say the least (``OPTIONAL``) unless the table is to stay ``whole``, then gets smaller type, then
    names over several lines. TesseraError for another width.
    """
    if width not in ("auto", *WIDTHS):
        raise TesseraError(f"width={width} of a table must be auto, {' or '.join(WIDTHS)}.")
    shown = _without_empty(frame)
    least = {w: shown if whole else _narrowed(shown, w) for w in WIDTHS}
    if width == "auto":
        width = next((w for w in WIDTHS if _excess(least[w], w) <= _spare(shown)), "page")
    shown = least[width]
    size = next((s for s, pt in SIZES.items() if _points(shown, pt) <= WIDTHS[width]), r"\scriptsize")
    place = "table" if width == "column" else "table*"
    kinds = _alignment(shown, width)
    rows = [" & ".join(map(_latex_cell, row, kinds)) + r" \\" for row in formatted(shown)]
    head = " & ".join(escape(str(c)) for c in shown) + r" \\"
    top = [rf"\begin{{{place}}}[tb]", r"\centering", rf"\caption{{{escape(caption)}}}", rf"\label{{tab:{label}}}"]
    top += [rf"{size}\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}"]
    body = [
        rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*top, *body, rf"\end{{{place}}}"]) + "\n"


def _without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns in which some row says something."""
    columns = list(zip(*formatted(frame), strict=True)) or [("",)] * len(frame.columns)
    said = [any(cell not in ("", MISSING) for cell in column) for column in columns]
    return frame.loc[:, said] if any(said) else frame


def _narrowed(frame: pd.DataFrame, width: str) -> pd.DataFrame:
    """The table without what says the least, as far as it must be to fit in small type."""
    for start in OPTIONAL:
        if _points(frame, SIZES[r"\footnotesize"]) <= WIDTHS[width]:
            break
        frame = frame[[c for c in frame if not str(c).startswith(start) or str(c).startswith("BD-rate")]]
    return frame


def _widths(frame: pd.DataFrame, size: float) -> list[float]:
    """How wide the columns are about, in points, in type of a size."""
    columns = zip(*[[str(c) for c in frame], *formatted(frame)], strict=True)
    return [max(map(len, column)) * LETTER * size + GAP for column in columns]


def _excess(frame: pd.DataFrame, width: str) -> float:
    """By how many points a table in the smallest type is too wide."""
    return sum(_widths(frame, SIZES[r"\scriptsize"])) - WIDTHS[width]


def _spare(frame: pd.DataFrame) -> float:
    """How many points the widest column of text gives when it is broken into lines."""
    widths = zip(_widths(frame, SIZES[r"\scriptsize"]), _numeric(frame), strict=True)
    return max((w for w, number in widths if not number), default=0.0) - NARROWEST


def _latex_cell(cell: str, kind: str) -> str:
    """A cell with a real minus; in a column of broken lines names may break behind an underscore."""
    text = MINUS.sub("$-$", escape(cell))
    return text.replace(r"\_", r"\_\allowbreak{}") if kind.startswith("p") else text


def _alignment(frame: pd.DataFrame, width: str) -> list[str]:
    """The columns as LaTeX has them; where the table is too wide, the widest text is broken into lines."""
    right, widths, excess = _numeric(frame), _widths(frame, SIZES[r"\scriptsize"]), _excess(frame, width)
    kinds = ["r" if r else "l" for r in right]
    texts = [i for i, r in enumerate(right) if not r]
    if excess > 0 and texts:
        widest = max(texts, key=lambda i: widths[i])
        kinds[widest] = rf"p{{{max(NARROWEST, widths[widest] - GAP - excess):.0f}pt}}"
    return kinds


def _points(frame: pd.DataFrame, size: float) -> float:
    """How wide a table is about, in points, in type of a size."""
    return sum(_widths(frame, size))


def _numeric(frame: pd.DataFrame) -> list[bool]:
    """Which columns hold numbers, or texts that are made of them, such as intervals."""
    right, rows = _right_aligned(frame), formatted(frame)
    texts = [[row[i] for row in rows if row[i] not in ("", MISSING)] for i in range(len(right))]
    return [r or (bool(t) and all(NUMERIC.fullmatch(v) for v in t)) for r, t in zip(right, texts, strict=True)]


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
