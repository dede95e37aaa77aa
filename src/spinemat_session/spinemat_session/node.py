"""Node session_orchestrator: scan, plan, treat, scan again, report, as one action.

It moves nothing by itself either: it asks spine_contour to scan and finger_actuation to press,
and times them by the drive's cycles, so that a session repeats exactly. A safety stop, a cancel or
a refusal ends the session as ABORTED with everything measured so far kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from std_srvs.srv import Trigger

from spinemat.anatomy import Intake, check_intake
from spinemat.errors import InvalidInput, choice, number
from spinemat.programme import Programme, load_programmes, plan_phase
from spinemat.scan import GAP, QUICK_TIME
from spinemat_interfaces.action import Press, Retract, RunSession, ScanSpine
from spinemat_interfaces.msg import Event, FingerState, SafetyState, SessionState
from spinemat_interfaces.srv import Adjust, LowerLimits
from spinemat_ros.calls import ActionCall, CycleWaiter, ServerLost, press_message
from spinemat_ros.codec import floats, nanoseconds
from spinemat_ros.files import write_whole
from spinemat_ros.node import Voice, declare, declare_layout, header, publisher, subscription
from spinemat_ros.script import Ending, ScriptServer
from spinemat_ros.spin import run

STATE_CYCLES = 25  # session/state at 10 Hz
RESCAN_TIME = QUICK_TIME - 9.0  # s: contact is known
PHASE_TIME = 4.0  # s around the rhythm of a press
MIN_PIECE = 1.0  # s: a shorter rest of a paused phase is not resumed

PHASES = {
    getattr(SessionState, name): name
    for name in (
        "IDLE",
        "INTAKE",
        "ON_MAT",
        "SCAN",
        "PLAN",
        "TREAT",
        "PAUSED",
        "RESCAN",
        "REPORT",
        "ABORTED",
    )
}


class SessionEnded(RuntimeError):
    """The session cannot go on; the message says why, for people."""


class SessionOrchestrator(Node):
    """Wiring of a session."""

    def __init__(self) -> None:
        super().__init__("session_orchestrator")
        self._layout = declare_layout(self)
        path = declare(self, "programmes", "", "path of the YAML file with the programmes")
        self._programmes = load_programmes(path)
        self._sessions = declare(
            self, "sessions_dir", "", "folder in which each session gets one; empty: no record"
        )
        self._state = SessionState(phase=SessionState.IDLE)
        self._goal: ServerGoalHandle | None = None
        self._paused = False
        self._cycle = 0
        self._spent = self._planned = 0.0
        self._began = 0
        self._stops = 0
        self._safety: SafetyState | None = None
        self._kept: dict[str, Any] = {}
        self._pressing: Press.Goal | None = None
        self._states = publisher(self, "session/state")
        self._voice = Voice(self, self._layout)
        self._cycles = CycleWaiter()
        self._scan = ActionCall(self, ScanSpine, "scan_spine")
        self._press = ActionCall(self, Press, "fingers/press")
        self._retract = ActionCall(self, Retract, "fingers/retract")
        self._limits = self.create_client(LowerLimits, "limits")
        self._adjust = self.create_client(Adjust, "fingers/adjust")
        subscription(self, "fingers/state", self._on_fingers)
        subscription(self, "safety/state", self._on_safety)
        ScriptServer(self, RunSession, "run_session", self._run, result_timeout=3600)
        self.create_service(Trigger, "pause", self._on_pause)
        self.create_service(Trigger, "resume", self._on_resume)
        self.create_service(Adjust, "adjust", self._on_adjust)
        self._tell()

    # -- listening -------------------------------------------------------------------------

    def _on_fingers(self, msg: FingerState) -> None:
        self._cycle = msg.cycle
        self._voice.tick(msg.cycle, nanoseconds(msg.header.stamp))
        for call in (self._scan, self._press, self._retract):
            call.poll()
        self._cycles.seen(msg.cycle)
        if msg.cycle % STATE_CYCLES == 0:
            self._tell()

    def _on_safety(self, msg: SafetyState) -> None:
        self._safety = msg

    def _tell(self) -> None:
        s = self._state
        s.header = header(self, self._voice.now)
        if self._goal is not None and self._planned > 0.0:
            spent = (self._cycle - self._began) * self._layout.cycle
            s.progress = min(spent / max(self._planned, spent + 1.0), 0.99)
            s.time_left = max(self._planned - spent, 0.0)
        self._states.publish(s)
        if self._goal is not None:
            self._goal.publish_feedback(RunSession.Feedback(state=s))

    def _enter(self, phase: int, detail: str = "") -> None:
        self._state.phase, self._state.detail = phase, detail
        self._voice.say(
            "phase", f"{PHASES[phase]}{': ' if detail else ''}{detail}", {"phase": PHASES[phase]}
        )
        self._tell()

    def _unwanted(self) -> bool:
        stopped = self._safety is not None and self._safety.state == SafetyState.STOPPED
        cancelled = self._goal is not None and bool(self._goal.is_cancel_requested)
        return stopped or cancelled

    # -- services --------------------------------------------------------------------------

    def _on_pause(self, _request: Trigger.Request, response: Trigger.Response) -> Any:
        treating = self._state.phase == SessionState.TREAT
        self._paused = self._paused or treating
        response.success = self._paused
        response.message = (
            "pausing"
            if self._paused
            else (f"nothing to pause in {PHASES[self._state.phase]}; allowed: in TREAT")
        )
        return response

    def _on_resume(self, _request: Trigger.Request, response: Trigger.Response) -> Any:
        response.success = self._paused
        response.message = "resuming" if self._paused else "not paused"
        self._paused = False
        return response

    def _on_adjust(self, request: Adjust.Request, response: Adjust.Response) -> Any:
        """Check here and pass on: a service that waits for another would block this executor."""
        try:
            if self._pressing is None:
                raise InvalidInput("adjust", PHASES[self._state.phase], "in TREAT")
            if not np.isnan(request.strength):
                number("strength", request.strength, 0.0, 1.0)
            if not np.isnan(request.rate):
                number("rate", request.rate, 0.2, self._pressing.rate, "Hz")
            if not self._adjust.service_is_ready():
                raise InvalidInput("graph", "fingers/adjust is missing", "finger_actuation runs")
        except InvalidInput as error:
            response.success, response.message = False, str(error)
            return response
        self._adjust.call_async(request)
        response.success, response.message = True, "passed on to the fingers"
        self._voice.say("adjust", f"strength {request.strength:g}, rate {request.rate:g} Hz")
        return response

    # -- the session -----------------------------------------------------------------------

    def _check(self, request: RunSession.Goal) -> tuple[Intake, Programme]:
        if self._goal is not None:
            raise InvalidInput(
                "run_session",
                request.person_id,
                f"one session at a time; {self._state.session_id} is running",
            )
        if not request.person_id.strip() or "/" in request.person_id:
            raise InvalidInput("person_id", request.person_id, "a synthetic id without '/'")
        intake = check_intake(request.sex, request.age, request.stature, request.mass)
        name = choice("programme", request.programme, self._programmes)
        if self._safety is None or self._safety.state not in (
            SafetyState.READY,
            SafetyState.MOVING,
        ):
            raise InvalidInput("safety", self._safety_words(), "READY")
        if not (self._scan.ready() and self._press.ready()):
            raise InvalidInput(
                "graph", "spine_contour or finger_actuation is missing", "both running and active"
            )
        return intake, self._programmes[name]

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
            for call in (self._scan, self._press):
                await call.find()
            intake, programme = self._check(request)
        except InvalidInput as error:
            self._voice.say("refused", f"session: {error}", severity=Event.WARNING)
            return Ending.ABORTED, RunSession.Result(success=False, message=str(error))
        self._goal = handle
        self._paused = False
        self._begin(request, programme)
        message = ""
        try:
            await self._session(request, intake, programme)
        except SessionEnded as error:
            message = str(error)
        except ServerLost as error:
            message = self._why(str(error))
        except Exception as error:  # whatever happens, the fingers go down and it is said
            message = f"internal error: {error!r}"
            self.get_logger().error(message)
        return await self._end(handle, message)

    def _begin(self, request: RunSession.Goal, programme: Programme) -> None:
        when = datetime.now().strftime("%Y%m%d-%H%M%S")
        self._state.session_id = f"{when}-{request.person_id}"
        self._state.programme = programme.name
        self._state.folder = ""
        if self._sessions:
            folder = Path(self._sessions) / self._state.session_id
            try:
                folder.mkdir(parents=True)
                self._state.folder = str(folder.resolve())
            except OSError as error:
                self._voice.say(
                    "record", f"no record: {folder}: {error.strerror}", severity=Event.WARNING
                )
        self._began = self._cycle
        self._planned = (
            QUICK_TIME
            + RESCAN_TIME
            + 3.0
            + sum(phase.duration + PHASE_TIME for phase in programme.phases)
        )
        self._stops = self._safety.stops if self._safety else 0
        self._limits.call_async(LowerLimits.Request(mass=request.mass))
        self._kept = {
            "session_id": self._state.session_id,
            "person": {
                "id": request.person_id,
                "sex": request.sex,
                "age": request.age,
                "stature": request.stature,
                "mass": request.mass,
            },
            "programme": asdict(programme),
            "plan": [],
            "result": "running",
        }
        self._enter(SessionState.INTAKE, programme.title)
        self._keep()

    def _keep(self) -> None:
        """Write what is known so far; a session that breaks off leaves it behind."""
        if not self._state.folder:
            return
        path = Path(self._state.folder) / "session.json"
        try:
            write_whole(path, json.dumps(self._kept, indent=1))
        except OSError as error:
            self._voice.say(
                "record", f"session.json not written: {error.strerror}", severity=Event.WARNING
            )

    async def _session(
        self, request: RunSession.Goal, intake: Intake, programme: Programme
    ) -> None:
        gap = round(GAP / self._layout.cycle)
        self._enter(SessionState.ON_MAT)
        start = request.start_cycle or self._cycle + gap
        self._enter(SessionState.SCAN)
        first = await self._scan_once(intake, False, start)
        self._enter(SessionState.PLAN)
        height, known = self._felt(first)
        goals = []
        for phase in programme.phases:
            goal = plan_phase(phase, self._layout, intake, height, known)
            words = f"{phase.region}: no row can be pressed"
            if goal is not None:
                goals.append((phase, goal))
                top = float((goal.preload + goal.amplitude).max())
                words = (
                    f"{phase.region}, {phase.pattern}: {goal.fingers.size} fingers, up to"
                    f" {top:.1f} N at {goal.rate:g} Hz for {goal.duration:g} s"
                )
            self._kept["plan"].append(words)
            self._voice.say("plan", words)
        self._keep()
        end = first.end_cycle
        for phase, goal in goals:
            self._enter(SessionState.TREAT, f"{phase.region}, {phase.pattern}")
            end = await self._treat(press_message(goal), end + gap)
        self._enter(SessionState.RESCAN)
        await self._scan_once(intake, True, end + gap)
        self._enter(SessionState.REPORT)

    async def _scan_once(self, intake: Intake, again: bool, start: int) -> ScanSpine.Result:
        goal = ScanSpine.Goal(
            sex=intake.sex,
            age=intake.age,
            stature=intake.stature,
            mass=intake.mass,
            stiffness=True,
            same_person=again,
            start_cycle=start,
        )
        result: ScanSpine.Result = await self._scan.call(goal, self._unwanted)
        if not result.success:
            raise SessionEnded(self._why(result.message))
        return result

    def _felt(self, scan: ScanSpine.Result) -> tuple[np.ndarray, np.ndarray]:
        height = np.stack([floats(scan.contour.left), floats(scan.contour.right)], axis=1)
        known = np.isfinite(floats(scan.stiffness.finger_stiffness))
        return height.reshape(-1), known

    async def _treat(self, goal: Press.Goal, start: int) -> int:
        """Press for the goal's duration, in pieces when it is paused; return the last cycle."""
        left = goal.duration
        while True:
            goal.start_cycle, goal.duration = start, left
            self._pressing = goal
            result: Press.Result = await self._press.call(
                goal, lambda: self._unwanted() or self._paused
            )
            self._pressing = None
            if result.success:
                return int(result.end_cycle)
            if self._unwanted() or not self._paused:
                raise SessionEnded(self._why(result.message))
            if result.loaded_cycle:
                left -= (result.end_cycle - result.loaded_cycle) * self._layout.cycle
            detail = self._state.detail
            self._enter(SessionState.PAUSED)
            while self._paused and not self._unwanted():
                await self._cycles.until(self._cycle + 5)
            if self._unwanted():
                raise SessionEnded(self._why("ended while paused"))
            self._enter(SessionState.TREAT, detail)
            if left < MIN_PIECE:
                return self._cycle
            start = self._cycle + round(GAP / self._layout.cycle)

    def _why(self, message: str) -> str:
        s = self._safety
        if s is not None and s.state == SafetyState.STOPPED:
            return f"safety stop: {s.cause}: {s.detail}"
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
        self._kept["result"] = message or "completed"
        self._kept["stops"] = stops
        self._keep()
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
