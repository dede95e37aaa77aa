"""What the record tells, beside plain rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BrokenOff:
    """A session that was still running when nothing was heard of it any more."""

    session_id: str
    person_id: str
    programme: str
    phase: str
    last_known: datetime
    folder: str


class PersonRow(NamedTuple):
    """A person of the record: how many sessions, completed ones, first and last day of them."""

    id: str
    group: str | None
    sessions: int
    completed: int
    first: date | None
    last: date | None


class Comfort(NamedTuple):
    """A comfort report: 0 nothing … 10 worst imaginable."""

    at: datetime
    place: str
    value: float
    action: str


class LastScan(NamedTuple):
    """The last scan before a treatment: its day; stiffness and standard error by level, N/m."""

    day: date
    levels: dict[str, tuple[float, float]]


class DayDose(NamedTuple):
    """What a level got on a day: work, J; largest force of a finger, N; presses."""

    day: date
    level: str
    work: float
    peak: float
    presses: int


class PastVisit(NamedTuple):
    """A session as a row of a person's history.

    Attributes:
        session_id: of the session.
        day: of its start, where the mat stands.
        programme: name.
        trial: it belongs to a trial, whose arms are hidden.
        state: running, completed, aborted or broken_off.
        cause: why it did not complete.
        started: when.
        ended: its end, or when it was last heard of.
        work: of all levels, J.
        peak: largest force of a finger, N.
        most_pain: worst comfort report, 0 to 10; None: there was none.
    """

    session_id: str
    day: date
    programme: str
    trial: bool
    state: str
    cause: str
    started: datetime
    ended: datetime
    work: float
    peak: float
    most_pain: float | None


@dataclass(frozen=True)
class PastSession:
    """What a person got in one session, and what they said.

    Attributes:
        session_id: of the session.
        started: when.
        ended: its end, or when it was last heard of.
        programme: name.
        state: running, completed, aborted or broken_off.
        sham: contact without dose.
        work: of each level, L5 first, shape (24,), J; 0 where nothing was pressed.
        peak: largest force of a finger, L5 first, shape (24,), N.
        comfort: reports in order of time.
    """

    session_id: str
    started: datetime
    ended: datetime
    programme: str
    state: str
    sham: bool
    work: NDArray[np.float64]
    peak: NDArray[np.float64]
    comfort: tuple[Comfort, ...]

    @property
    def completed(self) -> bool:
        """The session came to its end."""
        return self.state == "completed"
