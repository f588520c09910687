"""Records of stored tables agree with their tables, and a damaged table would be seen."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.page import sections
from benchmarks.store import records
from tests.support.recorded import assert_recorded

RESULTS = Path(__file__).resolve().parents[2] / "results"
STORED = sorted(path.stem for path in (RESULTS / records.FOLDER).glob("*.json"))


@pytest.mark.parametrize("stem", STORED)
def test_stored_tables_are_those_of_their_records(stem):
    assert_recorded(stem, "python", RESULTS)


def test_a_record_has_every_number_in_full(tmp_path):
    frame = pd.DataFrame({"name": ["a", "b"], "count": [3, 4], "ms": [1 / 3, math.nan], "share": [math.inf, 0.5]})
    paths = records.Table().write(frame, tmp_path, "speed_toy", "A toy")
    assert [p.name for p in paths] == [f"speed_toy.{end}" for end in ("csv", "md", "tex", "json")]
    found = records.read(paths[-1], ("rows", "provenance"))
    assert found["rows"][0] == {"name": "a", "count": 3, "ms": 1 / 3, "share": None}
    assert found["rows"][1]["ms"] is None and found["provenance"]["wall_s"] >= 0
    whole = frame.drop(columns=["ms", "share"])
    records.Table().write(whole, tmp_path, "speed_whole", "A toy")
    assert_recorded("speed_whole", "", tmp_path)
    (tmp_path / "tables" / "speed_whole.csv").write_text("name,count\na,3\nb,5\n")
    with pytest.raises(AssertionError):
        assert_recorded("speed_whole", "", tmp_path)


def test_the_page_says_where_a_recorded_table_comes_from(tmp_path):
    frame = pd.DataFrame({"name": ["a"], "count": [3]})
    records.Table().write(frame, tmp_path, "speed_toy", "A toy")
    (tmp_path / "tables" / "speed_old.csv").write_text("a\n1\n")
    (tmp_path / "tables" / "speed_old.md").write_text("**old**\n")
    old, new = sections.stored(tmp_path, tmp_path / "report", ())["speed"]["tables"]
    commit = records.read(tmp_path / "records" / "speed_toy.json")["provenance"]["commit"]
    assert old["made"] == "" and new["made"].startswith(f"commit {commit[:11]}; ") and "torch" in new["made"]
