"""Help texts, made from what is there already: the docstring of a script, and its options with their comments.

An option is a line ``name = value  # comment`` of a config scope, or ``"name": value,  # comment`` of a dictionary of
defaults; both are read from the source, so that nothing has to be imported or run to be explained.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import terminal
from core.places import default_results

GAP = 2  # blanks between columns
WORDS = ("help", "-h", "--help")


@dataclass(frozen=True)
class Option:
    """An option: its default as one would type it ('' for a group of options), and what its comment says."""

    name: str
    default: str
    what: str = ""

    @property
    def typed(self) -> str:
        """``name=default``, and ``name.NAME=VALUE`` for a group such as params."""
        return f"{self.name}={self.default}" if self.default else f"{self.name}.NAME=VALUE"


def docstring(path: str | Path) -> str:
    """The docstring of a Python file, which is not imported; '' where it has none or cannot be read."""
    try:
        return ast.get_docstring(ast.parse(Path(path).read_text(encoding="utf-8"))) or ""
    except (OSError, SyntaxError, ValueError):
        return ""


def first_line(text: str | None) -> str:
    """The first sentence of a docstring's first paragraph, on one line without its full stop and backquotes."""
    paragraph = " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
    return re.split(r"(?<![.\s])(?<!\b[A-Z])\.\s+(?=[A-Z])", paragraph.replace("``", ""))[0].rstrip(".:")


def command_line(path: Path, word: str) -> str:
    """What a command does, in a line: of the body that a file's dictionary ``COMMANDS`` has for ``word``."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ""
    documented = {n.name: ast.get_docstring(n) for n in tree.body if isinstance(n, ast.FunctionDef)}
    for table in (n.value for n in tree.body if isinstance(n, (ast.Assign, ast.AnnAssign))):
        for key, value in zip(table.keys, table.values, strict=True) if isinstance(table, ast.Dict) else ():
            if isinstance(key, ast.Constant) and key.value == word and isinstance(value, ast.Tuple):
                body = value.elts[1] if len(value.elts) > 1 else None
                return first_line(documented.get(body.id)) if isinstance(body, ast.Name) else ""
    return ""


def scope_options(scope: Callable[..., Any], defaults: Mapping[str, Any] | None = None) -> list[Option]:
    """The options of a config scope, a function whose local variables they are; ``defaults`` replace its own."""
    source = textwrap.dedent(inspect.getsource(scope))
    comments, body = _comments(source), ast.parse(source).body[0]
    assert isinstance(body, ast.FunctionDef)
    found = []
    for node in body.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            found.append(_option(name, node.value, comments.get(node.end_lineno or 0, "")))
    given = {name: _typed(value) for name, value in (defaults or {}).items()}
    return [replace(option, default=given.get(option.name, option.default)) for option in found]


def table_options(defaults: Mapping[str, str], source: str) -> list[Option]:
    """The options of a dictionary of defaults; comments are those behind its entries in the ``source``."""
    comments = _comments(source)
    said: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value in defaults:
                    said.setdefault(key.value, comments.get(value.end_lineno or 0, ""))
    return [Option(name, str(value) or "''", said.get(name, "")) for name, value in defaults.items()]


def page(about: str, options: Iterable[Option] = (), *sections: tuple[str, Iterable[tuple[str, str]]]) -> str:
    """A help text: what the docstring says, the options, then titled lists of (word, what it does)."""
    rows = [(option.typed, option.what) for option in options]
    parts = [about.rstrip()]
    for title, lines in (("options", rows), *sections):
        listed = list(lines)
        if listed:
            parts.append(f"{title}:\n{columns(listed)}")
    return "\n\n".join(part for part in parts if part)


def columns(rows: Iterable[tuple[str, str]], indent: int = 2, width: int | None = None) -> str:
    """Lines of (word, text), the text in a column of its own, wrapped within ``width`` (default: the terminal)."""
    listed, width = list(rows), width or terminal.width()
    longest = max((len(word) for word, _ in listed if len(word) <= width // 3), default=width // 4)
    left = indent + longest + GAP
    lines: list[str] = []
    for word, text in listed:
        head = " " * indent + word
        wrapped = textwrap.wrap(text, max(20, width - left), break_long_words=False, break_on_hyphens=False) or [""]
        if len(head) + GAP > left:
            lines.append(head)
            head = ""
        lines += [f"{(head if number == 0 else ''):<{left}}{part}".rstrip() for number, part in enumerate(wrapped)]
    return "\n".join(line for line in lines if line)


def examples(texts: Iterable[str], wanted: str) -> list[str]:
    """The commands in docstrings that hold the words ``wanted``, each with the lines that continue it."""
    found: list[str] = []
    for text in texts:
        lines: Iterator[str] = iter(inspect.cleandoc(text).splitlines())
        for line in lines:
            if f" {wanted} " in f"{line} ":
                whole = line.strip()
                while whole.endswith("\\"):
                    whole = f"{whole[:-1].rstrip()} {next(lines, '').strip()}"
                found.append(whole)
    return list({line.partition("#")[0].rstrip(): line for line in found}.values())


def source_of(body: Callable[..., Any]) -> str:
    """The source of the module that defines ``body``; '' where it has none."""
    module = sys.modules.get(body.__module__)
    try:
        return inspect.getsource(module) if module else ""
    except (OSError, TypeError):
        return ""


def _option(name: str, value: ast.expr, what: str) -> Option:
    """An option of a config scope; what is made by a call is a group, another expression depends on other options."""
    if name == "results":
        return Option(name, default_results(), what or "the folder of results")
    if isinstance(value, ast.Call):
        return Option(name, "", what or "hyper-parameters of the method, which print_config with method=... lists")
    try:
        return Option(name, _typed(ast.literal_eval(value)), what)
    except ValueError:
        return Option(name, "VALUE", "; ".join(filter(None, (what, f"default: {ast.unparse(value)}"))))


def _typed(value: Any) -> str:
    if isinstance(value, dict):
        return ""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_typed, value))}]"
    return str(value) if value != "" else "''"


def _comments(source: str) -> dict[int, str]:
    """The comments behind code, by line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
