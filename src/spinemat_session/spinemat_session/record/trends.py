"""What changed over weeks: of one person, and of a group without showing any one of its people.

Weeks count from a person's first session; a value of a week is the mean of what was measured or
said before the sessions of that week. A change of stiffness is judged against the minimal
detectable change of the difference of two weeks' means,

    MDC = 1.96 sqrt(s1^2 / n1 + s2^2 / n2),

with s^2 the larger of the mean squared standard error and the scatter between the week's n scans
(engineering choice: a back differs from day to day by more than a scan's own error). 1.96 sqrt(2)
SEM is the usual definition for two single measurements (Weir 2005, J Strength Cond Res 19: 231).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from spinemat.back_model import UP
from spinemat.errors import InvalidInput
from spinemat.stiffness import NECK_REGIONS
from spinemat_session.record.faults import StoreError
from spinemat_session.record.schema import (
    ComfortReport,
    Level,
    Outcome,
    Person,
    Session,
    Summary,
)
from spinemat_session.record.store import Store

NO_CHANGE = "no measurable change"
NOT_JUDGED = "not judged"  # how large an error may be is not known
NAMED = 1000  # members of a group up to which they are named in a query (engineering choice)
FEWEST = 5  # people behind every number of a group
USED = "days_used"
SAID = ("pain", "function", "sleep", "stress")
LEVELS = (*UP, *NECK_REGIONS)


class Week(NamedTuple):
    """A mean over one week.

    Attributes:
        week: counted from the first session's day, 0 first.
        value: mean, in the unit of what it is of.
        error: its standard error; NaN where one value has no error of its own.
        n: how many values.
    """

    week: int
    value: float
    error: float
    n: int


@dataclass(frozen=True)
class LevelTrend:
    """Stiffness of one level over weeks.

    Attributes:
        level: name.
        weeks: means of the scans before treatment, N/m; weeks without a valid scan are absent.
        change: last week minus first week, N/m; NaN with less than two weeks.
        mdc: minimal detectable change of it, N/m.
        verdict: softer, stiffer, no measurable change, not judged, or not measured twice.
    """

    level: str
    weeks: tuple[Week, ...]
    change: float
    mdc: float
    verdict: str


@dataclass(frozen=True)
class Consistency:
    """Days on which the mat was used, beside the days since the first session, that day too."""

    days_used: int
    days: int

    @property
    def share(self) -> float:
        """Used over all."""
        return self.days_used / self.days


class Hands(NamedTuple):
    """What a clinician's hands felt at a level, beside what the mat measured that day.

    Attributes:
        day: when.
        level: where.
        felt: 0 soft … 10 stiff.
        measured: stiffness before treatment, N/m; NaN: not measured that day.
        error: its standard error, N/m; NaN: as above.
        text: words.
    """

    day: date
    level: str
    felt: float
    measured: float
    error: float
    text: str


@dataclass(frozen=True)
class PersonTrend:
    """A person over weeks.

    Attributes:
        person_id: whom.
        first_day: of the first session.
        sessions: how many, by state.
        consistency: of use.
        stiffness: of each level that was measured, L5 first.
        measures: days_used (of the week); before treatment evenness (0 to 1),
            trunk_stiffness_ratio (to the published profile), kyphosis_rad, lordosis_rad and
            asymmetry_m (skin, right higher than left); pain, function, sleep and stress (0 to
            10) before it or between sessions, comfort (0 to 10) during it; only what is known.
        hands: what a clinician felt, in order of time.
        notes: of a clinician, in order of time.
    """

    person_id: str
    first_day: date
    sessions: dict[str, int]
    consistency: Consistency
    stiffness: tuple[LevelTrend, ...]
    measures: dict[str, tuple[Week, ...]]
    hands: tuple[Hands, ...]
    notes: tuple[tuple[date, str], ...]


@dataclass(frozen=True)
class GroupTrend:
    """A group over weeks since each one's first session; every number is of 5 people or more.

    Attributes:
        group: name.
        people: who had a session.
        consistency: mean share of days used.
        measures: as in `PersonTrend`: means of the people's weekly means, their standard errors
            between people, numbers of people. Weeks of fewer than 5 people are left out.
    """

    group: str
    people: int
    consistency: float
    measures: dict[str, tuple[Week, ...]]


def person_trend(store: Store, person_id: str, today: date) -> PersonTrend:
    """Return how a person fared since the first session.

    Raises:
        StoreError: the person has no session, or the database cannot be read.
    """
    with store.reading() as connection:
        use = connection.execute(
            sa.select(Session.state, Session.day).where(Session.person_id == person_id)
        ).all()
        if not use:
            raise StoreError(store.where, "unknown", f"person {person_id} with a session")
        first = min(row.day for row in use)
        week = (Session.day - first) // 7
        levels: dict[str, list[Week]] = defaultdict(list)
        scans = (
            sa.select(
                Level.level, week, *_moments(Level.stiffness_n_per_m, Level.standard_error_n_per_m)
            )
            .join(Session, Session.id == Level.session_id)
            .where(Session.person_id == person_id, Level.moment == "before")
            .where(Level.side == "both", Level.valid)
        )
        for name, *row in connection.execute(scans.group_by(sa.text("1, 2")).order_by(week)).all():
            levels[name].append(_week(*row))
        measures: dict[str, list[Week]] = defaultdict(list)
        used = Counter((day - first) // 7 for day in {row.day for row in use})
        measures[USED] = [Week(w, float(n), math.nan, n) for w, n in sorted(used.items())]
        for source in SOURCES:
            week = (source.of.day - first) // 7
            asked = [m for value in source.values.values() for m in _moments(*value)]
            query = (
                sa.select(week, *asked)
                .where(source.of.person_id == person_id, *source.where)
                .group_by(sa.text("1"))
                .order_by(week)
            )
            for when, *row in connection.execute(query).all():
                for i, name in enumerate(source.values):
                    if row[4 * i]:
                        measures[name].append(_week(when, *row[4 * i : 4 * i + 4]))
        hands, notes = _hands(connection, person_id), _notes(connection, person_id)
    states = [row.state for row in use]
    return PersonTrend(
        person_id=person_id,
        first_day=date.fromordinal(first),
        sessions={state: states.count(state) for state in sorted(set(states))},
        consistency=Consistency(
            len({row.day for row in use}),
            max(today.toordinal(), *(r.day for r in use)) - first + 1,
        ),
        stiffness=tuple(level_trend(name, levels[name]) for name in LEVELS if name in levels),
        measures={name: tuple(weeks) for name, weeks in measures.items()},
        hands=hands,
        notes=notes,
    )


def _hands(connection: Connection, person_id: str) -> tuple[Hands, ...]:
    """Findings of hands, each with the mean of that day's scans before treatment."""
    of = (Outcome.day, Outcome.item, Outcome.value)
    scan = (Session.person_id == Outcome.person_id) & (Session.day == Outcome.day)
    here = (Level.session_id == Session.id) & (Level.level == Outcome.item) & Level.valid
    measured = sa.func.avg(Level.stiffness_n_per_m), sa.func.avg(Level.standard_error_n_per_m)
    query = (
        sa.select(*of, *measured, Outcome.text)
        .select_from(Outcome)
        .join(Session, scan, isouter=True)
        .join(Level, here & (Level.moment == "before") & (Level.side == "both"), isouter=True)
        .where(Outcome.person_id == person_id, Outcome.kind == "felt")
        .group_by(Outcome.id, Outcome.at, *of, Outcome.text)
        .order_by(Outcome.at, Outcome.item)
    )
    nan = math.nan
    return tuple(
        Hands(date.fromordinal(day), level, felt, k if k else nan, e if e else nan, text)
        for day, level, felt, k, e, text in connection.execute(query).all()
    )


