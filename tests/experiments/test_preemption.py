"""Work that is ended at random points: every way of ending is met, and what ends differently is found out."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from experiments.studies import preemption
from experiments.studies.preemption import FAULTS, ROOT, Work, _disturbed, _rows, without_folders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the study plays a full disk with Linux's prlimit")

# Ten lines, one after the other, into a file that is replaced whole, as all that resumes here does.
LINES = """
import os, sys, time
from pathlib import Path
path = Path(sys.argv[1])
done = path.read_text().splitlines() if path.exists() else []
for number in range(len(done), 10):
    time.sleep(0.02)
    done.append(LINE)
    part = path.with_name(f"part{os.getpid()}")
    part.write_text("\\n".join(done))
    part.replace(path)
"""


def lines(line: str) -> Work:
    code = LINES.replace("LINE", line)

    def read(at: Path) -> str:
        return (at / "lines").read_text()

    return Work("lines", lambda at: ["-c", code, str(at / "lines")], read, lambda at: 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(preemption.CLOCK)
    return tmp_path


def test_what_resumes_ends_as_undisturbed_by_every_way_of_ending(folder):
    attempts, rounds = _disturbed(lines("str(number)"), folder, 10, random.Random(1))
    assert all(rounds) and sum(a.fault != "none" for a in attempts) == 10
    assert {a.fault for a in attempts} == {*FAULTS, "none"}
    (last,) = [row for row in _rows(attempts, rounds) if row["ended by"] == "itself"]
    assert last["as undisturbed"] == f"{len(rounds)} of {len(rounds)}"


def test_what_does_not_resume_is_found_out(folder):
    _, rounds = _disturbed(lines("str(os.getpid())"), folder, 2, random.Random(1))
    assert not any(rounds)


def test_a_clock_that_looks_at_the_time_is_found_out(folder):
    """The clock really jumps: what depends on the day is not what it was."""
    attempts, rounds = _disturbed(lines("time.strftime('%Y-%m-%d', time.gmtime())"), folder, 10, random.Random(3))
    assert any(a.fault == "jumping clock" for a in attempts) and not all(rounds)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('  File "/srv/x/lib/python3.11/site-packages/sacred/file_storage.py", lin', '  File "file_storage.py", lin'),
        (f"no room for '{ROOT}/results/cells/a'", "no room for 'a'"),
        (f'File "{str(ROOT)[:-1]}', f'File "{ROOT.name[:-1]}'),
        (
            "error: see https://example.org/a/b; 3/4 of results/cells",
            "error: see https://example.org/a/b; 3/4 of results/cells",
        ),
    ],
)
def test_a_record_names_no_folder_of_the_machine(said, kept):
    assert without_folders(said) == kept


def test_a_training_and_a_sweep(command):
    ended = command("benchmarks/preemption.py", "with", "kills=2", "steps=2", "methods=jpeg")
    assert ended.code == 0 and "ended 2 times at random points: all that ended by itself equals" in ended.out
    record = json.loads(Path("results/records/preemption.json").read_text())
    assert {a["work"] for a in record["attempts"]} == {"training", "sweep"} and record["provenance"][
        "commit"
    ] is not None
    assert sum(a["fault"] != "none" for a in record["attempts"]) == 2
