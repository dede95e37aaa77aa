"""The tables of the record. docs/record.md prints them; a test holds the two together.

SI units, named in the columns. Times are UTC with their zone; `day` is the calendar day where the
mat stands, as the proleptic ordinal that `datetime.date.toordinal` gives: weeks and days used are
then integer arithmetic in any database. A value that is not known is NULL, never NaN.

`info` of a column says what becomes of it in an anonymised export: see `export.py`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NAMES = {  # constraints have the same names in every database, so that migrations can drop them
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
# what an anonymised export does with a column
PERSON, SESSION, GROUP, STUDY = (
    {"replace": name} for name in ("person", "session", "group", "study")
)
WORDS = {"replace": "words", "keep_codes": True}  # a word from a closed list is kept
PRIVATE = {"drop": True}  # names places, people or software, or is free text
HIDDEN = {"hidden": True}  # is in no export at all
SEALED = {"sealed": True}  # tells the arm of a trial


class Utc(TypeDecorator[datetime]):
    """A moment. Takes any time with a zone; gives UTC in every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value and value.astimezone(timezone.utc)
        return value.replace(tzinfo=timezone.utc)


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        str: Text,
        float: Double,
        datetime: Utc,
        dict[str, Any]: JSON,
    }


def _session(**more: Any) -> Mapped[str]:
    return mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), info=SESSION, **more)


def _hash() -> Mapped[int]:
    """Key of a row that is only ever added: a hash of what it says.

    Writing it twice is then writing it once, which lets a writer repeat what it is unsure of.
    """
    return mapped_column(
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
        info=PRIVATE,
    )


