"""What users type: mistakes become one sentence and exit code 2; a sweep goes on where it was, whatever stopped it.

Most commands run inside this process (the ``command`` fixture of conftest); those about signals are real processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from benchmarks.store import Store

ROOT = Path(__file__).resolve().parents[2]
RD = "benchmarks/rd_curve.py"
HERE = "dataset=folder:pictures"


def cells(folder: Path = Path("results")) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("cells/*/cell.json"))


# Mistakes


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("method=JPGE",), "unknown method 'JPGE': did you mean jpeg"),
        (("method=jpeg", HERE, "quality=50"), "write params.quality=50, or points=50"),
        (("method=jpeg", HERE, "qality=50"), "did you mean params.quality"),
        (("method=jpeg", "dataset=pictures"), "write dataset=folder:pictures"),
        (("method=jpge",), "unknown method 'jpge': did you mean jpeg"),
        (("methods=jpeg,wepb",), "unknown method 'wepb': did you mean webp"),
        (("method=jpeg", "dataset=kodka"), "unknown data set 'kodka': did you mean kodak"),
        (("method=jpeg", HERE, "points=fifty"), "unknown point of jpeg 'fifty': known are"),
        (("method=jpeg", HERE, "points=500"), "quality=500 of jpeg must be an integer from 1 to 100"),
        (("method=jpeg", HERE, "params.qualty=3"), "unknown parameter of jpeg 'qualty': did you mean quality"),
        (("method=jpeg", HERE, "params.subsampling=4:1:1"), "must be one of 4:4:4, 4:2:0, 4:2:2"),
        (("metod=jpeg",), "unknown option 'metod': did you mean method"),
        (("smok",), "'smok': did you mean smoke"),
        (("nowhere.json",), "unknown named config or file"),
        (("methods=jpeg,webp", "points=3"), "go with method=NAME"),
        (("method=jpeg", HERE, "limit=two"), "limit=two must be a whole number"),
        (("method=jpeg", HERE, "limit=0"), "limit=0 leaves no image"),
        (("method=jpeg", HERE, "seed=x"), "seed=x must be a whole number"),
        (("method=jpeg", HERE, "keep_images=perhaps"), "must be True or False"),
        (("method=jpeg", "dataset=folder:nowhere"), "no images of folder:nowhere"),
        (("method=jpeg", "dataset=kodak", "data_root=empty"), "python -m experiments.prepare with dataset=kodak"),
        (("method=jpeg", HERE, "device=cuda"), "device=cuda is not available here: use device=cpu"),
        (("method=jpeg", HERE, "device=qpu"), "device=qpu is not available here"),
        (("method=jpeg", HERE, "results=pictures/0.png/x"), "cannot be written"),
        (("method=qres3m_vr", HERE, "weights=nowhere"), "no weights at nowhere"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistake_is_one_sentence(command, pictures, monkeypatch, words, sentence):
    import torch

    def no_device(*shape: int, device: str) -> None:
        raise RuntimeError(f"no {device}")

    monkeypatch.setattr(torch, "zeros", no_device)
    ended = command(RD, "with", *words)
    assert ended.code == 2 and sentence in ended.sentence and not cells()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("method=jpeg",), "write 'with method=jpeg'"),
        (("print_confg", "with", "method=jpeg"), "unknown command 'print_confg': did you mean print_config"),
    ],
)
def test_a_mistake_before_with(command, words, sentence):
    ended = command(RD, *words)
    assert ended.code == 2 and sentence in ended.sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("trian",), "unknown command of qres 'trian': did you mean train"),
        (("train", "with", "stesp=3"), "unknown option 'stesp': did you mean steps"),
        (("evaluate", "with", "method=qres34n"), "did you mean qres34m"),
    ],
)
def test_a_mistake_in_a_family_command(command, words, sentence):
    ended = command("qres", *words)
    assert ended.code == 2 and sentence in ended.sentence


def test_help_and_print_config_write_nothing(command, tmp_path):
    family = command("qres", "help").out
    assert "python -m qres train" in family and "  compress " in family and "  qres3m_vr " in family
    script = command(RD, "help").out
    assert script.startswith("Rate-distortion curves") and "  points=None " in script and "smoke" in script
    assert "mongo" not in script.lower() and command(RD, "--help").out == script
    shown = command("qres", "compress", "help").out
    assert "input=photo.png" in shown and "overwrite=False" in shown and "python -m qres train" not in shown
    shown = command(RD, "print_config", "with", "method=jpeg", "params.subsampling=4:4:4")
    assert shown.code == 0 and "subsampling = '4:4:4'" in shown.out and "quality = 50" in shown.out
    assert "lmb = 16" in command(RD, "print_config", "with", "method=qres34m").out
    assert not list(tmp_path.iterdir())


# Work that is done


def test_a_second_run_computes_nothing(command, pictures, monkeypatch):
    words = (RD, "with", "method=jpeg", HERE, "points=20,60")
    first = command(*words)
    assert first.code == 0 and "[2/2]" in first.out and "_psnr.pdf" in first.out, first.err
    made = cells()
    monkeypatch.setattr("benchmarks.measure.harness.measure", lambda *a, **b: pytest.fail("a cell was computed again"))
    second = command(*words)
    assert second.code == 0 and "jpeg | folder pictures | 60" in second.out and cells() == made and len(made) == 2


def test_options_are_part_of_the_cell(command, pictures):
    for words in (("points=20",), ("points=20", "limit=1"), ("points=20", "params.subsampling=4:4:4")):
        assert command(RD, "with", "method=jpeg", HERE, *words).code == 0
    found = Store("results").cells()
    assert len(found) == 3 and {(c.cell.limit, c.cell.variant["subsampling"]) for c in found} == {
        (None, "4:2:0"),
        (1, "4:2:0"),
        (None, "4:4:4"),
    }


def test_refused_images_are_named_before_and_listed_at_the_end_and_the_rest_goes_on(command, pictures):
    """A text, a cut file, 16 bits and transparency are left out by name; grey and opaque RGBA are measured."""
    (pictures / "text.png").write_text("no picture")
    whole = (pictures / "0.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    pillow.fromarray(deep).save(pictures / "deep.png")
    clear = np.full((64, 64, 4), 128, np.uint8)
    pillow.fromarray(clear).save(pictures / "clear.png")
    clear[..., 3] = 255
    pillow.fromarray(clear).save(pictures / "opaque.png")
    pillow.fromarray(clear[..., 0]).save(pictures / "grey.png")
    ended = command(RD, "with", "method=jpeg", HERE, "points=50")
    assert ended.code == 1 and "[1/1]" in ended.out
    for name, reason in (
        ("text", "not an image"),
        ("cut", "damaged"),
        ("deep", "more than 8 bits"),
        ("clear", "transparent"),
    ):
        assert any(f"{name}.png" in line and reason in line for line in ended.err.splitlines()[1:])
    first = ended.err.splitlines()[0]
    assert first.startswith("left out: 4 of 9 pictures of folder:pictures: ") and "(1 more.)" in first
    assert all(line.startswith("left out: ") for line in ended.err.splitlines())
    (result,) = Store("results").cells()
    rows = result.images.set_index("image")
    assert sorted(rows.index) == ["0", "1", "2", "grey", "opaque"]
    assert rows.loc["grey", "channels"] == 1 and rows.loc["opaque", "channels"] == 3
    assert result.about["title"] == "folder pictures, 4 left out" and len(result.about["left_out"]) == 4
    assert "ms_ssim" not in rows.columns, "images below 161 pixels have no MS-SSIM"


def test_one_failing_cell_does_not_stop_the_others(command, pictures, monkeypatch):
    from benchmarks.measure import harness

    measure = harness.measure

    def failing(cell, *rest, **more):
        if cell.point == 50:
            raise harness.HarnessError("cannot compress 1: boom")
        return measure(cell, *rest, **more)

    monkeypatch.setattr(harness, "measure", failing)
    words = (RD, "with", "method=jpeg", HERE, "points=20,50,80")
    ended = command(*words)
    assert ended.code == 1 and len(cells()) == 2 and "[3/3]" in ended.out
    assert ended.sentence == "failed: jpeg at 50 on folder pictures: cannot compress 1: boom"
    assert len(Store("results").failures()) == 1
    monkeypatch.setattr(harness, "measure", measure)
    assert command(*words).code == 0 and len(cells()) == 3 and not Store("results").failures()


def test_a_method_without_weights_says_what_to_do_on_lines_of_their_own(command, pictures):
    ended = command(RD, "with", "method=qres17m", HERE, "points=3", "weights=ours")
    first, *lines = ended.err.splitlines()
    assert ended.code == 2 and first == "failed: there are no weights for qres17m at lmb=3: none are shipped."
    assert "    python -m qres train with method=qres17m params.lmb=3" in lines
    assert f"    python benchmarks/rd_curve.py with methods=qres3m_vr,jpeg,jpeg2000,webp {HERE}" in lines
    ended = command(RD, "with", "method=qres3m_vr", "points=64", HERE)  # what it says runs here does
    assert ended.code == 0 and "[1/1]" in ended.out


def test_missing_weights_of_one_method_do_not_stop_another(command, pictures):
    ended = command(RD, "with", "methods=qres34m_lossless,jpeg", HERE, "weights=ours")
    assert ended.code == 1 and "[8/8] jpeg" in ended.out
    assert ended.err.count("failed:") == 1 and "no weights for qres34m_lossless" in ended.err


def test_a_method_that_cannot_run_here_is_skipped_with_its_reason(command, pictures, monkeypatch):
    monkeypatch.setenv("PATH", "")
    ended = command(RD, "with", "methods=bpg,jpeg", HERE)
    assert ended.code == 0 and "skipped: bpg on folder pictures: " in ended.out


# Interruptions


@pytest.mark.skipif(sys.platform == "win32", reason="files are kept small by a limit that Windows does not have")
@pytest.mark.parametrize("size", [1, 2000, 20_000])
def test_a_full_disk_is_said_and_the_same_command_goes_on(command, pictures, size):
    """Files may not grow beyond some bytes: the notes of a run, then pictures or cells do not fit."""
    import resource

    words = (RD, "with", "method=jpeg", HERE, "points=20,40")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        ended = command(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = ended.err + ended.out
    assert ended.code in (1, 2) and "Traceback" not in said and "File too large" in said
    again = command(*words)
    assert again.code == 0 and len(cells()) == 2


SLOW_JPEG = """
import os, runpy, signal, sys, time
from benchmarks.measure import single

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
whole = single.round_trip
calls = 0

