"""Training from one file without most packages: pack, run with interruptions, export in pieces, join."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.datasets import fingerprints, open_dataset
from benchmarks.datasets.photos import HELD_OUT
from core import checkpoint
from core.codec import TesseraError
from core.images import save_image
from core.registry import discover, make_method
from experiments import packing
from experiments.studies import gpu_training
from experiments.studies.gpu_training import Clock, Timed

discover()
MISSING = ("sacred", "constriction", "pytorch_msssim", "pandas", "skimage", "scipy", "matplotlib", "msgpack", "plotly",
           "imagecodecs", "torch.utils.tensorboard", "benchmarks")  # fmt: skip
ALONE = "import runpy, sys\nfor name in {missing!r}: sys.modules[name] = None\nsys.argv = {argv!r}\n"
ALONE += (
    "sys.path[:] = [p for p in sys.path if p not in ('', {root!r})]\nrunpy.run_path({archive!r}, run_name='__main__')"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with four photographs, one of them held out, and some of CIFAR's pictures."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    rows = ["file,blob,lossless"]
    held_out = next(str(n) for n in range(999) if hashlib.sha256(str(n).encode()).digest()[0] < HELD_OUT)
    for i, blob in enumerate(("a", "b", held_out, "d")):
        image = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8).repeat(140, 0).repeat(150, 1)
        save_image(folder / "photos_train" / f"{i}.png", image)
        rows.append(f"{i}.png,{blob},{i % 2}")
    (folder / "photos_train" / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "cifar10").mkdir()
    small = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "cifar10" / "cifar10_train_first4000.npz", images=small)
    return folder


def alone(archive: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the archive in a process that has neither this tree nor the packages that may be missing."""
    root = str(Path(packing.ROOT))
    code = ALONE.format(missing=MISSING, argv=[str(archive), *words], root=root, archive=str(archive))
    env = {**os.environ, "TESSERA_KERNELS": "0", "PYTHONPATH": ""}
    return subprocess.run([sys.executable, "-c", code], cwd=archive.parent, env=env, capture_output=True, text=True)


def test_from_packing_to_weights_that_are_ours(tmp_path, data):
    archive = tmp_path / "t.pyz"
    assert gpu_training.main(["pack", "--output", str(archive), "--data-root", str(data)]) == 0
    again = tmp_path / "again.pyz"
    packing.pack(again, 48, str(data))
    assert packing.index_of(archive) == packing.index_of(again)
    state, pieces = str(tmp_path / "state"), str(tmp_path / "pieces")
    tiny = ("--folder", state, "--device", "cpu", "--crop", "64", "--batch", "1")
    first = alone(archive, "run", *tiny, "--limit", "0.02", "qres3m_lossless=0.25")
    assert first.returncode == 0 and "not done yet: qres3m_lossless" in first.stdout, first.stderr
    before = torch.load(tmp_path / "state" / "qres3m_lossless" / "state.pt", weights_only=True)
    second = alone(archive, "run", *tiny, "--limit", "5", "qres3m_lossless=0.25")
    assert second.returncode == 0 and "all done" in second.stdout, second.stderr
    after = torch.load(tmp_path / "state" / "qres3m_lossless" / "state.pt", weights_only=True)
    assert after["step"] > before["step"] > 0
    done = alone(archive, "export", "--folder", state, "--output", pieces)
    assert done.returncode == 0, done.stderr
    assert gpu_training.main(["join", pieces, "--output", str(tmp_path / "runs")]) == 0
    method = make_method("qres3m_lossless")
    weights = checkpoint.find(method, str(tmp_path / "runs" / "qres3m_lossless"))
    assert weights is not None and weights.meta["recipe"]["steps"] == after["step"]
    loaded = checkpoint.load(method, weights).state_dict()
    assert all(torch.allclose(loaded[k], v.float(), rtol=1e-3, atol=1e-6) for k, v in after["average"].items())
    seen = set(fingerprints(open_dataset("lossless_pictures", root=data)))
    assert checkpoint.seen(weights) == seen and weights.meta["data"]["names"] == ["lossless_pictures"]


def test_pieces_that_are_damaged_or_missing_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "PIECE", 5000)
    (tmp_path / "run").mkdir()
    content = np.random.default_rng(0).bytes(12_000)
    (tmp_path / "run" / "weights.safetensors").write_bytes(content)
    written = packing.split(tmp_path / "run", "job", tmp_path / "pieces", range(1))
    assert [path.name for path in written] == ["job.json", "job.000"]
    with pytest.raises(TesseraError, match=r"job.001 is missing"):
        packing.join(tmp_path / "pieces", tmp_path / "out")
    packing.split(tmp_path / "run", "job", tmp_path / "pieces", range(1, 9))
    assert max(path.stat().st_size for path in (tmp_path / "pieces").iterdir()) <= 5000
    assert packing.join(tmp_path / "pieces", tmp_path / "out") == [tmp_path / "out" / "job"]
    assert (tmp_path / "out" / "job" / "weights.safetensors").read_bytes() == content
    (tmp_path / "pieces" / "job.001").write_bytes(b"other")
    with pytest.raises(TesseraError, match=r"job.001 is damaged"):
        packing.join(tmp_path / "pieces", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_the_rate_follows_the_clock(tmp_path, monkeypatch):
    clock = Clock(tmp_path / "clock.json", minutes=1)
    config = Timed(steps=10, lr=1.0, warmup=0, hold=0.5, final_lr=0.1, clock=clock)
    for seconds, rate in ((0, 1.0), (30, 1.0), (45, 0.55), (60, 0.1), (90, 0.1)):
        clock.started, clock.before = __import__("time").monotonic(), seconds
        assert config.rate(5) == pytest.approx(rate, abs=1e-3)
    clock.save()
    assert Clock(tmp_path / "clock.json", minutes=3).share == pytest.approx(0.5, abs=1e-3), "goes on from there"


def test_mistakes_are_sentences(tmp_path, data, capsys):
    archive = tmp_path / "t.pyz"
    assert gpu_training.main(["run", "--folder", "x", "--archive", str(data / "none"), "qres3m_vr=1"]) == 2
    assert "is not an archive of 'pack'" in capsys.readouterr().err
    assert gpu_training.main(["export", "--folder", str(tmp_path), "--output", "y"]) == 2
    assert gpu_training.main(["join", str(tmp_path)]) == 2
    with pytest.raises(SystemExit):
        gpu_training.main(["run", "--folder", "x", "qres17m=1"])
    packing.pack(archive, 0.01, str(data))
    with zipfile.ZipFile(archive) as opened:
        size = sum(entry.file_size for entry in opened.infolist() if entry.filename.startswith("pictures/"))
        assert 0 < size <= 10_000 and json.loads(opened.read("index.json"))["sets"]["photos"]["files"]
