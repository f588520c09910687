"""Work side by side: as many processes as there are processors, forked from this one, one for each piece of work.

A worker has one thread, and what it prints is shown in the order in which work was begun, whatever the order in which
it ends. It gets SIGTERM when this process is stopped, and when it dies (Linux).
"""

from __future__ import annotations

import codecs
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from core.codec import TesseraError

T = TypeVar("T")
JOBS = "TESSERA_JOBS"  # how many jobs there are where nobody says so
BESIDE = "TESSERA_BESIDE"  # set in a worker: how many there are at once, itself included
STOPS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 30.0  # from SIGTERM to SIGKILL, for workers that have commands of their own to end
EACH_MB = 2000  # of memory, for a job


class LostError(TesseraError):
    """A worker that died before it had done its work."""


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs(asked: int | None = None) -> int:
    """How many processes are to work at once: as asked, as ``TESSERA_JOBS`` says, or one for each processor and 2 GB.

    One where processes cannot be forked. Raises ``TesseraError`` for a ``TESSERA_JOBS`` that is no number.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return 1
    named = os.environ.get(JOBS, "")
    if named and (not named.isdigit() or int(named) < 1):
        raise TesseraError(f"{JOBS}={named} must be a whole number, at least 1.")
    return asked or int(named or 0) or max(1, min(processors(), _memory_mb() // EACH_MB))


def beside() -> int:
    """How many processes work at the same time as this one, itself included, that the same command began."""
    return int(os.environ.get(BESIDE, "1"))


def _memory_mb() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
    except (ValueError, OSError, AttributeError):
        return EACH_MB * processors()


class Crew:
    """At most ``size`` workers for this process; those still at work when the ``with`` block is left are ended."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._working: dict[str, _Worker] = {}
        self._order: deque[_Worker] = deque()  # whose words were not all shown yet
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(_sigterm_interrupts())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for worker in self._working.values():
                worker.end()
            for worker in self._working.values():
                worker.join()
            self._show()

    @property
    def names(self) -> list[str]:
        """Whose work is not done yet."""
        return list(self._working)

    def start(self, name: str, work: Callable[[], Any], alone: bool = False) -> None:
        """Begin ``work`` in a process of its own; ``alone``, with all processors to itself, for it to share out."""
        cores, others = (self.size, 1) if alone else (1, self.size)
        with stops_wait():
            self._working[name] = worker = _Worker(name, work, cores, others)
        self._order.append(worker)

    def wait(self) -> tuple[str, Any]:
        """Wait for the next end; returns its name and what the work returned, or a ``LostError``.

        Raises what the work raised.
        """
        while True:
            pipes: dict[Any, _Worker] = {pipe: worker for worker in self._working.values() for pipe in worker.pipes}
            for ready in wait(list(pipes)):
                pipes[ready].listen(ready)  # type: ignore[arg-type]
            self._show()
            for name, worker in self._working.items():
                if worker.ended:
                    worker.join()
                    del self._working[name]
                    self._show()
                    return name, worker.outcome()

    def _show(self) -> None:
        while self._order:
            self._order[0].show()
            if not self._order[0].joined:
                return
            self._order.popleft()


def each(works: Sequence[Callable[[], T]], size: int, beginning: Callable[[], object] = int) -> Iterator[T | LostError]:
    """What each piece of work returns, in their order, ``size`` of them done at once; one by one in this process for 1.

    ``beginning`` is run once before workers are forked: what all of them need. Raises what the work raises.
    """
    if size == 1 or len(works) < 2:
        yield from (work() for work in works)
        return
    beginning()
    with Crew(min(size, len(works))) as crew:
        found: dict[str, T | LostError] = {}
        left = list(enumerate(works))
        for number in range(len(works)):
            while str(number) not in found:
                while left and len(crew.names) < crew.size:
                    index, work = left.pop(0)
                    crew.start(str(index), work)
                name, found[name] = crew.wait()
            yield found.pop(str(number))


