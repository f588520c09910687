"""The Dockerfile and the page on installing: they name what is here; the image is built where a builder runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = (ROOT / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "install.md").read_text()
WORDS = {"FROM", "RUN", "WORKDIR", "ENV", "COPY", "CMD"}


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in FILE.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_is_well_formed() -> None:
    found = instructions()
    assert {word for word, _ in found} <= WORDS and found[0][0] == "FROM" and found[-1][0] == "CMD"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    image = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", found[0][1])
    assert image and image[1] == project["requires-python"].removeprefix(">=")
    for _, rest in (pair for pair in found if pair[0] == "COPY"):
        *sources, target = rest.split()
        assert target.startswith((".", "/")) and all((ROOT / source).exists() for source in sources)
    runs = " ".join(rest for word, rest in found if word == "RUN")
    assert "rm -rf /var/lib/apt/lists" in runs and "--no-install-recommends" in runs and "sudo" not in runs
    assert "setup" in runs and re.search(r"^  setup\) ", (ROOT / "run_all.sh").read_text(), re.MULTILINE)


def test_what_the_image_leaves_out_is_what_git_leaves_out() -> None:
    ignored = (ROOT / ".gitignore").read_text()
    for line in (ROOT / ".dockerignore").read_text().split():
        assert line.removeprefix("**/") in ignored, line


def test_the_page_names_extras_and_options_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(re.findall(r'"\.\[(\w+)\]"', PAGE))
    assert extras == set(project["optional-dependencies"])
    assert "check=True" in PAGE and "check=True" in (ROOT / "benchmarks" / "report.py").read_text()
    assert "TESSERA_NOTEBOOKS" in (ROOT / "docs" / "site_pages.py").read_text()


def test_the_image_is_built_where_a_builder_runs() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("no Docker daemon runs here, so the image is not built")
    built = subprocess.run([docker, "build", "-q", str(ROOT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    listed = subprocess.run([docker, "run", "--rm", built.stdout.strip()], capture_output=True, text=True, check=False)
    assert listed.returncode == 0 and "qres3m_vr" in listed.stdout
