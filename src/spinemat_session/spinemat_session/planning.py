"""From a scan's messages and the person's history to a plan, and the plan as a message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from spinemat.backing_off import levels_at
from spinemat.dosing import plan_session
from spinemat.layout import MatLayout
from spinemat.ledger import Advice, PastSession, advise
from spinemat.level_dose import Felt
from spinemat.plan import SessionPlan
from spinemat.session_programme import Programme
from spinemat.stiffness import LevelEstimate
from spinemat_interfaces.action import ScanSpine
from spinemat_interfaces.msg import LevelDose, LevelStiffness
from spinemat_interfaces.msg import SessionPlan as PlanMessage
from spinemat_ros.codec import floats
from spinemat_session.intake import Prepared
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


def history(store: Store, person_id: str, now: datetime, running: str) -> list[PastSession]:
    """Sessions of a person before the one that runs, as the ledger reckons with them.

    One that was never ended, because the mat lost its power or the database, counts as well.

    Raises:
        StoreError: the database cannot say.
    """
    past = store.past_doses(person_id, now - REMEMBERED)
    return [_past(session, now) for session in past if session.session_id != running]


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


def make_plan(
    programme: Programme,
    layout: MatLayout,
    person: Prepared,
    felt: Felt,
    past: Sequence[PastSession] | None,
    now: datetime,
) -> SessionPlan:
    """Plan a session of a person who was scanned.

    Args:
        programme: what is wanted.
        layout: the mat.
        person: who, with what screening says.
        felt: what the scan felt.
        past: sessions before; None: they cannot be read.
        now: with a time zone.

    Raises:
        InvalidInput: the plan is not possible, or it is too early for another session.
    """
    if past is None:
        advice = Advice.unknown()
    else:
        advice = advise(past, now, programme.name, programme.weeks)
    return plan_session(programme, layout, person.intake, felt, person.needs, advice)


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
