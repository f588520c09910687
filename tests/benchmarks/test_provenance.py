"""Provenance: command, commit and versions, without the host and its paths."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import provenance

ROOT = Path(__file__).resolve().parents[2]


def test_provenance_is_json_without_host_or_paths(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "rd_curve.py"), "with", "dataset=folder:/home/me/pics"])
    found = provenance.provenance()
    text = json.dumps(found)
    assert found["command"] == "python benchmarks/rd_curve.py with dataset=folder:pics"
    assert os.uname().nodename not in text and str(ROOT) not in text and str(Path.home()) + "/" not in text
    assert found["versions"]["numpy"] == np.__version__ and found["cpu"] and found["threads"] >= 1
    assert set(found["versions"]) >= {"python", "torch", "numpy", "constriction", "pillow", "imagecodecs"}


@pytest.mark.parametrize(
    "argv, command",
    [
        ([f"{ROOT}/qres/__main__.py", "train", "with", "steps=3"], "python -m qres train with steps=3"),
        (["bench.py", "url=postgresql://me:secret@host/db"], "python bench.py url=postgresql:..."),
        (
            ["bench.py", f"weights={ROOT}/checkpoints/a.safetensors"],
            "python bench.py weights=checkpoints/a.safetensors",
        ),
        (["/opt/x/bin/pytest", "-q", "a/b"], "python pytest -q a/b"),
        (["bench.py", "size=1/2", "../data"], "python bench.py size=1/2 ../data"),
    ],
)
def test_commands_are_relative(argv, command):
    assert provenance.command_line(argv) == command


def test_git_state(tmp_path):
    assert provenance.git_state(tmp_path) == ("", None)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    assert provenance.git_state(tmp_path)[0] == ""  # no commit yet
    (tmp_path / "a.py").write_text("1")
    subprocess.run([*git, "add", "a.py"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    commit, dirty = provenance.git_state(tmp_path)
    assert len(commit) == 40 and dirty is False
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cell.json").write_text("{}")
    assert provenance.git_state(tmp_path) == (commit, False)  # results are what runs make
    (tmp_path / "new_method.py").write_text("2")
    assert provenance.git_state(tmp_path) == (commit, True)


def test_git_that_cannot_run_is_no_crash(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state(tmp_path) == ("", None)
