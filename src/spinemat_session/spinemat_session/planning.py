"""From a scan's messages and the person's history to a plan, and the plan as a message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from spinemat.backing_off import levels_at
from spinemat.dosing import check_wait
from spinemat.ledger import REST, RESTING, Advice, PastSession, advise
from spinemat.level_dose import Felt
from spinemat.plan import SessionPlan
from spinemat.session_programme import Programme, time_of
from spinemat.stiffness import LevelEstimate
from spinemat_interfaces.action import ScanSpine
from spinemat_interfaces.msg import LevelDose, LevelStiffness
from spinemat_interfaces.msg import SessionPlan as PlanMessage
from spinemat_ros.codec import floats
from spinemat_session.record.found import PastSession as StoredSession
from spinemat_session.record.store import Store

SIDES = {LevelStiffness.BOTH: "both", LevelStiffness.LEFT: "left", LevelStiffness.RIGHT: "right"}
REMEMBERED = timedelta(days=370)  # of history that a plan looks at (engineering choice)


def felt_by(scan: ScanSpine.Result) -> Felt:
    """What a scan's result says of the back."""
    height = np.stack([floats(scan.contour.left), floats(scan.contour.right)], axis=1)
    levels = [
        LevelEstimate(m.level, SIDES[m.side], m.x, m.value, m.standard_error, m.reason)
        for m in scan.stiffness.levels
    ]
    return Felt.of_scan(height.reshape(-1), levels)


def advice_now(store: Store, person_id: str, programme: Programme, now: datetime) -> Advice:
    """What a person's sessions so far mean for one that begins now.

    One that was never ended, because the mat lost its power or the database, counts as well.

    Raises:
        InvalidInput: it is too early for another session.
        StoreError: the database cannot say.
    """
    past = store.past_doses(person_id, now - REMEMBERED)
    sessions = [_past(session, now) for session in past]
    advice = advise(sessions, now, programme.name, programme.weeks)
    check_wait(sum(time_of(phase).pressing for phase in programme.phases), advice)
    return advice


def not_known(store: Store, person_id: str, now: datetime, kept: Mapping[str, datetime]) -> str:
    """Say in a sentence which sessions left a folder and are not in the database; else nothing.

    They are when the database was lost and made anew. What was done and reported in them stays
    unknown until the database has a completed session that began `REST` after the last of them
    (engineering choice).

    Args:
        store: the database.
        person_id: whose.
        now: with a time zone.
        kept: sessions of the person of which there is a folder, and when each was written to last.

    Raises:
        StoreError: the database cannot say.
    """
    rows = store.sessions(person_id)
    known = {row["id"] for row in rows}
    lost = {k: when for k, when in kept.items() if k not in known and now - when < REMEMBERED}
    if not lost:
        return ""
    last = max(lost, key=lost.__getitem__)
    if any(r["state"] == "completed" and r["started"] > lost[last] + REST for r in rows):
        return ""
    return (
        f"Not in the database, but with a folder: {len(lost)} sessions of this person, the last"
        f" one {last}; what was done in them is not known: force at most × {RESTING:g}."
    )


def _past(session: StoredSession, now: datetime) -> PastSession:
    comfort = [(v, c.value) for c in session.comfort for v in levels_at(c.place)]
    return PastSession(
        min(session.ended, now),
        session.work,
        session.peak,
        tuple(comfort),
        session.completed,
        session.programme,
    )


def plan_message(plan: SessionPlan, session_id: str, waiting: bool) -> PlanMessage:
    """Return the plan as a message without its header."""
    return PlanMessage(
        session_id=session_id,
        programme=plan.programme,
        title=plan.title,
        waiting=waiting,
        total=float(plan.total),
        pressing=float(plan.pressing),
        levels=[
            LevelDose(
                level=dose.level,
                peak=float(dose.peak),
                cycles=float(dose.cycles),
                work=float(dose.work),
                why=list(dose.why),
            )
            for dose in plan.levels
        ],
        steps=[step.words for step in plan.steps],
        notes=list(plan.notes),
    )
