"""The plan of a running session: made in the background, shown, and decided by a clinician."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from spinemat.dosing import plan_session
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat.ledger import Advice
from spinemat.plan import SessionPlan, edit, without_dose
from spinemat.plan_record import plan_to_mapping
from spinemat.session_programme import Programme
from spinemat_interfaces.action import ScanSpine
from spinemat_interfaces.msg import Event, SessionState
from spinemat_interfaces.srv import ConfirmPlan
from spinemat_ros.calls import CycleWaiter
from spinemat_ros.node import Voice, header, publisher
from spinemat_session.intake import Prepared
from spinemat_session.keeping import Keeping, clock
from spinemat_session.planning import advice_now, felt_by, not_known, plan_message
from spinemat_session.record.faults import StoreError
from spinemat_session.record.store import Store
from spinemat_session.treating import LOOK, SessionEnded

T = TypeVar("T")

CONFIRM_TIME = 600.0  # s that a plan waits for a clinician: the person lies there (choice)
FIRST = "No database; no folder tells of a session of this person: it counts as the first."


class Decision:
    """Makes the plan of one session after the other and waits for who has to confirm it.

    Args:
        node: it belongs to.
        layout: the mat.
        voice: to say what happens.
        keeping: keeps plan and decision, and knows where earlier sessions are.
        cycles: to wait for.
        unwanted, why, enter: as in `Treatment`.

    Attributes:
        plan: of the session that runs, or of the last one.
        advice: of the ledger for that session.
        waiting: somebody has to confirm the plan.
    """

    def __init__(
        self,
        node: Node,
        layout: MatLayout,
        voice: Voice,
        keeping: Keeping,
        cycles: CycleWaiter,
        unwanted: Callable[[], bool],
        why: Callable[[str], str],
        enter: Callable[[int, str], None],
    ) -> None:
        self._node, self._layout, self._voice, self._keeping = node, layout, voice, keeping
        self._cycles, self._unwanted, self._why, self._enter = cycles, unwanted, why, enter
        self._plans = publisher(node, "plan")
        self._thinker = ThreadPoolExecutor(max_workers=1)  # heartbeats go on meanwhile
        self.plan: SessionPlan | None = None
        self.advice = Advice.none()
        self.waiting = False
        self._decided: bool | None = None  # what a clinician said of the plan

    def begin(self, advice: Advice) -> None:
        """Forget the session before; `advice` is of `look_back`."""
        self.advice = advice
        self.plan, self._decided, self.waiting = None, None, False

    async def look_back(self, person: Prepared, programme: Programme) -> Advice:
        """Ask the record what earlier sessions mean for one that begins now.

        Where it cannot say, or where folders tell of sessions that it does not know, no level gets
        more than one that rests; that is said as an event.

        Raises:
            InvalidInput: it is too early for another one.
        """

        def ask() -> tuple[Advice, str]:
            kept = self._keeping.folders_of(person.person_id)
            if self._keeping.url is None:
                if kept == {}:
                    return replace(Advice.none(), notes=(FIRST,)), ""
                return Advice.unknown(), "no database: sessions before this one are not known"
            now = clock()
            try:
                with Store(self._keeping.url) as store:
                    advice = advice_now(store, person.person_id, programme, now)
                    doubt = not_known(store, person.person_id, now, kept or {})
            except StoreError as error:
                words = f"sessions before this one are not known: {error}"
                unknown = Advice.unknown()
                return replace(unknown, notes=(*unknown.notes, words)), words
            return advice.at_rest(doubt) if doubt else advice, doubt

        advice, doubt = await self._elsewhere(ask)
        if doubt:
            self._voice.say("record", doubt, severity=Event.WARNING)
        return advice

    async def make(
        self,
        session_id: str,
        confirm: bool,
        person: Prepared,
        programme: Programme,
        scan: ScanSpine.Result,
        share: NDArray[np.float64],
        sham: bool,
    ) -> SessionPlan:
        """Make a plan, show it and wait until it is confirmed, where somebody has to.

        `share` is what today's reports leave of the press limit, as in `Treatment`. A `sham` plan
        touches wherever it would press.

        Raises:
            SessionEnded: no plan is possible, it was declined, or the session is over.
        """

        def think() -> SessionPlan:
            needs = replace(person.needs, ceilings=share)
            made = plan_session(
                programme, self._layout, person.intake, felt_by(scan), needs, self.advice
            )
            return without_dose(made) if sham else made

        try:
            self.plan = await self._elsewhere(think)
        except InvalidInput as error:
            raise SessionEnded(str(error)) from error
        self.waiting = confirm
        self._show(session_id)
        end = self._cycles.cycle + round(CONFIRM_TIME / self._layout.cycle)
        try:
            while self.waiting:
                if self._cycles.cycle > end:
                    raise SessionEnded(f"nobody confirmed the plan within {CONFIRM_TIME:g} s")
                if self._unwanted():
                    raise SessionEnded(self._why("ended while the plan waited"))
                await self._cycles.until(self._cycles.cycle + LOOK)
        finally:
            self.waiting = False
        if self._decided is False:
            raise SessionEnded("the plan was declined")
        if confirm:
            self._show(session_id)
        plan = self.plan
        self._keeping.plan(plan_to_mapping(plan), [step.words for step in plan.steps])
        return plan

    def confirm(self, request: ConfirmPlan.Request, response: ConfirmPlan.Response) -> Any:
        """Apply a clinician's changes all or none, and go on or end."""
        try:
            if self.plan is None or not self.waiting:
                raise InvalidInput("confirm_plan", "no plan waits", "while a plan waits")
            if not request.by.strip():
                raise InvalidInput("by", request.by, "who decides: a synthetic id")
            if not request.accept and not request.reason.strip():
                raise InvalidInput("reason", request.reason, "one line, for declining")
            if len(request.levels) != len(request.factors):
                raise InvalidInput("factors", list(request.factors), "one for each level")
            plan = self.plan
            for level, factor in zip(request.levels, request.factors, strict=True):
                plan = edit(plan, self._layout, level, factor, request.by, request.reason)
        except InvalidInput as error:
            response.success, response.message = False, str(error)
            return response
        self.plan, self._decided, self.waiting = plan, bool(request.accept), False
        said = "confirmed" if request.accept else "declined"
        changes = ", ".join(
            f"{v} × {f:g}" for v, f in zip(request.levels, request.factors, strict=True)
        )
        response.success = True
        response.message = f"plan {said} by {request.by}{': ' if changes else ''}{changes}"
        self._voice.say("plan", f"{response.message} {request.reason}".strip())
        self._keeping.event("plan", f"{response.message} {request.reason}".strip())
        return response

    def _show(self, session_id: str) -> None:
        assert self.plan is not None
        message = plan_message(self.plan, session_id, self.waiting)
        message.header = header(self._node, self._voice.now)
        self._plans.publish(message)
        for step in self.plan.steps:
            self._voice.say("plan", step.words)
        if self.waiting:
            self._enter(SessionState.PLAN, "waits for confirm_plan")

    async def _elsewhere(self, work: Callable[[], T]) -> T:
        """Do something that takes long in a thread, while this node goes on listening."""
        future = self._thinker.submit(work)
        while not future.done():
            await self._cycles.until(self._cycles.cycle + LOOK)
        return future.result()
