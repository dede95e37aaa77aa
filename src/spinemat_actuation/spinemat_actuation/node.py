"""Node finger_actuation: all fingers under force control, the press and retract actions.

The arrival of a drive state runs one control step and is answered by a command with the same
cycle number; nothing here is driven by a timer. When the drive stage is not running (no permit,
stop, watchdog) every press is aborted and every set-point dropped; nothing resumes by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.action.server import ServerGoalHandle
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future

from spinemat.control import FingerController
from spinemat.drive import Stage
from spinemat.errors import InvalidInput, choice, number
from spinemat.gains import ControlGains
from spinemat.layout import REGIONS
from spinemat.modes import Mode
from spinemat.press import BREATH_AGE, PressRun
from spinemat.press_goal import Waveform
from spinemat_actuation.calibrating import FingerTests
from spinemat_actuation.diagnosis import diagnose
from spinemat_actuation.messages import (
    Fingers,
    calibrate_result,
    press_feedback,
    press_goal,
    press_result,
)
from spinemat_interfaces.action import Calibrate, Press, Retract
from spinemat_interfaces.msg import Breathing, DriveState, Event, StiffnessMap
from spinemat_interfaces.srv import Adjust
from spinemat_ros.codec import doubles, floats, nanoseconds, view
from spinemat_ros.node import Voice, declare, declare_layout, publisher, subscription
from spinemat_ros.script import Ending, ScriptServer, wait
from spinemat_ros.spin import run
from spinemat_ros.topics import NEWEST

Array = NDArray[np.float64]

STATE_CYCLES = 5  # fingers/state and joint_states at 50 Hz
FEEDBACK_CYCLES = 25  # 10 Hz
HOLD_TIME = 3.0  # s, fingers held by nobody's goal retract (engineering choice)
RETRACT_TIME = 4.0  # s


@dataclass(eq=False)  # arrays in it cannot be compared; one is only ever itself
class _Press:
    """A press and the client that waits for it."""

    run: PressRun
    handle: ServerGoalHandle
    done: Future = field(default_factory=Future)
    message: str = ""


@dataclass(eq=False)
class _Retract:
    """A retraction and the client that waits for it."""

    fingers: NDArray[np.int64]
    handle: ServerGoalHandle
    since: int
    start: NDArray[np.float64]
    done: Future = field(default_factory=Future)
    message: str = ""
    end_cycle: int = 0


class FingerActuation(LifecycleNode):
    """Wiring of `FingerController` and `PressRun`."""

    def __init__(self) -> None:
        super().__init__("finger_actuation")
        self._layout = declare_layout(self)
        self._gains = self._declare_gains()
        path = declare(self, "calibration_file", "", "file of the calibration; empty: not kept")
        self._calibration = Path(path) if path else None
        self._control = FingerController(self._layout, self._gains)
        self._tests = FingerTests(self._layout, self._calibration)
        self._told = Fingers(self._control)
        self._active = self._refused = False
        self._presses: list[_Press] = []
        self._retracts: list[_Retract] = []
        self._calibrating: ServerGoalHandle | None = None
        self._cycle = 0
        self._boot = ""
        self._second = round(1.0 / self._layout.cycle)
        self._running = False
        self._breath: tuple[int, float, float] | None = None
        self._held_since = np.full(self._layout.n, -1, dtype=np.int64)
        self._commands = publisher(self, "drive/command")
        self._fingers = publisher(self, "fingers/state")
        self._joints = publisher(self, "joint_states")
        self._diagnostics = publisher(self, "/diagnostics")
        self._voice = Voice(self, self._layout)
        subscription(self, "drive/state", self._on_state, NEWEST)
        subscription(self, "stiffness", self._on_stiffness)
        subscription(self, "breathing", self._on_breathing)
        self.create_service(Adjust, "fingers/adjust", self._on_adjust)
        ScriptServer(self, Press, "fingers/press", self._press)
        ScriptServer(self, Retract, "fingers/retract", self._retract)
        ScriptServer(self, Calibrate, "fingers/calibrate", self._calibrate)
        self.add_on_set_parameters_callback(self._on_parameters)

    def _declare_gains(self) -> ControlGains:
        values = {
            f.name: declare(
                self,
                f"gains.{f.name}",
                f.default,
                f"{f.metadata['unit']}; {f.metadata['text']}".lstrip("; "),
                f.metadata["range"],
                read_only=f.metadata["fixed"],
            )
            for f in fields(ControlGains)
        }
        return ControlGains(**values)

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Take new gains while no finger is driven; limits of safety never change."""
        changes = {
            p.name.removeprefix("gains."): p.value
            for p in parameters
            if p.name.startswith("gains.")
        }
        try:
            if changes and not self._control.idle:
                first = f"gains.{next(iter(changes))}"
                raise InvalidInput(first, "a change now", "changes while no finger is driven")
            self._gains = replace(self._gains, **changes)
        except InvalidInput as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._control.tune(self._gains)
        return SetParametersResult(successful=True)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin anew with a controller that knows nothing; nothing is commanded yet."""
        nothing = np.zeros(self._layout.n)
        FingerController(self._layout).step(nothing, nothing)  # loads compiled code: 0.5 s
        self._control = FingerController(self._layout, self._gains)
        self._told = Fingers(self._control)
        self._tests = FingerTests(self._layout, self._calibration)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to answer drive states."""
        self._active = True
        self._tests.verdict, self._tests.due = None, True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop answering; the drive stage then releases the fingers."""
        self._active = False
        self._drop_all("finger_actuation was deactivated")
        return super().on_deactivate(state)

    # -- the control step ------------------------------------------------------------------

    def _on_state(self, msg: DriveState) -> None:
        if not self._active:
            return
        position, force = view(msg.position), view(msg.force)
        if self._refuse(msg, position, force):
            return
        if self._cycle and msg.cycle > self._cycle + 1:
            self._voice.late += msg.cycle - self._cycle - 1
        self._cycle = msg.cycle
        now = nanoseconds(msg.header.stamp)
        self._watch_stage(msg)
        if self._running and not self._presses and not self._retracts:
            self._tests.tick(msg, self._control, self._voice)
        for press in self._presses:
            if press.handle.is_cancel_requested:
                press.run.cancel(msg.cycle)
            if press.run.goal.gated:
                press.run.breath, press.run.breath_rate = self._breathing(now)
            press.run.tick(msg.cycle, self._control)
        velocity, ceiling = self._control.step(position, force)
        self._commands.publish(self._told.answer(msg, velocity, ceiling))
        if self._presses or self._retracts:
            self._finish(msg.cycle)
        self._tell(msg)
        self._voice.tick(msg.cycle, now)

    def _refuse(self, msg: DriveState, position: Array, force: Array) -> bool:
        """Whether a drive state is no good: it gets no answer, and the drive stage releases."""
        n, wrong = self._layout.n, ""
        known = msg.boot_id == self._boot
        if known and msg.cycle == self._cycle:
            return True  # answered already: in lock-step the first state is repeated
        if len(position) != n or len(force) != n:
            wrong = f"position, force: {len(position)}, {len(force)} values; allowed: {n} each"
        elif not isfinite(position @ position + force @ force):
            wrong = "position or force is not finite; allowed: finite values"
        elif known and msg.cycle < self._cycle:
            wrong = f"cycle {msg.cycle} after {self._cycle}; allowed: a later one"
        if wrong and not self._refused:
            self._voice.say("refused", f"drive/state: {wrong} (said once)", {}, Event.WARNING)
        self._refused = bool(wrong)
        if not wrong and not known:
            if self._boot:
                self._drop_all("the drive stage restarted")
            self._boot, self._cycle = msg.boot_id, 0
        return self._refused

    def _tell(self, msg: DriveState) -> None:
        if msg.cycle % STATE_CYCLES == 0:
            self._told.tell(msg)
            self._fingers.publish(self._told.state)
            self._joints.publish(self._told.joints)
        if msg.cycle % self._second == 0:
            warm = floats(msg.temperature)
            name = self.get_fully_qualified_name()
            late = self._voice.late
            self._diagnostics.publish(
                diagnose(msg.header, name, self._control, self._tests, warm, late)
            )
        if msg.cycle % FEEDBACK_CYCLES == 0:
            self._feedback(msg.cycle)
            self._release_forgotten(msg.cycle)

    def _watch_stage(self, msg: DriveState) -> None:
        if msg.stage == Stage.RUNNING:
            self._running = True
            return
        if self._running or self._presses:
            reason = msg.stage_reason or "not running"
            self._drop_all(f"the drive stage released the fingers: {reason}")
        self._running = False

    def _drop_all(self, reason: str) -> None:
        for press in self._presses:
            press.message = reason
            press.run.abort(self._cycle)
        for retract in self._retracts:
            retract.message = reason
            retract.end_cycle = self._cycle
        self._control.off()
        if self._presses or self._retracts or self._tests.busy:
            self._voice.say("aborted", reason)
        self._tests.drop()
        self._finish(self._cycle)

    def _release_forgotten(self, cycle: int) -> None:
        """Retract fingers that a finished press left in contact and no goal has taken over."""
        busy = np.zeros(self._layout.n, dtype=bool)
        for press in self._presses:
            busy[press.run.goal.fingers] = True
        idle = (self._control.mode == Mode.FORCE) & ~busy
        self._held_since = np.where(
            idle, np.where(self._held_since < 0, cycle, self._held_since), -1
        )
        limit = round(HOLD_TIME / self._layout.cycle)
        forgotten = idle & (cycle - self._held_since > limit)
        if forgotten.any():
            self._control.retract(np.flatnonzero(forgotten))

    def _finish(self, cycle: int) -> None:
        for press in [p for p in self._presses if p.run.done]:
            self._presses.remove(press)
            press.done.set_result(None)
        low = self._layout.finger.stroke[0]
        for retract in list(self._retracts):
            late = (cycle - retract.since) * self._layout.cycle > RETRACT_TIME
            if (self._control.position[retract.fingers] <= low + 0.0015).all():
                retract.end_cycle = cycle
            elif late:
                retract.end_cycle = cycle
                retract.message = f"not down after {RETRACT_TIME:g} s"
            if retract.end_cycle:
                self._retracts.remove(retract)
                retract.done.set_result(None)

    def _feedback(self, cycle: int) -> None:
        for press in self._presses:
            press.handle.publish_feedback(press_feedback(cycle, press.run, self._control))
        low = self._layout.finger.stroke[0]
        for retract in self._retracts:
            left = float(np.max(self._control.position[retract.fingers] - low, initial=0.0))
            whole = max(float(np.max(retract.start - low, initial=0.0)), 1e-6)
            progress = min(max(1.0 - left / whole, 0.0), 1.0)
            retract.handle.publish_feedback(Retract.Feedback(progress=progress))
        if self._calibrating is not None:
            if self._calibrating.is_cancel_requested:
                self._tests.drop()
                self._control.retract(slice(None))
            else:
                progress = self._tests.progress
                self._calibrating.publish_feedback(Calibrate.Feedback(progress=progress))

    def _on_stiffness(self, msg: StiffnessMap) -> None:
        linear, toe = floats(msg.finger_stiffness), floats(msg.finger_toe_stiffness)
        if linear.shape == toe.shape == (self._layout.n,):
            self._control.believe(linear, toe)

    def _on_breathing(self, msg: Breathing) -> None:
        """Keep the last valid breath; its rate carries it on while fingers press."""
        if msg.valid and np.isfinite(msg.rate) and np.isfinite(msg.phase):
            self._breath = (nanoseconds(msg.header.stamp), msg.rate, msg.phase)

    def _breathing(self, now: int) -> tuple[float, float]:
        """Turns since end-expiration by the last breathing felt, and its rate, Hz; NaN unknown."""
        if self._breath is not None:
            since, rate, phase = self._breath
            seconds = 1e-9 * (now - since)
            if 0.0 <= seconds <= BREATH_AGE:
                return (phase / (2.0 * np.pi) + rate * seconds) % 1.0, rate
        return float("nan"), float("nan")

    # -- goals -----------------------------------------------------------------------------

    def _refuse_busy(self, fingers: NDArray[np.int64]) -> None:
        """Raise InvalidInput if nothing may move, or if a finger is in another goal's hands."""
        if not self._active or not self._running:
            raise InvalidInput("drive stage", "not running", "RUNNING; a permit is needed first")
        for press in self._presses:
            shared = np.intersect1d(press.run.goal.fingers, fingers)
            if shared.size:
                name = self._layout.names[int(shared[0])]
                raise InvalidInput("fingers", f"{name}, pressed by another goal", "free fingers")
        for retract in self._retracts:
            if np.intersect1d(retract.fingers, fingers).size:
                raise InvalidInput("fingers", "a retraction is going on", "free fingers")

    async def _press(self, handle: ServerGoalHandle) -> tuple[Ending, Press.Result]:
        request = handle.request
        try:
            self._refuse_busy(press_goal(self._layout, request, {}).fingers)
            if self._tests.verdict is None:
                await self._tests.done()
                if handle.is_cancel_requested:
                    return Ending.CANCELED, Press.Result(message="cancelled")
            if self._tests.verdict is None:
                raise InvalidInput("self-test", "broken off", "a test that came to its end")
            goal = press_goal(self._layout, request, self._tests.excluded)
            self._refuse_busy(goal.fingers)
        except InvalidInput as error:
            self._voice.say("refused", f"press: {error}")
            result = Press.Result(success=False, message=str(error), end_cycle=self._cycle)
            return Ending.ABORTED, result
        if 0 < goal.start_cycle < self._cycle:
            late = self._cycle - goal.start_cycle
            self._voice.say("late goal", f"press begins {late} cycles late", {"cycles": late})
        press = _Press(PressRun(goal, self._layout), handle)
        self._presses.append(press)
        await wait(press.done)
        run, message = press.run, press.message
        if not message and not run.cancelled and not run.contact.any():
            message = "no finger of the goal found contact: is anybody on the mat?"
        success = not run.cancelled and not message
        ending = Ending.SUCCEEDED if success else Ending.ABORTED
        if run.cancelled and handle.is_cancel_requested:
            ending, message = Ending.CANCELED, message or "cancelled"
        return ending, press_result(run, success, message)

    async def _calibrate(self, handle: ServerGoalHandle) -> tuple[Ending, Calibrate.Result]:
        try:
            self._refuse_busy(np.arange(self._layout.n))
            if self._calibrating is not None or self._tests.busy:
                raise InvalidInput("calibrate", "a self-test is going on", "one at a time")
            if not self._control.idle:
                raise InvalidInput("fingers", "not retracted", "retracted fingers")
        except InvalidInput as error:
            return Ending.ABORTED, Calibrate.Result(success=False, message=str(error))
        self._calibrating, self._tests.keep = handle, bool(handle.request.keep)
        self._tests.verdict = None
        await self._tests.done()
        self._calibrating = None
        if self._tests.verdict is not None:
            result = calibrate_result(self._layout, self._cycle, self._tests.verdict)
            return Ending.SUCCEEDED, result
        ending = Ending.CANCELED if handle.is_cancel_requested else Ending.ABORTED
        return ending, Calibrate.Result(success=False, message="the self-test was broken off")

    async def _retract(self, handle: ServerGoalHandle) -> tuple[Ending, Retract.Result]:
        wanted = list(handle.request.fingers) or list(range(self._layout.n))
        bad = [i for i in wanted if i >= self._layout.n]
        if bad or not self._active:
            allowed = f"0 to {self._layout.n - 1}"
            message = str(InvalidInput("fingers", bad[0], allowed)) if bad else "not active"
            return Ending.ABORTED, Retract.Result(success=False, message=message)
        fingers = np.unique(np.array(wanted, dtype=np.int64))
        fingers = fingers[~self._control.excluded[fingers]]
        if self._tests.busy:
            self._tests.drop()
            self._control.retract(slice(None))
        for press in self._presses:
            if np.intersect1d(press.run.goal.fingers, fingers).size:
                press.message = "a retraction took its fingers"
                press.run.abort(self._cycle)
                self._control.retract(press.run.goal.fingers)
        self._control.retract(fingers)
        retract = _Retract(fingers, handle, self._cycle, self._control.position[fingers].copy())
        self._retracts.append(retract)
        await wait(retract.done)
        ending = Ending.ABORTED if retract.message else Ending.SUCCEEDED
        if handle.is_cancel_requested:
            ending = Ending.CANCELED
        return ending, Retract.Result(
            success=not retract.message,
            message=retract.message,
            end_cycle=retract.end_cycle,
            position=doubles(self._control.position[fingers]),
        )

    def _on_adjust(self, request: Adjust.Request, response: Adjust.Response) -> Adjust.Response:
        runs = [p.run for p in self._presses if p.run.goal.waveform is not Waveform.CONTACT]
        keep_strength, keep_rate = np.isnan(request.strength), np.isnan(request.rate)
        try:
            if not keep_strength:
                number("strength", request.strength, 0.0, 1.0)
            if runs and not keep_rate:
                number("rate", request.rate, 0.2, min(r.goal.rate for r in runs), "Hz")
            for region in request.regions:
                choice("regions", region, REGIONS)
        except InvalidInput as error:
            response.success, response.message = False, str(error)
            return response
        for r in runs:
            r.strength = r.strength if keep_strength else request.strength
            r.rate = r.rate if keep_rate else request.rate
            if request.regions:
                mine = [self._layout.regions[i] in request.regions for i in r.goal.fingers]
                r.taking_part = np.array(mine)
        response.success = bool(runs)
        response.message = f"{len(runs)} press(es) adjusted"
        return response


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(FingerActuation, args)
