"""A PostgreSQL server of our own for the tests: a new cluster in a temporary folder, on loopback, with a password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # the cluster is thrown away
    "max_connections": "40",
    "shared_buffers": "16MB",
}
PATIENCE_S = 60


def find_programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres`` (Debian keeps them off the path), or None."""
    on_path = [Path(found).resolve().parent for name in ("initdb",) if (found := shutil.which(name))]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    return next((p for p in (*debian, *on_path) if (p / "initdb").is_file() and (p / "postgres").is_file()), None)


@contextmanager
def running(programs: Path) -> Iterator[str]:
    """Start a server and give its SQLAlchemy URL; it is stopped and its files are removed at the end."""
    folder, user = Path(tempfile.mkdtemp(prefix="tessera-pg-")), _server_user()
    password, port = secrets.token_hex(12), _free_port()
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        shutil.chown(path, user) if user else None
    made = [programs / "initdb", "-D", folder / "data", "-U", "tessera", "--pwfile", folder / "password"]
    subprocess.run([*made, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"], user=user, check=True,
                   capture_output=True, cwd=folder)  # fmt: skip
    options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    start = [programs / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder, *options]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(start, user=user, cwd=folder, stdout=log, stderr=log)
    try:
        _wait(server, port, folder / "log")
        yield f"postgresql+psycopg://tessera:{password}@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        shutil.rmtree(folder, ignore_errors=True)


def _server_user() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while "ready to accept connections" not in log.read_text():
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"PostgreSQL did not start on port {port}: {log.read_text()}")
        time.sleep(0.1)
