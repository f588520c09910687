"""The index in a database: it follows the cells, many may write it, and what is wrong is one sentence."""

from __future__ import annotations

import math
import sqlite3
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.store import Store, StoreError
from benchmarks.store.__main__ import main
from tests.benchmarks.test_store import cell, rows, write


def query(root: Path, text: str) -> list[tuple]:
    with sqlite3.connect(root / "store.sqlite") as connection:
        return connection.execute(text).fetchall()


def test_sync_is_idempotent_and_follows_changes(tmp_path):
    store = Store(tmp_path)
    write(store, cell(1))
    write(store, cell(2), rows().assign(psnr=math.inf))
    assert store.sync() == 2
    assert store.sync() == 0
    assert query(tmp_path, "select count(*) from images") == [(6,)]
    assert dict(query(tmp_path, "select point, psnr from cells"))["2"] == math.inf
    for name in ("cell.json", "images.csv"):
        (store.path(cell(1)) / name).unlink()
    write(store, cell(1), rows(2, seed=5))
    assert store.sync() == 1
    joined = query(tmp_path, "select image, images.bpp from images join cells using (key) where point = '1'")
    stored = store.read(cell(1)).images
    assert sorted(joined) == sorted(zip(stored["image"], stored["bpp"], strict=True))


def test_deleting_the_database_loses_nothing(tmp_path):
    store = Store(tmp_path)
    write(store, cell(1))
    store.sync()
    before = query(tmp_path, "select * from cells") + query(tmp_path, "select * from images")
    (tmp_path / "store.sqlite").unlink()
    assert [r.cell for r in store.cells()] == [cell(1)]
    store.sync()
    assert query(tmp_path, "select * from cells") + query(tmp_path, "select * from images") == before


def _syncing(arguments: tuple[str, int]) -> int:
    root, worker = arguments
    store = Store(Path(root) / f"machine{worker}")
    for point in range(5):
        write(store, cell(point, seed=worker))  # its own
        write(store, cell(point))  # the same as everybody's
    return store.sync(f"sqlite:///{root}/all.sqlite")


def test_eight_writers_of_one_database(tmp_path):
    with ProcessPoolExecutor(8) as pool:
        changed = list(pool.map(_syncing, [(str(tmp_path), i) for i in range(1, 9)]))
    with sqlite3.connect(tmp_path / "all.sqlite") as connection:
        assert connection.execute("select count(*) from cells").fetchone() == (45,)
        assert connection.execute("select count(*) from images").fetchone() == (135,)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert sum(changed) >= 45


def test_postgresql_statement_is_an_upsert():
    """Without a server the dialect alone can be checked: the row is taken over on a conflict of keys."""
    from sqlalchemy.dialects import postgresql

    from benchmarks.store.database import _upsert

    said = []

    class Connection:
        dialect = postgresql.dialect()
        execute = staticmethod(said.append)

    _upsert(Connection(), {"key": "k", "digest": "d"})
    assert "ON CONFLICT (key) DO UPDATE" in str(said[0].compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize("url", ["nonsense", "mysterydb://x", "sqlite:////nowhere/at/all.sqlite"])
def test_a_database_that_cannot_be_used_is_one_sentence(tmp_path, url, capsys):
    write(Store(tmp_path), cell())
    assert main(["sync", "--results", str(tmp_path), "--url", url]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match="pip install psycopg"):
        Store(tmp_path).sync("postgresql+psycopg://me@127.0.0.1/x")


def test_passwords_are_not_shown(tmp_path, capsys):
    url = "sqlite://user:secret@/nowhere/x.sqlite"
    assert main(["sync", "--results", str(tmp_path), "--url", url]) == 2
    assert "secret" not in capsys.readouterr().err
