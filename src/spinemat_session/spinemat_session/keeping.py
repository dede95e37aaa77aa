"""What a session leaves behind: `session.json` beside the bag, and the database.

Nothing here can disturb a session: the database is written in the background (`record.writer`),
and what cannot be written is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from glob import escape
from itertools import count
from pathlib import Path
from secrets import token_hex
from socket import gethostname
from typing import Any

import numpy as np

from spinemat.back_model import UP
from spinemat.delivered import LevelDoses
from spinemat.errors import InvalidInput
from spinemat.screening import Screening
from spinemat_interfaces.action import ScanSpine
from spinemat_interfaces.msg import Event
from spinemat_ros.files import write_whole
from spinemat_ros.node import Voice
from spinemat_session.planning import SIDES
from spinemat_session.record.faults import StoreError
from spinemat_session.record.store import Store
from spinemat_session.record.writer import BackgroundWriter
from spinemat_session.record.writes import Dose, MeasuredLevel

FILE = "spinemat.db"  # in the sessions' folder, unless another database is named


def clock() -> datetime:
    """Now, with its zone: for people and the database; nothing moves by it."""
    return datetime.now().astimezone()


def database_of(sessions: str, database: str) -> str | None:
    """URL of the database for the parameters of these names; None: no database is kept."""
    if not sessions or database == "none":
        return None
    return database or str(Path(sessions) / FILE)


def mat_name(namespace: str, sessions: str) -> str:
    """Name of a mat in a database, where mats of other hosts may have the same namespace.

    The namespace, and an id that a mat gives itself in its sessions' folder, so that it holds when
    the host changes, as containers do; the host's name where that cannot be written.
    """
    path = Path(sessions) / f".{namespace.replace('/', '.')}.mat-id"
    try:
        if not path.exists():
            write_whole(path, token_hex(4))
        return f"{namespace}@{path.read_text(encoding='utf-8')}"
    except (OSError, UnicodeDecodeError):
        return f"{namespace}@{gethostname()}"


def new_folder(sessions: str, name: str) -> Path:
    """Make the folder of a new session; where the name is taken, a number follows it.

    Raises:
        OSError: it cannot be made.
    """
    for i in count(1):
        folder = Path(sessions) / (name if i == 1 else f"{name}-{i}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder.resolve()
    raise AssertionError


class Keeping:
    """Keeps sessions; every method returns at once.

    Args:
        sessions: folder of the sessions; empty: none is kept.
        database: URL; empty: a file in that folder; ``none``: no database.
        voice: to say what cannot be kept.
        namespace: of this mat: others may share folder and database.

    Attributes:
        url: of the database; None: no database.
    """

    def __init__(self, sessions: str, database: str, voice: Voice, namespace: str) -> None:
        self._voice = voice
        self._sessions = sessions
        self.url = database_of(sessions, database)
        self._writer: BackgroundWriter | None = None
        self._session = self._trouble = ""
        self._lost = 0
        self._folder: Path | None = None
        self.kept: dict[str, Any] = {}
        if self.url is not None:
            mat = mat_name(namespace, sessions)
            self._recover(sessions, mat)
            self._writer = BackgroundWriter(self.url, sessions, mat=mat)

    def _recover(self, sessions: str, mat: str) -> None:
        assert self.url is not None
        try:
            with Store(self.url, mat=mat) as store:
                for left in store.recover(sessions):
                    self._voice.say(
                        "broken_off",
                        f"session {left.session_id} was broken off in {left.phase}; last heard of"
                        f" at {left.last_known:%Y-%m-%d %H:%M:%S}",
                        {"session_id": left.session_id, "folder": left.folder},
                        Event.WARNING,
                    )
                for trouble in store.troubles:
                    words = f"{trouble}; what is whole in it is kept, the file is set aside"
                    self._voice.say("record", words, severity=Event.WARNING)
        except (StoreError, InvalidInput) as error:
            self._voice.say("record", f"database: {error}", severity=Event.WARNING)

    def folders_of(self, person_id: str) -> dict[str, datetime] | None:
        """Sessions of a person that left a folder, and when each was last written to.

        One that bears the person's name and cannot be read counts as theirs. None: sessions leave
        no folders.
        """
        if not self._sessions:
            return None
        found = {}
        for path in Path(self._sessions).glob(f"*-{escape(person_id)}*/session.json"):
            try:
                whose = json.loads(path.read_text(encoding="utf-8"))["person"]["id"]
            except (OSError, ValueError, KeyError, TypeError):
                whose = person_id
            if whose == person_id:
                with suppress(FileNotFoundError):  # it was deleted meanwhile
                    when = datetime.fromtimestamp(path.stat().st_mtime)
                    found[path.parent.name] = when.astimezone()
        return found

    def begin(
        self, session_id: str, person_id: str, answers: dict[str, Any], folder: str, **more: Any
    ) -> None:
        """Begin a session; `more` as in `Writes.begin_session`."""
        self._session, self._folder = session_id, Path(folder) if folder else None
        self.kept = {
            "session_id": session_id,
            "person": {"id": person_id} | answers,
            "plan": [],
            "result": "running",
        }
        self.write()
        self._tell(
            lambda w: w.begin_session(
                session_id, person_id, answers, at=clock(), folder=folder, **more
            )
        )

    def write(self) -> None:
        """Write `session.json`; a session that breaks off leaves it behind."""
        if self._folder is None:
            return
        try:
            write_whole(self._folder / "session.json", json.dumps(self.kept, indent=1))
        except OSError as error:
            words = f"session.json not written: {error.strerror}"
            self._voice.say("record", words, severity=Event.WARNING)

    def phase(self, name: str, words: str) -> None:
        """Note the phase, and keep what was said of it."""
        if name != "IDLE":
            self._tell(lambda w: w.note_progress(self._session, at=clock(), phase=name))
            self.event("phase", words)

    def plan(self, plan: dict[str, Any], steps: list[str]) -> None:
        """Keep the plan."""
        self.kept["plan"] = steps
        self.write()
        self._tell(lambda w: w.note_progress(self._session, at=clock(), plan=plan))

    def alive(self, doses: LevelDoses | None) -> None:
        """Note that the session runs, and what levels have got so far; call it once a second."""
        self._tell(lambda w: w.note_progress(self._session, at=clock()))
        if doses is not None and (doses.time > 0.0).any():
            rows = [
                Dose(v, float(doses.work[i]), float(doses.peak[i]), float(doses.time[i]),
                     round(float(doses.cycles[i])))
                for i, v in enumerate(UP)
                if doses.time[i] > 0.0
            ]  # fmt: skip
            self._tell(lambda w: w.add_dose(self._session, rows, at=clock()))

    def scan(self, moment: str, scan: ScanSpine.Result) -> None:
        """Keep what a scan found, before or after the treatment."""
        levels = [
            MeasuredLevel(
                m.level, m.value, m.standard_error, m.minimal_detectable_change, m.valid, m.reason,
                SIDES[m.side],
            )
            for m in scan.stiffness.levels
        ]  # fmt: skip
        self._tell(lambda w: w.add_levels(self._session, moment, levels, at=clock()))
        uneven = scan.stiffness.evenness
        self._tell(
            lambda w: w.add_contour(
                self._session,
                moment,
                at=clock(),
                kyphosis=scan.contour.kyphosis,
                lordosis=scan.contour.lordosis,
                asymmetry=scan.contour.lateral_asymmetry,
                evenness=uneven,
                evenness_error=scan.stiffness.evenness_error if np.isfinite(uneven) else np.nan,
            )
        )

    def comfort(self, place: str, pain: float, action: str) -> None:
        """Keep what the person reported, and what was done."""
        self._tell(lambda w: w.add_comfort(self._session, place, pain, at=clock(), action=action))

    def screening(self, found: Screening, answers: dict[str, Any]) -> None:
        """Keep what a screening found, whether a session follows or not."""
        self._tell(lambda w: w.add_screening(found, answers, at=clock()), of_session=False)

    def event(self, kind: str, text: str) -> None:
        """Keep something that happened."""
        self._tell(lambda w: w.add_event(self._session, kind, text, at=clock()))

    def override(self, clinician: str, rules: tuple[str, ...], reason: str) -> None:
        """Keep what a clinician answers for."""
        words = ", ".join(rules)
        self._tell(lambda w: w.add_override(self._session, clinician, words, reason, at=clock()))

    def end(self, message: str, stops: int) -> None:
        """End the session; an empty message means that it is completed."""
        self.kept |= {"result": message or "completed", "stops": stops}
        self.write()
        state = "aborted" if message else "completed"
        self._tell(lambda w: w.end_session(self._session, state, at=clock(), cause=message))
        self._session = ""

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()

    def _tell(self, write: Callable[[BackgroundWriter], None], *, of_session: bool = True) -> None:
        if self._writer is None or (of_session and not self._session):
            return
        try:
            write(self._writer)
        except InvalidInput as error:
            self._voice.say("record", f"not kept: {error}", severity=Event.WARNING)
        if self._writer.lost > self._lost:
            self._lost = self._writer.lost
            words = f"{self._lost} entries of the record could be kept nowhere"
            self._voice.say("record", words, severity=Event.WARNING)
        if self._writer.trouble != self._trouble:
            self._trouble = self._writer.trouble
            words = self._trouble or "the database takes everything again"
            self._voice.say("record", words, severity=Event.WARNING)
