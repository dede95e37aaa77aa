"""The treatment part of a session: presses in pieces that pause, give way and go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.task import Future

from spinemat.back_model import UP
from spinemat.backing_off import GuardedStrength, after_report, levels_at, lowered
from spinemat.delivered import Delivered
from spinemat.errors import InvalidInput, choice, number
from spinemat.layout import REGIONS
from spinemat.ledger import PAIN
from spinemat.mobilisation import OnMat
from spinemat.plan import PlanStep
from spinemat.press_goal import GAP, PressGoal, Waveform
from spinemat_interfaces.action import Press
from spinemat_interfaces.msg import BreathingCue, Event, FingerState, SessionState
from spinemat_interfaces.srv import Adjust
from spinemat_ros.calls import ActionCall, CycleWaiter, press_message
from spinemat_ros.codec import floats
from spinemat_ros.node import Voice, header, publisher
from spinemat_session.keeping import Keeping

MIN_PIECE = 1.0  # s: a shorter rest of a press is not resumed
CUE_CYCLES = 25  # breathing/cue at 10 Hz
INHALE = 0.4  # of a led breath (engineering choice: quiet breathing, as the rhythm expects it)
CHANGE = 0.02  # of the strength that is worth an adjustment
LOOK = 5  # cycles between two looks while waiting
SLOWEST, FASTEST = 0.2, 1.5  # Hz, of a rhythm that is adjusted: as programmes may ask
TAKEN = 0.2  # s of drive time in which fingers say that they took an adjustment (choice)


class SessionEnded(RuntimeError):
    """The session cannot go on; the message says why, for people."""


class Asked(NamedTuple):
    """What the fingers are told to press of a goal.

    Attributes:
        strength: share of the amplitudes.
        rate: Hz, at most.
        regions: that press; the others rest at contact.
    """

    strength: float = 1.0
    rate: float = float("inf")
    regions: tuple[str, ...] = REGIONS

    @property
    def words(self) -> str:
        """For people."""
        rate = "" if self.rate == float("inf") else f", at most {self.rate:g} Hz"
        return f"strength {self.strength:.0%}{rate}, {', '.join(self.regions)}"


class Treatment:
    """Runs the presses of a plan; feed it what the node hears.

    Args:
        node: it belongs to.
        voice: to say what happens.
        keeping: keeps how it gave way.
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
        keeping: Keeping,
        cycles: CycleWaiter,
        press: ActionCall,
        unwanted: Callable[[], bool],
        why: Callable[[str], str],
        enter: Callable[[int, str], None],
    ) -> None:
        self._node, self._voice, self._keeping, self._cycles = node, voice, keeping, cycles
        self._unwanted, self._why, self._enter = unwanted, why, enter
        self._press = press
        self._adjust = node.create_client(Adjust, "fingers/adjust")
        self._cues = publisher(node, "breathing/cue")
        self.paused = False
        self.pressing: PressGoal | None = None
        self.delivered: Delivered | None = None
        self._share = np.ones(len(UP))
        self._latest: PressGoal | None = None
        self._stale = False
        self._asked = self._sent = Asked()
        self._unsure: tuple[Future, int, Asked] | None = None  # answer, from when, what was before
        self._refused = False  # that fingers did not take an adjustment was said
        self._taken = False  # the running goal was taken by the fingers
        self._guarded = GuardedStrength()
        self._guarding = False
        self._turn = self._breaths = 0.0
        self._rhythm = False
        self._settling: int | None = None  # cycle at which a led rest began
        self._gap = 0

    @property
    def share(self) -> NDArray[np.float64]:
        """Of the force that each level may have after what was reported, L5 first, shape (24,)."""
        return self._share

    def forget(self) -> None:
        """A session begins: nobody has reported anything, and nothing was pressed."""
        self._share, self._latest, self.delivered = np.ones(len(UP)), None, None

    def begin(self, on_mat: OnMat) -> None:
        """Begin the treatment of a person; what they reported in the scan holds."""
        self._on_mat, self.delivered = on_mat, Delivered(on_mat)
        self._gap = round(GAP / on_mat.layout.cycle)
        self._guarded = GuardedStrength()
        self._asked, self.paused = Asked(), False

    @property
    def strength(self) -> float:
        """Share of the planned amplitudes that is pressed now."""
        return min(self._asked.strength, self._guarded.value)

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
            self._keeping.event("back_off", words)
        self._tell(goal)
        if self._rhythm:
            moving = np.zeros(self._on_mat.layout.n, dtype=bool)
            moving[goal.fingers[(goal.amplitude > 0.0) & self._pressing(goal)]] = True
            rate = min(goal.rate, self._sent.rate)
            self.delivered.add(t, floats(msg.position), floats(msg.force), moving, rate)
        if self._breaths > 0.0 and msg.cycle % CUE_CYCLES == 0:
            self._cue(msg.cycle, goal)

    def on_guarding(self, active: bool) -> None:
        """Note whether the person guards now."""
        self._guarding = active

    def report(
        self, pain: float, place: str, everywhere: bool = False
    ) -> tuple[tuple[str, ...], str]:
        """Give way to a report of the person; return where it counts, and what is done.

        Without a place it counts where fingers press, or pressed last; before that, and where
        `everywhere` says so, in all regions.

        Raises:
            InvalidInput: no such pain or place.
        """
        goal = self.pressing
        places = (place,) if place else REGIONS if everywhere else self._here()
        levels = tuple(v for name in places for v in levels_at(name))
        share = after_report(self._share, pain, levels)
        if pain < PAIN:
            return places, "noted"
        self._stale = self._stale or goal is not None
        left_out = not share[np.isin(UP, levels)].any()
        self._share = share
        where = ", ".join(places)
        return places, f"{'no more pressing' if left_out else 'less force'} at {where}"

    def _here(self) -> tuple[str, ...]:
        """Levels where fingers press, or pressed last; all regions before the first press."""
        goal = self.pressing or self._latest
        if goal is None:
            return REGIONS
        beside = self._on_mat.beside[np.unique(goal.fingers // 2)]
        return tuple(UP[i] for i in np.flatnonzero(np.any(beside, axis=0)))

    def adjust(self, request: Adjust.Request) -> str:
        """Change what is pressed from now on, within the plan; return what is in force.

        All of it holds for the rest of the session, also when it is asked for between two presses.

        Raises:
            InvalidInput: a value is not acceptable.
        """
        goal, asked = self.pressing, self._asked
        if not np.isnan(request.strength):
            asked = asked._replace(strength=number("strength", request.strength, 0.0, 1.0))
        if not np.isnan(request.rate):
            most = FASTEST if goal is None else goal.rate
            asked = asked._replace(rate=number("rate", request.rate, SLOWEST, most, "Hz"))
        for region in request.regions:
            choice("regions", region, REGIONS)
        if request.regions:
            asked = asked._replace(regions=tuple(r for r in REGIONS if r in request.regions))
        if not self._adjust.service_is_ready():
            raise InvalidInput("graph", "fingers/adjust is missing", "finger_actuation runs")
        self._asked = asked
        if goal is not None:
            self._tell(goal)
        return asked.words

    def _tell(self, goal: PressGoal) -> None:
        """Tell the fingers what to press of the goal, if that is new or they did not take it.

        Before they have taken the goal they would not know what it is about, and contact has
        nothing that could be adjusted.
        """
        self._check_taken()
        now = self._asked._replace(strength=self.strength)
        full = now.strength >= 1.0 > self._sent.strength
        less = abs(now.strength - self._sent.strength) >= CHANGE
        rhythm = self._taken and goal.waveform is not Waveform.CONTACT
        if rhythm and (full or less or now[1:] != self._sent[1:]):
            rate = max(min(now.rate, goal.rate), SLOWEST)
            request = Adjust.Request(strength=now.strength, rate=rate, regions=list(now.regions))
            answer = self._adjust.call_async(request)
            self._unsure = answer, self._cycles.cycle, self._sent
            self._sent = now

    def _check_taken(self) -> None:
        """Forget an adjustment that the fingers refused or did not hear: it is repeated then."""
        if self._unsure is None:
            return
        answer, since, before = self._unsure
        if self._cycles.cycle < since + round(TAKEN / self._on_mat.layout.cycle):
            return
        self._unsure = None
        told = answer.result() if answer.done() else None
        taken = told is not None and told.success
        if not taken:
            self._adjust.remove_pending_request(answer)
            self._sent = before
            if not self._refused:
                why = told.message if told is not None else "no answer"
                words = f"the fingers did not take an adjustment, it is repeated: {why}"
                self._voice.say("adjust", words, severity=Event.WARNING)
        self._refused = not taken

    def _pressing(self, goal: PressGoal) -> NDArray[np.bool_]:
        """Fingers of a goal in regions that press, shape (m,)."""
        return np.isin(np.array(self._on_mat.layout.regions)[goal.fingers], self._asked.regions)

    def _idle(self, goal: PressGoal) -> bool:
        """Whether a goal has a rhythm, but none where the person wants it."""
        moving = goal.amplitude > 0.0
        return bool(moving.any() and not (moving & self._pressing(goal)).any())

    def _on_feedback(self, message: object) -> None:
        feedback = message.feedback  # type: ignore[attr-defined]
        self._taken = True
        self._turn = float(feedback.turn)  # 0 while a gated rhythm waits for the breath
        self._rhythm = feedback.phase == Press.Feedback.RHYTHM and self._turn > 0.0
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
            if mine is None or self._idle(mine):
                words = "nothing is left to press here after what was reported or adjusted"
                self._voice.say("plan", words)
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
        self.pressing = self._latest = goal
        self._sent, self._unsure, self._stale = Asked(), None, False
        self._taken = False
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