class _Worker:
    """A forked process, what it returns, and what it prints."""

    def __init__(self, name: str, work: Callable[[], Any], cores: int, others: int) -> None:
        self.name, self.ended, self.joined = name, False, False
        self._answer, answer = Pipe(duplex=False)
        self._said: list[tuple[bool, str]] = []  # (on stderr, text)
        reading, writing = zip(os.pipe(), os.pipe(), strict=True)
        decoder = codecs.getincrementaldecoder("utf-8")
        self._streams = {end: (bool(i), decoder("replace")) for i, end in enumerate(reading)}
        context = multiprocessing.get_context("fork")
        arguments = (work, answer, writing, os.getpid(), cores, others)
        self._process = context.Process(target=_work, args=arguments, name=f"tessera-{name}")
        self._process.start()
        answer.close()
        for end in writing:
            os.close(end)
        for end in reading:
            os.set_blocking(end, False)
        self._result: tuple[Any, BaseException | None] | None = None

    @property
    def pipes(self) -> list[Connection | int]:
        """What to listen to."""
        return [self._answer, *self._streams]

    def listen(self, pipe: Connection | int) -> None:
        """Take what a pipe has."""
        if isinstance(pipe, int):
            if not self._take(pipe):
                del self._streams[pipe]
                os.close(pipe)
            return
        self.ended = True
        with suppress(EOFError, OSError):  # it died
            self._result = self._answer.recv()

    def _take(self, pipe: int) -> bool:
        """Read once; whether there may be more later."""
        try:
            data = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return True
        error, decoder = self._streams[pipe]
        self._said.append((error, decoder.decode(data, final=not data)))
        return bool(data)

    def show(self) -> None:
        """Print what was said since the last time."""
        for error, text in self._said:
            stream: IO[str] = sys.stderr if error else sys.stdout
            stream.write(text)
            stream.flush()
        self._said.clear()

    def end(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def join(self) -> None:
        """Wait for its end, which may have to be forced."""
        self._process.join(GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        for pipe in list(self._streams):
            before = -1
            while before != len(self._said) and self._take(pipe):
                before = len(self._said)
            os.close(pipe)
        self._streams.clear()
        self._answer.close()
        self.joined = True

    def outcome(self) -> Any:
        """What the work returned, or a ``LostError``; raises what it raised."""
        if self._result is None:
            code = self._process.exitcode or 0
            how = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return LostError(f"its process was {how} before it was done; where memory is short, jobs=1 needs less")
        value, error = self._result
        if error is not None:
            raise error
        return value


def _work(
    work: Callable[[], Any], answer: Connection, writing: Sequence[int], parent: int, cores: int, others: int
) -> None:
    """What a worker does, from its first moment."""
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which tells its workers
    for number in STOPS:
        signal.signal(number, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    _end_with(parent)
    for end, stream in zip(writing, (1, 2), strict=True):
        os.dup2(end, stream)
        os.close(end)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, encoding="utf-8", closefd=False) for n in (1, 2))
    os.environ |= {JOBS: str(cores), BESIDE: str(others)}
    if cores == 1:
        os.environ["OMP_NUM_THREADS"] = "1"
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
    found: Any = None
    error: BaseException | None = None
    try:
        found = work()
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException as caught:
        error = _sendable(caught)
    sys.stdout.flush()
    sys.stderr.flush()
    answer.send((found, error))


def _sendable(error: BaseException) -> BaseException:
    """The error as it can cross to the parent, where its traceback is its cause."""
    error.__cause__ = None
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return RuntimeError(text)
    error.add_note(text)
    return error


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end_with(parent: int) -> None:
    """SIGTERM for this process when ``parent`` dies (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(130)


@contextmanager
def stops_wait() -> Iterator[None]:
    """Signals to stop arrive after this: while a child starts, there is nothing yet to pass them on to."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM stops this process as Ctrl-C does, so that it ends its workers first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
