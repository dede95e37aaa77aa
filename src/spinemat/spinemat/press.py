"""A press: a rhythm of force on some fingers, from the first touch to the last.

`PressRun` owns the state of one goal and is ticked with every drive state, so the same code runs
in the node, in a replay and in a test without ROS. Phases: wait, approach, load, rhythm, unload.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import regional_sums
from spinemat.layout import MatLayout
from spinemat.modes import Mode
from spinemat.press_goal import PressGoal, Waveform, wave

if TYPE_CHECKING:  # it brings a compiler, which who plans a press does not need
    from spinemat.control import FingerController

Array = NDArray[np.float64]

APPROACH_TIME = 25.0  # s, longest search for contact: the stroke at 5 mm/s with a margin
LOAD_TIME = 0.5  # s, from contact to preload
SEEK_FORCE = 0.8  # N, held by the first fingers while the others still search
UNLOAD_TIME = 0.4  # s, smooth release at the end and on cancel
INSPIRATION = 0.3  # share of the amplitude that breathing in takes away (engineering choice)
GATE_TIME = 0.3  # s over which a gate opens or shuts (engineering choice)
GATED_RATE = 0.5  # Hz, up to which a gated rhythm keeps step with the breath (engineering choice)
EXPIRING = 0.7  # turns after end-expiration: the middle of breathing out (engineering choice)
PEAK = 0.5  # turns of a rhythm at which it presses most
IN_STEP = 0.1  # turns off the breath within which a rhythm may begin (engineering choice)
BREATH_AGE = 30.0  # s for which a breath that was felt is carried on by its rate (choice)
KNOW_BREATH = 15.0  # s at contact for which a gated rhythm waits to feel the breath (choice)
CATCH_UP = 2.0, 0.3  # per turn off the breath, and most, by which the rhythm runs faster or slower


class Phase(IntEnum):
    """Where a press stands."""

    WAIT = 0
    APPROACH = 1
    LOAD = 2
    RHYTHM = 3
    UNLOAD = 4
    DONE = 5


@dataclass
class PressRun:
    """One press in progress; tick it with every drive state before the controller's step."""

    goal: PressGoal
    layout: MatLayout
    phase: Phase = Phase.WAIT
    accepted_cycle: int = 0
    loaded_cycle: int = 0
    end_cycle: int = 0
    strength: float = 1.0
    clamp_events: int = 0
    breath: float = float("nan")  # turns since end-expiration, [0, 1); NaN: not felt
    breath_rate: float = float("nan")  # Hz
    cancelled: bool = False
    peak: Array = field(init=False)
    work: Array = field(init=False)
    indentation: Array = field(init=False)
    contact: NDArray[np.bool_] = field(init=False)
    _since: int = field(init=False, default=0)
    _square: float = field(init=False, default=0.0)
    _count: int = field(init=False, default=0)
    _from: Array = field(init=False)
    _strength: Array = field(init=False)
    _gate: float = field(init=False, default=1.0)
    _touched: Array = field(init=False)
    _before: tuple[Array, Array] | None = field(init=False, default=None)
    taking_part: NDArray[np.bool_] = field(init=False)
    _turns: float = field(init=False, default=0.0)
    _breaths: float = field(init=False, default=0.0)
    _waited: float = field(init=False, default=0.0)  # s for the breath, before the first turn
    _lag: Array = field(init=False)  # turns
    _found: NDArray[np.int64] = field(init=False)  # fingers of the goal that found contact
    rate: float = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing found and nothing felt."""
        k = len(self.goal.fingers)
        self.peak, self.work, self.indentation = np.zeros((3, k))
        self._touched, self._strength = np.full(k, np.inf), np.ones(k)
        self.taking_part = np.ones(k, dtype=bool)
        self.contact = np.zeros(k, dtype=bool)
        self._from = np.zeros(k)
        self.rate = self.goal.rate
        self._lag = self.goal.phase / (2.0 * np.pi)
        self._found = self.goal.fingers[self.contact]

    @property
    def done(self) -> bool:
        """Whether the press has ended."""
        return self.phase is Phase.DONE

    @property
    def tracking_error(self) -> float:
        """RMS of force minus set-point in the rhythm, N."""
        return float(np.sqrt(self._square / self._count)) if self._count else 0.0

    def progress(self, cycle: int) -> float:
        """Share of the rhythm that is behind, [0, 1]."""
        if self.phase < Phase.RHYTHM:
            return 0.0
        return min((cycle - self.loaded_cycle) * self.layout.cycle / self.goal.duration, 1.0)

    def cancel(self, cycle: int) -> None:
        """Release smoothly and retract, whatever the phase."""
        if self.phase in (Phase.UNLOAD, Phase.DONE) and self.cancelled:
            return
        self.cancelled = True
        if self.phase is Phase.WAIT:
            self._finish(cycle)
        elif self.phase is not Phase.DONE:
            self._enter(Phase.UNLOAD, cycle)

    def abort(self, cycle: int) -> None:
        """End at once; the drive has released the fingers already."""
        self.cancelled = True
        self._finish(cycle)

    def _enter(self, phase: Phase, cycle: int) -> None:
        self.phase, self._since = phase, cycle

    def _finish(self, cycle: int) -> None:
        self.phase, self.end_cycle = Phase.DONE, cycle

    def tick(self, cycle: int, control: FingerController) -> None:
        """Give the controller this cycle's set-points."""
        goal, dt = self.goal, self.layout.cycle
        k = goal.fingers
        elapsed = (cycle - self._since) * dt
        if self.phase is Phase.WAIT:
            if cycle < goal.start_cycle:
                return
            self.accepted_cycle = cycle
            fresh = k[(control.mode[k] != Mode.FORCE) | ~control.contact[k]]
            held = np.isin(k, fresh, invert=True)
            control.bear(regional_sums(goal.mass))
            control.approach(fresh, goal.approach_speed, goal.expected[~held])
            self._from = np.where(held, control.reference[k], SEEK_FORCE)
            self._enter(Phase.APPROACH, cycle)
            return
        force = control.force[k]
        self._measure(control, force)
        if self.phase is Phase.APPROACH:
            control.follow_force(k, self._from)
            at_end = control.layout.finger.stroke[1] - 0.0015
            missing = ~control.contact[k] & (control.position[k] < at_end) & ~control.excluded[k]
            if not missing.any() or elapsed > APPROACH_TIME:
                self.contact = control.contact[k].copy()
                self._found = k[self.contact]
                if not self.contact.all():
                    control.retract(k[~self.contact])
                if not self.contact.any():
                    self._finish(cycle)
                    return
                self._enter(Phase.LOAD, cycle)
        elif self.phase is Phase.LOAD:
            share = min(elapsed / LOAD_TIME, 1.0)
            self._ask(control, self._from + share * (goal.preload - self._from))
            if share >= 1.0:
                self.loaded_cycle = cycle
                self._enter(Phase.RHYTHM, cycle)
        elif self.phase is Phase.RHYTHM:
            self._rhythm(cycle, control, force)
        elif self.phase is Phase.UNLOAD:
            share = max(1.0 - elapsed / UNLOAD_TIME, 0.0)
            self._ask(control, self._from * share)
            control.retract(k[(control.mode[k] == Mode.FORCE) & ~control.contact[k]])
            if share <= 0.0:
                control.retract(k)
                self._finish(cycle)
        if self.phase is Phase.UNLOAD and self._since == cycle:
            self._from = np.maximum(control.reference[k], 0.0)

    def _rhythm(self, cycle: int, control: FingerController, force: Array) -> None:
        goal, dt = self.goal, self.layout.cycle
        change = dt / LOAD_TIME  # live changes of strength fade in
        missing = self.strength * self.taking_part - self._strength
        if missing.any():
            self._strength = self._strength + np.clip(missing, -change, change)
        open_to, rate = 1.0, self.rate
        if goal.gated and np.isfinite(self.breath):
            open_to -= INSPIRATION * (0.5 - 0.5 * np.cos(2.0 * np.pi * self.breath))
            rate = self._with_breath()
        elif self._follows and self._turns == 0.0 and self._waited < KNOW_BREATH:
            rate = 0.0
        self._waited += dt * (self._follows and rate == 0.0)
        change = dt / GATE_TIME
        self._gate += min(max(open_to - self._gate, -change), change)
        self._turns += rate * dt
        w = wave(goal.waveform, self._turns - self._lag)
        self._ask(control, goal.preload + self._gate * self._strength * goal.amplitude * w)
        error = (force - control.reference[goal.fingers]) * self.contact
        self._square += float(error @ error)
        self._count += self._found.size
        if (cycle - self.loaded_cycle) * dt - self._waited >= goal.duration:
            if goal.hold_after:
                self._ask(control, goal.preload)
                self._finish(cycle)
            else:
                self._enter(Phase.UNLOAD, cycle)

    @property
    def _follows(self) -> bool:
        """Whether the rhythm keeps step with the breath, once that is felt."""
        moves = self.goal.waveform is not Waveform.CONTACT
        return self.goal.gated and moves and self.rate <= GATED_RATE

    def _with_breath(self) -> float:
        """Turns per second with which the rhythm peaks while the person breathes out.

        One press for every breath, or for every second, third … one when it may not be as fast as
        that. It waits for its first turn and then follows; never faster than asked for.
        """
        if not self._follows or not self.breath_rate > 0.0:
            return self.rate
        self._breaths += (self.breath - self._breaths + 0.5) % 1.0 - 0.5
        each = max(int(np.ceil(self.breath_rate / self.rate - 1e-6)), 1)
        ahead = (self._turns - PEAK - (self._breaths - EXPIRING) / each + 0.5) % 1.0 - 0.5
        if self._turns == 0.0 and abs(ahead) > IN_STEP:
            return 0.0
        gain, most = CATCH_UP
        step = min(max(gain * ahead, -most), most)
        return min(self.breath_rate / each * (1.0 - step), self.rate)

    def _measure(self, control: FingerController, force: Array) -> None:
        """Peaks, travel since the first touch, and work put in (trapezoid rule, inward only)."""
        k = self.goal.fingers
        position, contact = control.position[k], control.contact[k]
        self.peak = np.maximum(self.peak, force * contact)
        self.clamp_events += int(np.count_nonzero(control.clamped[k]))
        if self.phase is not Phase.RHYTHM:
            fresh = contact & np.isinf(self._touched)
            self._touched = np.where(fresh, position, self._touched)
        self.indentation = np.maximum(self.indentation, position - self._touched)
        if self._before is not None and self.phase is Phase.RHYTHM:
            last_position, last_force = self._before
            gain = 0.5 * (force + last_force) * (position - last_position)
            self.work += np.maximum(gain, 0.0) * self.contact
        self._before = position, force

    @property
    def turn(self) -> float:
        """Turns of the rhythm since its begin."""
        return self._turns

    def _ask(self, control: FingerController, force: Array) -> None:
        control.follow_force(self._found, force[self.contact])
