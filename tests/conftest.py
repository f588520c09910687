"""What tests share: one thread, a weights cache of their own, and entry scripts run inside this process."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TESSERA_JOBS", "1")  # tests that look into what a command does; some ask for more
os.environ["TESSERA_RESULTS"] = "results"  # of the folder a test works in, and without what the repository ships
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # whatever the import mode
    sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What is on stderr, which must be one line and no traceback."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1 and "Traceback" not in self.out, self.err
        return lines[0]


Command = Callable[..., Ended]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Downloaded weights and their lock go to a folder that is thrown away, whatever the user has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESSERA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Command]:
    """``command("benchmarks/rd_curve.py", "with", ...)`` or ``command("qres", "train", ...)``, run in ``tmp_path``.

    The script runs as ``__main__`` in this process, which saves the seconds that imports take.
    """
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(script: str, *words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [script, *words])
        monkeypatch.setattr(sys, "path", [str((ROOT / script).parent), *sys.path])  # as python SCRIPT has it
        code: object = 0
        capsys.readouterr()
        try:
            if script.endswith(".py"):
                runpy.run_path(str(ROOT / script), run_name="__main__")
            else:
                runpy.run_module(script, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return Ended(code if isinstance(code, int) else int(bool(code)), captured.out, captured.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder ``pictures`` below ``tmp_path`` with three smooth, noisy RGB images of 96 x 80 pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :80]
    for i in range(3):
        plane = 60 + rows[..., None] + (1 + i) * 0.5 * columns[..., None] + 10 * np.arange(3)
        image = (plane + rng.normal(0, 6, plane.shape)).clip(0, 255).astype(np.uint8)
        pillow.fromarray(image).save(folder / f"{i}.png")
    return folder
