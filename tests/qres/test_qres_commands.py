"""The commands that write pictures of a QRes-VAE: figures, tables, cut files, mistakes."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image as pillow
from sacred.config import ConfigScope

from core import checkpoint
from core.codec import TesseraError
from core.images import open_image, save_image
from experiments.families import qres_figures as commands
from qres import preview
from tests.qres.test_qres_generate import picture, small_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("weights")
    checkpoint.save(folder, small_model(), {"method": "qres3m_vr"})
    return str(folder)


def config(scope, weights: str, **options) -> dict:
    return {**ConfigScope(scope)(), "weights": weights, **options}


def test_commands_write_figures(tmp_path, weights, capsys):
    image, other = tmp_path / "a.png", tmp_path / "b.png"
    save_image(image, picture(64, 64))
    save_image(other, picture(64, 64)[::-1].copy())
    options = {
        "sample": {"n": 2, "size": 40, "height": 30},
        "progressive": {"input": str(image)},
        "interpolate": {"input": f"{image},{other}", "steps": 3},
        "bits": {"input": str(image)},
        "inpaint": {"input": str(image), "box": "0.2,0.2,0.6,0.6", "steps": 1, "n": 1},
    }
    for name, values in options.items():
        scope, body, _ = commands.COMMANDS[name]
        target = tmp_path / "out" / f"{name}.png"
        assert body(config(scope, weights, output=str(target), **values), None) == 0
        assert str(target) in capsys.readouterr().out
        with pillow.open(target) as figure:
            assert figure.mode == "RGB" and min(figure.size) >= 30
    with (tmp_path / "out" / "progressive.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["levels", "estimate_bits", "bytes", "bpp", "psnr"]
    assert [int(row["levels"]) for row in rows] == list(range(8))
    assert float(rows[-1]["bpp"]) == pytest.approx(8 * int(rows[-1]["bytes"]) / 64**2, abs=1e-4)


def test_preview_command_takes_a_cut_file(tmp_path, weights, capsys):
    scope, body, _ = commands.COMMANDS["preview"]
    _, codec = commands._open(config(scope, weights))
    stream = codec.compress(picture(64, 64))
    path, target = tmp_path / "cut.tsr", tmp_path / "view.png"
    path.write_bytes(stream[: len(stream) * 2 // 3])
    assert body(config(scope, weights, input=str(path), output=str(target)), None) == 0
    assert np.array_equal(open_image(target), preview.preview(codec, path.read_bytes()).image)
    path.write_bytes(stream)
    assert body(config(scope, weights, input=str(path), output=str(target), levels=2), None) == 0
    assert np.array_equal(open_image(target), preview.decompress(codec, stream, 2))


@pytest.mark.parametrize(
    "name, options, sentence",
    [
        ("sample", {"size": "big"}, "size=big"),
        ("sample", {"size": 9000}, "at most 8192"),
        ("sample", {"n": 0}, "n=0"),
        ("sample", {"temperature": "hot"}, "temperature=hot"),
        ("sample", {"output": "x.jpg"}, "must end in .png"),
        ("sample", {"method": "jpeg", "params": {}}, "hierarchy of latents"),
        ("sample", {"method": "qres3n", "params": {}}, "qres3m_vr"),
        ("sample", {"weights": "nowhere"}, "no weights at nowhere"),
        ("progressive", {}, "give input=FILE"),
        ("progressive", {"input": "nowhere.png"}, "nowhere.png is not a file"),
        ("preview", {"input": __file__}, "not a Tessera stream"),
        ("preview", {"input": __file__, "levels": -1}, "levels=-1"),
        ("interpolate", {"input": "a.png"}, "between two pictures"),
        ("inpaint", {"input": __file__}, "not an image"),
        ("inpaint", {"input": "PICTURE", "box": "0,0,1"}, "box=0,0,1"),
        ("inpaint", {"input": "PICTURE", "box": "0,0,1,2"}, "in 0..1"),
    ],
)
def test_mistakes_in_commands(tmp_path, weights, name, options, sentence):
    if options.get("input") == "PICTURE":
        options = {**options, "input": str(tmp_path / "a.png")}
        save_image(tmp_path / "a.png", picture(32, 32))
    scope, body, _ = commands.COMMANDS[name]
    with pytest.raises(TesseraError, match=sentence):
        body(config(scope, options.pop("weights", weights), **{"output": str(tmp_path / "x.png"), **options}), None)
