"""Self-test of the fingers: is every drive what the mat's file and its calibration say?

Fingers rest, rise by 1.5 mm and come back, far below the person's back. On the way the load cells'
zeros are averaged, encoders are compared with what was commanded, and friction and return spring
follow from the motor's force up and down. A finger that fails is named and left out; the others
go on. All limits are engineering choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from spinemat.control import FingerController
from spinemat.errors import InvalidInput, keys, number
from spinemat.layout import MatLayout

Array = NDArray[np.float64]

TRAVEL = 0.0015  # m, of the small move
SPEED = 0.005  # m/s, of the small move
REST_TIME, MOVE_TIME = 0.5, 0.6  # s at rest; s for each way
WAIT_TIME = 5.0  # s, longest wait for the fingers to be down
MOVING = 0.4  # share of SPEED above which a finger counts as moving
ZERO = 3.0  # N, largest zero of a load cell
NOISE = 0.5  # N, largest standard deviation of a load cell at rest
TOUCH = 0.6  # N, a load cell that changes by more in a free move touches something
HOME = 0.001  # m, a retracted tip is so near to the lower end of the stroke
SCALE = (0.7, 1.3)  # of the commanded travel
FRICTION = 3.0  # N, more and the return spring may not release an unpowered finger
SPRING = (0.5, 1.5)  # of the return spring's force in the mat's file
ZERO_DRIFT = 1.0  # N since the calibration
FRICTION_DRIFT = 1.5  # N since the calibration


@dataclass(frozen=True)
class Calibration:
    """What was measured on each finger, shape (n,) each.

    Attributes:
        mat: name of the mat.
        when: date and time, ISO 8601.
        zero: of the load cells, N.
        friction: Coulomb friction of the drives, N.
        spring: force of the return springs near the lower end of the stroke, N.
    """

    mat: str
    when: str
    zero: Array
    friction: Array
    spring: Array


def dump_calibration(layout: MatLayout, calibration: Calibration) -> str:
    """Return a calibration as YAML."""
    c = calibration
    fingers = {
        name: {
            "zero": round(float(c.zero[i]), 4),
            "friction": round(float(c.friction[i]), 4),
            "spring": round(float(c.spring[i]), 4),
        }
        for i, name in enumerate(layout.names)
    }
    text = yaml.safe_dump({"mat": c.mat, "when": c.when, "fingers": fingers}, sort_keys=False)
    return f"# Calibration of the fingers: N each; written by finger_actuation\n{text}"


def parse_calibration(layout: MatLayout, text: str) -> Calibration:
    """Read what `dump_calibration` wrote; values that were not measurable are NaN.

    Raises:
        InvalidInput: it is no calibration, or that of another mat.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput("calibration", "the file", "valid YAML") from error
    top = keys("calibration", data, ("mat", "when", "fingers"))
    if top["mat"] != layout.name:
        raise InvalidInput("calibration.mat", top["mat"], f"{layout.name}, the mat in use")
    fingers = keys("calibration.fingers", top["fingers"], layout.names)
    values = np.zeros((3, layout.n))
    for i, name in enumerate(layout.names):
        place = f"calibration.fingers.{name}"
        entry = keys(place, fingers[name], ("zero", "friction", "spring"))
        for row, key in enumerate(("zero", "friction", "spring")):
            values[row, i] = _measured(f"{place}.{key}", entry[key])
    return Calibration(str(top["mat"]), str(top["when"]), *values)


def _measured(name: str, value: Any) -> float:
    if isinstance(value, float) and np.isnan(value):
        return value
    return number(name, value, -1000.0, 1000.0, "N")


@dataclass(frozen=True)
class Verdict:
    """Outcome of a self-test.

    Attributes:
        measured: zeros, friction and springs of this test.
        noise: standard deviation of the load cells at rest, shape (n,), N.
        travel: measured over commanded travel, shape (n,).
        excluded: fingers that failed, and why.
    """

    measured: Calibration
    noise: Array
    travel: Array
    excluded: Mapping[int, str]

    def words(self, layout: MatLayout) -> str:
        """One line for people."""
        passed = layout.n - len(self.excluded)
        if not self.excluded:
            return f"self-test: all {layout.n} fingers passed"
        named = "; ".join(f"{layout.names[i]} ({why})" for i, why in self.excluded.items())
        return f"self-test: {passed} of {layout.n} fingers passed; excluded: {named}"


class Step(IntEnum):
    """Where a self-test stands."""

    WAIT = 0
    REST = 1
    UP = 2
    DOWN = 3
    DONE = 4


