"""Tables that are not made of cells have a record: the same numbers in full, and where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from benchmarks.tables.files import to_csv


def assert_recorded(stem: str, command: str, results: Path = Path("results")) -> None:
    """The record of a table has its caption and rows, and names the commit and the command (a part of it)."""
    record = json.loads((results / "records" / f"{stem}.json").read_text())
    made, csv = record["provenance"], (results / "tables" / f"{stem}.csv").read_text()
    assert record["table"] == stem and record["caption"] in (results / "tables" / f"{stem}.md").read_text()
    assert to_csv(pd.DataFrame(record["rows"], columns=csv.splitlines()[0].split(","))) == csv
    assert made["commit"] and made["cpu"] and made["versions"]["torch"] and made["wall_s"] >= 0
    assert command in made["command"]
