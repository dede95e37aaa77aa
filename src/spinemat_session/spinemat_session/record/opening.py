"""Opening a database: where it is, how safely it writes, which version its tables have."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from spinemat_session.record.faults import StoreError

VERSION = "0004"  # of the tables: the newest file in migrations/versions
MIGRATIONS = Path(__file__).parent / "migrations"
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    "cache_size=-65536",  # KiB, at most: a report reads a few MiB from all over the file
)
_LOCK = 0x5350494E  # PostgreSQL's advisory lock while one of us migrates


def database_url(url: str | Path) -> URL:
    """Return the URL of a database, or of the SQLite file at a path.

    Raises:
        StoreError: it is neither; a password in it is not repeated.
    """
    text = str(url)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        found = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"{text.split('://')[0]}://…", "url") from error
    if found.get_backend_name() == "postgresql":
        return found.set(drivername="postgresql+psycopg")
    if found.get_backend_name() != "sqlite" or found.database in (None, "", ":memory:"):
        raise StoreError(found.render_as_string(), "url")
    return found


def make_engine(url: URL, patience: float) -> Engine:
    """Return the engine of a database; nothing is opened yet.

    SQLite writes a log first (WAL) and waits for the disk at every commit (synchronous FULL): in
    WAL mode NORMAL waits only at checkpoints, so that a power cut could take all commits since
    the last one, minutes of a quiet session. With FULL it takes none. Deleted bytes are
    overwritten (secure_delete).

    Args:
        url: from `database_url`.
        patience: s to wait for a lock or an answer.
    """
    dump = partial(json.dumps, allow_nan=False, ensure_ascii=False)
    if url.get_backend_name() == "postgresql":
        milliseconds = round(1e3 * patience)
        return sa.create_engine(
            url,
            json_serializer=dump,
            pool_pre_ping=True,
            pool_timeout=patience,
            connect_args={
                "connect_timeout": max(2, round(patience)),
                "tcp_user_timeout": milliseconds,
                "options": f"-c lock_timeout={milliseconds} -c timezone=UTC"
                " -c synchronous_commit=on"
                " -c jit=off -c random_page_cost=1.1",  # few rows from all over large tables
                "application_name": "spinemat",
            },
        )
    engine = sa.create_engine(
        url, json_serializer=dump, pool_timeout=patience, connect_args={"timeout": patience}
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # `_begin` says when a transaction begins
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """Take the write lock at once: a transaction that takes it later can fail for good."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def migrate(engine: Engine, where: str) -> None:
    """Bring the tables of a database to `VERSION`; an empty database gets them all.

    Raises:
        StoreError: the database is of a newer version, or is not a record at all.
    """
    with engine.connect().execution_options(reads=True) as connection:
        if _version(connection, where) == VERSION:
            return
    # slow to import, and seldom needed
    from alembic import command
    from alembic.config import Config

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if _version(connection, where) == VERSION:  # somebody else was faster
            return
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        command.upgrade(config, VERSION)


def _version(connection: Connection, where: str) -> str:
    """Version of the tables; empty for an empty database."""
    tables = sa.inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        if tables:
            raise StoreError(where, "foreign", f"{tables[0]}, …")
        return ""
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and not list((MIGRATIONS / "versions").glob(f"{found}_*.py")):
        raise StoreError(where, "newer", f"version {found}, known up to {VERSION}")
    return found or ""
