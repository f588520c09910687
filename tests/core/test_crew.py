"""Work by several processes: results and words in order, errors, deaths, and stopping, with none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from core import crew
from core.codec import TesseraError

ROOT = Path(__file__).resolve().parents[2]


def slower_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    print(f"out {number}", flush=True)
    print(f"err {number}", file=sys.stderr)
    return 10 * number


def test_results_and_words_come_in_the_order_of_the_work(capsys):
    assert list(crew.each([partial(slower_first, n) for n in range(5)], 3)) == [0, 10, 20, 30, 40]
    said = capsys.readouterr()
    assert said.out.split("\n") == [*(f"out {n}" for n in range(5)), ""]
    assert said.err.split("\n") == [*(f"err {n}" for n in range(5)), ""]


def facts() -> tuple[int, str, str, int]:
    return os.getpid(), os.environ[crew.JOBS], os.environ["OMP_NUM_THREADS"], crew.beside()


def test_workers_have_one_thread_and_know_how_many_they_are(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    found = list(crew.each([facts, facts, facts], 2))
    assert len({pid for pid, *_ in found} - {os.getpid()}) == 3 and {tuple(rest) for _, *rest in found} == {
        ("1", "1", 2)
    }
    assert crew.beside() == 1 and os.environ["OMP_NUM_THREADS"] == "4"
    (one,) = crew.each([os.getpid], 2)
    assert one == os.getpid(), "one piece of work needs no other process"


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def fail() -> int:
    raise TesseraError("what is wrong, where, what to do.")


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


def odd() -> int:
    raise Odd(1, 2)


def test_a_worker_that_dies_is_an_answer_and_an_error_is_raised():
    lost, found = crew.each([die, partial(slower_first, 3)], 2)
    assert isinstance(lost, crew.LostError) and "signal 9" in str(lost) and found == 30
    with pytest.raises(TesseraError, match="what is wrong, where"):
        list(crew.each([fail, partial(slower_first, 1)], 2))
    with pytest.raises(RuntimeError, match="Odd: odd"):
        list(crew.each([odd, partial(slower_first, 1)], 2))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_whoever_began_them(tmp_path, number):
    code = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom functools import partial\nfrom core import crew\n"
    )
    code += (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background of a shell ignores it
    )
    code += "def work(name):\n    Path(name).write_text(str(os.getpid()))\n    time.sleep(600)\n"
    code += f"list(crew.each([partial(work, f'{tmp_path}/{{i}}') for i in range(2)], 2))"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "01"):
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.02)
    workers = [int((tmp_path / name).read_text()) for name in "01"]
    parent.send_signal(number)
    assert parent.wait(60)
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_how_many(monkeypatch):
    monkeypatch.setattr(crew, "processors", lambda: 4)
    monkeypatch.setattr(crew, "_memory_mb", lambda: 7000)
    monkeypatch.setenv(crew.JOBS, "")
    assert (crew.jobs(), crew.jobs(9)) == (3, 9)
    monkeypatch.setenv(crew.JOBS, "2")
    assert (crew.jobs(), crew.jobs(9)) == (2, 9)
    monkeypatch.setenv(crew.JOBS, "many")
    with pytest.raises(TesseraError, match="TESSERA_JOBS=many must be a whole number"):
        crew.jobs()
