"""The treatment part of a session: presses in pieces that pause, give way and go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from spinemat.back_model import UP
from spinemat.backing_off import GuardedStrength, after_report, levels_at, lowered
from spinemat.delivered import Delivered
from spinemat.ledger import PAIN
from spinemat.mobilisation import OnMat
from spinemat.plan import PlanStep
from spinemat.press_goal import PressGoal
from spinemat.scan import GAP
from spinemat_interfaces.action import Press
from spinemat_interfaces.msg import BreathingCue, Event, FingerState, SessionState
from spinemat_interfaces.srv import Adjust
from spinemat_ros.calls import ActionCall, CycleWaiter, press_message
from spinemat_ros.codec import floats
from spinemat_ros.node import Voice, header, publisher

MIN_PIECE = 1.0  # s: a shorter rest of a press is not resumed
CUE_CYCLES = 25  # breathing/cue at 10 Hz
INHALE = 0.4  # of a led breath (engineering choice: quiet breathing, as the rhythm expects it)
CHANGE = 0.02  # of the strength that is worth an adjustment
LOOK = 5  # cycles between two looks while waiting
NOTHING = float("nan")


class SessionEnded(RuntimeError):
    """The session cannot go on; the message says why, for people."""


class Treatment:
    """Runs the presses of a plan; feed it what the node hears.

    Args:
        node: it belongs to.
        voice: to say what happens.
        cycles: to wait for.
        press: the action.
        unwanted: whether the session should end.
        why: makes the reason for an early end out of a message.
        enter: tells a phase of the session and a line for people.
    """

    def __init__(
        self,
        node: Node,
        voice: Voice,
        cycles: CycleWaiter,
        press: ActionCall,
        unwanted: Callable[[], bool],
        why: Callable[[str], str],
        enter: Callable[[int, str], None],
    ) -> None:
        self._node, self._voice, self._cycles = node, voice, cycles
        self._unwanted, self._why, self._enter = unwanted, why, enter
        self._press = press
        self._adjust = node.create_client(Adjust, "fingers/adjust")
        self._cues = publisher(node, "breathing/cue")
        self.paused = False
        self.pressing: PressGoal | None = None
        self.delivered: Delivered | None = None
        self._share = np.ones(len(UP))
        self._stale = False
        self._asked = self._sent = 1.0
        self._guarded = GuardedStrength()
        self._guarding = False
        self._turn = self._breaths = 0.0
        self._rhythm = False
        self._settling: int | None = None  # cycle at which a led rest began
        self._gap = 0

    def begin(self, on_mat: OnMat) -> None:
        """Begin the treatment of a person."""
        self._on_mat, self.delivered = on_mat, Delivered(on_mat)
        self._gap = round(GAP / on_mat.layout.cycle)
        self._share = np.ones(len(UP))
        self._guarded = GuardedStrength()
        self._asked, self.paused = 1.0, False

    @property
    def strength(self) -> float:
        """Share of the planned amplitudes that is pressed now."""
        return min(self._asked, self._guarded.value)

    # -- listening -------------------------------------------------------------------------

    def on_fingers(self, msg: FingerState) -> None:
        """Take a state of the fingers: count the dose, adjust the strength, lead the breath."""
        goal = self.pressing
        if goal is None or self.delivered is None:
            return
        t = msg.cycle * self._on_mat.layout.cycle
        before = self._guarded.value
        self._guarded.update(t, self._guarding)
        if self._guarded.value < before:
            words = f"protective tension: strength lowered to {self.strength:.0%}"
            self._voice.say("back_off", words, {"strength": self.strength}, Event.WARNING)
        full = self.strength >= 1.0 > self._sent
        if abs(self.strength - self._sent) >= CHANGE or full:
            self._send(Adjust.Request(strength=self.strength, rate=NOTHING))
            self._sent = self.strength
        if self._rhythm:
            moving = np.zeros(self._on_mat.layout.n, dtype=bool)
            moving[goal.fingers[goal.amplitude > 0.0]] = True
            self.delivered.add(t, floats(msg.position), floats(msg.force), moving, goal.rate)
        if self._breaths > 0.0 and msg.cycle % CUE_CYCLES == 0:
            self._cue(msg.cycle, goal)

    def on_guarding(self, active: bool) -> None:
        """Note whether the person guards now."""
        self._guarding = active

    def report(self, pain: float, place: str) -> str:
        """Give way to a report of the person and return what is done.

        Raises:
            InvalidInput: no such pain or place.
        """
        levels = levels_at(place)
        goal = self.pressing
        if not levels and goal is not None:  # wherever it presses now
            beside = self._on_mat.beside[np.unique(goal.fingers // 2)]
            levels = tuple(UP[i] for i in np.flatnonzero(np.any(beside, axis=0)))
        share = after_report(self._share, pain, levels)
        if pain < PAIN:
            return "noted"
        self._stale = self._stale or goal is not None
        left_out = [v for v, s in zip(UP, share, strict=True) if s == 0.0 and v in levels]
        self._share = share
        where = ", ".join(levels) or "nowhere yet"
        return f"{'no more pressing' if left_out else 'less force'} at {where}"

    def adjust(self, request: Adjust.Request) -> None:
        """Pass a checked adjustment on."""
        if not np.isnan(request.strength):
            self._asked = float(request.strength)
            request.strength = self._sent = self.strength
        self._send(request)

    def ready_to_adjust(self) -> bool:
        """Whether the fingers can be adjusted."""
        return bool(self._adjust.service_is_ready())

    def _send(self, request: Adjust.Request) -> None:
        self._adjust.call_async(request)

    def _on_feedback(self, message: object) -> None:
        feedback = message.feedback  # type: ignore[attr-defined]
        self._rhythm = feedback.phase == Press.Feedback.RHYTHM
        self._turn = float(feedback.turn)
        if self._rhythm and self._settling is None:
            self._settling = int(feedback.cycle)

    def _cue(self, cycle: int, goal: PressGoal) -> None:
        """Say where the breath should be: in step with the rhythm, else by the clock."""
        if not self._rhythm or self._settling is None:
            return
        if goal.rate > 0.0 and (goal.amplitude > 0.0).any():
            turns = self._turn * self._breaths / goal.rate
        else:
            turns = (cycle - self._settling) * self._on_mat.layout.cycle * self._breaths
        phase = turns % 1.0
        inhale = phase < INHALE
        self._cues.publish(
            BreathingCue(
                header=header(self._node, self._voice.now),
                inhale=bool(inhale),
                phase=float(phase),
                rate=float(self._breaths),
                next=float(((INHALE if inhale else 1.0) - phase) / self._breaths),
                text="breathe in" if inhale else "breathe out",
            )
        )

    # -- doing -----------------------------------------------------------------------------

    async def run(self, step: PlanStep, start: int) -> int:
        """Run one step of the plan from drive cycle `start` on; return the last cycle.

        Raises:
            SessionEnded: it cannot go on.
        """
        assert step.goal is not None
        self._breaths = step.breaths / 60.0
        end = await self._pieces(step.goal, start)
        if step.rest > 0.0:
            end += round(step.rest / self._on_mat.layout.cycle)
            await self._until(end)
        return end

    async def _pieces(self, goal: PressGoal, start: int) -> int:
        left = goal.duration
        while True:
            mine = lowered(self._on_mat, goal, self._share)
            if mine is None:
                self._voice.say("plan", "nothing is left to press here after what was reported")
                return self._cycles.cycle
            result = await self._one(replace(mine, duration=left, start_cycle=start))
            if result.success:
                return int(result.end_cycle)
            if self._unwanted() or not (self.paused or self._stale):
                raise SessionEnded(self._why(result.message))
            if result.loaded_cycle:
                left -= (result.end_cycle - result.loaded_cycle) * self._on_mat.layout.cycle
            if self.paused:
                await self._pause()
            if left < MIN_PIECE:
                return self._cycles.cycle
            start = self._cycles.cycle + self._gap

    async def _one(self, goal: PressGoal) -> Press.Result:
        self.pressing, self._sent, self._stale = goal, 1.0, False
        self._rhythm, self._settling = False, None
        try:
            return await self._press.call(
                press_message(goal),
                lambda: self._unwanted() or self.paused or self._stale,
                self._on_feedback,
            )
        finally:
            self.pressing = None
            if self.delivered is not None:
                self.delivered.pause()

    async def _pause(self) -> None:
        self._enter(SessionState.PAUSED, "")
        while self.paused and not self._unwanted():
            await self._cycles.until(self._cycles.cycle + LOOK)
        if self._unwanted():
            raise SessionEnded(self._why("ended while paused"))
        self._enter(SessionState.TREAT, "goes on")

    async def _until(self, cycle: int) -> None:
        while self._cycles.cycle < cycle:
            if self._unwanted():
                raise SessionEnded(self._why("ended in a rest"))
            if self.paused:
                await self._pause()
            await self._cycles.until(min(cycle, self._cycles.cycle + LOOK))


def pressed_most(on_mat: OnMat, force: NDArray[np.float64]) -> tuple[str, float]:
    """Level nearest to the finger that presses most, and its force, N.

    Args:
        on_mat: the person.
        force: of the fingers, shape (n,), N.
    """
    most = int(np.argmax(force))
    x = on_mat.layout.row_x[most // 2]
    return UP[int(np.argmin(np.abs(on_mat.x - x)))], float(force[most])
