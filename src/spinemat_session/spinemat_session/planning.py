"""From a scan's messages and the person's history to a plan, and the plan as a message."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from spinemat.backing_off import levels_at
from spinemat.dosing import check_wait
from spinemat.ledger import Advice, PastSession, advise
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
