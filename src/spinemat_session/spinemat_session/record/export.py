"""Tidy tables for other programs: CSV, Parquet or JSON, one file a table, units in the names.

Anonymised, an export holds no id that the record knows: people, sessions, groups and studies get
random names, the same throughout the export; all times of a person are shifted by the same number
of days; folders and free words are left out or, where they tell activities or places apart,
replaced in the same way; of an intake only numbers, yes or no and answers from the closed lists of
the questionnaire are kept, without its id.
What is left is health data all the same, and few people of a rare age and stature can still be
told apart: give it only to whom you would give the record.

Sessions of a trial tell their arm only in an unsealed export: before, their programme, arm, dose
and plan are left out.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from spinemat.conditions import CONDITIONS
from spinemat.errors import InvalidInput, choice
from spinemat.layout import REGIONS
from spinemat.questionnaire import ACTIVITIES, GOALS, POSTURES, REPETITIVE_LOAD
from spinemat.symptoms import PLACES, WHEN
from spinemat_session.record.schema import Base, Session, Utc
from spinemat_session.record.store import Store
from spinemat_session.record.writes import MEASURED

FORMATS = ("csv", "parquet", "json")
BATCH = 20_000  # rows held in memory
SHIFT = 180  # days at most, back or forth (engineering choice)
CODES = frozenset(
    (
        *MEASURED, *REGIONS, *CONDITIONS, *PLACES, *WHEN, *REPETITIVE_LOAD, *POSTURES, *ACTIVITIES,
        *GOALS, "female", "male", "adjust", "back_off", "comfort", "phase", "plan", "stop",
    )
)  # fmt: skip


def export(
    store: Store,
    folder: str | Path,
    kind: str,
    *,
    anonymous: bool = False,
    unsealed: bool = False,
    key: bytes | None = None,
) -> list[Path]:
    """Write all tables of a record into a folder, as they are at one moment.

    Args:
        store: the record.
        folder: new or empty.
        kind: csv, parquet or json (an array of objects).
        anonymous: leave out and replace what tells people; see above.
        unsealed: tell the arms of trials.
        key: secret from which random names and shifts are made: with the same key a later export
            has the same ones. None: a new one that nobody keeps.

    Returns:
        The files: `<table>.<kind>`.

    Raises:
        InvalidInput: the folder is not empty or cannot be written, or `kind` is not one of three.
        StoreError: the record cannot be read.
    """
    choice("format", kind, FORMATS)
    folder = Path(folder)
    masks = _Masks(key or secrets.token_bytes(32)) if anonymous else None
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InvalidInput("folder", str(folder), "a new or an empty folder")
        with store.reading() as connection:
            sealed = set() if unsealed else _sealed(connection)
            of = connection.execute(sa.select(Session.id, Session.person_id))
            owners = {session: person for session, person in of}
            for table in Base.metadata.sorted_tables:
                if masks and table.info.get("drop"):
                    continue
                files.append(folder / f"{table.name}.{kind}")
                columns = [c for c in table.c if not _left_out(c, masks)]
                rows = _rows(connection, table, columns, sealed, owners, masks)
                _WRITERS[kind](files[-1], columns, rows)
    except OSError as error:
        raise InvalidInput(
            "folder", str(folder), f"writable ({error.strerror or error})"
        ) from error
    return files


class _Masks:
    """Random but consistent names and shifts, all from one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def name(self, what: str, value: str) -> str:
        return f"{what}-{self._hash(what, value)[:12]}"

    def shift(self, person: str) -> int:
        """Days by which all times of a person move."""
        return int(self._hash("shift", person), 16) % (2 * SHIFT + 1) - SHIFT

    def _hash(self, what: str, value: str) -> str:
        return hmac.new(self._key, f"{what} {value}".encode(), hashlib.sha256).hexdigest()


def _sealed(connection: Connection) -> set[str]:
    query = sa.select(Session.id).where(Session.allocation.is_not(None))
    return set(connection.execute(query).scalars())


