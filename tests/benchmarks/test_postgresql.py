"""The store's index in a real PostgreSQL: many writers at once, killed ones among them, and nothing lost or doubled.

The server is one of our own (``tests/support/postgresql.py``), or the one at TESSERA_TEST_DATABASE, whose tables are
dropped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from benchmarks.store import Store
from benchmarks.store.__main__ import main
from benchmarks.store.database import CELLS, IMAGES, MEASURES, METADATA
from tests.benchmarks.test_store import cell, rows, write
from tests.support import postgresql

ROOT = Path(__file__).resolve().parents[2]
WRITERS, OWN, SHARED = 8, 5, 5
WRITER = """
import sys, time
from benchmarks.store.__main__ import main
while not {go!r}.exists():
    time.sleep(0.01)
sys.exit(main(["sync", "--results", sys.argv[1], "--url", {url!r}]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    given, programs = os.environ.get("TESSERA_TEST_DATABASE"), postgresql.find_programs()
    if given:
        yield given
    elif programs is None:
        lacking = "PostgreSQL is not installed (Debian: apt-get install postgresql): its index is not tested"
        assert "CI" not in os.environ, lacking
        pytest.skip(lacking)
    else:
        with postgresql.running(programs) as url:
            yield url


@pytest.fixture
def database(server: str) -> Iterator[tuple[str, sa.Engine]]:
    """The URL of an empty database and an engine to look into it."""
    engine = sa.create_engine(server)
    METADATA.drop_all(engine)
    yield server, engine
    engine.dispose()


def results(folder: Path, worker: int) -> Store:
    """What one machine has: cells of its own, and the same cells as everybody, one of them measured differently."""
    store = Store(folder / f"machine{worker}")
    for point in range(OWN):
        write(store, cell(point, seed=worker))
    for point in range(SHARED):
        write(store, cell(point, seed=0), rows(seed=worker if point == 0 else 0))
    return store


def started(folder: Path, url: str, workers: range) -> list[subprocess.Popen[str]]:
    """Writers of the same database, each a process, which all begin at once."""
    go = folder / "go"
    code = "from pathlib import Path\n" + WRITER.replace("{go!r}", f"Path({str(go)!r})").replace("{url!r}", repr(url))
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    made = [subprocess.Popen([*command, str(folder / f"machine{i}")], cwd=ROOT, **pipes) for i in workers]
    go.touch()
    return made


def check(engine: sa.Engine, stores: list[Store]) -> None:
    """Every cell is there once, with exactly the images of one of the machines that have it."""
    with engine.connect() as connection:
        cells = {row.key: row for row in connection.execute(sa.select(CELLS))}
        images = pd.read_sql(sa.select(IMAGES), connection)
    wanted: dict[str, list[pd.DataFrame]] = {}
    for store in stores:
        for result in store.cells():
            wanted.setdefault(result.key, []).append(result.images)
    assert cells.keys() == wanted.keys() and len(wanted) == len(stores) * OWN + SHARED
    assert len(images) == sum(len(frames[0]) for frames in wanted.values())
    for key, frames in wanted.items():
        mine = images[images["key"] == key].sort_values("image")
        psnr = list(mine["psnr"])
        assert psnr in [list(frame["psnr"]) for frame in frames], "images of one machine, none of another"
        assert cells[key].psnr == pytest.approx(sum(psnr) / len(psnr), rel=1e-5), (
            "means and images, of six digits, belong together"
        )


def test_eight_writers_at_once(tmp_path, database):
    url, engine = database
    stores = [results(tmp_path, i) for i in range(1, WRITERS + 1)]
    ended = [(p.communicate(timeout=120), p.returncode) for p in started(tmp_path, url, range(1, WRITERS + 1))]
    assert all(code == 0 for _, code in ended), ended
    changed = [int(out.split()[0]) for (out, _), _ in ended]
    assert sum(changed) >= WRITERS * OWN + SHARED
    check(engine, stores)
    assert stores[0].sync(url) in (0, 1) and stores[1].sync(url) == 1, "only the cell they disagree on changes hands"
    check(engine, stores)


def wait_for_a_blocked_writer(engine: sa.Engine, writer: subprocess.Popen[str]) -> None:
    """Wait until a writer waits for a lock; asked anew each time, as a transaction sees one state of activity."""
    waiting = sa.text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
    end, blocked = time.monotonic() + 60, 0
    while not blocked:
        assert time.monotonic() < end and writer.poll() is None, "the writer never came to the lock"
        time.sleep(0.05)
        with engine.connect() as connection:
            blocked = connection.execute(waiting).scalar() or 0


def test_a_killed_writer_leaves_whole_cells_and_the_rest_comes_later(tmp_path, database):
    url, engine = database
    stores = [results(tmp_path, i) for i in (1, 2)]
    METADATA.create_all(engine)
    with engine.begin() as holding:  # the tables are locked, so the writer is inside its transaction when it is killed
        holding.execute(sa.text("lock table images in exclusive mode"))
        (victim,) = started(tmp_path, url, range(1, 2))
        wait_for_a_blocked_writer(engine, victim)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    with engine.connect() as connection:
        counted = [connection.execute(sa.select(sa.func.count()).select_from(t)).scalar() for t in (CELLS, IMAGES)]
    assert counted == [0, 0], "nothing of the half-written transaction"
    assert [store.sync(url) for store in stores] == [OWN + SHARED, OWN + 1]
    check(engine, stores)


def test_the_command_and_a_query(tmp_path, database, capsys):
    url, engine = database
    results(tmp_path, 1)
    words = ["sync", "--results", str(tmp_path / "machine1"), "--url", url]
    assert main(words) == 0 and f"{OWN + SHARED} cells new or changed" in capsys.readouterr().out
    assert main(words) == 0 and "0 cells new or changed" in capsys.readouterr().out
    with engine.connect() as connection:
        query = "select avg(i.bpp), count(*) from images i join cells c using (key) where c.method = 'zip'"
        rate, count = connection.execute(sa.text(query)).one()
    assert count == 3 * (OWN + SHARED) and 0 < rate < 1 and "bpp" in MEASURES


def test_no_server_or_a_wrong_password_is_one_sentence(tmp_path, server, capsys):
    write(Store(tmp_path), cell())
    right = sa.make_url(server)
    for wrong in (right.set(password="sesame"), right.set(port=1)):
        assert main(["sync", "--results", str(tmp_path), "--url", wrong.render_as_string(hide_password=False)]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and "cannot sync into the database" in said[0] and "sesame" not in said[0]
