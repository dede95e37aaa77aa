"""Writing beside a running session: whatever the database does, the session never notices.

    session ──► queue ──► journal on the disk ──► database ──► journal removed
             (enqueue)    (one daemon thread)    (another)

Every note is in the session's journal within milliseconds, and is written into the database as
soon as that takes it: at once, or when it is back, or by `Store.recover` at the next start. So a
kill, a full disk or a lost database each cost nothing that is older than the journal's write, and
the database may hang as long as it likes. Journal and database on a full disk: notes wait in
memory, as many as `capacity`, and what does not fit is counted.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from spinemat_session.record.faults import StoreError
from spinemat_session.record.note import Note, append_notes, journal_path, read_notes
from spinemat_session.record.store import Store
from spinemat_session.record.writes import Writes

CAPACITY = 50_000  # notes in memory: hours of a session (engineering choice)
RETRY = 0.5  # s between two tries of a database that is away (engineering choice)
PATIENCE = 2.0  # s for a lock or an answer


class BackgroundWriter(Writes):
    """Takes what `Store` takes, only enqueues it, and never raises but `InvalidInput`.

    Args:
        url: of the database; it is opened in the background, and may be away.
        journals: folder of the journals: the one that holds the sessions' folders.
        mat: see `Store`.
        capacity: notes kept in memory.

    Attributes:
        lost: notes that are neither in the database nor in a journal, for good.
        trouble: what is wrong now, one line for people; empty while all is well.
    """

    def __init__(
        self, url: str | Path, journals: str | Path, *, mat: str = "mat", capacity: int = CAPACITY
    ) -> None:
        self.mat = mat
        self.lost = 0
        self._url, self._journals, self._capacity = url, Path(journals), capacity
        self._queue: queue.SimpleQueue[Note] = queue.SimpleQueue()
        self._store: Store | None = None
        self._counting = threading.Lock()
        self._changed = threading.Condition()  # guards everything below
        self._pending: list[Note] = []  # not yet in the database
        self._unkept: list[Note] = []  # of these, not yet in a journal
        self._accepted = self._done = 0
        self._running: set[str] = set()  # sessions whose journal is still needed
        self._troubles = {"journal": "", "database": ""}
        self._closed = False
        self._threads = [
            threading.Thread(target=loop, name=f"record {name}", daemon=True)
            for name, loop in (("journal", self._keep), ("database", self._store_all))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def behind(self) -> int:
        """Notes that are not in the database yet."""
        return self._accepted - self._done

    @property
    def trouble(self) -> str:
        """What is wrong now; empty while all is well."""
        return "; ".join(text for text in self._troubles.values() if text)

    def flush(self, timeout: float) -> bool:
        """Wait until all is in the database, at most `timeout` s; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.behind <= 0, timeout)

    def close(self, timeout: float = PATIENCE) -> bool:
        """Flush, end the threads and return whether all is in the database."""
        complete = self.flush(timeout)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)
        return complete

    def _write(self, note: Note) -> None:
        with self._counting:
            if self.behind >= self._capacity:
                self.lost += 1
                return
            self._accepted += 1
        self._queue.put(note)

    # -- the journal -------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._closed:
            notes = []
            try:
                notes.append(self._queue.get(timeout=RETRY))
                while True:
                    notes.append(self._queue.get_nowait())
            except queue.Empty:
                pass
            with self._changed:
                self._pending += notes
                self._unkept += notes
                self._append()
                self._changed.notify_all()

    def _append(self) -> None:
        by_session: dict[str, list[Note]] = {}
        for note in self._unkept:
            by_session.setdefault(note.session, []).append(note)
        self._unkept = []
        for session, notes in by_session.items():
            path = journal_path(self._journals, session)
            try:
                self._journals.mkdir(parents=True, exist_ok=True)
                append_notes(path, notes)
                self._troubles["journal"] = ""
            except OSError as error:
                self._unkept += notes
                self._troubles["journal"] = f"journal {path}: {error.strerror or error}"

    # -- the database ------------------------------------------------------------------------

    def _store_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closed)
                if self._closed:
                    break
                notes = list(self._pending)
            try:
                self._put(notes)
            except Exception as error:  # whatever it is must not end this thread
                self._troubles["database"] = str(error) or repr(error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, RETRY)
                continue
            self._finish(notes)
        if self._store:
            self._store.close()

    def _put(self, notes: list[Note]) -> None:
        """Write notes into the database, which is opened anew after every failure.

        Raises:
            StoreError: it cannot be done now, and nothing is lost.
        """
        store, self._store = self._store, None
        if store is None:
            store = Store(self._url, mat=self.mat, patience=PATIENCE)
        try:
            store.apply(notes)
            self._troubles["database"] = ""
        except StoreError as error:
            if error.temporary:
                store.close()
                raise
            self._put_singly(store, notes)
        self._store = store

    def _put_singly(self, store: Store, notes: list[Note]) -> None:
        """Find the notes that are refused; a session that the database forgot is told again."""
        retold: set[str] = set()
        for note in notes:
            try:
                try:
                    store.apply([note])
                except StoreError as error:
                    if error.kind != "unknown" or note.session in retold:
                        raise
                    retold.add(note.session)
                    store.apply(read_notes(journal_path(self._journals, note.session))[0])
            except StoreError as error:
                if error.temporary:
                    raise
                self.lost += 1
                self._troubles["database"] = str(error)
            except (OSError, ValueError):
                self.lost += 1

    def _finish(self, notes: list[Note]) -> None:
        with self._changed:
            del self._pending[: len(notes)]
            self._done += len(notes)
            for note in notes:
                if any(name == "sessions" for name, _ in note.puts):
                    self._running.add(note.session)
                elif "state" in note.changes:
                    self._running.discard(note.session)
            needed = self._running | {note.session for note in self._pending}
            for session in {note.session for note in notes} - needed:
                self._unkept = [note for note in self._unkept if note.session != session]
                try:
                    journal_path(self._journals, session).unlink(missing_ok=True)
                except OSError as error:
                    self._troubles["journal"] = str(error)
            self._changed.notify_all()
