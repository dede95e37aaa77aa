"""What can be asked of the record: one short transaction each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from spinemat.back_model import UP
from spinemat_session.record.faults import StoreError
from spinemat_session.record.found import (
    Comfort,
    DayDose,
    LastScan,
    PastSession,
    PastVisit,
    PersonRow,
)
from spinemat_session.record.schema import Base, ComfortReport, Level, LevelDose, Person, Session

TABLES = Base.metadata.tables
ORDER = (Session.started, Session.id)


class Reads(ABC):
    """Everything that the record tells. All methods raise `StoreError` when it cannot be read."""

    where: str

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Give a connection that sees one state of the database."""

    def past_doses(self, person_id: str, since: datetime) -> list[PastSession]:
        """Return what a person got in the sessions that began at `since` or later, in order."""
        mine = (Session.person_id == person_id) & (Session.started >= since)
        end = sa.func.coalesce(Session.ended, Session.last_known)
        columns = (
            Session.id,
            Session.started,
            end,
            Session.programme,
            Session.state,
            Session.sham,
        )
        d, c = TABLES["doses"].c, TABLES["comforts"].c
        doses = sa.select(d.session_id, d.level, d.work_j, d.peak_n)
        told = sa.select(c.session_id, c.at, c.place, c.value, c.action).order_by(c.at)
        with self.reading() as connection:  # `all` is much faster than one row at a time
            sessions = connection.execute(sa.select(*columns).where(mine).order_by(*ORDER)).all()
            given = connection.execute(doses.join(Session).where(mine)).all()
            reports = connection.execute(told.join(Session).where(mine)).all()
        first = {row.id: i * len(UP) for i, row in enumerate(sessions)}
        place = {level: i for i, level in enumerate(UP)}
        at = [first[session] + place[level] for session, level, _, _ in given]
        dose = np.zeros((2, len(sessions) * len(UP)))
        dose[:, at] = [[row[2] for row in given], [row[3] for row in given]]
        work, peak = dose.reshape(2, len(sessions), len(UP))
        said: dict[str, list[Comfort]] = {row.id: [] for row in sessions}
        for name, *report in reports:
            said[name].append(Comfort._make(report))
        return [
            PastSession(*row[:5], bool(row.sham), work[i], peak[i], tuple(said[row.id]))
            for i, row in enumerate(sessions)
        ]

    def day_doses(self, person_id: str, since: date) -> list[DayDose]:
        """Return what each level got on each day from `since` on, in order; trials stay hidden."""
        given = sa.func.sum(LevelDose.work_j), sa.func.max(LevelDose.peak_n)
        query = (
            sa.select(Session.day, LevelDose.level, *given, sa.func.sum(LevelDose.cycles))
            .join(Session, Session.id == LevelDose.session_id)
            .where(Session.person_id == person_id, Session.day >= since.toordinal())
            .where(Session.allocation.is_(None))
            .group_by(Session.day, LevelDose.level)
            .order_by(Session.day)
        )
        with self.reading() as connection:
            found: Sequence[Any] = connection.execute(query).all()
        return [DayDose(date.fromordinal(day), *row) for day, *row in found]

    def visits(self, person_id: str) -> list[PastVisit]:
        """Return a person's sessions with what was given and said in them, oldest first."""
        said = sa.select(sa.func.max(ComfortReport.value))
        query = sa.select(
            Session.id,
            Session.day,
            Session.programme,
            Session.allocation.is_not(None),
            Session.state,
            Session.cause,
            Session.started,
            sa.func.coalesce(Session.ended, Session.last_known),
            sa.func.coalesce(sa.func.sum(LevelDose.work_j), 0.0),
            sa.func.coalesce(sa.func.max(LevelDose.peak_n), 0.0),
            said.where(ComfortReport.session_id == Session.id).scalar_subquery(),
        )
        query = query.join(LevelDose, LevelDose.session_id == Session.id, isouter=True)
        mine = query.where(Session.person_id == person_id).group_by(Session.id).order_by(*ORDER)
        with self.reading() as connection:
            found: Sequence[Any] = connection.execute(mine).all()
        return [PastVisit(name, date.fromordinal(day), *row) for name, day, *row in found]

    def last_scan(self, person_id: str) -> LastScan | None:
        """Return the last scan before a treatment that has valid levels; None: there is none."""
        of = (Level.moment == "before", Level.side == "both", Level.valid)
        known = (*of, Level.standard_error_n_per_m > 0.0)
        scanned = sa.select(Session.id, Session.day).where(
            Session.person_id == person_id,
            sa.exists().where(Level.session_id == Session.id, *known),
        )
        values = sa.select(Level.level, Level.stiffness_n_per_m, Level.standard_error_n_per_m)
        with self.reading() as connection:
            last = connection.execute(
                scanned.order_by(*(column.desc() for column in ORDER)).limit(1)
            ).one_or_none()
            if last is None:
                return None
            query = values.where(Level.session_id == last.id, *known)
            found: Sequence[Any] = connection.execute(query).all()
        return LastScan(date.fromordinal(last.day), {level: (k, se) for level, k, se in found})

    def persons(self) -> list[PersonRow]:
        """Return everybody in the record, by id."""
        completed = sa.func.count().filter(Session.state == "completed")
        days = sa.func.min(Session.day), sa.func.max(Session.day)
        query = (
            sa.select(Person.id, Person.group_name, sa.func.count(Session.id), completed, *days)
            .join(Session, Session.person_id == Person.id, isouter=True)
            .group_by(Person.id)
            .order_by(Person.id)
        )
        with self.reading() as connection:
            found = connection.execute(query).all()
        return [
            PersonRow(name, group, count, done, _day(first), _day(last))
            for name, group, count, done, first, last in found
        ]

    def sessions(self, person_id: str) -> list[dict[str, Any]]:
        """Return a person's sessions, oldest first, as rows of the table `sessions`."""
        query = sa.select(TABLES["sessions"]).where(Session.person_id == person_id)
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(query.order_by(*ORDER)).mappings()]

    def session(self, session_id: str) -> dict[str, list[dict[str, Any]]]:
        """Return all that is kept of one session, as rows by table; `persons` has its person."""
        found: dict[str, list[dict[str, Any]]] = {}
        with self.reading() as connection:
            for name, table in TABLES.items():
                if name == "persons":
                    query = sa.select(table).join(Session).where(Session.id == session_id)
                elif name == "sessions":
                    query = sa.select(table).where(table.c.id == session_id)
                elif "session_id" not in table.c:
                    continue
                else:
                    query = sa.select(table).where(table.c.session_id == session_id)
                    query = query.order_by(*([table.c.at] if "at" in table.c else []))
                found[name] = [dict(row) for row in connection.execute(query).mappings()]
        if not found["sessions"]:
            raise StoreError(self.where, "unknown", f"session {session_id}")
        return found


def _day(ordinal: int | None) -> date | None:
    return None if ordinal is None else date.fromordinal(ordinal)
