"""One thing to write into the record, as plain rows; and the journal file that holds such lines.

A journal is an append-only file `<session>.record.jsonl` beside the session's folder. Its lines
can be written into a database again and again without harm, so that whoever is unsure how far a
database got starts at the first line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

ENDING = ".record.jsonl"
UNREADABLE = ".unreadable"  # is added to the name of a journal in which something is damaged
NO_SESSION = "no-session"  # the journal of what belongs to none


@dataclass(frozen=True)
class Note:
    """One thing to write: all of it or nothing.

    Attributes:
        session: which session it belongs to; empty: none.
        at: when it was known.
        changes: columns of the session to set.
        puts: rows by table; what has the same key takes the place of what was there.
    """

    session: str
    at: datetime
    changes: dict[str, Any] = field(default_factory=dict)
    puts: tuple[tuple[str, list[dict[str, Any]]], ...] = ()

    def to_json(self) -> str:
        """One line, from which `from_json` makes the same note."""
        data = [self.session, self.at, self.changes, self.puts]
        return json.dumps(data, ensure_ascii=False, default=lambda t: {"utc": t.isoformat()})

    @staticmethod
    def from_json(line: str) -> Note:
        """Read a line that `to_json` wrote.

        Raises:
            ValueError: it is not one.
        """
        found = json.loads(line, object_hook=_moment)
        try:
            session, at, changes, puts = found
            return Note(session, at, changes, tuple((name, rows) for name, rows in puts))
        except TypeError as error:
            raise ValueError(line[:60]) from error


def _moment(data: dict[str, Any]) -> Any:
    return datetime.fromisoformat(data["utc"]) if data.keys() == {"utc"} else data


def hashed(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row the hash of what it says as its key; see `schema._hash`."""
    said = json.dumps(row, default=lambda t: t.timestamp(), ensure_ascii=True).encode()
    digest = hashlib.blake2b(said, digest_size=8).digest()
    return {"id": int.from_bytes(digest, "big", signed=True), **row}


def journal_path(folder: Path, session: str) -> Path:
    """Where the journal of a session is kept."""
    return folder / f"{session or NO_SESSION}{ENDING}"


def append_notes(path: Path, notes: Sequence[Note]) -> None:
    """Append lines to a journal, on the disk when this returns.

    Raises:
        OSError: they cannot be written; then none is.
    """
    lines = "".join(f"{note.to_json()}\n" for note in notes).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, lines) < len(lines):
            os.ftruncate(descriptor, size)
            raise OSError(f"{path}: the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_notes(path: Path) -> tuple[list[Note], str]:
    """Read a journal; a last line that was cut short is left out.

    Returns:
        All notes that are whole, and what is wrong with the others; empty when nothing is.

    Raises:
        OSError: it cannot be read.
    """
    notes, bad = [], []
    for i, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            notes.append(Note.from_json(line.decode()))
        except ValueError:
            bad.append(i)
    wrong = f"{path}: line {bad[0]} is not a note, nor are {len(bad) - 1} others" if bad else ""
    return notes, wrong
