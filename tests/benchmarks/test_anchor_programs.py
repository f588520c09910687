"""BPG, FLIF, HM and VTM without the programs: fakes that record their command line and keep the picture as it is."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import benchmarks.classical.methods  # noqa: F401  registers the methods
from benchmarks.classical import programs as _binaries
from core.bitstream import BitstreamError
from core.codec import Codec, Image, TesseraError
from core.registry import METHODS, make_method

PROGRAMS = ("bpg", "flif", "hm", "vtm")


def codec(name: str, **params: object) -> Codec:
    return make_method(name, params).codec(None)


def picture(height: int, width: int, channels: int) -> Image:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels), dtype=np.uint8)


FAKE = """#!{python}
import json, pathlib, re, shutil, sys
arguments = sys.argv[1:]
if not arguments:
    print("Fake Encoder Version [18.4] ")
    sys.exit(1)
with open({log!r}, "a") as log:
    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, *arguments]) + "\\n")
given = dict(zip(arguments, arguments[1:]))
role, magic = {role!r}, {magic!r}
coding = role == "encoder" and "-d" not in arguments or "-wdt" in arguments
files = [a for a in arguments if re.search(r"image[.]", a)]
if "-b" in given and given["-b"].endswith(".bin"):
    source, target = (given["-i"], given["-b"]) if coding else (given["-b"], given["-o"])
elif "-o" in given:
    target, source = given["-o"], next(f for f in files if f != given["-o"])
else:
    source, target = files
data = pathlib.Path(source).read_bytes()
if b"broken" in data:
    sys.exit("bad stream inside")
pathlib.Path(target).write_bytes(magic + data if coding else data[len(magic):])
"""

PARTS = {
    "bpg": (_binaries.BPG, b"BPG\xfb"),
    "flif": (_binaries.FLIF, b"FLIF"),
    "hm": (_binaries.HM, b"\0\0\0\1"),
    "vtm": (_binaries.VTM, b"\0\0\0\1"),
}


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Fake programs of all four codecs in one folder; gives the log of their command lines."""
    log = tmp_path / "log"
    for programs, magic in PARTS.values():
        monkeypatch.setenv(programs.variable, str(tmp_path))
        for role in reversed(programs.parts):
            text = FAKE.format(python=sys.executable, log=str(log), role=role, magic=magic)
            (tmp_path / programs.parts[role][0]).write_text(text)
            (tmp_path / programs.parts[role][0]).chmod(0o755)
    _binaries._printed_version.cache_clear()
    yield log
    _binaries._printed_version.cache_clear()


def commands(log: Path) -> list[str]:
    """The recorded command lines, with folders and temporary names cut to file names."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [" ".join(re.sub(r"^/.*/", "", part) for part in line) for line in lines]


@pytest.mark.parametrize("name", ["bpg", "flif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_file_programs(name: str, channels: int, fakes: Path) -> None:
    image = picture(7, 5, channels)
    stream = codec(name).compress(image)
    assert stream.startswith(PARTS[name][1]) and np.array_equal(codec(name).decompress(stream), image)
    expected = {
        "bpg": [
            "bpgenc -q 32 -f 444 -b 8 -m 9 -o image.bpg image.png",
            "bpgdec -o image.png image.bpg",
        ],
        "flif": ["flif -e -E60 image.png image.flif", "flif -d image.flif image.png"],
    }
    assert commands(fakes) == expected[name]


@pytest.mark.parametrize(
    ("name", "programs"), [("hm", ("TAppEncoder", "TAppDecoder")), ("vtm", ("EncoderApp", "DecoderApp"))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_reference_programs(name: str, programs: tuple[str, str], channels: int, fakes: Path) -> None:
    image = picture(7, 5, channels)
    stream = codec(name, qp=37).compress(image)
    decoded = codec(name).decompress(stream)
    assert decoded.shape == image.shape and np.abs(decoded.astype(int) - image).max() <= 2
    assert len(stream) == 4 + 4 + 3 * 7 * 5  # the size, the fake's start code, three planes
    config = {"hm": "encoder_intra_main_rext.cfg", "vtm": "encoder_intra_vtm.cfg"}[name]
    assert commands(fakes) == [
        f"{programs[0]}Static -c {config} -i image.yuv -b image.bin -o null -wdt 5 -hgt 7 -fr 1 -f 1 -q 37 "
        "--InputChromaFormat=444 --InputBitDepth=8 --ConformanceWindowMode=1",
        f"{programs[1]}Static -b image.bin -o image.yuv -d 8",
    ]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_failures(name: str, fakes: Path) -> None:
    assert METHODS[name]().skip("kodak") is None and "process" in str(METHODS[name]().skip("cifar10"))
    assert "18.4" in METHODS[name]().note
    magic = PARTS[name][1]
    prefix = struct.pack(">HH", 7, 5) if name in ("hm", "vtm") else b""
    with pytest.raises(BitstreamError, match="bad stream inside"):
        codec(name).decompress(prefix + magic + b"broken")
    with pytest.raises(BitstreamError, match="the stream is no"):
        codec(name).decompress(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_absent_programs_are_skipped_with_a_reason(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(PARTS[name][0].variable, raising=False)
    reason = METHODS[name]().skip("kodak")
    assert reason is not None and PARTS[name][0].variable in reason and "build it from https://" in reason
    with pytest.raises(TesseraError, match="build it from"):
        codec(name).compress(picture(4, 4, 3))


def test_bt709_by_hand() -> None:
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    ycbcr = _binaries.to_ycbcr(colours)
    assert ycbcr.tolist() == [[[255, 128, 128], [0, 128, 128], [54, 99, 255], [18, 255, 116]]]
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(1, -1, 3).astype(np.uint8)
    assert np.abs(_binaries.to_rgb(_binaries.to_ycbcr(every)).astype(int) - every).max() <= 2
