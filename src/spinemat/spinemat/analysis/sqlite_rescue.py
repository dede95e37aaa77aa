"""A bag in SQLite that was cut short: `rescue`."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

TABLES = ("schema", "metadata", "topics", "message_definitions", "messages")  # of rosbag2


def rescue(file: Path, folder: Path) -> Path:
    """Copy every row that can be read of a file in SQLite into a new one in `folder`.

    Raises:
        sqlite3.Error: not even its tables can be read.
        OSError: a copy cannot be written.
    """
    rest, new_file = folder / "rest", folder / file.name
    shutil.copy(file, rest)
    with rest.open("r+b") as data:
        size = int.from_bytes(data.read(18)[16:], "big")
        pages = rest.stat().st_size // (65536 if size == 1 else max(size, 512))
        data.seek(28)
        data.write(pages.to_bytes(4, "big"))  # what is missing is an error then, else zeros
    with closing(sqlite3.connect(rest)) as old, closing(sqlite3.connect(new_file)) as new:
        for table in TABLES:
            names = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
            if not names:
                continue
            columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
            new.execute(f"CREATE TABLE {table} ({columns})")
            places = ", ".join("?" * len(names))
            with suppress(sqlite3.DatabaseError):  # where the damage begins
                for row in old.execute(f"SELECT * FROM {table} ORDER BY rowid"):
                    new.execute(f"INSERT INTO {table} VALUES ({places})", row)
        # of messages at one time the first in the file is the first again
        new.execute("CREATE INDEX timestamp_idx ON messages (timestamp)")
        new.commit()
    rest.unlink()
    return new_file
