"""Help texts and tables for the terminal."""

# ruff: noqa: F841  (the local variables of a config scope are its options)
from __future__ import annotations

from core import manual, terminal


def scope() -> None:
    """Options."""
    method = "jpeg"  # what to measure
    params = dict(method)
    points = (1, 2)
    keep = method == "jpeg"  # pictures


def test_options_are_read_from_the_source_of_a_scope():
    options = {option.name: option for option in manual.scope_options(scope, {"points": [3]})}
    assert options["method"].typed == "method=jpeg" and options["method"].what == "what to measure"
    assert options["params"].typed == "params.NAME=VALUE"
    assert options["points"].typed == "points=[3]"
    assert options["keep"].typed == "keep=VALUE" and options["keep"].what == "pictures; default: method == 'jpeg'"


def test_options_of_a_table_have_the_comments_behind_its_entries():
    source = 'DEFAULTS = {\n    "anchor": "vtm18",  # whom to compare with\n    "limit": "",\n}\n'
    found = manual.table_options({"anchor": "jpeg", "limit": ""}, source)
    assert [(o.typed, o.what) for o in found] == [("anchor=jpeg", "whom to compare with"), ("limit=''", "")]


def test_columns_keep_to_the_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = manual.page("What it does.", [], ("words", [("short", "word " * 40), ("a-word-that-is-far-too-long", "x")]))
    assert max(map(len, text.splitlines())) <= 60 and "  short  word word" in text


def test_examples_are_whole_commands():
    doc = "Commands.\n\npython -m rec train with a=1 \\\n    b=2\npython -m rec evaluate with c=3  # first\n"
    assert manual.examples((doc, doc), "-m rec train") == ["python -m rec train with a=1 b=2"]
    assert manual.first_line("The codec of ``x``. It is\n\nmore.") == "The codec of x"
    assert manual.first_line("BPG by F. Bellard (x). More.") == "BPG by F. Bellard (x)"
    assert manual.first_line("With 0, 1, ... levels; write.") == "With 0, 1, ... levels; write"


def test_no_colours_in_pipes_and_with_no_color(monkeypatch):
    red = "\x1b[31mred\x1b[0m"
    assert terminal.plain(red) == "red", "stdout is no terminal here"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.plain(red) == red
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.plain(red) == "red"


TABLE = "**Caption**\n\n| curve | what |\n|---|---:|\n| qres3m_vr | " + "words " * 30 + "|\n| jpeg | 1 |\n"


def test_a_table_fits_the_terminal():
    assert terminal.fitted(TABLE) == TABLE, "a pipe gets it as it is"
    lines = terminal.fitted(TABLE, 60).splitlines()
    assert max(map(len, lines)) <= 60 and sum("words" in line for line in lines) > 3
    assert sum(line.count("words") for line in lines) == 30 and "| qres3m_vr |" in lines[4]
    assert terminal.fitted("| a | b |\n|---|---|\n| 1 | 2 |", 60).splitlines()[0] == "| a | b |"
    assert "curve: jpeg" in terminal.fitted(TABLE, 16)
