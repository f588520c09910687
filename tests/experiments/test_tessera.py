"""The command ``tessera``: it forwards, it tells what a stream is, and decodes it without being told."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from core.registry import METHODS
from tessera import commands

ROOT = Path(__file__).resolve().parents[2]


def test_every_script_and_family_has_a_name():
    scripts = {command.name: command for command in commands.scripts()}
    assert {f"{n.replace('-', '_')}.py" for n in scripts} == {p.name for p in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert {command.name for command in commands.families()} == {"qres", "vq", "rec", "lattice", "overfit"}
    for command in (*scripts.values(), *commands.families(), *commands.parts()):
        assert command.what, f"{command.name} has no docstring"
    assert scripts["rd-curve"].typed == "python benchmarks/rd_curve.py"


def test_words_are_handed_on(command, pictures):
    ended = command("tessera", "rd-curve", "with", "method=jpeg", "dataset=folder:pictures", "points=50")
    assert ended.code == 0 and "jpeg | folder pictures | 50" in ended.out, ended.err
    provenance = next(Path("results").rglob("cell.json")).read_text()
    assert "python benchmarks/rd_curve.py with method=jpeg" in provenance


def test_help_of_a_command_is_its_own(command):
    first = command("tessera", "help", "bd_table").out
    assert first.startswith("BD-rate of every curve") and first == command("tessera", "bd-table", "help").out
    shown = command("tessera").out
    assert "rd-curve" in shown and "prepare" in shown and "  qres " in shown


def test_an_unknown_command_is_one_sentence(command):
    ended = command("tessera", "rd-curves")
    assert ended.code == 2 and "did you mean rd-curve" in ended.sentence


@pytest.fixture
def streams(command, tmp_path: Path) -> dict[str, np.ndarray]:
    """a.tsr by a model of all rates, small.tsr by one of a set of grey models; and their originals."""
    from skimage import data

    pictures = {"a": data.astronaut()[:64, :96], "small": data.astronaut()[:28, :28, 0]}
    for name, picture in pictures.items():
        pillow.fromarray(picture).save(tmp_path / f"{name}.png")
    for words in (("qres", "method=qres3m_vr", "params.lmb=32", "input=a.png", "output=a.tsr"),
                  ("vq", "method=fsq", "params.levels=4x4x4", "input=small.png", "output=small.tsr")):  # fmt: skip
        assert command("tessera", words[0], "compress", "with", *words[1:]).code == 0
    return pictures


def test_a_stream_says_what_it_is(command, streams, tmp_path, monkeypatch):
    shown = command("tessera", "info", "a.tsr")
    for word in ("96x64, RGB", "qres3m_vr\n", "lmb=32\n", "qres3m_vr/weights.safetensors"):
        assert word in shown.out
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "elsewhere"))  # of another machine: nothing is remembered
    shown = command("tessera", "info", "small.tsr", "a.png")
    assert shown.code == 1 and "a PNG picture" in shown.sentence
    assert "28x28, grey" in shown.out and "fsq\n" in shown.out and "levels=4x4x4" in shown.out


def test_streams_are_decoded_by_what_made_them(command, streams, tmp_path):
    ended = command("tessera", "decompress", "a.tsr", "small.tsr", "output=out")
    assert ended.code == 0, ended.err
    for name, original in streams.items():
        decoded = np.asarray(pillow.open(tmp_path / "out" / f"{name}.png"))
        assert decoded.shape == original.shape and np.abs(decoded.astype(int) - original).mean() < 30
    foreign = bytearray((tmp_path / "a.tsr").read_bytes())
    (tmp_path / "cut.tsr").write_bytes(foreign[:-1])
    ended = command("tessera", "decompress", "cut.tsr", "a.tsr", "output=again")
    assert ended.code == 1 and "cut.tsr" in ended.err and (tmp_path / "again" / "a.png").is_file()


def test_a_stream_of_nothing_that_is_here_is_refused(command, streams, tmp_path, monkeypatch):
    from core import bitstream

    stream = bitstream.unpack((tmp_path / "a.tsr").read_bytes(), None)
    other = bitstream.Stream(b"\0\1\2\3", stream.height, stream.width, 3, stream.chunks, stream.symbols_check)
    (tmp_path / "other.tsr").write_bytes(bitstream.pack(other))
    monkeypatch.setattr("experiments.origins._candidates", lambda: iter(()))
    ended = command("tessera", "decompress", "other.tsr")
    assert ended.code == 2 and "nothing that is here made this stream (fingerprint 00010203)" in ended.sentence


def test_the_list_says_what_runs_and_why_not(command, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("TESSERA_VTM", raising=False)
    found = json.loads(command("tessera", "list", "json=True").out)
    methods = {(row["family"], row["name"]): row for row in found["methods"]}
    assert {name for family, name in methods if family != "vq, toy sources"} >= set(METHODS)
    assert methods["qres", "qres3m_vr"]["weights"] == "shipped" and not methods["qres", "qres3m_vr"]["reason"]
    assert "to be fetched" in methods["qres", "qarv_base"]["weights"] and methods["qres", "qarv_base"]["reason"]
    assert not methods["classical", "jpeg"]["reason"] and "VTM needs" in methods["classical", "vtm"]["reason"]
    assert {row["name"] for row in found["datasets"]} >= {"kodak", "sample", "folder:PATH"}
    assert "psnr" in {row["name"] for row in found["metrics"]}
    assert ("kodak", "vtm18") in {(row["dataset"], row["name"]) for row in found["curves"]}


def test_the_list_fits_the_terminal_and_needs_a_known_word(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    shown = command("tessera", "list", "methods").out
    assert "methods, qres:" in shown and "data sets:" not in shown and "NOT HERE: " in shown
    assert max(map(len, shown.splitlines())) <= 70 or "https://" in max(shown.splitlines(), key=len)
    assert command("tessera", "list", "methdos").sentence.endswith("did you mean methods or metrics?")


def test_the_console_script_is_this_command():
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["tessera"]
    module, _, name = declared.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
