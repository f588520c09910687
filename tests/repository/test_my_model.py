"""docs/my_model.md: its blocks become an installed package, and its commands make a curve, a table and figures."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from core.images import save_image

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "my_model.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = ("steps=3", "batch=2", "crop=32")  # of trainings here

# A module with the interface of CompressAI's, instead of it: eight times fewer pixels, as bytes.
STAND_IN = """
import torch
from torch import nn
from torch.nn import functional as F

class Model(nn.Module):
    def __init__(self, quality):
        super().__init__()
        self.register_buffer("quality", torch.tensor(quality))

    def compress(self, x):
        small = (F.avg_pool2d(x, 8) * 255).round().byte()
        return {"strings": [[bytes(small.flatten().tolist())], [b"side"]], "shape": small.shape[-2:]}

    def decompress(self, strings, shape):
        assert strings[1] == [b"side"]
        small = torch.tensor(list(strings[0][0])).view(1, 3, *shape) / 255
        return {"x_hat": F.interpolate(small, scale_factor=8.0)}

def mbt2018_mean(quality, metric, pretrained):
    assert pretrained and metric == "mse"
    return Model(quality)
"""


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE) if found == kind]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, the metadata that pip would write, pictures, and a stand-in for CompressAI."""
    folder = tmp_path_factory.mktemp("mine")
    for text in (*blocks("python"), *blocks("toml")):
        name = text.splitlines()[0].removeprefix("# ")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "compressai").mkdir()
    (folder / "compressai" / "__init__.py").write_text("")
    (folder / "compressai" / "zoo.py").write_text(STAND_IN)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text("[tessera.methods]\nmine = tessera_mine\n")
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("test", 2)):
        for i in range(count):
            rows, columns = np.mgrid[:64, :72]
            wave = 128 + 60 * np.sin(rows / (5 + i))[..., None] + 40 * np.cos(columns[..., None] / 9 + np.arange(3))
            noisy = (wave + rng.normal(0, 6, wave.shape)).clip(0, 255).astype(np.uint8)
            save_image(folder / "pictures" / part / f"{i}.png", noisy)
    return folder


def run(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))), "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_page_from_the_folder_to_latex(package: Path) -> None:
    commands = [shlex.split(line) for text in blocks("sh") for line in text.splitlines()]
    assert len(commands) == 7
    for words in commands:
        assert words[0] == "python"
        script = [str(ROOT / words[1])] if words[1].startswith("benchmarks/") else [words[1]]
        done = run(package, [sys.executable, *script, *words[2:], *(SHORT if "train" in words else ())])
        assert done.returncode == 0, f"{words}: {done.stderr}"
    (table,) = (package / "mine" / "tables").glob("bd_*_vs_jpeg_pchip.tex")
    assert r"\toprule" in table.read_text() and "bsq" in table.read_text()
    figures = {path.stem for path in (package / "mine" / "figures").glob("rd_*_psnr.pdf")}
    assert figures and (package / "mine" / "report" / "index.html").is_file()
    assert "my BSQ" in (package / "mine" / "report" / "index.html").read_text()


CHECKS = """
import numpy as np
from core.bitstream import BitstreamError
from core.registry import METHODS, discover

discover()
codec = METHODS["compressai_mean"](quality=4).codec(None)
rng = np.random.default_rng(0)
for shape in ((1, 1, 3), (70, 130, 3), (64, 64, 1)):
    image = np.full(shape, rng.integers(20, 230), np.uint8)
    stream = codec.compress(image)
    assert stream == codec.compress(image) and 0 < codec.payload_bits(stream) < 8 * len(stream)
    assert np.abs(codec.decompress(stream).astype(int) - image).max() <= 1 and codec.decompress(stream).shape == shape
    other = METHODS["compressai_mean"](quality=5).codec(None)
    for decode, bad in ((codec, stream[:-1]), (codec, b"GIF89a"), (other, stream)):
        try:
            decode.decompress(bad)
        except BitstreamError:
            continue
        raise SystemExit(f"{bad[:20]} was decoded")
print("all good")
"""


def test_a_wrapped_module_keeps_the_contract(package: Path) -> None:
    done = run(package, [sys.executable, "-c", CHECKS])
    assert done.stdout == "all good\n", done.stderr


def test_the_quantiser_is_as_short_as_the_page_says() -> None:
    (text,) = (t for t in blocks("python") if "class Signs" in t)
    code = [
        line
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith(("#", '"""', "from", "import"))
    ]
    assert len(code) <= 40


def test_the_files_of_the_page_are_in_style(package: Path) -> None:
    files = sorted(str(path) for path in (package / "tessera_mine").rglob("*.py"))
    config = ("--config", str(ROOT / "pyproject.toml"), "--no-cache")
    for check in (("check", "--per-file-ignores=__init__.py:F401"), ("format", "--check")):
        command = [sys.executable, "-m", "ruff", *check, *config, *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