def _notes(connection: Connection, person_id: str) -> tuple[tuple[date, str], ...]:
    query = sa.select(Outcome.day, Outcome.text).where(
        Outcome.person_id == person_id, Outcome.kind == "note"
    )
    rows = connection.execute(query.order_by(Outcome.at)).all()
    return tuple((date.fromordinal(day), text) for day, text in rows)


def level_trend(level: str, weeks: Sequence[Week]) -> LevelTrend:
    """Judge the change of one level from the first to the last week.

    Args:
        level: name.
        weeks: one or more, in order, N/m.
    """
    first, last = weeks[0], weeks[-1]
    change = mdc = math.nan
    verdict = "not measured twice"
    if len(weeks) > 1:
        change, mdc = last.value - first.value, 1.96 * math.hypot(first.error, last.error)
        verdict = NOT_JUDGED if math.isnan(mdc) else NO_CHANGE
        if abs(change) > mdc:
            verdict = "softer" if change < 0.0 else "stiffer"
    return LevelTrend(level, tuple(weeks), change, mdc, verdict)


def group_trend(store: Store, group: str, today: date) -> GroupTrend:
    """Return how a group fared, without anything about any one of its people.

    Raises:
        InvalidInput: fewer than 5 people of the group had a session.
        StoreError: the database cannot be read.
    """
    with store.reading() as connection:
        members = _members(connection, group)
        people = connection.execute(
            sa.select(
                Session.person_id,
                sa.func.min(Session.day),
                sa.func.max(Session.day),
                sa.func.count(Session.day.distinct()),
            )
            .where(Session.person_id.in_(members))
            .group_by(Session.person_id)
        ).all()
        if len(people) < FEWEST:
            raise InvalidInput(
                "group",
                group,
                f"a group of {FEWEST} people or more, so that nobody can be told from its trend",
            )
        used = [n / (max(today.toordinal(), last) - begin + 1) for _, begin, last, n in people]
        measures = _group_measures(connection, members)
    return GroupTrend(group, len(people), float(np.mean(used)), measures)


