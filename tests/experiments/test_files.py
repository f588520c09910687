"""Compressing and decompressing files with any method: names, folders, skips, failures and refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from sacred.config import ConfigScope

from benchmarks.datasets import open_dataset
from core import checkpoint
from core.codec import TesseraError
from core.images import open_image, save_image
from core.registry import METHODS, discover, make_method
from experiments import compress as files

discover()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[str]:
    """Two checkpoints of the small model, with different weights."""
    out = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(f"weights{seed}")
        checkpoint.save(folder, METHODS["qres3m_vr"]().model(), {"method": "qres3m_vr"})
        out.append(str(folder))
    return out


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    image = next(iter(open_dataset("sample"))).read()[:40, :50]
    save_image(folder / "a.png", image)
    save_image(folder / "deep" / "b.png", image[:33, :31, :1])
    pillow.fromarray(image).save(folder / "c.jpg")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def run(name: str, weights: str = "auto", **options) -> int:
    scope, body, _ = files.COMMANDS[name]
    return body({**ConfigScope(scope)(), "weights": weights, **options}, None)


def test_one_file_there_and_back(pictures, weights, tmp_path, capsys):
    stream, decoded = tmp_path / "out" / "x.tsr", tmp_path / "out" / "x.png"
    assert run("compress", weights[0], input=str(pictures / "a.png"), output=str(stream), psnr=True) == 0
    size = stream.stat().st_size
    said = capsys.readouterr().out
    assert f"{size} bytes, {8 * size / 2000:.4f} bpp" in said and " dB" in said
    original = pictures / "a.png"
    assert run("decompress", weights[0], input=str(stream), output=str(decoded), reference=str(original)) == 0
    again = capsys.readouterr().out
    assert said.split(", ")[-1] == again.split(", ")[-1]  # the same PSNR
    codec = make_method("qres3m_vr").codec(
        checkpoint.load(METHODS["qres3m_vr"](), checkpoint.find(METHODS["qres3m_vr"](), weights[0]))
    )
    assert np.array_equal(open_image(decoded), codec.decompress(stream.read_bytes()))
    assert codec.compress(open_image(original)) == stream.read_bytes()


def test_folders_keep_their_tree(pictures, weights, tmp_path, capsys):
    streams, decoded = tmp_path / "streams", tmp_path / "decoded"
    assert run("compress", weights[0], input=str(pictures), output=str(streams)) == 0
    names = sorted(str(p.relative_to(streams)) for p in streams.rglob("*") if p.is_file())
    assert names == ["a.tsr", "c.tsr", "deep/b.tsr"]
    assert "3 files" in capsys.readouterr().out
    assert run("decompress", weights[0], input=str(streams), output=str(decoded), reference=str(pictures)) == 0
    assert open_image(decoded / "deep" / "b.png").shape == (33, 31, 1)
    assert capsys.readouterr().out.count(" dB") == 3


def test_patterns_and_lists(pictures, weights, tmp_path):
    assert run("compress", weights[0], input=f"{pictures}/**/*.png", output=str(tmp_path / "one")) == 0
    assert sorted(p.name for p in (tmp_path / "one").rglob("*.tsr")) == ["a.tsr", "b.tsr"]
    assert (tmp_path / "one" / "deep" / "b.tsr").exists()
    both = f"{pictures / 'a.png'},{pictures / 'c.jpg'}"
    assert run("compress", weights[0], input=both, output=str(tmp_path / "two")) == 0
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["a.tsr", "c.tsr"]


def test_only_the_same_is_skipped(pictures, weights, capsys):
    source, stream = pictures / "a.png", pictures / "a.tsr"
    stream.write_bytes(b"mine")
    assert run("compress", weights[0], input=str(source)) == 2, "something that is no stream"
    assert stream.read_bytes() == b"mine" and "a.tsr is there already and is not" in capsys.readouterr().err
    assert run("compress", weights[0], input=str(source), overwrite=True) == 0
    made = stream.read_bytes()
    assert made != b"mine" and not list(pictures.glob(".part-*"))
    assert run("compress", weights[0], input=str(source)) == 0
    assert "a.tsr is there already, the same" in capsys.readouterr().out and stream.read_bytes() == made
    for other, options in ((weights[0], {"params": {"lmb": 16.0}}), (weights[1], {})):
        assert run("compress", other, input=str(source), **options) == 2, "another lambda, other weights"
        assert "overwrite=True" in capsys.readouterr().err and stream.read_bytes() == made
    save_image(source, open_image(source)[::2].copy())
    assert run("compress", weights[0], input=str(source)) == 2, "another picture"
    assert stream.read_bytes() == made
    assert run("compress", weights[0], input=str(source), overwrite=True) == 0 and stream.read_bytes() != made


def test_only_the_same_picture_is_skipped(pictures, weights, capsys):
    source, stream, decoded = pictures / "a.png", pictures / "a.tsr", pictures / "a.decoded.png"
    assert run("compress", weights[0], input=str(source)) == 0
    before = source.read_bytes()
    assert run("decompress", weights[0], input=str(stream)) == 0
    assert source.read_bytes() == before
    assert run("decompress", weights[0], input=str(stream)) == 0 and "the same" in capsys.readouterr().out
    for wrong in (before, b"no picture"):
        decoded.write_bytes(wrong)
        assert run("decompress", weights[0], input=str(stream)) == 2 and decoded.read_bytes() == wrong
        assert "a.decoded.png is there already and is not" in capsys.readouterr().err
    assert run("decompress", weights[0], input=str(stream), overwrite=True) == 0 and decoded.read_bytes() != wrong


def test_a_classical_stream_of_another_quality_is_not_skipped(pictures, tmp_path):
    options = {"method": "jpeg", "input": str(pictures / "a.png"), "output": str(tmp_path / "a.tsr")}
    assert run("compress", params={"quality": 30}, **options) == run("compress", params={"quality": 30}, **options) == 0
    assert run("compress", params={"quality": 60}, **options) == 2


def test_a_broken_input_does_not_stop_the_rest(pictures, weights, tmp_path, capsys):
    (pictures / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert run("compress", weights[0], input=f"{pictures},{pictures}/gone.png", output=str(tmp_path / "out")) == 1
    said = capsys.readouterr()
    assert said.err.count("failed: ") == 2 and "bad.png" in said.err and "gone.png is not there" in said.err
    assert "3 files" in said.out and len(list((tmp_path / "out").rglob("*.tsr"))) == 3
    assert not list(tmp_path.rglob(".part-*"))
    (tmp_path / "out" / "c.tsr").write_bytes((tmp_path / "out" / "c.tsr").read_bytes()[:-1])
    assert run("decompress", weights[0], input=str(tmp_path / "out"), output=str(tmp_path / "back")) == 1
    assert "c.tsr" in capsys.readouterr().err and len(list((tmp_path / "back").rglob("*.png"))) == 2


def test_other_weights_are_refused(pictures, weights, tmp_path, capsys):
    stream = tmp_path / "a.tsr"
    run("compress", weights[0], input=str(pictures / "a.png"), output=str(stream))
    assert run("decompress", weights[1], input=str(stream), output=str(tmp_path / "a.png")) == 2
    assert "another method or checkpoint" in capsys.readouterr().err and not (tmp_path / "a.png").exists()


def test_two_inputs_never_share_an_output(pictures, weights, tmp_path, capsys):
    save_image(pictures / "deep" / "a.png", open_image(pictures / "a.png"))
    both = f"{pictures / 'a.png'},{pictures / 'deep' / 'a.png'}"
    assert run("compress", weights[0], input=both, output=str(tmp_path / "out")) == 1
    assert "would go to" in capsys.readouterr().err


def test_a_method_without_weights(pictures, tmp_path):
    stream, decoded = tmp_path / "a.tsr", tmp_path / "a.png"
    assert run("compress", method="png", params={}, input=str(pictures / "a.png"), output=str(stream)) == 0
    assert run("decompress", method="png", params={}, input=str(stream), output=str(decoded)) == 0
    assert np.array_equal(open_image(decoded), open_image(pictures / "a.png"))


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({}, "give input=FILE"),
        ({"input": "IN/a.png,IN/c.jpg", "output": "x.tsr"}, "one file for 2 inputs"),
        ({"input": "IN/a.png", "weights": "nowhere"}, "no weights at nowhere"),
        ({"input": "IN/a.png", "method": "qres3m_vx", "params": {}}, "qres3m_vr"),
        ({"input": "IN/a.png", "device": "cuda:99"}, "device=cuda:99 is not available"),
        ({"input": "IN/a.png", "device": "mps"}, "device=mps is not available here: use device=cpu"),
        ({"input": "IN/a.png", "params": {"lmb": 5000}}, "lmb=5000 is outside of .* use 4 to 1024"),
    ],
)
def test_mistakes(pictures, weights, options, sentence):
    options = {k: v.replace("IN", str(pictures)) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(TesseraError, match=sentence):
        run("compress", options.pop("weights", weights[0]), **options)


def test_the_command_line(tmp_path, weights):
    words = ["compress", "with", "input=nowhere.png", f"weights={weights[0]}", f"results={tmp_path}"]
    done = subprocess.run([sys.executable, "-m", "qres", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "failed: nowhere.png is not there" in done.stderr
    assert "Traceback" not in done.stderr