class Person(Base):
    """A person by a synthetic id; no name is needed anywhere."""

    __tablename__ = "persons"
    __table_args__ = (UniqueConstraint("study", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True, info=PERSON)
    group_name: Mapped[str | None] = mapped_column(index=True, info=GROUP)  # workplace programme
    study: Mapped[str | None] = mapped_column(info=STUDY)
    number: Mapped[int | None] = mapped_column(info=PRIVATE)  # of enrolment in the study, from 0
    intake: Mapped[dict[str, Any]]  # answers of the intake as they were checked


class Study(Base):
    """A trial, from the first person on who was taken in."""

    __tablename__ = "studies"
    __table_args__ = ({"info": PRIVATE},)

    name: Mapped[str] = mapped_column(primary_key=True)
    seed_check: Mapped[str | None] = mapped_column(info=HIDDEN)  # hash of its seed
    next_number: Mapped[int]  # of the next person taken in; never falls


class Screened(Base):
    """One screening, whether a session followed or not."""

    __tablename__ = "screenings"
    __table_args__ = (Index(None, "person_id", "at"),)

    id: Mapped[int] = _hash()
    person_id: Mapped[str] = mapped_column(
        ForeignKey("persons.id", ondelete="CASCADE"), info=PERSON
    )
    at: Mapped[datetime]
    verdict: Mapped[str]  # allowed | needs_clinician | excluded
    table_version: Mapped[int]  # of the questions and rules
    reasons: Mapped[str] = mapped_column(info=PRIVATE)  # one sentence a line
    clinician: Mapped[str | None] = mapped_column(info=PRIVATE)  # who gave an override
    override_reason: Mapped[str | None] = mapped_column(info=PRIVATE)


class Session(Base):
    """One session, from its beginning on."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "person_id", "started", "day", "id"),
        Index(None, "state", "mat"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, info=SESSION)
    person_id: Mapped[str] = mapped_column(
        ForeignKey("persons.id", ondelete="CASCADE"), info=PERSON
    )
    mat: Mapped[str] = mapped_column(info=PRIVATE)  # which mat, where several share a database
    started: Mapped[datetime]
    last_known: Mapped[datetime]  # time of the last thing that was written
    ended: Mapped[datetime | None]
    day: Mapped[int]  # calendar day of the start
    programme: Mapped[str] = mapped_column(info=SEALED)
    programme_version: Mapped[str] = mapped_column(info=SEALED)
    phase: Mapped[str]  # of the session's states: INTAKE … REPORT
    state: Mapped[str]  # running | completed | aborted | broken_off
    cause: Mapped[str] = mapped_column(info=PRIVATE)  # why it did not complete
    folder: Mapped[str] = mapped_column(info=PRIVATE)  # bag and events; empty: none
    software: Mapped[str]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    sham: Mapped[bool | None] = mapped_column(info=SEALED)  # contact without dose
    allocation: Mapped[str | None] = mapped_column(info=SEALED)  # arm; not null: in a trial
    intake: Mapped[dict[str, Any] | None]  # answers as they were when it began


class Plan(Base):
    """What was planned, every number with its `why` sentence."""

    __tablename__ = "plans"
    __table_args__ = ({"info": PRIVATE | SEALED},)

    session_id: Mapped[str] = _session(primary_key=True)
    plan: Mapped[dict[str, Any]]


class Level(Base):
    """Posteroanterior stiffness of one level in one scan."""

    __tablename__ = "levels"
    __table_args__ = ({"sqlite_with_rowid": False},)

    session_id: Mapped[str] = _session(primary_key=True)
    moment: Mapped[str] = mapped_column(primary_key=True)  # before | after
    level: Mapped[str] = mapped_column(primary_key=True)
    side: Mapped[str] = mapped_column(primary_key=True)  # both | left | right
    stiffness_n_per_m: Mapped[float | None]
    standard_error_n_per_m: Mapped[float | None]
    mdc_n_per_m: Mapped[float | None]  # minimal detectable change between two such scans, 95 %
    valid: Mapped[bool]
    reason: Mapped[str]  # why it is not valid


class Summary(Base):
    """What one scan says of the whole back."""

    __tablename__ = "summaries"
    __table_args__ = ({"sqlite_with_rowid": False},)

    session_id: Mapped[str] = _session(primary_key=True)
    moment: Mapped[str] = mapped_column(primary_key=True)  # before | after
    kyphosis_rad: Mapped[float | None]
    lordosis_rad: Mapped[float | None]
    asymmetry_m: Mapped[float | None]  # mean of right minus left skin height
    evenness: Mapped[float | None]  # 0 to 1
    evenness_error: Mapped[float | None]
    trunk_stiffness_ratio: Mapped[float | None]  # mean over valid trunk levels, to published


class LevelDose(Base):
    """What one level got in one session."""

    __tablename__ = "doses"
    __table_args__ = ({"sqlite_with_rowid": False, "info": SEALED},)

    session_id: Mapped[str] = _session(primary_key=True)
    level: Mapped[str] = mapped_column(primary_key=True)
    work_j: Mapped[float]
    peak_n: Mapped[float]
    pressing_time_s: Mapped[float]
    cycles: Mapped[int]


class ComfortReport(Base):
    """What the person said during the session."""

    __tablename__ = "comforts"
    __table_args__ = (Index(None, "session_id", "at"),)

    id: Mapped[int] = _hash()
    session_id: Mapped[str] = _session()
    at: Mapped[datetime]
    place: Mapped[str] = mapped_column(info=WORDS)  # level or region; empty: not said
    value: Mapped[float]  # 0 nothing … 10 worst imaginable
    action: Mapped[str] = mapped_column(info=PRIVATE)  # what the mat did about it


class SessionEvent(Base):
    """Something worth keeping: phases, stops, adjustments."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "session_id", "at"),)

    id: Mapped[int] = _hash()
    session_id: Mapped[str] = _session()
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(info=WORDS)
    text: Mapped[str] = mapped_column(info=PRIVATE)


class Outcome(Base):
    """One answer of the person, or one finding of a clinician's hands."""

    __tablename__ = "outcomes"
    __table_args__ = (Index(None, "person_id", "kind", "day", "moment", "value"),)

    id: Mapped[int] = _hash()
    person_id: Mapped[str] = mapped_column(
        ForeignKey("persons.id", ondelete="CASCADE"), info=PERSON
    )
    session_id: Mapped[str | None] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), index=True, info=SESSION
    )
    at: Mapped[datetime]
    day: Mapped[int]
    moment: Mapped[str | None]  # before | after the session; null: between sessions
    kind: Mapped[str]  # pain | function | sleep | stress | felt | note
    item: Mapped[str] = mapped_column(info=WORDS)  # function: the activity; felt: the level
    value: Mapped[float | None]  # 0 to 10
    text: Mapped[str] = mapped_column(info=PRIVATE)


class Override(Base):
    """A clinician decided otherwise, with a reason."""

    __tablename__ = "overrides"
    __table_args__ = (Index(None, "session_id", "at"),)

    id: Mapped[int] = _hash()
    session_id: Mapped[str] = _session()
    at: Mapped[datetime]
    clinician: Mapped[str] = mapped_column(info=PRIVATE)
    rule: Mapped[str] = mapped_column(info=WORDS)  # what was overridden
    reason: Mapped[str] = mapped_column(info=PRIVATE)