@dataclass
class SelfTest:
    """One self-test in progress; tick it with every drive state before the controller's step.

    Args:
        layout: the mat.
        when: date and time, kept with the result.
        stored: an earlier calibration to compare with.
    """

    layout: MatLayout
    when: str
    stored: Calibration | None = None
    step: Step = Step.WAIT
    verdict: Verdict | None = None
    _elapsed: float = field(init=False, default=0.0)
    _rows: list[Array] = field(init=False, default_factory=list)  # force, position, motor, speed
    _asked: Array = field(init=False)
    _loaded: NDArray[np.bool_] = field(init=False)
    _parts: dict[Step, Array] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with nothing asked."""
        self._asked = np.zeros(self.layout.n)
        self._loaded = np.zeros(self.layout.n, dtype=bool)

    @property
    def done(self) -> bool:
        """Whether the test has ended."""
        return self.step is Step.DONE

    @property
    def progress(self) -> float:
        """Share of the test that is behind, [0, 1]."""
        spent = self._elapsed * (self.step is not Step.WAIT)
        spent += sum(len(part) for part in self._parts.values()) * self.layout.cycle
        return min(spent / (REST_TIME + 2.0 * MOVE_TIME), 1.0)

    def tick(
        self,
        control: FingerController,
        position: Array,
        velocity: Array,
        force: Array,
        current: Array,
    ) -> None:
        """Take one drive state and move the fingers; arrays of shape (n,), SI units.

        `control` still holds the command of the cycle before.
        """
        low = self.layout.finger.stroke[0]
        every = np.arange(self.layout.n)
        self._elapsed += self.layout.cycle
        if self.step is Step.WAIT:
            if self._elapsed <= self.layout.cycle:  # first tick
                control.exclude(np.zeros(self.layout.n, dtype=bool))
                control.retract(every)
            down = bool((np.abs(position - low) < HOME).all())
            if (down and control.idle) or self._elapsed > WAIT_TIME:
                control.off()
                control.forget_zero()
                self._enter(Step.REST)
            return
        motor = current * self.layout.finger.force_constant
        self._rows.append(np.array([force, position, motor, velocity]))
        if self.step is Step.REST and self._elapsed >= REST_TIME:
            self._loaded = control.contact.copy()
            free = np.flatnonzero(~self._loaded)
            control.move(free, np.full(free.size, low + TRAVEL), SPEED)
            self._enter(Step.UP)
        elif self.step is Step.UP:
            self._asked += control.velocity * self.layout.cycle
            if self._elapsed >= MOVE_TIME:
                free = np.flatnonzero(~control.contact)
                control.move(free, np.full(free.size, low), SPEED)
                self._enter(Step.DOWN)
        elif self.step is Step.DOWN and self._elapsed >= MOVE_TIME:
            self._enter(Step.DONE)
            self.verdict = self._judge()
            excluded = np.zeros(self.layout.n, dtype=bool)
            excluded[list(self.verdict.excluded)] = True
            control.retract(every)
            control.exclude(excluded)

    def _enter(self, step: Step) -> None:
        if self._rows:
            self._parts[self.step] = np.array(self._rows)
        self.step, self._elapsed, self._rows = step, 0.0, []

    def _judge(self) -> Verdict:
        rest, up, down = (self._parts[s] for s in (Step.REST, Step.UP, Step.DOWN))
        last = up[-round(0.2 / self.layout.cycle) :]
        zero, noise = rest[:, 0].mean(axis=0), rest[:, 0].std(axis=0)
        home, raised = rest[:, 1].mean(axis=0), last[:, 1].mean(axis=0)
        travel = (raised - home) / np.maximum(self._asked, 1e-9)
        lifting, lowering = (
            _mean(part[:, 2], sign * part[:, 3] > MOVING * SPEED)
            for part, sign in ((up, 1.0), (down, -1.0))
        )
        friction, spring = 0.5 * (lifting - lowering), 0.5 * (lifting + lowering)
        touch = last[:, 0].mean(axis=0) - zero
        measured = Calibration(self.layout.name, self.when, zero, friction, spring)
        reasons = {
            i: why
            for i in range(self.layout.n)
            if (why := self._fault(i, measured, noise, home, travel, touch))
        }
        return Verdict(measured, noise, travel, reasons)

    def _fault(
        self, i: int, m: Calibration, noise: Array, home: Array, travel: Array, touch: Array
    ) -> str:
        """First thing that is wrong with finger i; empty when nothing is."""
        finger, stored = self.layout.finger, self.stored
        low = finger.stroke[0]
        if abs(m.zero[i]) > ZERO:
            return f"load cell says {m.zero[i]:.1f} N without load; allowed: ± {ZERO:g} N"
        if self._loaded[i]:
            return "load cell does not come to rest"
        if noise[i] > NOISE:
            return f"load cell noise {noise[i]:.2f} N; allowed: up to {NOISE:g} N"
        if abs(home[i] - low) > HOME:
            return (
                f"encoder says {1e3 * home[i]:.1f} mm when retracted; allowed:"
                f" {1e3 * low:g} ± {1e3 * HOME:g} mm"
            )
        if travel[i] < -0.2:
            return "encoder runs the wrong way"
        if travel[i] < 0.2:
            return "does not move, or its encoder does not"
        if not SCALE[0] <= travel[i] <= SCALE[1]:
            return f"moved {travel[i]:.2f} times what was asked; allowed: {SCALE[0]} to {SCALE[1]}"
        if touch[i] > TOUCH:
            return f"meets {touch[i]:.1f} N in a free move; allowed: up to {TOUCH:g} N"
        if not m.friction[i] <= FRICTION:
            return f"friction {m.friction[i]:.1f} N; allowed: up to {FRICTION:g} N"
        nominal = finger.return_preload
        if not SPRING[0] * nominal <= m.spring[i] <= SPRING[1] * nominal:
            return (
                f"return spring {m.spring[i]:.1f} N; allowed: {SPRING[0] * nominal:g} to"
                f" {SPRING[1] * nominal:g} N"
            )
        if stored is not None and abs(m.zero[i] - stored.zero[i]) > ZERO_DRIFT:
            return (
                f"load cell zero moved by {m.zero[i] - stored.zero[i]:.1f} N since {stored.when};"
                f" allowed: ± {ZERO_DRIFT:g} N"
            )
        if stored is not None and m.friction[i] - stored.friction[i] > FRICTION_DRIFT:
            return (
                f"friction grew by {m.friction[i] - stored.friction[i]:.1f} N since"
                f" {stored.when}; allowed: {FRICTION_DRIFT:g} N"
            )
        return ""


def _mean(values: Array, when: NDArray[np.bool_]) -> Array:
    """Mean over time where `when`, shape (n,); NaN where it is never."""
    count = when.sum(axis=0)
    total = np.where(when, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