def _left_out(column: sa.Column[Any], masks: _Masks | None) -> bool:
    hashed = column.name == "id" and isinstance(column.type, sa.BigInteger)
    return hashed or "hidden" in column.info or bool(masks and column.info.get("drop"))


def _rows(
    connection: Connection,
    table: Table,
    columns: list[sa.Column[Any]],
    sealed: set[str],
    owners: dict[str, str],
    masks: _Masks | None,
) -> Iterator[dict[str, Any]]:
    session_key = "id" if table.name == "sessions" else "session_id"
    secret = [c.name for c in columns if c.info.get("sealed")]
    found = connection.execution_options(yield_per=BATCH).execute(
        sa.select(*columns).order_by(*table.primary_key)
    )
    for row in found.mappings():
        values = dict(row)
        if values.get(session_key) in sealed:
            if table.info.get("sealed"):
                continue
            values.update(dict.fromkeys(secret))
        if masks:
            person = values.get("person_id") or owners.get(values.get("session_id", ""), "")
            for column in columns:
                values[column.name] = _masked(column, values[column.name], person, masks)
        yield values


def _masked(column: sa.Column[Any], value: Any, person: str, masks: _Masks) -> Any:
    if value is None:
        return None
    if "replace" in column.info:
        kept = column.info.get("keep_codes") and value in CODES
        return value if kept or value == "" else masks.name(column.info["replace"], value)
    if isinstance(value, datetime):
        return value + timedelta(days=masks.shift(person))
    if column.name == "day":
        return value + masks.shift(person)
    return _codes(value) if isinstance(column.type, sa.JSON) else value


def _codes(value: Any) -> Any:
    """Only numbers, yes or no and `CODES` of an answer."""
    if isinstance(value, dict):
        return {key: _codes(item) for key, item in value.items() if key != "id"}
    if isinstance(value, list):
        return [_codes(item) for item in value]
    return None if isinstance(value, str) and value not in CODES else value


# -- the three formats --------------------------------------------------------------------------


def _batches(columns: list[sa.Column[Any]], rows: Iterator[dict[str, Any]]) -> Any:
    """Arrow's schema of a table, and its record batches."""
    import pyarrow

    kinds: list[tuple[type, Any]] = [
        (Utc, pyarrow.timestamp("us", tz="UTC")),
        (sa.Boolean, pyarrow.bool_()),
        (sa.Double, pyarrow.float64()),
        (sa.Integer, pyarrow.int64()),
    ]
    fields = []
    for column in columns:
        kind = next((a for s, a in kinds if isinstance(column.type, s)), pyarrow.string())
        fields.append(pyarrow.field(column.name, kind))
    schema = pyarrow.schema(fields)
    texts = [c.name for c in columns if isinstance(c.type, sa.JSON)]

    def batches() -> Iterator[Any]:
        batch: list[dict[str, Any]] = []
        for row in rows:
            for name in texts:
                row[name] = json.dumps(row[name], ensure_ascii=False)
            batch.append(row)
            if len(batch) == BATCH:
                yield pyarrow.RecordBatch.from_pylist(batch, schema)
                batch = []
        yield pyarrow.RecordBatch.from_pylist(batch, schema)

    return schema, batches()


def _csv(path: Path, columns: list[sa.Column[Any]], rows: Iterator[dict[str, Any]]) -> None:
    from pyarrow.csv import CSVWriter

    schema, batches = _batches(columns, rows)
    with CSVWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _parquet(path: Path, columns: list[sa.Column[Any]], rows: Iterator[dict[str, Any]]) -> None:
    from pyarrow.parquet import ParquetWriter

    schema, batches = _batches(columns, rows)
    with ParquetWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _json(path: Path, _columns: list[sa.Column[Any]], rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for i, row in enumerate(rows):
            text = json.dumps(row, ensure_ascii=False, default=lambda t: t.isoformat())
            file.write(f"{',' if i else ''}\n{text}")
        file.write("\n]\n")


_WRITERS: dict[str, Callable[[Path, list[sa.Column[Any]], Iterator[dict[str, Any]]], None]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
