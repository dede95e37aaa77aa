"""What the last days and weeks say about today: rest, progress, and gentler after bad reports.

Pure functions over sessions that are over. All rules and numbers are engineering choices; they
are printed in `docs/programmes.md`:

- Unknown: where earlier sessions cannot be read, or some are lost, every level counts as one that
  rests.
- Scans: their probes get what rest and reports leave of their force, whatever the week.
- Rest: a level that had a full dose less than 20 h ago gets half of the force. A full dose is a
  peak of half of the region's press ceiling, or 2 J. At most two sessions with a dose in 20 h.
- Progress (only in a course of some weeks): the first week has 0.6 of the programme's force, each
  week with three completed sessions and no bad report adds an equal step, so that the last week of
  the course has all of it. A week without any session steps back, others stay. When the weeks of
  the course are over, or four weeks have passed without a session, a new course begins.
- Gentler: pain of 4 to 6 of 10 at a level takes 0.2 of its force away, 7 and more 0.4, down to
  0.2. Every later completed session that reached the level without such a report gives 0.1 back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import LEVELS, region_of
from spinemat.back_model import UP
from spinemat.errors import InvalidInput, number
from spinemat.layout import PRESS_CEILING

Array = NDArray[np.float64]

REST = timedelta(hours=20)
FULL_PEAK, FULL_WORK = 0.5, 2.0  # of the press ceiling; J
RESTING = 0.5  # of the force while a level rests
MOST_SESSIONS = 2  # with a dose, within REST
SOME_WORK = 0.01  # J in all, from which a session counts as one with a dose
FIRST_WEEK = 0.6  # of the programme's force
WEEK = timedelta(days=7)
NEW_COURSE = timedelta(weeks=4)  # without a session
WHOLE_WEEK = 3  # completed sessions
PAIN, STRONG_PAIN = 4, 7  # of 10
LESS, MUCH_LESS, BACK, LEAST = 0.2, 0.4, 0.1, 0.2
_CEILING = np.array([PRESS_CEILING[region_of(v)] for v in UP])


@dataclass(frozen=True)
class PastSession:
    """A session that is over; arrays are L5 first.

    Attributes:
        when: its end, with a time zone.
        work: put into each level, shape (24,), J.
        peak: greatest force of a finger at each level, shape (24,), N.
        comfort: pain that was reported, (level, 0 to 10); more than one for a level is allowed.
        completed: whether it ran to its end.
        programme: its name.

    Raises:
        InvalidInput: no time zone, a wrong shape, a negative dose, or a report that cannot be.
    """

    when: datetime
    work: Array
    peak: Array
    comfort: tuple[tuple[str, float], ...]
    completed: bool
    programme: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.when, datetime) or self.when.utcoffset() is None:
            raise InvalidInput("session.when", str(self.when), "a time with its zone")
        for name in ("work", "peak"):
            value = getattr(self, name)
            if np.shape(value) != (len(UP),) or not (np.isfinite(value) & (value >= 0.0)).all():
                raise InvalidInput(f"session.{name}", np.shape(value), "24 values of 0 or more")
        for level, pain in self.comfort:
            if level not in LEVELS:
                raise InvalidInput("session.comfort", level, "C1 … C7, T1 … T12, L1 … L5")
            number(f"session.comfort {level}", pain, 0.0, 10.0)

    @property
    def pain(self) -> Array:
        """Worst pain reported at each level, shape (24,); 0 without a report."""
        worst = np.zeros(len(UP))
        for level, pain in self.comfort:
            worst[UP.index(level)] = max(worst[UP.index(level)], pain)
        return worst

    @property
    def full(self) -> NDArray[np.bool_]:
        """Levels that had a full dose, shape (24,)."""
        return np.asarray((self.peak >= FULL_PEAK * _CEILING) | (self.work >= FULL_WORK))


@dataclass(frozen=True)
class Advice:
    """What the ledger says about a session now.

    Attributes:
        share: of the force, at each level, shape (24,), 0 to 1.
        probe: of a scan's probe, as above: without the step of a course, so that scans compare.
        why: sentences for each level.
        notes: sentences about the whole.
        wait: until when no session may begin, and why in `notes`; None: now is well.
    """

    share: Array
    probe: Array
    why: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    wait: datetime | None = None

    @staticmethod
    def none() -> Advice:
        """Nothing is known of any session before."""
        return Advice(np.ones(len(UP)), np.ones(len(UP)), ((),) * len(UP))

    @staticmethod
    def unknown() -> Advice:
        """What was done in the last days cannot be said: every level counts as one that rests."""
        why = f"Sessions before this one are not known: force × {RESTING:g}."
        return Advice.none().at_rest(why)

    def at_rest(self, why: str) -> Advice:
        """The same, but no level gets more than one that rests; `why` says it everywhere."""
        share, probe = np.minimum(self.share, RESTING), np.minimum(self.probe, RESTING)
        said = tuple((*words, why) for words in self.why)
        return replace(self, share=share, probe=probe, why=said, notes=(*self.notes, why))


def advise(
    past: Sequence[PastSession], now: datetime, programme: str = "", weeks: int = 0
) -> Advice:
    """Say what the sessions so far mean for one that begins now.

    Args:
        past: of this person, in any order.
        now: with a time zone.
        programme: its name; progress counts sessions of this programme only.
        weeks: length of its course; 0: no progress, full force at once.

    Raises:
        InvalidInput: `now` has no zone, or a session lies after it.
    """
    if now.utcoffset() is None:
        raise InvalidInput("now", str(now), "a time with its zone")
    order = sorted(past, key=lambda session: session.when)
    if order and order[-1].when > now:
        raise InvalidInput("session.when", str(order[-1].when), f"not after {now}")
    notes = []
    share, why = _after_reports(order)
    for i, session in _resting(order, now).items():
        share[i] *= RESTING
        hours = (now - session.when) / timedelta(hours=1)
        why[i].append(
            f"Rest: full dose {hours:.0f} h ago ({session.work[i]:.1f} J,"
            f" {session.peak[i]:.0f} N), less than {REST / timedelta(hours=1):.0f} h:"
            f" force × {RESTING:g}."
        )
    probe = share.copy()
    if weeks > 0:
        course, words = progress([s for s in order if s.programme == programme], now, weeks)
        share *= course
        notes.append(words)
        if course < 1.0:
            for said in why:
                said.append(f"Course: force × {course:.2f} this week.")
    wait = None
    recent = [s for s in order if now - s.when < REST and s.work.sum() >= SOME_WORK]
    if len(recent) >= MOST_SESSIONS:
        wait = recent[-MOST_SESSIONS].when + REST
        notes.append(
            f"{len(recent)} sessions within {REST / timedelta(hours=1):.0f} h; the next one may"
            f" begin at {wait:%Y-%m-%d %H:%M %Z}."
        )
    return Advice(share, probe, tuple(tuple(said) for said in why), tuple(notes), wait)


def _after_reports(order: Sequence[PastSession]) -> tuple[Array, list[list[str]]]:
    """Share of the force that reports of pain leave, and sentences."""
    share, why = np.ones(len(UP)), [[] for _ in UP]  # type: tuple[Array, list[list[str]]]
    last: dict[int, str] = {}
    for session in order:
        pain = session.pain
        bad = pain >= PAIN
        share -= np.where(pain >= STRONG_PAIN, MUCH_LESS, LESS) * bad
        share += BACK * (session.completed & ~bad & (session.peak > 0.0))
        share = np.clip(share, LEAST, 1.0)
        for i in np.flatnonzero(bad).tolist():
            last[i] = f"pain {pain[i]:g} of 10 on {session.when:%Y-%m-%d}"
    for i, words in last.items():
        if share[i] < 1.0 - 1e-9:
            why[i].append(f"Report: {words}: force × {share[i]:.2f}, {BACK:g} back per session.")
    return share, why


def _resting(order: Sequence[PastSession], now: datetime) -> dict[int, PastSession]:
    """Levels that rest, with the last session that gave them a full dose."""
    found: dict[int, PastSession] = {}
    for session in order:
        if now - session.when < REST:
            found |= {int(i): session for i in np.flatnonzero(session.full)}
    return found


def progress(order: Sequence[PastSession], now: datetime, weeks: int) -> tuple[float, str]:
    """Share of the force in this week of a course, and a sentence.

    A course ends with its weeks, or with `NEW_COURSE` without a session; the next one begins as
    gently as the first.

    Args:
        order: sessions of the programme, oldest first.
        now: not before any of them.
        weeks: of the whole course, 1 or more.
    """
    steps, week, missed, number = 0, 0, 0, 1
    begin = last = order[0].when if order else now
    for when in (*(s.when for s in order), now):
        if when - last >= NEW_COURSE or when - begin >= WEEK * weeks:
            begin, number = when, number + 1
        last = when
    while begin + WEEK * (week + 1) <= now:
        first = begin + WEEK * week
        mine = [s for s in order if first <= s.when < first + WEEK]
        bad = any((s.pain >= PAIN).any() for s in mine)
        if not mine:
            steps, missed = max(steps - 1, 0), missed + 1
        elif sum(s.completed for s in mine) >= WHOLE_WEEK and not bad:
            steps += 1
        steps, week = min(steps, max(weeks - 1, 1)), week + 1
    share = FIRST_WEEK + (1.0 - FIRST_WEEK) * min(steps / max(weeks - 1, 1), 1.0)
    gaps = f", {missed} weeks without a session" if missed else ""
    which = "Course" if number == 1 else f"Course {number}"
    words = (
        f"{which}: week {week + 1} of {weeks}, {steps} steps so far{gaps}: force × {share:.2f}."
    )
    return share, words
