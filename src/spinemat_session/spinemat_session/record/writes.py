"""What can be written into the record, checked and turned into rows.

`Writes` has one method for each thing that a session tells. Each makes a `Note`, plain rows that
can be written twice without harm, and hands it to `_write`: `Store` puts it into the database,
`BackgroundWriter` into a queue. A value that is not acceptable is refused here, at the caller.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from spinemat.anatomy import LEVELS, TRUNK
from spinemat.back_model import UP, means
from spinemat.conditions import TABLE_VERSION
from spinemat.errors import InvalidInput, choice, number
from spinemat.screening import Screening
from spinemat.stiffness import NECK_REGIONS
from spinemat_session.record.note import Note, hashed

MOMENTS = ("before", "after")
SIDES = ("both", "left", "right")
ENDINGS = ("completed", "aborted")
OUTCOMES = ("pain", "function", "sleep", "stress", "felt", "note")
PHASES = ("INTAKE", "ON_MAT", "SCAN", "PLAN", "TREAT", "PAUSED", "RESCAN", "REPORT", "ABORTED")
MEASURED = (*LEVELS, *NECK_REGIONS)
_ID = re.compile(r"[^\s/\x00-\x1f]{1,120}")
_NUMBER = 1e12  # nothing on this mat is larger, in SI units


class MeasuredLevel(NamedTuple):
    """Stiffness of one level, as a scan found it.

    Attributes:
        level: C1 … L5, or a region of the neck.
        value: posteroanterior stiffness, N/m; NaN where it is not valid.
        standard_error: N/m.
        mdc: minimal detectable change between two such scans, 95 %, N/m.
        valid: the value may be used.
        reason: why it is not valid.
        side: both, left or right.
    """

    level: str
    value: float
    standard_error: float
    mdc: float
    valid: bool
    reason: str = ""
    side: str = "both"


class Dose(NamedTuple):
    """What one level has got in a session so far.

    Attributes:
        level: L5 … C1.
        work: J.
        peak: largest force of a finger, N.
        pressing_time: s.
        cycles: of pressing.
    """

    level: str
    work: float
    peak: float
    pressing_time: float
    cycles: int


class Writes(ABC):
    """Everything that can be told to the record.

    All times `at` carry their zone; the calendar day is taken in that zone. All methods raise
    `InvalidInput` when a value is not acceptable.
    """

    mat = "mat"

    @abstractmethod
    def _write(self, note: Note) -> None:
        """Write a note, or keep it to be written."""

    def put_person(
        self, person_id: str, intake: Mapping[str, Any], *, at: datetime, group: str | None = None
    ) -> None:
        """Keep a person, or what is new about one.

        Args:
            person_id: synthetic, without spaces and slashes.
            intake: checked answers, as plain data.
            at: now.
            group: such as a workplace programme.
        """
        self._write(Note("", _at(at), puts=(("persons", [_person(person_id, intake, group)]),)))

    def add_screening(self, found: Screening, intake: Mapping[str, Any], *, at: datetime) -> None:
        """Keep what a screening found, and the person as `put_person` does.

        Args:
            found: of the person.
            intake: see `put_person`.
            at: now.
        """
        override = found.override
        row = {
            "person_id": found.person,
            "at": _at(at),
            "verdict": found.verdict.name.lower(),
            "table_version": TABLE_VERSION,
            "reasons": _text("\n".join(found.reasons)),
            "clinician": override and _text(override.clinician),
            "override_reason": override and _text(override.reason),
        }
        person = _person(found.person, intake, None)
        self._write(Note("", at, puts=(("persons", [person]), ("screenings", [hashed(row)]))))

    def begin_session(
        self,
        session_id: str,
        person_id: str,
        intake: Mapping[str, Any],
        *,
        at: datetime,
        programme: str,
        programme_version: str = "",
        group: str | None = None,
        folder: str | Path = "",
        software: str = "",
        seed: int | None = None,
        sham: bool = False,
        allocation: str | None = None,
    ) -> None:
        """Begin a session, and keep the person as `put_person` does.

        Args:
            session_id: new, without spaces and slashes.
            person_id: see `put_person`.
            intake: see `put_person`.
            at: start.
            programme: name.
            programme_version: of the programme's file.
            group: see `put_person`; None leaves the person in theirs.
            folder: with bag and events.
            software: version of SpineMat.
            seed: of a simulated session.
            sham: contact without dose.
            allocation: arm of a trial; hides the arm in exports until it is unsealed.
        """
        seed = None if seed is None else int(seed)
        if seed is not None and not -(2**63) <= seed < 2**63:
            raise InvalidInput("seed", seed, "an integer of 64 bits")
        row = {
            "id": _id("session_id", session_id),
            "person_id": person_id,
            "mat": self.mat,
            "started": _at(at),
            "last_known": at,
            "ended": None,
            "day": at.date().toordinal(),
            "programme": _text(programme),
            "programme_version": _text(programme_version),
            "phase": "INTAKE",
            "state": "running",
            "cause": "",
            "folder": _text(str(folder)),
            "software": _text(software),
            "seed": seed,
            "sham": bool(sham),
            "allocation": allocation if allocation is None else _text(allocation),
        }
        person = _person(person_id, intake, group)
        row["intake"] = person["intake"]
        self._write(Note(session_id, at, puts=(("persons", [person]), ("sessions", [row]))))

    def note_progress(
        self,
        session_id: str,
        *,
        at: datetime,
        phase: str | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        """Say in which phase a session is, keep its plan, or only that it still runs."""
        changes = {} if phase is None else {"phase": choice("phase", phase, PHASES)}
        rows = [] if plan is None else [{"session_id": session_id, "plan": _json("plan", plan)}]
        self._write(Note(session_id, _at(at), changes, (("plans", rows),)))

    def add_levels(
        self, session_id: str, moment: str, levels: Iterable[MeasuredLevel], *, at: datetime
    ) -> None:
        """Keep the stiffness map of a scan, and the trunk's mean ratio to the published profile.

        Args:
            session_id: of a session that was begun.
            moment: before or after the treatment.
            levels: of the map; the same level again replaces what was there.
            at: end of the scan.
        """
        choice("moment", moment, MOMENTS)
        rows, ratios = [], []
        for entry in levels:
            level = choice("level", entry.level, MEASURED)
            side = choice("side", entry.side, SIDES)
            value = _number(level, entry.value)
            valid = bool(entry.valid) and value is not None
            if valid and side == "both" and level in TRUNK and value is not None:
                ratios.append(value / float(means()[UP.index(level)]))
            rows.append(
                {
                    "session_id": session_id,
                    "moment": moment,
                    "level": level,
                    "side": side,
                    "stiffness_n_per_m": value,
                    "standard_error_n_per_m": _number(level, entry.standard_error),
                    "mdc_n_per_m": _number(level, entry.mdc),
                    "valid": valid,
                    "reason": _text(entry.reason),
                }
            )
        ratio = math.fsum(ratios) / len(ratios) if ratios else None
        whole = {"session_id": session_id, "moment": moment, "trunk_stiffness_ratio": ratio}
        self._write(Note(session_id, _at(at), {}, (("levels", rows), ("summaries", [whole]))))

    def add_contour(
        self,
        session_id: str,
        moment: str,
        *,
        at: datetime,
        kyphosis: float,
        lordosis: float,
        asymmetry: float,
        evenness: float,
        evenness_error: float,
    ) -> None:
        """Keep what a scan says of the whole back; NaN where it is not known.

        Args:
            session_id: of a session that was begun.
            moment: before or after the treatment.
            at: end of the scan.
            kyphosis: rad.
            lordosis: rad.
            asymmetry: mean of right minus left skin height, m.
            evenness: of movement, 0 to 1 (`findings.evenness`).
            evenness_error: its standard error.
        """
        row = {
            "session_id": session_id,
            "moment": choice("moment", moment, MOMENTS),
            "kyphosis_rad": _number("kyphosis", kyphosis),
            "lordosis_rad": _number("lordosis", lordosis),
            "asymmetry_m": _number("asymmetry", asymmetry),
            "evenness": _number("evenness", evenness),
            "evenness_error": _number("evenness_error", evenness_error),
        }
        self._write(Note(session_id, _at(at), puts=(("summaries", [row]),)))

    def add_dose(self, session_id: str, doses: Iterable[Dose], *, at: datetime) -> None:
        """Keep what levels have got so far; a level's later dose replaces the earlier one."""
        rows = [
            {
                "session_id": session_id,
                "level": choice("level", dose.level, UP),
                "work_j": number("work", dose.work, 0.0, 1e6, "J"),
                "peak_n": number("peak", dose.peak, 0.0, 1e4, "N"),
                "pressing_time_s": number("pressing_time", dose.pressing_time, 0.0, 1e5, "s"),
                "cycles": int(number("cycles", int(dose.cycles), 0, 1e6)),
            }
            for dose in doses
        ]
        self._write(Note(session_id, _at(at), puts=(("doses", rows),)))

    def add_comfort(
        self, session_id: str, place: str, value: float, *, at: datetime, action: str = ""
    ) -> None:
        """Keep what the person said: 0 nothing … 10 worst imaginable, and what was done."""
        row = {"place": _text(place), "value": number("comfort", value, 0, 10)}
        self._told("comforts", session_id, at, row | {"action": _text(action)})

    def add_event(self, session_id: str, kind: str, text: str, *, at: datetime) -> None:
        """Keep something that happened."""
        self._told("events", session_id, at, {"kind": _text(kind), "text": _text(text)})

    def add_override(
        self, session_id: str, clinician: str, rule: str, reason: str, *, at: datetime
    ) -> None:
        """Keep that a clinician decided otherwise; nothing is overridden without a reason."""
        if not reason.strip():
            raise InvalidInput("reason", reason, "a reason in words")
        row = {"clinician": _text(clinician), "rule": _text(rule), "reason": _text(reason)}
        self._told("overrides", session_id, at, row)

    def add_outcome(
        self,
        person_id: str,
        kind: str,
        value: float | None = None,
        *,
        at: datetime,
        session_id: str = "",
        moment: str | None = None,
        item: str = "",
        text: str = "",
    ) -> None:
        """Keep one answer, or one finding.

        Args:
            person_id: of a person that is known.
            kind: pain (0 none … 10 worst), function (patient-specific function scale, 0 unable …
                10 as before; Stratford et al. 1995), sleep (0 very bad … 10 very good), stress (0
                none … 10 extreme), felt (a clinician's hands, 0 soft … 10 stiff) or note.
            value: 0 to 10; a note has none.
            at: when it was said.
            session_id: of a session; empty: between sessions.
            moment: before or after that session.
            item: the activity of `function`, the level of `felt`.
            text: words.
        """
        choice("outcome", kind, OUTCOMES)
        if moment is not None:
            choice("moment", moment, MOMENTS)
        if (value is None) != (kind == "note"):
            raise InvalidInput(kind, value, "words only" if kind == "note" else "0 to 10")
        row = {
            "person_id": _id("person_id", person_id),
            "session_id": session_id or None,
            "at": _at(at),
            "day": at.date().toordinal(),
            "moment": moment,
            "kind": kind,
            "item": choice("level", item, MEASURED) if kind == "felt" else _text(item),
            "value": None if value is None else number(kind, value, 0, 10),
            "text": _text(text),
        }
        self._write(Note(session_id, at, puts=(("outcomes", [hashed(row)]),)))

    def end_session(self, session_id: str, state: str, *, at: datetime, cause: str = "") -> None:
        """End a session as completed, or as aborted with its cause."""
        changes = {"state": choice("state", state, ENDINGS), "ended": _at(at)}
        self._write(Note(session_id, at, changes | {"cause": _text(cause)}))

    def _told(self, table: str, session_id: str, at: datetime, row: dict[str, Any]) -> None:
        row = hashed({"session_id": session_id, "at": _at(at), **row})
        self._write(Note(session_id, at, puts=((table, [row]),)))


class Notes(Writes):
    """Keeps what it is told, to be written all at once or not at all (`Store.apply`)."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def _write(self, note: Note) -> None:
        self.notes.append(note)


def _person(person_id: str, intake: Mapping[str, Any], group: str | None) -> dict[str, Any]:
    row = {"id": _id("person_id", person_id), "intake": _json("intake", intake)}
    return row if group is None else row | {"group_name": _text(group)}


def _at(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise InvalidInput("at", at.isoformat(), "a time with its zone")
    return at


def _id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value) or _text(value) != value:
        raise InvalidInput(name, value, "1 to 120 characters without spaces and '/'")
    return value


def _text(value: object) -> str:
    """Return a text that every database takes: no NUL, no half of a surrogate pair."""
    return str(value).replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _number(name: str, value: float) -> float | None:
    return None if math.isnan(value) else number(name, float(value), -_NUMBER, _NUMBER)


def _json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(_text(json.dumps(value, allow_nan=False, ensure_ascii=False)))
    except (TypeError, ValueError) as error:
        raise InvalidInput(name, value, "plain data without NaN and infinity") from error
    if not isinstance(found, dict):
        raise InvalidInput(name, value, "a mapping")
    return found