def _members(connection: Connection, group: str) -> Any:
    """Who is in a group: by name, so that PostgreSQL expects few rows and uses its indexes."""
    query = sa.select(Person.id).where(Person.group_name == group)
    names = connection.scalars(query.limit(NAMED + 1)).all()
    return names if len(names) <= NAMED else query


def _group_measures(connection: Connection, members: Any) -> dict[str, tuple[Week, ...]]:
    """Means over people of their weekly means; each person counts the same.

    The database adds up twice: the people's weeks, and these over people.
    """
    first = (
        sa.select(Session.person_id, sa.func.min(Session.day).label("day"))
        .where(Session.person_id.in_(members))
        .group_by(Session.person_id)
        .subquery()
    )
    measures: dict[str, list[Week]] = defaultdict(list)
    days = _Source(Session, {USED: (Session.day.distinct(), None)}, ())
    for source in (days, *SOURCES):
        week = (source.of.day - first.c.day) // 7
        each = sa.func.count if source is days else sa.func.avg
        asked = [each(value).label(name) for name, (value, _) in source.values.items()]
        own = (
            sa.select(source.of.person_id, week.label("week"), *asked)
            .where(source.of.person_id == first.c.person_id, *source.where)
            .where(source.of.person_id.in_(members))
            .group_by(sa.text("1, 2"))
            .subquery()
        )
        over = [m for name in source.values for m in _moments(own.c[name], None)[:3]]
        query = sa.select(own.c.week, *over).group_by(own.c.week).order_by(own.c.week)
        for when, *row in connection.execute(query).all():
            for i, name in enumerate(source.values):
                n, mean, square = row[3 * i : 3 * i + 3]
                if n >= FEWEST:
                    measures[name].append(_week(when, n, mean, square, None))
    return {name: tuple(weeks) for name, weeks in measures.items()}


class _Source(NamedTuple):
    """Where measures are found: what has person and day, values with their errors, which rows."""

    of: Any
    values: dict[str, tuple[Any, Any]]
    where: tuple[ColumnElement[bool], ...]


SOURCES = (
    _Source(
        Session,
        {
            "evenness": (Summary.evenness, Summary.evenness_error),
            "trunk_stiffness_ratio": (Summary.trunk_stiffness_ratio, None),
            "kyphosis_rad": (Summary.kyphosis_rad, None),
            "lordosis_rad": (Summary.lordosis_rad, None),
            "asymmetry_m": (Summary.asymmetry_m, None),
        },
        (Session.id == Summary.session_id, Summary.moment == "before"),
    ),
    _Source(
        Outcome,
        {kind: (sa.case((Outcome.kind == kind, Outcome.value)), None) for kind in SAID},
        (Outcome.kind.in_(SAID), (Outcome.moment == "before") | Outcome.moment.is_(None)),
    ),
    _Source(
        Session,
        {"comfort": (ComfortReport.value, None)},
        (Session.id == ComfortReport.session_id,),
    ),
)


def _moments(value: Any, error: Any) -> tuple[Any, ...]:
    """What the database is asked for: n, mean, mean square, mean square of the errors."""
    mean = sa.func.avg
    square = sa.null() if error is None else mean(error * error)
    return sa.func.count(value), mean(value), mean(value * value), square


def _week(week: int, n: int, mean: float, square: float, error: float | None) -> Week:
    spread = [] if error is None else [error]
    if n > 1:
        spread.append((square - mean * mean) * n / (n - 1))
    return Week(week, mean, math.sqrt(max(0.0, *spread) / n) if spread else math.nan, n)
