"""One file over HTTP (data sets, weights): connect timeout, resume, progress, verification; failures are sentences."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import atomic
from core.codec import TesseraError

if TYPE_CHECKING:
    import requests

CONNECT_S = 10.0  # seconds to wait for a connection
READ_S = 60.0  # seconds to wait for the next byte
ATTEMPTS = 3  # connections tried in one run, each resuming where the last one stopped
LINE_EVERY_S = 5.0  # seconds between progress lines where there is no terminal


class DownloadError(TesseraError):
    """A file could not be fetched; the text says what to do."""


class Unreachable(DownloadError):
    """No connection to the host of a file: others there will not come either."""


class _Stopped(Exception):
    """The connection ended early; what came is in the .part file."""


@dataclass(frozen=True)
class Expected:
    """What a file must be: its name for messages, and its size in bytes and SHA-256 where they are known."""

    file: str
    size: int | None = None
    sha256: str | None = None


def fetch(
    url: str,
    target: Path,
    size: int | None = None,
    sha256: str | None = None,
    manual: Path | None = None,
    timeouts: tuple[float, float] = (CONNECT_S, READ_S),
) -> None:
    """Download ``url`` to ``target`` through ``target.part``, resuming it, and verify size and SHA-256 before renaming.

    ``manual`` is the path named in errors for a file fetched by hand (default ``target``); ``timeouts`` are seconds
    (connect, read). Raises ``DownloadError``; what was wrong is deleted, what was cut off stays for the next try.
    """
    import requests

    file, manual = Expected(target.name, size, sha256), manual or target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{target.parent} cannot be made ({error.strerror}): choose another place.") from error
    part = target.with_name(f"{target.name}.part")
    by_hand = f"or download it by hand to {manual}, then run this again"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(file, url, part, timeouts, by_hand)
            break
        except _Stopped as error:
            if attempt == ATTEMPTS:
                have = part.stat().st_size if part.exists() else 0
                raise DownloadError(
                    f"{url} stopped after {have} bytes ({error}): run this again to resume, {by_hand}."
                ) from error
        except requests.ConnectionError as error:
            raise Unreachable(f"{url} cannot be reached: check the network, {by_hand}.") from error
        except requests.RequestException as error:
            name = type(error).__name__
            raise DownloadError(f"{url} cannot be fetched ({name}): correct the URL, {by_hand}.") from error
    verify(part, file)
    part.replace(target)


def verify(path: Path, file: Expected) -> None:
    """Compare a file with its published size and SHA-256; a download (.part) that differs is deleted."""
    if file.size and path.stat().st_size != file.size:
        problem = f"has {path.stat().st_size} bytes, not {file.size}"
    elif file.sha256 and not atomic.sha256(path).startswith(file.sha256):
        problem = "has another SHA-256 than the published one"
    else:
        return
    if path.suffix == ".part":
        path.unlink()
        raise DownloadError(
            f"{file.file} {problem} and was deleted: run this again, or give another source with url=..."
        )
    raise DownloadError(f"{path} {problem}: replace it with the original file.")


def _transfer(file: Expected, url: str, part: Path, timeouts: tuple[float, float], by_hand: str) -> None:
    """One connection, appended to ``part`` where the server can resume."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        answer = requests.get(url, headers=headers, stream=True, timeout=timeouts)
    except requests.ReadTimeout as error:
        raise _Stopped(f"no answer for {timeouts[1]:g} s") from error
    with answer:
        if answer.status_code == 416:  # nothing is left to send: complete, or not the file that was begun
            _keep_only_complete(file, part, have)
            return
        if answer.status_code not in (200, 206):
            status = f"{answer.status_code} {answer.reason}"
            raise DownloadError(f"{url} answered {status}: give a mirror with url=..., {by_hand}.")
        start = _start(answer, part, have)
        _check_length(file, url, answer, start)
        try:
            _save(answer, part, start, file)
        except requests.RequestException as error:
            slow = "timed out" in str(error)  # requests has one class for both
            raise _Stopped(f"no data for {timeouts[1]:g} s" if slow else "cut off") from error


def _start(answer: requests.Response, part: Path, have: int) -> int:
    """Where the body begins in the file: behind what is here, if the server resumes, else at 0."""
    if answer.status_code == 200:
        return 0
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink(missing_ok=True)
        raise _Stopped("the server resumed at another place")
    return have


def _keep_only_complete(file: Expected, part: Path, have: int) -> None:
    if file.size and have != file.size:
        part.unlink()
        raise _Stopped("the begun file was longer than the published one")


def _check_length(file: Expected, url: str, answer: requests.Response, start: int) -> None:
    """Refuse a wrong file before it is downloaded, where the server tells the length."""
    length = answer.headers.get("Content-Length", "")
    if file.size and length.isdigit() and start + int(length) != file.size:
        raise DownloadError(f"{url} offers {start + int(length)} bytes, not {file.size}: give a mirror with url=...")


def _save(answer: requests.Response, part: Path, start: int, file: Expected) -> None:
    """Write the body behind the first ``start`` bytes of ``part``, with one bar or, without a terminal, lines."""
    from tqdm import tqdm

    total = start + int(answer.headers.get("Content-Length", 0)) or None
    terminal = sys.stderr.isatty()
    options: dict[str, Any] = {"total": total, "initial": start, "unit": "B", "unit_scale": True, "desc": file.file}
    told = time.monotonic()
    with part.open("ab" if start else "wb") as target, tqdm(**options, disable=not terminal, leave=False) as bar:
        have = start
        for chunk in answer.iter_content(2**16):
            target.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
            if not terminal and time.monotonic() - told > LINE_EVERY_S:
                told = time.monotonic()
                print(f"{file.file}: {have / 1e6:.1f} MB of {(total or 0) / 1e6:.1f} MB", flush=True)
