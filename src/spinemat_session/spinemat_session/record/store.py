"""The record as a database: every call is one short transaction.

What a call wrote is on the disk when it returns, and what it did not write is not there at all.
Calls may come from several threads and processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from spinemat.allocation import ARMS, BLOCKS, allocate
from spinemat.errors import InvalidInput
from spinemat_session.record.faults import StoreError, faults
from spinemat_session.record.found import BrokenOff
from spinemat_session.record.note import ENDING, UNREADABLE, Note, read_notes
from spinemat_session.record.opening import database_url, make_engine, migrate
from spinemat_session.record.reads import TABLES, Reads
from spinemat_session.record.schema import Person, Session, Study
from spinemat_session.record.writes import Writes


class Store(Writes, Reads):
    """The database of all sessions.

    Args:
        url: path of an SQLite file, `sqlite:////path` or `postgresql://user@host/name`; a
            database that is empty or older is brought to the version of this program.
        mat: name of this mat, where several share a database.
        patience: s to wait for another program's lock or for an answer.

    Attributes:
        troubles: what the last `recover` could not read, one line each.

    Raises:
        StoreError: from here and from every method, when the database cannot do its part.
    """

    def __init__(self, url: str | Path, *, mat: str = "mat", patience: float = 5.0) -> None:
        self.mat = mat
        self.troubles: list[str] = []
        found = database_url(url)
        self.file = Path(found.database or "") if found.drivername.startswith("sqlite") else None
        self.where = str(self.file or f"{found.host or 'local'}/{found.database}")
        self._engine = make_engine(found, patience)
        self._reading = self._engine.execution_options(reads=True)
        self._inode = 0
        self.reopen()

    def reopen(self) -> None:
        """Open the database anew, as after it was away; it may be another, empty one by now."""
        self.close()
        if self.file:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self.file.touch(mode=0o600)  # health data: nobody else's
                self._inode = self.file.stat().st_ino
            except OSError as error:
                kind = "read_only" if isinstance(error, PermissionError) else "lost"
                raise StoreError(self.where, kind, error.strerror or "") from error
        try:
            with faults(self.where):
                migrate(self._engine, self.where)
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database, whatever is written meanwhile."""
        self._check_file()
        with faults(self.where), self._reading.connect() as connection:
            if not self.file:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._check_file()
        with faults(self.where), self._engine.begin() as connection:
            yield connection

    def _check_file(self) -> None:
        """A file that was removed or replaced would still take what we write, for nobody."""
        if self.file:
            try:
                same = self.file.stat().st_ino == self._inode
            except OSError:
                same = False
            if not same:
                raise StoreError(self.where, "lost", "the file was removed or replaced")

    # -- writing -----------------------------------------------------------------------------

    def _write(self, note: Note) -> None:
        self.apply([note])

    def apply(self, notes: Sequence[Note]) -> None:
        """Write notes in their order, all or none; those that are there already change nothing."""
        puts: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        sessions: dict[str, dict[str, Any]] = {}
        for note in notes:
            for name, rows in note.puts:
                for row in rows:
                    puts.setdefault((name, *row), []).append(row)
            if note.session:
                known = sessions.setdefault(note.session, {"last_known": note.at})
                known.update(note.changes, last_known=max(known["last_known"], note.at))
        order = list(TABLES)  # who is referred to comes first
        with self._writing() as connection:
            for (name, *columns), rows in sorted(puts.items(), key=lambda p: order.index(p[0][0])):
                connection.execute(_put(name, tuple(columns), not self.file), rows)
            for session, known in sessions.items():
                self._touch(connection, session, known)
            for row in (
                row for (name, *_), rows in puts.items() if name == "sessions" for row in rows
            ):
                self._check_begun(connection, row)

    def _touch(self, connection: Connection, session: str, known: dict[str, Any]) -> None:
        at = known["last_known"]
        later = sa.case((Session.last_known < at, at), else_=Session.last_known)
        found = connection.execute(
            sa.update(Session).where(Session.id == session).values(known | {"last_known": later})
        )
        if not found.rowcount:
            raise StoreError(self.where, "unknown", f"session {session}")

    def _check_begun(self, connection: Connection, row: dict[str, Any]) -> None:
        there = connection.execute(
            sa.select(Session.person_id, Session.started).where(Session.id == row["id"])
        ).one()
        if tuple(there) != (row["person_id"], row["started"]):
            raise StoreError(self.where, "taken", f"session {row['id']}")

    def set_group(self, person_id: str, group: str | None) -> None:
        """Put a person into a group, such as a workplace programme; None: into none."""
        with self._writing() as connection:
            change = sa.update(Person).where(Person.id == person_id).values(group_name=group)
            if not connection.execute(change).rowcount:
                raise StoreError(self.where, "unknown", f"person {person_id}")

    def recover(self, journals: str | Path | None = None) -> list[BrokenOff]:
        """Put in order what an earlier run of this mat left; call it before the first session.

        Journals that a `BackgroundWriter` left are written into the database and removed, but for
        those of other mats, which may be at work. Then sessions of this mat that never ended are
        marked `broken_off`, at the time of the last thing known of them.

        Args:
            journals: folder of the journals.

        Returns:
            The sessions that were broken off, oldest first; `troubles` says what is unreadable.
        """
        self.troubles.clear()
        mine = (self.mat, self.mat.partition("@")[0])  # as earlier versions named it
        for path in sorted(Path(journals).glob(f"*{ENDING}")) if journals else ():
            try:
                notes, wrong = read_notes(path)
                if not (notes or wrong) or self._mat_of(notes) not in ("", *mine):
                    continue  # another mat's, or one that somebody has just begun
                self.apply(notes)
                if not wrong:
                    path.unlink()
                    continue
            except (ValueError, OSError, StoreError) as error:
                if isinstance(error, StoreError) and error.temporary:
                    raise
                wrong = f"{path}: {error}"
            self.troubles.append(wrong)
            with contextlib.suppress(OSError):  # to be looked at, and not again every time
                path.rename(path.with_name(f"{path.name}{UNREADABLE}"))
        left = (Session.state == "running") & Session.mat.in_(mine)
        columns = (Session.id, Session.person_id, Session.programme, Session.phase)
        with self._writing() as connection:
            found = connection.execute(
                sa.select(*columns, Session.last_known, Session.folder)
                .where(left)
                .order_by(Session.started)
            ).all()
            cause = "broken off: the program or its power ended during the session"
            connection.execute(
                sa.update(Session)
                .where(left)
                .values(state="broken_off", ended=Session.last_known, cause=cause)
            )
        return [BrokenOff(*row) for row in found]

    def _mat_of(self, notes: Sequence[Note]) -> str:
        """Whose session notes are about; empty where nobody knows."""
        for note in notes:
            for name, rows in note.puts:
                if name == "sessions":
                    return str(rows[0]["mat"])
        mine = sa.select(Session.mat).where(Session.id.in_({note.session for note in notes}))
        with self.reading() as connection:
            return connection.execute(mine).scalar() or ""

    def enrol(
        self,
        person_id: str,
        study: str,
        seed: int,
        arms: Sequence[str] = ARMS,
        blocks: Sequence[int] = BLOCKS,
    ) -> str:
        """Take a person into a trial and return the arm, the same one if they are in already.

        The arm is not kept with the person: it follows from their number and the seed, of which
        the record keeps a hash, so that a trial has one seed. A number is given once, also when
        its person is deleted. See `spinemat.allocation`.

        Raises:
            InvalidInput: the person is in another trial, or the trial began with another seed,
                other arms or other blocks.
        """
        check = _seed_check(study, f"{seed} {list(arms)} {list(blocks)}")
        with self._writing() as connection:
            mine = sa.select(Person.study, Person.number).where(Person.id == person_id)
            there = connection.execute(mine).one_or_none()
            if there is None:
                raise StoreError(self.where, "unknown", f"person {person_id}")
            if there.study not in (None, study):
                raise InvalidInput("study", study, f"{there.study}, in which this person is")
            insert = (sqlite if self.file else postgresql).insert(Study)
            new = insert.values(name=study, seed_check=check, next_number=0)
            connection.execute(new.on_conflict_do_nothing())
            begun = connection.execute(
                sa.select(Study.seed_check, Study.next_number)
                .where(Study.name == study)
                .with_for_update()
            ).one()
            if begun.seed_check not in (None, check):
                raise InvalidInput("seed", seed, f"the one with which the trial {study} began")
            number, after = there.number, begun.next_number
            if number is None:
                number, after = after, after + 1
                taken = sa.update(Person).where(Person.id == person_id)
                connection.execute(taken.values(study=study, number=number))
            connection.execute(
                sa.update(Study)
                .where(Study.name == study)
                .values(seed_check=check, next_number=after)
            )
        return allocate(seed, number, arms, blocks)

    # -- deleting ----------------------------------------------------------------------------

    def delete_person(
        self, person_id: str, *, journals: str | Path | None = None, folders: bool = False
    ) -> list[Path]:
        """Delete everything of a person for good; nothing can bring it back.

        Args:
            person_id: whom.
            journals: folder in which a `BackgroundWriter` keeps its journals.
            folders: delete the sessions' folders as well, where they bear the session's name.

        Returns:
            Folders and journals of the sessions that are still on the disk.
        """
        with self._writing() as connection:
            sessions = connection.execute(
                sa.select(Session.id, Session.state, Session.folder).where(
                    Session.person_id == person_id
                )
            ).all()
            for row in sessions:
                if row.state == "running":
                    raise InvalidInput("person_id", person_id, f"after {row.id} has ended")
            gone = connection.execute(sa.delete(Person).where(Person.id == person_id))
            if not gone.rowcount:
                raise StoreError(self.where, "unknown", f"person {person_id}")
        left = _journals_of(person_id, {row.id for row in sessions}, journals)
        for row in sessions:
            if folders and row.folder and Path(row.folder).name == row.id:
                shutil.rmtree(row.folder, ignore_errors=True)
        for path in left if folders else ():
            path.unlink(missing_ok=True)
        self.overwrite_deleted()
        paths = [*(Path(row.folder) for row in sessions if row.folder), *left]
        return [path for path in paths if path.exists()]

    def overwrite_deleted(self) -> None:
        """Write the database anew without what was deleted. `delete_person` does it.

        Call it again if that one failed here: then the rows are gone, but their bytes are not.
        """
        self._check_file()
        with faults(self.where):
            free = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            with free as connection:
                raw: Any = connection.connection.driver_connection
                for name in (None,) if self.file else TABLES:
                    raw.execute(f"VACUUM FULL {name}" if name else "VACUUM")
                if self.file and raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    raise StoreError(self.where, "locked", "deleted bytes are still in its log")


def _seed_check(study: str, words: str) -> str:
    """A hash that tells whether a trial's seed is the same; slow, as few seeds are long."""
    return hashlib.pbkdf2_hmac("sha256", words.encode(), study.encode(), 100_000).hex()


def _journals_of(
    person_id: str, sessions: Collection[str], folder: str | Path | None
) -> list[Path]:
    """Journals, readable or not, of these sessions and of others that name the person."""
    said = f'"{person_id}"'.encode()
    return [
        path
        for path in (sorted(Path(folder).glob(f"*{ENDING}*")) if folder else ())
        if path.name.partition(ENDING)[0] in sessions or said in path.read_bytes()
    ]


@cache
def _put(name: str, columns: tuple[str, ...], server: bool) -> Any:
    """Insert rows, or let them take the place of rows with their keys; a session stays itself."""
    table = TABLES[name]
    insert = (postgresql.insert if server else sqlite.insert)(table)
    keys = [column.name for column in table.primary_key]
    others = {key: insert.excluded[key] for key in columns if key not in keys}
    if name == "sessions":
        return insert.on_conflict_do_nothing()
    return insert.on_conflict_do_update(index_elements=keys, set_=others)
