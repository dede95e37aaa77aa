"""A press: a rhythm of force on some fingers, from the first touch to the last.

`PressRun` owns the state of one goal and is ticked with every drive state, so the same code runs
in the node, in a replay and in a test without ROS. Phases: wait, approach, load, rhythm, unload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import HEAVIEST, LIGHTEST, regional_sums
from spinemat.control import FingerController, Mode
from spinemat.errors import InvalidInput, number
from spinemat.layout import MatLayout

Array = NDArray[np.float64]

MIN_PRELOAD = 0.5  # N
MAX_DURATION = 120.0  # s
RATE = (0.05, 1.5)  # Hz
MAX_APPROACH = 0.03  # m/s
SLEW = 100.0  # N/s
HOLD_FORCE, HOLD_TIME = 10.0, 5.0  # N, s: a static hold above this is not a rhythm
APPROACH_TIME = 25.0  # s, longest search for contact: the stroke at 5 mm/s with a margin
LOAD_TIME = 0.5  # s, from contact to preload
SEEK_FORCE = 0.8  # N, held by the first fingers while the others still search
UNLOAD_TIME = 0.4  # s, smooth release at the end and on cancel
RISE = 0.75  # share of a RAMP cycle that loads
QUARTER, FIFTH = 0.25, 0.2  # shares of a TRAPEZOID and a HOLD cycle that load, and that unload
MIN_TURN_CYCLES = 20  # drive cycles in a turn of the rhythm, at least
INSPIRATION = 0.3  # share of the amplitude that breathing in takes away (engineering choice)
GATE_TIME = 0.3  # s over which a gate opens or shuts (engineering choice)


class Waveform(IntEnum):
    """Shape of a cycle; values as in Press.action."""

    RAISED_COSINE = 0
    RAMP = 1
    CONTACT = 2
    SINUSOID = 3
    TRAPEZOID = 4
    HOLD = 5

    @property
    def steepest(self) -> float:
        """Largest slope of w per turn."""
        return {
            Waveform.RAMP: 1.0 / (1.0 - RISE),
            Waveform.CONTACT: 0.0,
            Waveform.TRAPEZOID: 1.0 / QUARTER,
            Waveform.HOLD: 1.0 / FIFTH,
        }.get(self, float(np.pi))


@dataclass(frozen=True)
class PressGoal:
    """What to press; arrays of shape (k,) over `fingers`. See Press.action for the formula."""

    waveform: Waveform
    fingers: NDArray[np.int64]
    preload: Array
    amplitude: Array
    phase: Array
    rate: float
    duration: float
    approach_speed: float
    expected: Array
    hold_after: bool
    start_cycle: int
    mass: float = LIGHTEST
    gated: bool = False


def check_goal(
    layout: MatLayout,
    *,
    waveform: int,
    fingers: Sequence[int],
    preload: Sequence[float],
    amplitude: Sequence[float],
    phase: Sequence[float],
    rate: float,
    duration: float,
    approach_speed: float,
    expected: Sequence[float],
    hold_after: bool,
    start_cycle: int,
    cycles: float = 0.0,
    mass: float = 0.0,
    gated: bool = False,
) -> PressGoal:
    """Build a goal from what a client sent.

    Raises:
        InvalidInput: any field is not acceptable; nothing may move then.
    """
    if waveform not in list(Waveform):
        raise InvalidInput("waveform", waveform, ", ".join(f"{w:d} {w.name}" for w in Waveform))
    if not fingers:
        raise InvalidInput("fingers", list(fingers), f"1 to {layout.n} indices")
    for i in fingers:
        if not 0 <= i < layout.n:
            raise InvalidInput(
                "fingers", i, f"0 ({layout.names[0]}) to {layout.n - 1} ({layout.names[-1]})"
            )
    if len(set(fingers)) != len(fingers):
        raise InvalidInput("fingers", list(fingers), "each finger once")
    k = len(fingers)
    for name, values in (("preload", preload), ("amplitude", amplitude)):
        if len(values) != k:
            raise InvalidInput(name, list(values), f"{k} values, one per finger")
    for name, values in (("phase", phase), ("expected_contact", expected)):
        if len(values) not in (0, k):
            raise InvalidInput(name, list(values), f"none or {k} values, one per finger")
    index = np.array(fingers, dtype=np.int64)
    for i, finger in enumerate(index):
        limit, name = float(layout.press_limit[finger]), layout.names[finger]
        number(f"preload[{i}] ({name})", preload[i], MIN_PRELOAD, limit, "N")
        number(f"amplitude[{i}] ({name})", amplitude[i], 0.0, limit - preload[i], "N")
    number("approach_speed", approach_speed, 0.0005, MAX_APPROACH, "m/s")
    if mass != 0.0:
        number("mass", mass, LIGHTEST, HEAVIEST, "kg")
    mass = mass or LIGHTEST
    shape = Waveform(waveform)
    top = float(max(amplitude))
    if shape is not Waveform.CONTACT:
        number("rate", rate, *RATE, "Hz")
        if rate * layout.cycle * MIN_TURN_CYCLES > 1.0:
            fastest = 1.0 / (MIN_TURN_CYCLES * layout.cycle)
            raise InvalidInput("rate", rate, f"at most {fastest:g} Hz with cycles of the drive")
        if cycles != 0.0:
            number("cycles", cycles, 0.5, MAX_DURATION * rate, "turns")
            duration = cycles / rate
        if top * shape.steepest * rate > SLEW:
            raise InvalidInput(
                "rate",
                rate,
                f"at most {SLEW / (top * shape.steepest):.3g} Hz with an"
                f" amplitude of {top:g} N: force may change by {SLEW:g} N/s",
            )
    number("duration", duration, layout.cycle, MAX_DURATION, "s")
    phases = np.array(phase, dtype=float) if len(phase) else np.zeros(k)
    if not np.isfinite(phases).all():
        raise InvalidInput("phase", phases.tolist(), "finite values in rad")
    contacts = np.array(expected, dtype=float) if len(expected) else np.full(k, np.nan)
    low, high = layout.finger.stroke
    if not (np.isnan(contacts) | ((contacts >= low) & (contacts <= high))).all():
        raise InvalidInput("expected_contact", contacts.tolist(), f"{low:g} to {high:g} m or NaN")
    goal = PressGoal(
        shape,
        index,
        np.array(preload, float),
        np.array(amplitude, float),
        phases,
        float(rate),
        float(duration),
        float(approach_speed),
        contacts,
        bool(hold_after),
        int(start_cycle),
        float(mass),
        bool(gated),
    )
    _check_dwell(layout, goal)
    _check_sums(layout, goal)
    return goal


def _check_dwell(layout: MatLayout, goal: PressGoal) -> None:
    """Refuse a goal that keeps a finger above the force of a static hold for too long."""
    shape = wave(goal.waveform, np.linspace(1.0, 2.0, 200, endpoint=False))[:, None]
    share = (goal.preload + goal.amplitude * shape > HOLD_FORCE).mean(axis=0)
    worst = int(share.argmax())
    always = share[worst] == 1.0 or goal.waveform is Waveform.CONTACT
    held = goal.duration if always else min(share[worst] / goal.rate, goal.duration)
    if share[worst] > 0.0 and held > HOLD_TIME:
        field, value = ("duration", goal.duration) if always else ("rate", goal.rate)
        raise InvalidInput(
            field,
            value,
            f"{layout.names[goal.fingers[worst]]} would be held above {HOLD_FORCE:g} N for"
            f" {held:.3g} s; at most {HOLD_TIME:g} s",
        )


def _check_sums(layout: MatLayout, goal: PressGoal) -> None:
    """Refuse a goal whose fingers together would lift a region."""
    turns = np.linspace(1.0, 2.0, 60, endpoint=False)[:, None] - goal.phase / (2.0 * np.pi)
    force = goal.preload + goal.amplitude * wave(goal.waveform, turns)
    regions = np.array(layout.regions)[goal.fingers]
    for region, allowed in regional_sums(goal.mass).items():
        most = float(force[:, regions == region].sum(axis=1).max(initial=0.0))
        if most > allowed:
            raise InvalidInput(
                "amplitude",
                f"{most:.1f} N together under the {region} region",
                f"at most {allowed:.1f} N for a person of {goal.mass:g} kg (field mass)",
            )


def wave(shape: Waveform, turns: Array) -> Array:
    """Return w in [0, 1] after `turns` cycles (any shape); 0 before the first."""
    u = np.where(turns < 0.0, 0.0, np.mod(turns, 1.0))
    if shape is Waveform.RAMP:
        return np.where(u < RISE, u / RISE, (1.0 - u) / (1.0 - RISE))
    if shape is Waveform.CONTACT:
        return np.zeros_like(u)
    if shape is Waveform.SINUSOID:
        return np.where(turns < 0.0, 0.0, 0.5 * (1.0 + np.sin(2.0 * np.pi * u)))
    if shape in (Waveform.TRAPEZOID, Waveform.HOLD):
        slope = shape.steepest
        down = 0.5 if shape is Waveform.TRAPEZOID else 1.0 - FIFTH
        return np.clip(np.minimum(u * slope, 1.0 - (u - down) * slope), 0.0, 1.0)
    return 0.5 * (1.0 - np.cos(2.0 * np.pi * u))


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
    breath: float = float("nan")
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
    rate: float = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing found and nothing felt."""
        k = len(self.goal.fingers)
        self.peak, self.work, self.indentation = np.zeros((3, k))
        self._touched, self._strength = np.full(k, np.nan), np.ones(k)
        self.taking_part = np.ones(k, dtype=bool)
        self.contact = np.zeros(k, dtype=bool)
        self._from = np.zeros(k)
        self.rate = self.goal.rate

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
            missing = ~control.contact[k] & (self._height(control) < at_end)
            if not missing.any() or elapsed > APPROACH_TIME:
                self.contact = control.contact[k].copy()
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
        wanted = np.where(self.taking_part, self.strength, 0.0)
        self._strength += np.clip(wanted - self._strength, -change, change)
        open_to = 1.0
        if goal.gated and np.isfinite(self.breath):
            open_to -= INSPIRATION * min(max(self.breath, 0.0), 1.0)
        change = dt / GATE_TIME
        self._gate += min(max(open_to - self._gate, -change), change)
        self._turns += self.rate * dt
        w = wave(goal.waveform, self._turns - goal.phase / (2.0 * np.pi))
        self._ask(control, goal.preload + self._gate * self._strength * goal.amplitude * w)
        error = (force - control.reference[goal.fingers])[self.contact]
        self._square += float(np.mean(error**2))
        self._count += 1
        if (cycle - self.loaded_cycle) * dt >= goal.duration:
            if goal.hold_after:
                self._ask(control, goal.preload)
                self._finish(cycle)
            else:
                self._enter(Phase.UNLOAD, cycle)

    def _measure(self, control: FingerController, force: Array) -> None:
        """Peaks, travel since the first touch, and work put in (trapezoid rule, inward only)."""
        k = self.goal.fingers
        position = control.position[k]
        self.peak = np.maximum(self.peak, force)
        self.clamp_events += int(control.clamped[k].sum())
        fresh = control.contact[k] & np.isnan(self._touched)
        self._touched = np.where(fresh, position, self._touched)
        travel = np.nan_to_num(position - self._touched, nan=0.0)
        self.indentation = np.maximum(self.indentation, travel)
        if self._before is not None and self.phase is Phase.RHYTHM:
            last_position, last_force = self._before
            gain = 0.5 * (force + last_force) * (position - last_position)
            self.work += np.maximum(gain, 0.0) * self.contact
        self._before = position.copy(), force.copy()

    @property
    def turn(self) -> float:
        """Turns of the rhythm since its begin."""
        return self._turns

    def _ask(self, control: FingerController, force: Array) -> None:
        control.follow_force(self.goal.fingers[self.contact], force[self.contact])

    def _height(self, control: FingerController) -> Array:
        return control.position[self.goal.fingers]
