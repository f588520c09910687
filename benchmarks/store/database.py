"""The store as two SQL tables, ``cells`` and ``images``: an index for queries, filled from the cell files.

Any number of machines may sync into one database at once: a cell is one row under its key, written with its images in
one transaction, and left alone when its files have not changed. Rows are never deleted because a file is missing here
(it may be on another machine); delete the database and sync again to be rid of old rows.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from benchmarks.store.cell import StoreError
from benchmarks.store.store import CellResult, Store

MEASURES = (
    *("height", "width", "channels", "bytes", "payload_bits", "estimate_bits", "bpp", "bpd", "mse", "psnr"),
    *("ms_ssim", "ms_ssim_db", "encode_s", "decode_s", "peak_memory_mb"),
)
BATCH = 50  # cells in one transaction
ATTEMPTS = 5
WAIT_S = 60  # how long a writer waits for another one

METADATA = sa.MetaData()
CELLS = sa.Table(
    "cells",
    METADATA,
    sa.Column("key", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, doc="SHA-256 of the cell's files"),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("label", "method", "variant")),
    sa.Column("point", sa.Text),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("dataset", "split")),
    sa.Column("image_limit", sa.Integer),
    sa.Column("seed", sa.BigInteger, nullable=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("checkpoint", "rate", "device")),
    sa.Column("pictures", sa.Text, nullable=False, doc="fingerprint of the images: others cannot be compared"),
    sa.Column("image_count", sa.Integer, nullable=False),
    *(sa.Column(name, sa.Double) for name in MEASURES),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("about", "provenance")),
)
IMAGES = sa.Table(
    "images",
    METADATA,
    sa.Column("key", sa.String(16), sa.ForeignKey("cells.key"), primary_key=True),
    sa.Column("image", sa.String(255), primary_key=True),
    *(sa.Column(name, sa.Double) for name in MEASURES),
)


def sync(store: Store, url: str | None = None) -> int:
    """Copy every readable cell into the database at ``url``; returns how many were new or changed.

    Without a URL it is ``store.sqlite`` in the results folder. Raises StoreError when the database cannot be used.
    """
    try:
        engine = _engine(store.root, url)
        results = store.cells()
        batches = [results[i : i + BATCH] for i in range(0, len(results), BATCH)] or [[]]
        try:
            _expect_columns(engine, _shown(store.root, url))
            return sum(_retried(engine, batch) for batch in batches)
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        reason += f"; try 'pip install {error.name}'" if isinstance(error, ImportError) else ""
        raise StoreError(f"cannot sync into the database {_shown(store.root, url)}: {reason}.") from error


def _shown(root: Path, url: str | None) -> str:
    """The URL without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True) if url else str(root / "store.sqlite")
    except sa.exc.SQLAlchemyError:
        return "of the given URL"


def _engine(root: Path, url: str | None) -> Engine:
    if url is None:
        root.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{root / 'store.sqlite'}"
    waiting = {"timeout": WAIT_S} if sa.make_url(url).get_backend_name() == "sqlite" else {}
    engine = sa.create_engine(url, connect_args=waiting)
    if waiting:  # take the write lock at once: a reader that turns writer cannot wait for it
        sa.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _expect_columns(engine: Engine, shown: str) -> None:
    """Refuse an index of an older version, whose tables lack columns."""
    inspector = sa.inspect(engine)
    if inspector.has_table("cells"):
        lost = {column.name for column in CELLS.columns} - {column["name"] for column in inspector.get_columns("cells")}
        if lost:
            raise StoreError(
                f"the database {shown} was made by an older version (it has no {', '.join(sorted(lost))}): delete it, "
                "or its tables cells and images, and sync again; the cells' files are untouched."
            )


def _retried(engine: Engine, results: list[CellResult]) -> int:
    """One batch in one transaction; tried again when another writer was in the way."""
    for attempt in range(ATTEMPTS):
        try:
            with engine.begin() as connection:
                METADATA.create_all(connection)
                return sum(_put(connection, result) for result in results)
        except (sa.exc.IntegrityError, sa.exc.OperationalError, sa.exc.ProgrammingError):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.1 * 2**attempt)
    return 0


def _put(connection: Connection, result: CellResult) -> bool:
    digest = _digest(result.folder)
    known = connection.execute(sa.select(CELLS.c.digest).where(CELLS.c.key == result.key)).scalar()
    if known == digest:
        return False
    _upsert(connection, _row(result) | {"digest": digest})  # locks the row: writers of one cell take turns
    connection.execute(sa.delete(IMAGES).where(IMAGES.c.key == result.key))
    connection.execute(sa.insert(IMAGES), list(_image_rows(result)))
    return True


def _upsert(connection: Connection, row: dict[str, Any]) -> None:
    dialects: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    insert = dialects.get(connection.dialect.name)
    if insert is not None:
        connection.execute(insert(CELLS).values(row).on_conflict_do_update(index_elements=["key"], set_=row))
    elif connection.execute(sa.update(CELLS).where(CELLS.c.key == row["key"]).values(row)).rowcount == 0:
        connection.execute(sa.insert(CELLS).values(row))


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "cell.json").read_bytes() + (folder / "images.csv").read_bytes()).hexdigest()


def _row(result: CellResult) -> dict[str, Any]:
    row = asdict(result.cell)
    row["image_limit"] = row.pop("limit")
    row["point"] = None if row["point"] is None else str(row["point"])
    row["variant"] = json.dumps(row["variant"], sort_keys=True)
    row |= {"key": result.key, "label": result.label, "image_count": result.count, "pictures": result.pictures}
    row |= {name: _number(result.means.get(name)) for name in MEASURES}
    return row | {name: json.dumps(getattr(result, name), sort_keys=True) for name in ("about", "provenance")}


def _image_rows(result: CellResult) -> Iterable[dict[str, Any]]:
    frame = result.images
    for record in frame.to_dict("records"):
        yield {"key": result.key, "image": record["image"]} | {n: _number(record.get(n)) for n in MEASURES}


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
