"""The README: its commands parse and run in a clean clone, its numbers are those of the results."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import readme

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone of what is committed; skipped where this is no git checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is nothing to clone")
    folder = tmp_path_factory.mktemp("clone") / "tessera"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def run(command: list[str], folder: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """A command in the clone, with its own code first on the path and this interpreter."""
    mine = {name: value for name, value in os.environ.items() if name != "TESSERA_RESULTS"}
    environment = {**mine, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    words = [sys.executable if word == "python" else word for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)


def test_there_are_commands():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python")])
def test_commands_are_understood(clone, command):
    """Sacred commands print their configuration, the others their help, with the README's own options."""
    words = shlex.split(command)
    if "-m" in words and words[2].startswith(("experiments", "benchmarks")):
        answer = run([*words[:3], "--help"] if words[2] == "benchmarks.store" else words[:3], clone)
        assert answer.returncode in (0, 2) and "Traceback" not in answer.stderr
        return
    if words[1].endswith(("bd_table.py", "report.py", "readme.py")):
        answer = run([*words, "--help"], clone)
    elif "print_config" in words:
        answer = run(words, clone)
    else:
        at = words.index("with") if "with" in words else len(words)
        answer = run([*words[:at], "print_config", *words[at:]], clone)
    assert answer.returncode == 0, answer.stderr


def test_compress_and_decompress_as_shown(clone, tmp_path):
    from PIL import Image
    from skimage import data

    Image.fromarray(data.astronaut()[:128, :160]).save(tmp_path / "photo.png")
    shown = [shlex.split(c) for c in COMMANDS if re.search(r"-m qres (de)?compress", c)]
    assert len(shown) == 2
    for words in shown:
        here = [re.sub(r"^(input|output)=", rf"\1={tmp_path}/", word) for word in words]
        answer = run(here, clone)
        assert answer.returncode == 0, answer.stderr
    assert Image.open(tmp_path / "decoded.png").size == (160, 128)
    assert 0 < (tmp_path / "photo.tsr").stat().st_size < 10_000


def test_smoke_curve_in_a_clean_clone(clone):
    answer = run(["python", "benchmarks/rd_curve.py", "with", "smoke"], clone, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert list((clone / "results" / "local" / "figures").glob("rd_sample_first_2*_psnr.png"))
    again = run(["python", "benchmarks/rd_curve.py", "with", "smoke"], clone)
    assert "left)" not in again.stdout  # nothing was computed again


def test_what_is_measured_and_reported_leaves_a_clone_as_it_was(clone):
    """Shipped cells are found and not measured; all that is written is the user's, which git ignores."""
    words = ["python", "benchmarks/rd_curve.py", "with", "method=jpeg"]
    shipped = set((clone / "results" / "cells").iterdir())
    for more in (["points=10"], ["points=33", "limit=1"]):
        answer = run([*words, *more], clone)
        assert answer.returncode == 0 and ("left)" in answer.stdout or "done)" in answer.stdout) == ("limit=1" in more)
    answer = run(["python", "benchmarks/report.py", "with", "figures=False"], clone)
    assert answer.returncode == 0 and "open results/local/report/index.html" in answer.stdout
    assert set((clone / "results" / "cells").iterdir()) == shipped
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == ""


@pytest.mark.parametrize("page", readme.pages(), ids=lambda page: page.parent.name)
def test_numbers_are_those_of_the_results(page):
    text = page.read_text()
    assert readme.BLOCK.search(text)
    assert readme.filled(text, ROOT / "results" / "tables") == text
