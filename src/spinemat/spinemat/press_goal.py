"""What a press may ask for: waveforms, and the check of a goal before anything moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import HEAVIEST, LIGHTEST, regional_sums
from spinemat.errors import InvalidInput, number
from spinemat.gains import SLEW
from spinemat.layout import MatLayout

Array = NDArray[np.float64]

MIN_PRELOAD = 0.5  # N
MAX_DURATION = 120.0  # s
RATE = (0.05, 1.5)  # Hz
MAX_APPROACH = 0.03  # m/s
HOLD_FORCE, HOLD_TIME = 10.0, 5.0  # N, s: a static hold above this is not a rhythm
RISE = 0.75  # share of a RAMP cycle that loads
GAP = 0.2  # s between presses: time for goals to travel, so that runs repeat exactly
QUARTER, FIFTH = 0.25, 0.2  # shares of a TRAPEZOID and a HOLD cycle that load, and that unload
MIN_TURN_CYCLES = 20  # drive cycles in a turn of the rhythm, at least


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
    excluded: Mapping[int, str] | None = None,
) -> PressGoal:
    """Build a goal from what a client sent.

    Args:
        layout: the mat; all fields but the last as in Press.action.
        excluded: fingers that take no part, and why; see `share_out`.

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
    if shape is not Waveform.CONTACT:
        number("rate", rate, *RATE, "Hz")
        if rate * layout.cycle * MIN_TURN_CYCLES > 1.0:
            fastest = 1.0 / (MIN_TURN_CYCLES * layout.cycle)
            raise InvalidInput("rate", rate, f"at most {fastest:g} Hz with cycles of the drive")
        if cycles != 0.0:
            number("cycles", cycles, 0.5, MAX_DURATION * rate, "turns")
            duration = cycles / rate
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
    goal = share_out(layout, goal, excluded or {})
    _check_slew(goal)
    _check_dwell(layout, goal)
    _check_sums(layout, goal)
    return goal


def share_out(layout: MatLayout, goal: PressGoal, excluded: Mapping[int, str]) -> PressGoal:
    """Give the load of excluded fingers to their neighbours.

    Preload and amplitude go in equal parts to the fingers of the goal in the rows beside, on the
    same side; fingers that the goal does not name stay where they are: nobody is pressed where
    nobody asked (engineering choice). In a search for contact there is no load to share.

    Raises:
        InvalidInput: there is no such neighbour, it would exceed its limit, or all are excluded.
    """
    missing = [i for i in goal.fingers.tolist() if i in excluded]
    if not missing:
        return goal
    first = f"{layout.names[missing[0]]}, excluded: {excluded[missing[0]]}"
    if len(missing) == len(goal.fingers):
        raise InvalidInput("fingers", first, "a finger that passed the self-test")
    preload, amplitude = goal.preload.copy(), goal.amplitude.copy()
    place = {i: p for p, i in enumerate(goal.fingers.tolist())}
    for i in missing:
        beside = [place[j] for j in (i - 2, i + 2) if j in place and j not in excluded]
        if goal.waveform is not Waveform.CONTACT:
            if not beside:
                words = f"{layout.names[i]}, excluded: {excluded[i]}"
                allowed = "fingers with a neighbour in the next row that can take its load"
                raise InvalidInput("fingers", words, allowed)
            preload[beside] += goal.preload[place[i]] / len(beside)
            amplitude[beside] += goal.amplitude[place[i]] / len(beside)
        preload[place[i]] = amplitude[place[i]] = 0.0
    limit = layout.press_limit[goal.fingers]
    worst = int(np.argmax(preload + amplitude - limit))
    if preload[worst] + amplitude[worst] > limit[worst]:
        name, load = layout.names[goal.fingers[worst]], preload[worst] + amplitude[worst]
        allowed = f"up to {limit[worst]:g} N on {name}, which would take over {load:.1f} N"
        raise InvalidInput("fingers", first, allowed)
    return replace(goal, preload=preload, amplitude=amplitude)


def _check_slew(goal: PressGoal) -> None:
    """Refuse a goal that asks forces to change too steeply."""
    top, steepest = float(goal.amplitude.max()), goal.waveform.steepest
    if top * steepest * goal.rate > SLEW:
        raise InvalidInput(
            "rate",
            goal.rate,
            f"at most {SLEW / (top * steepest):.3g} Hz with an"
            f" amplitude of {top:g} N: force may change by {SLEW:g} N/s",
        )


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
    if shape is Waveform.RAISED_COSINE:
        return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.maximum(turns, 0.0))
    u = np.where(turns < 0.0, 0.0, np.mod(turns, 1.0))
    if shape is Waveform.RAMP:
        return np.where(u < RISE, u / RISE, (1.0 - u) / (1.0 - RISE))
    if shape is Waveform.CONTACT:
        return np.zeros_like(u)
    if shape is Waveform.SINUSOID:
        return np.where(turns < 0.0, 0.0, 0.5 * (1.0 + np.sin(2.0 * np.pi * u)))
    slope = shape.steepest  # TRAPEZOID, HOLD
    down = 0.5 if shape is Waveform.TRAPEZOID else 1.0 - FIFTH
    return np.clip(np.minimum(u * slope, 1.0 - (u - down) * slope), 0.0, 1.0)
