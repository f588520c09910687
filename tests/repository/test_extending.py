"""docs/extending.md: its code blocks become an installed package, and the command at its end measures it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.store import Store
from core.images import save_image

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE.read_text()) if found == kind]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, and the metadata that pip would write for its pyproject.toml."""
    folder = tmp_path_factory.mktemp("package")
    for text in (*blocks("python"), *blocks("toml")):
        name = text.splitlines()[0].removeprefix("# ")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder


def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:170, :163]
    plane = 128 + 60 * np.sin(rows / 19)[..., None] + 40 * np.cos(columns[..., None] / 23 + np.arange(3))
    noisy = (plane + rng.normal(0, 4, plane.shape)).clip(0, 255).astype(np.uint8)
    return {"one": noisy, "two": np.ascontiguousarray(noisy[:, ::-1, :1])}


def test_the_command_of_the_page_measures_the_package(package, tmp_path):
    for name, image in pictures().items():
        save_image(tmp_path / "data" / "scenes" / f"{name}.png", image)
    (line,) = (line for text in blocks("sh") for line in text.splitlines())
    words = line.split()
    assert words[0] == "python"
    command = [sys.executable, str(ROOT / words[1]), *words[2:]]
    env = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "_psnr.pdf" in done.stdout and "[4/4] dct8 8 on scenes" in done.stdout
    cells = sorted(Store(tmp_path / "results").cells(), key=lambda c: c.means["bpp"])
    assert [c.cell.point for c in cells] == [64, 32, 16, 8] and {c.about["title"] for c in cells} == {"scenes"}
    for means in (c.means for c in cells):
        assert 0 < means["worst"] < 128 and 0 < means["bpp"] < 24 and means["ms_ssim"] > 0.5
    psnr = [c.means["psnr"] for c in cells]
    assert psnr == sorted(psnr) and psnr[-1] > 35
    worst = [c.means["worst"] for c in cells]
    assert worst == sorted(worst, reverse=True)


CHECKS = """
import numpy as np
from core.bitstream import BitstreamError
from core.codec import HasPayload
from core.registry import METHODS, UnknownName, discover
from benchmarks.datasets import DATASETS
from benchmarks.measure.metrics import METRICS

discover()
codec = METHODS["dct8"](step=4).codec(None)
assert isinstance(codec, HasPayload) and "scenes" in DATASETS and METRICS["worst"].unit == "levels"
rng = np.random.default_rng(0)
for shape in ((1, 1, 3), (1, 70, 3), (65, 33, 1)):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    stream = codec.compress(image)
    assert stream == codec.compress(image) and 0 < codec.payload_bits(stream) < 8 * len(stream)
    other = METHODS["dct8"](step=50).codec(None)
    assert np.array_equal(codec.decompress(stream), other.decompress(stream)), "the step travels in the stream"
    assert np.abs(codec.decompress(stream).astype(int) - image).mean() < 3
    for bad in (b"", stream[:-1], stream[:20], stream + b"x", b"GIF89a"):
        try:
            codec.decompress(bad)
        except BitstreamError:
            continue
        raise SystemExit(f"{bad[:20]} was decoded")
print("all good")
"""


def test_the_method_of_the_page_keeps_the_contract(package):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(package), str(ROOT)))}
    done = subprocess.run([sys.executable, "-c", CHECKS], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "all good\n", done.stderr


def test_the_files_of_the_page_are_in_style(package):
    files = sorted(str(path) for path in package.rglob("*.py"))
    assert len(files) == 4
    config = ("--config", str(ROOT / "pyproject.toml"), "--no-cache")
    for check in (("check", "--per-file-ignores=__init__.py:F401"), ("format", "--check")):
        command = [sys.executable, "-m", "ruff", *check, *config, *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
