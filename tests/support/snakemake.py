"""Snakemake's runs of the plan, and what their results are compared with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.store import Store
from experiments.plan.task import ROOT

# How sitecustomize.py begins where commands of the plan fail on purpose: which method, and how often it was called.
COUNTED = """
import os, sys, time
from pathlib import Path
words = sys.orig_argv
name = next((w.removeprefix("methods=") for w in words if w.startswith("methods=")), "")
if name and any(w.endswith("lossless_table.py") for w in words):
    log = Path(os.environ["FAULTS_LOG"])
    turn = log.read_text().split().count(name) if log.exists() else 0
    with log.open("a") as file:
        file.write(name + "\\n")
"""
OWN = ROOT / ".venv" / "snakemake" / "bin" / "snakemake"
SNAKEMAKE = str(OWN) if OWN.exists() else shutil.which("snakemake")


def needs_snakemake() -> None:
    """Skip, or in CI fail, where it is not installed."""
    if SNAKEMAKE is None:
        lacking = "Snakemake is not installed (./run_all.sh setup-snakemake): its runs of the plan are not tested"
        assert "CI" not in os.environ, lacking
        pytest.skip(lacking)


def words(results: Path, *more: str, profile: str = "local") -> list[str]:
    config = [f"results={results}", f"python={sys.executable}", *(word for word in more if "=" in word)]
    targets = [word for word in more if "=" not in word]
    return [str(SNAKEMAKE), "--profile", str(ROOT / "profiles" / profile), "--directory", str(results.parent),
            "--snakefile", str(ROOT / "Snakefile"), *targets, "--config", *config]  # fmt: skip


def numbers(results: Path) -> dict[str, tuple[dict[str, object], list[list[object]]]]:
    """Everything in the cells that a measurement determines: not times, memory, provenance."""
    found = {}
    for result in Store(results).cells():
        frame = result.images
        kept = [c for c in frame if not c.endswith("_s") and c != "peak_memory_mb"]
        found[result.key] = (json.loads(result.cell.json), frame[kept].values.tolist())
    return found


def undisturbed(results: Path, methods: str) -> float:
    """Measure the same cells by the command alone; gives the seconds that it takes here and now."""
    script = [sys.executable, "benchmarks/lossless_table.py", "with", f"methods={methods}", "dataset=sample"]
    started = time.monotonic()
    subprocess.run([*script, f"results={results}"], cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - started
