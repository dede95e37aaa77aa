"""Node session_orchestrator: scan, plan, treat, scan again, report, as one action.

It moves nothing by itself either: it asks spine_contour to scan and finger_actuation to press,
and times them by the drive's cycles, so that a session repeats exactly. A safety stop, a cancel or
a refusal ends the session as ABORTED with everything measured so far kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from std_srvs.srv import Trigger

from spinemat import __version__
from spinemat.anatomy import asked_to_lie
from spinemat.backing_off import TOO_MUCH, levels_at
from spinemat.conditions import DEMANDS
from spinemat.errors import InvalidInput, choice, number
from spinemat.ledger import PAIN, Advice
from spinemat.press_goal import GAP
from spinemat.session_programme import Programme, Rescan, Scan, checked_programmes, time_of
from spinemat_interfaces.action import Press, Retract, RunSession, ScanSpine
from spinemat_interfaces.msg import (
    ComfortReport,
    Event,
    FingerState,
    Guarding,
    SafetyState,
    SessionState,
)
from spinemat_interfaces.srv import Adjust, ConfirmPlan, LowerLimits
from spinemat_ros.calls import ActionCall, CycleWaiter, ServerLost
from spinemat_ros.codec import doubles, floats, nanoseconds
from spinemat_ros.node import Voice, declare, declare_layout, header, publisher, subscription
from spinemat_ros.script import Ending, ScriptServer
from spinemat_ros.spin import run
from spinemat_session.deciding import Decision
from spinemat_session.intake import NotAllowed, Prepared, prepare
from spinemat_session.keeping import Keeping, new_folder
from spinemat_session.treating import SessionEnded, Treatment, pressed_most

STATE_CYCLES = 25  # session/state at 10 Hz
PLANNING = 2.0  # s of drive time for the plan, so that a session repeats exactly
ANSWER_TIME, ASKED = 1.0, 3  # s of drive time for the supervisor's answer; how often it is asked
KEEP_TIME = 1.0  # s of drive time between two notes in the record
SCANS = 3  # times that a scan is begun before a person who reports pain in each is let go (choice)
SHAM = "sham"  # programme, or arm of a trial, that touches without a dose
TRIAL = "(trial)"  # in place of a programme whose name or steps would tell the arm
PRESSED = 3.0  # N on a finger, from which a level counts as pressed (engineering choice)

PHASES = {
    getattr(SessionState, name): name
    for name in (
        "IDLE", "INTAKE", "ON_MAT", "SCAN", "PLAN", "TREAT", "PAUSED", "RESCAN", "REPORT",
        "ABORTED",
    )
}  # fmt: skip


class SessionOrchestrator(Node):
    """Wiring of a session."""

    def __init__(self) -> None:
        super().__init__("session_orchestrator")
        self._layout = declare_layout(self)
        path = declare(self, "programmes", "", "folder with the programmes, one YAML file each")
        self._programmes = checked_programmes(path, self._layout)
        self._sessions = declare(
            self, "sessions_dir", "", "folder in which each session gets one; empty: no record"
        )
        database = declare(
            self,
            "database",
            "",
            "URL of the database of all sessions; empty: spinemat.db in sessions_dir; none: none",
        )
        words = "optional: a goal may ask that its plan waits for confirm_plan; required: all wait"
        self._must_confirm = self._demanded("confirm", words)
        words = "optional: a goal may give measures alone; required: only a person's record"
        self._must_screen = self._demanded("screening", words)
        self._state = SessionState(phase=SessionState.IDLE)
        self._goal: ServerGoalHandle | None = None
        self._cycle = self._began = self._stops = 0
        self._waited = 0  # cycles of a session that bring its end no nearer
        self._planned = 0.0
        self._sealed = False  # the session belongs to a trial: nothing told names the arm
        self._hurt = ""  # a report after which the session ends
        self._scans = 0  # times that the scan that runs was begun; 0: none runs
        self._sore = False  # pain was reported in it
        self._safety: SafetyState | None = None
        self._states = publisher(self, "session/state")
        self._voice = Voice(self, self._layout)
        self._cycles = CycleWaiter()
        self._keeping = Keeping(
            self._sessions, database, self._voice, self.get_namespace().strip("/") or "mat"
        )
        self._scan = ActionCall(self, ScanSpine, "scan_spine")
        self._retract = ActionCall(self, Retract, "fingers/retract")
        self._press = ActionCall(self, Press, "fingers/press")
        self._treatment = Treatment(
            self, self._voice, self._keeping, self._cycles, self._press, self._unwanted, self._why,
            self._enter,
        )  # fmt: skip
        self._decision = Decision(
            self, self._layout, self._voice, self._keeping, self._cycles, self._unwanted,
            self._why, self._enter,
        )  # fmt: skip
        self._limits = self.create_client(LowerLimits, "limits")
        subscription(self, "fingers/state", self._on_fingers)
        subscription(self, "safety/state", self._on_safety)
        subscription(self, "guarding", self._on_guarding)
        subscription(self, "comfort", self._on_comfort)
        ScriptServer(self, RunSession, "run_session", self._run, result_timeout=3600)
        self.create_service(Trigger, "pause", self._on_pause)
        self.create_service(Trigger, "resume", self._on_resume)
        self.create_service(Adjust, "adjust", self._on_adjust)
        self.create_service(ConfirmPlan, "confirm_plan", self._on_confirm)
        self._tell()

    def destroy_node(self) -> None:
        """End, with everything written."""
        self._keeping.close()
        super().destroy_node()

    def _demanded(self, name: str, words: str) -> bool:
        asked = choice(name, declare(self, name, DEMANDS[0], words), DEMANDS)
        return asked == DEMANDS[1]

    # -- listening -------------------------------------------------------------------------

    def _on_fingers(self, msg: FingerState) -> None:
        if self._state.phase == SessionState.PAUSED or self._decision.waiting:
            self._waited += msg.cycle - self._cycle
        self._cycle = msg.cycle
        self._voice.tick(msg.cycle, nanoseconds(msg.header.stamp))
        self._treatment.on_fingers(msg)
        self._look(msg)
        for call in (self._scan, self._press, self._retract):
            call.poll()
        self._cycles.seen(msg.cycle)
        if msg.cycle % STATE_CYCLES == 0:
            self._tell()
        if self._goal is not None and msg.cycle % round(KEEP_TIME / self._layout.cycle) == 0:
            given = self._treatment.delivered
            self._keeping.alive(given.levels() if given is not None else None)

    def _look(self, msg: FingerState) -> None:
        """Note where it presses now."""
        self._state.level, self._state.force = "", float(max(msg.force, default=0.0))
        self._state.strength = self._treatment.strength
        plan = self._decision.plan
        if plan is not None and self._treatment.pressing is not None:
            level, force = pressed_most(plan.on_mat(self._layout), floats(msg.force))
            self._state.level = level if force >= PRESSED and not self._sealed else ""

    def _on_safety(self, msg: SafetyState) -> None:
        before, self._safety = self._safety, msg
        stopped = SafetyState.STOPPED
        if msg.state == stopped and (before is None or before.state != stopped):
            self._keeping.event("stop", f"{msg.cause}: {msg.detail}")

    def _on_guarding(self, msg: Guarding) -> None:
        self._treatment.on_guarding(msg.active)

    def _on_comfort(self, msg: ComfortReport) -> None:
        """Give way at once; a report that cannot be is refused with an event."""
        try:
            pain = number("pain", int(msg.pain), 0, 10)
            levels_at(msg.place)
            if self._goal is None:
                raise InvalidInput("session", "none", "one that runs")
            places, done = self._treatment.report(pain, msg.place, self._scans > 0)
        except InvalidInput as error:
            self._voice.say("refused", f"comfort: {error}", severity=Event.WARNING)
            return
        if pain >= TOO_MUCH:
            self._hurt, done = f"pain {pain:g} of 10 was reported", "the session ends"
        elif pain >= PAIN and self._scans >= SCANS:
            self._hurt = f"pain was reported in each of {SCANS} scans"
            done = f"{done}; the session ends"
        elif pain >= PAIN and self._scans > 0:
            self._sore, done = True, f"{done}; the scan begins again"
        own = msg.words.strip()
        words = f"pain {pain:g} of 10{f' at {msg.place}' if msg.place else ''}: {done}"
        words += f" (in their words: {own})" if own else ""
        told = {"pain": pain, "place": msg.place, "action": done, "words": own}
        self._voice.say("comfort", words, told)
        if own:
            self._keeping.event("comfort", words)
        for place in places:
            self._keeping.comfort(place, pain, done)

    def _tell(self) -> None:
        s = self._state
        s.header = header(self, self._voice.now)
        if self._goal is not None and self._planned > 0.0:
            spent = (self._cycle - self._began - self._waited) * self._layout.cycle
            s.progress = min(spent / max(self._planned, spent + 1.0), 0.99)
            s.time_left = max(self._planned - spent, 0.0)
        self._states.publish(s)
        if self._goal is not None:
            self._goal.publish_feedback(RunSession.Feedback(state=s))

    def _enter(self, phase: int, detail: str = "") -> None:
        self._state.phase, self._state.detail = phase, detail
        name = PHASES[phase]
        words = f"{name}{': ' if detail else ''}{detail}"
        self._voice.say("phase", words, {"phase": name})
        self._keeping.phase(name, words)
        self._tell()

    def _unwanted(self) -> bool:
        stopped = self._safety is not None and self._safety.state == SafetyState.STOPPED
        cancelled = self._goal is not None and bool(self._goal.is_cancel_requested)
        return stopped or cancelled or bool(self._hurt)

    # -- services --------------------------------------------------------------------------

    def _on_pause(self, _request: Trigger.Request, response: Trigger.Response) -> Any:
        treating = self._state.phase == SessionState.TREAT
        self._treatment.paused = self._treatment.paused or treating
        response.success = self._treatment.paused
        response.message = (
            "pausing"
            if self._treatment.paused
            else f"nothing to pause in {PHASES[self._state.phase]}; allowed: in TREAT"
        )
        return response

    def _on_resume(self, _request: Trigger.Request, response: Trigger.Response) -> Any:
        response.success = self._treatment.paused
        response.message = "resuming" if self._treatment.paused else "not paused"
        self._treatment.paused = False
        return response

    def _on_adjust(self, request: Adjust.Request, response: Adjust.Response) -> Any:
        """Check here and pass on: a service that waits for another would block this executor."""
        try:
            if self._state.phase not in (SessionState.TREAT, SessionState.PAUSED):
                raise InvalidInput("adjust", PHASES[self._state.phase], "in TREAT and PAUSED")
            response.message = self._treatment.adjust(request)
        except InvalidInput as error:
            response.success, response.message = False, str(error)
            return response
        self._voice.say("adjust", response.message)
        self._keeping.event("adjust", response.message)
        response.success = True
        return response

    def _on_confirm(self, request: ConfirmPlan.Request, response: ConfirmPlan.Response) -> Any:
        return self._decision.confirm(request, response)

    # -- the session -----------------------------------------------------------------------

    def _check(self, request: RunSession.Goal) -> tuple[Prepared, Programme]:
        person = prepare(request, self._must_screen)
        name = choice("programme", request.programme, self._programmes)
        return person, self._programmes[name]

    def _check_graph(self, request: RunSession.Goal) -> None:
        if self._goal is not None:
            raise InvalidInput(
                "run_session",
                request.person_id,
                f"one session at a time; {self._state.session_id} is running",
            )
        if self._safety is None or self._safety.state not in (
            SafetyState.READY,
            SafetyState.MOVING,
        ):
            raise InvalidInput("safety", self._safety_words(), "READY")
        if not self._limits.service_is_ready():
            raise InvalidInput("graph", "the service limits is missing", "safety_supervisor runs")
        if not (self._scan.ready() and self._press.ready()):
            raise InvalidInput(
                "graph", "spine_contour or finger_actuation is missing", "both running and active"
            )

    def _safety_words(self) -> str:
        s = self._safety
        if s is None:
            return "the supervisor is silent"
        if s.state == SafetyState.STOPPED:
            return f"STOPPED: {s.cause}: {s.detail}; reset first"
        return f"STARTING, waiting for: {'; '.join(s.waiting_for) or 'a moment'}"

    async def _run(self, handle: ServerGoalHandle) -> tuple[Ending, RunSession.Result]:
        request = handle.request
        try:
            person, programme = self._check(request)
            for call in (self._scan, self._press):
                await call.find()
            self._check_graph(request)
            advice = await self._decision.look_back(person, programme)
            self._check_graph(request)  # another session may have begun meanwhile
        except InvalidInput as error:
            if isinstance(error, NotAllowed):
                self._keeping.screening(error.screening, error.answers)
            self._voice.say("refused", f"session: {error}", severity=Event.WARNING)
            return Ending.ABORTED, RunSession.Result(success=False, message=str(error))
        self._goal = handle
        self._begin(request, person, programme, advice)
        message = ""
        try:
            await self._session(request, person, programme)
        except SessionEnded as error:
            message = str(error)
        except ServerLost as error:
            message = self._why(str(error))
        except Exception as error:  # whatever happens, the fingers go down and it is said
            message = f"internal error: {error!r}"
            self.get_logger().error(message)
        return await self._end(handle, message)

    def _begin(
        self, request: RunSession.Goal, person: Prepared, programme: Programme, advice: Advice
    ) -> None:
        when = datetime.now().strftime("%Y%m%d-%H%M%S")
        self._state.session_id = f"{when}-{person.person_id}"
        self._sealed = bool(request.allocation)
        self._state.programme = TRIAL if self._sealed else programme.name
        self._state.folder = ""
        self._hurt = ""
        self._decision.begin(advice)
        self._treatment.forget()
        if self._sessions:
            try:
                folder = new_folder(self._sessions, self._state.session_id)
                self._state.session_id, self._state.folder = folder.name, str(folder)
            except OSError as error:
                words = f"no record: {error.filename}: {error.strerror}"
                self._voice.say("record", words, severity=Event.WARNING)
        self._began, self._waited = self._cycle, 0
        self._planned = 3.0 + sum(time_of(phase).total for phase in programme.phases)
        self._stops = self._safety.stops if self._safety else 0
        self._keeping.begin(
            self._state.session_id,
            person.person_id,
            person.answers,
            self._state.folder,
            programme=programme.name,
            programme_version=str(programme.revision),
            software=__version__,
            sham=SHAM in (programme.name, request.allocation),
            allocation=request.allocation or None,
        )
        self._enter(SessionState.INTAKE, TRIAL if self._sealed else programme.title)
        if person.screening is not None:
            found = person.screening
            self._voice.say("screening", f"screening: {found.verdict.name.lower()}", found.log())
            self._keeping.screening(found, person.answers)
            if found.override is not None:
                o = found.override
                self._keeping.override(o.clinician, found.overridden, o.reason)

    async def _session(
        self, request: RunSession.Goal, person: Prepared, programme: Programme
    ) -> None:
        gap = round(GAP / self._layout.cycle)
        self._enter(SessionState.ON_MAT, asked_to_lie(person.intake, self._layout.row_x[0]))
        await self._lower_limits(person.intake.mass)
        start = request.start_cycle or self._cycle + gap
        first = programme.phases[0]
        assert isinstance(first, Scan)  # `check` saw to it
        self._enter(SessionState.SCAN)
        scan = await self._scan_once(person, "before", start, full=first.detail == "full")
        end = scan.end_cycle
        if len(programme.phases) > 1:
            self._enter(SessionState.PLAN)
            confirm = request.confirm or self._must_confirm
            plan = await self._decision.make(
                self._state.session_id, confirm, person, programme, scan,
                self._treatment.share, request.allocation == SHAM,
            )  # fmt: skip
            self._planned = plan.total + 3.0
            self._treatment.begin(plan.on_mat(self._layout))
            start = self._cycle if confirm else end + round(PLANNING / self._layout.cycle)
            for i, step in enumerate(plan.steps[1:], 1):
                if step.kind == Rescan.kind:
                    self._enter(SessionState.RESCAN)
                    scan = await self._scan_once(person, "after", start + gap, again=True)
                    start = scan.end_cycle
                else:
                    words = f"step {i}" if self._sealed else step.words
                    self._enter(SessionState.TREAT, step.detail or words)
                    start = await self._treatment.run(step, start + gap)
        self._enter(SessionState.REPORT)

    async def _lower_limits(self, mass: float) -> None:
        """Tell the supervisor how heavy the person is: its limits for sums follow from that.

        Raises:
            SessionEnded: it did not take it; nothing may press then.
        """
        for _ in range(ASKED):  # the middleware can lose an answer, and asking twice does no harm
            end = self._cycle + round(ANSWER_TIME / self._layout.cycle)
            asked = self._limits.call_async(LowerLimits.Request(mass=mass))
            while not asked.done() and self._cycle < end:
                if self._unwanted():
                    raise SessionEnded(self._why("ended while limits were lowered"))
                await self._cycles.until(self._cycle + 1)
            answer = asked.result() if asked.done() else None
            if answer is not None and answer.success:
                return
            if answer is not None:
                raise SessionEnded(f"limits: {answer.message}")
            self._limits.remove_pending_request(asked)
        raise SessionEnded("limits: the supervisor does not answer")

    async def _scan_once(
        self, person: Prepared, moment: str, start: int, *, again: bool = False, full: bool = False
    ) -> ScanSpine.Result:
        """Scan; where pain is reported meanwhile, release and begin again with less force there.

        Raises:
            SessionEnded: there is no result.
        """
        try:
            for self._scans in range(1, SCANS + 1):
                self._sore, begun = False, self._cycle
                goal = self._scan_goal(person, start, again=again, full=full)
                result: ScanSpine.Result = await self._scan.call(
                    goal, lambda: self._unwanted() or self._sore
                )
                if result.success:
                    self._keeping.scan(moment, result)
                    return result
                if self._unwanted() or not self._sore:
                    break
                self._waited += self._cycle - begun
                start = self._cycle + round(GAP / self._layout.cycle)
        finally:
            self._scans = 0
        raise SessionEnded(self._why(result.message))

    def _scan_goal(
        self, person: Prepared, start: int, *, again: bool, full: bool
    ) -> ScanSpine.Goal:
        before = self._decision.advice.probe
        return ScanSpine.Goal(
            sex=person.intake.sex,
            age=person.intake.age,
            stature=person.intake.stature,
            mass=person.intake.mass,
            stiffness=True,
            full=full,
            same_person=again,
            share=doubles(self._treatment.share * np.minimum(person.needs.most, before)),
            start_cycle=start,
        )

    def _why(self, message: str) -> str:
        s = self._safety
        if s is not None and s.state == SafetyState.STOPPED:
            return f"safety stop: {s.cause}: {s.detail}"
        if self._hurt:
            return self._hurt
        if self._goal is not None and self._goal.is_cancel_requested:
            return "cancelled"
        return message or "an action ended early"

    async def _end(
        self, handle: ServerGoalHandle, message: str
    ) -> tuple[Ending, RunSession.Result]:
        if message:
            self._enter(SessionState.ABORTED, message)
            if self._retract.ready():
                try:
                    await self._retract.call(Retract.Goal(), lambda: False)
                except ServerLost as error:
                    self.get_logger().error(f"no retraction by the controller: {error}")
        stops = (self._safety.stops if self._safety else 0) - self._stops
        self._keeping.end(message, stops)
        result = RunSession.Result(
            success=not message,
            message=message,
            session_id=self._state.session_id,
            folder=self._state.folder,
            stops=stops,
        )
        self._state.time_left = 0.0
        if not message:
            self._state.progress = 1.0
        cancelled = bool(handle.is_cancel_requested)
        self._goal = None
        self._enter(SessionState.IDLE, message or "completed")
        if cancelled:
            return Ending.CANCELED, result
        return Ending.ABORTED if message else Ending.SUCCEEDED, result


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(SessionOrchestrator, args)