def slow(codec, image, name, device):
    global calls
    calls += 1
    if calls == int(os.environ["STOP_AT"]):
        os.kill(os.getpid(), int(os.environ["STOP_WITH"]))
        time.sleep(5)
    return whole(codec, image, name, device)

single.round_trip = slow
script = sys.argv[0] = sys.argv.pop(1)
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_stopped_sweep_leaves_no_half_cell_and_goes_on(command, pictures, tmp_path, number):
    """Stopped in the third of four cells (3 images and a warm-up each)."""
    words = ("with", "method=jpeg", HERE, "points=20,40,60,80")
    env = {**os.environ, "STOP_AT": "10", "STOP_WITH": str(int(number)), "PYTHONPATH": str(ROOT)}
    child = [sys.executable, "-c", SLOW_JPEG, str(ROOT / RD), *words]
    done = subprocess.run(child, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), done.stderr
    assert "Traceback" not in done.stderr
    if number != signal.SIGKILL:
        assert "the same command goes on from here" in done.stderr
    whole = cells()
    assert len(whole) == 2 and len(Store("results").cells()) == 2, "whole cells only"
    stamps = {key: (tmp_path / "results/cells" / key / "cell.json").stat().st_mtime_ns for key in whole}
    again = command(RD, *words)
    assert again.code == 0 and "[3/4]" in again.out and "[2/4]" not in again.out and len(cells()) == 4
    assert stamps == {key: (tmp_path / "results/cells" / key / "cell.json").stat().st_mtime_ns for key in whole}


def test_a_real_process_exits_with_two_and_says_it_quickly(tmp_path):
    started = time.monotonic()
    command = [sys.executable, str(ROOT / RD), "with", "method=jpge"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (
        done.returncode == 2 and done.stderr == "error: unknown method 'jpge': did you mean jpeg or jpegxl or jpegls?\n"
    )
    assert time.monotonic() - started < 120
