"""Files that appear whole or not at all: errors, rivals, what a killed writer leaves."""

from __future__ import annotations

import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from core import atomic, checkpoint
from core.codec import TesseraError
from core.images import save_image

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """Files can have at most ``size`` bytes: the system refuses to write more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_and_its_folders_appear_with_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    for data in (b"one", b"another"):
        atomic.write_bytes(path, data)
        assert path.read_bytes() == data and [p.name for p in path.parent.iterdir()] == ["a.bin"]
    atomic.write_text(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()
    assert atomic.sha256(path) == "64da669b12bbeda0ca8f2840891bd8834e5b8206f24c7703e20ac1d472612b0e"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_a_block_that_fails_keeps_what_was_there(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(type(error)), atomic.writing(path) as part:
        part.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_from_every_writer(tmp_path):
    writers = {
        "a.bin": lambda path: atomic.write_bytes(path, bytes(1000)),
        "a.png": lambda path: save_image(path, NOISE),
        "weights.safetensors": lambda path: checkpoint.save(path.parent, torch.nn.Linear(2, 2), {"method": "toy"}),
    }
    for name, write in writers.items():
        path = tmp_path / name
        path.write_bytes(b"before")
        with pytest.raises(TesseraError) as caught, full_after(100):
            write(path)
        told = str(caught.value)
        assert told.startswith(f"{path} cannot be written (") and "File too large" in told and "\n" not in told
        assert path.read_bytes() == b"before" and not list(tmp_path.glob(".part-*")), name


def test_a_folder_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path, reason in ((tmp_path / "a", "Is a directory"), (tmp_path / "file" / "b" / "a", "Not a directory")):
        with pytest.raises(atomic.WriteError, match=reason) as caught:
            atomic.write_bytes(path, b"x")
        assert caught.value.strerror == reason
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "it crosses processes"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "file"]


def test_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.bin"
    with atomic.writing(path) as outer:
        outer.write_bytes(b"outer")
        with atomic.writing(path) as inner:
            inner.write_bytes(b"inner")
        assert path.read_bytes() == b"inner"
        assert atomic.clean(tmp_path) == 0, "a living writer's file is not removed"
    assert path.read_bytes() == b"outer" and list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from core import atomic
with atomic.writing(Path(sys.argv[1])) as part:
    part.write_bytes(bytes(100))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_taken_over(tmp_path):
    path = tmp_path / "a.bin"
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
        assert ended.returncode == -signal.SIGKILL and not path.exists()
        assert [p.name for p in tmp_path.iterdir()] == [".part-a.bin-0"], "leftovers do not pile up"
    atomic.write_bytes(path, b"x")
    assert path.read_bytes() == b"x" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("lock", [lambda part, wait: None, lambda part, wait: (_ for _ in ()).throw(OSError(37, "no"))])
def test_a_system_without_locks(tmp_path, monkeypatch, lock):
    monkeypatch.setattr(atomic, "_lock", lock)
    path = tmp_path / "a.bin"
    with atomic.writing(path) as outer, atomic.writing(path) as inner:
        assert outer != inner
        outer.write_bytes(b"outer")
        inner.write_bytes(b"inner")
    assert path.read_bytes() == b"outer" and list(tmp_path.iterdir()) == [path]
