"""Reference data that is not part of this repository."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3] / "shared"


def shared(path: str) -> Path:
    """A path below ../shared: without ../shared the test is skipped, and a file missing in it is a failure."""
    if not ROOT.is_dir():
        pytest.skip("needs ../shared beside the checkout, which is not here")
    target = ROOT / path
    if not target.exists():
        pytest.fail(f"{target} is missing although {ROOT} is here")
    return target
