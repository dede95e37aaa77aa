"""Truth by experiment: a virtual laboratory measures PA stiffness level by level.

For each level a laboratory mat with a single pair of fingers, exactly on that level, presses the
simulated person while breathing is held at end-expiration and sensors are perfect. The stiffness
is that of the product's definition: the slope of force over indentation of a pair at a
quasi-static rate, after two preconditioning cycles and a preload of 5 N, between 20 and 38 N per
pair in the trunk and 7 and 18 N in the neck. Indentation is the travel of the tips, nothing is
subtracted. Quasi-static means a staircase: at each force the tissue is first pressed a little
harder, which takes the place of most of its creep, and read when it has come to rest.

Nothing is read from the model's parameters, so this checks the calibration of `trunk.py` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, choice
from spinemat.layout import Finger, MatLayout, Row, Surface
from spinemat_sim.patient import LEVELS, LUMBAR, THORACIC
from spinemat_sim.person import Person
from spinemat_sim.plant import Plant
from spinemat_sim.sensors import Imperfections
from spinemat_sim.trunk import Trunk, build_trunk, fit_interval, in_neck
from spinemat_sim.urdf import plain_urdf

Array = NDArray[np.float64]

SIDES = ("both", "left", "right")
PRELOAD = 5.0  # N per pair
PRECONDITIONING = 2  # cycles to the upper end of the interval
POINTS = 4  # of the staircase over the interval (engineering choice)
OVER, CHARGE, SETTLE = 0.4, 0.4, 0.5  # of the step, s, s at each point (engineering choices)
SETTLE_NECK = 1.5  # s: the head follows slowly (engineering choice)
SPEED = 0.020  # m/s between the points (engineering choice)
FOLLOW = 25.0  # 1/s, how fast a force is held (engineering choice)

_FINGER = Finger(
    stroke=(-0.010, 0.100), tip_area=0.0007, mass=0.3, max_speed=0.1, max_force=100.0,
    force_constant=25.0, return_preload=8.0, return_stiffness=20.0, friction=0.0, backlash=0.0,
)  # fmt: skip
_OFFSET = {"neck": 0.021, "thoracic": 0.026, "lumbar": 0.030}  # m, as on the mat


@dataclass(frozen=True)
class Indentation:
    """One indentation of one level.

    Attributes:
        travel: of the left and the right tip at each point, shape (2, k), m.
        force: tissue force on them, shape (2, k), N.
    """

    travel: Array
    force: Array

    def stiffness(self) -> tuple[float, float, float]:
        """Slopes over all points: of the pair over its mean travel, left and right, N/m."""
        pair = _slope(self.travel.mean(axis=0), self.force.sum(axis=0))
        return pair, _slope(self.travel[0], self.force[0]), _slope(self.travel[1], self.force[1])


def laboratory(person: Person, level: str) -> MatLayout:
    """A mat with one pair of fingers on one level.

    Raises:
        InvalidInput: there is no such level.
    """
    choice("level", level, LEVELS)
    region = "thoracic" if level in THORACIC else "lumbar" if level in LUMBAR else "neck"
    return MatLayout(
        name="laboratory",
        cycle=0.01,
        surface=Surface(-0.55, 0.85, 0.6, 0.05),
        rows=(Row("lab", person.level_x[level], _OFFSET[region], region),),
        finger=_FINGER,
        press_limits={region: _FINGER.max_force},
        trip_limits={region: _FINGER.max_force},
    )


def _straight(person: Person) -> Person:
    """The same person with the spine over the middle of the laboratory's mat."""
    place = replace(person.patient.position, across=0.0, rotation=0.0)
    return replace(person, patient=replace(person.patient, position=place))


class Indenter:
    """A pair of fingers on one level of a person in the laboratory.

    Args:
        person: who is pressed.
        level: ``C1`` … ``L5``.
        trunk: springs of the same person, to save calibrating them again.

    Raises:
        InvalidInput: there is no such level.
    """

    def __init__(self, person: Person, level: str, trunk: Trunk | None = None) -> None:
        self.layout = laboratory(person, level)
        self.level = level
        trunk = build_trunk(person) if trunk is None else trunk
        trunk = replace(trunk, person=_straight(person))
        urdf = plain_urdf(self.layout)
        self.plant = Plant(self.layout, trunk.person, urdf, 0, Imperfections.none(), trunk)
        self.plant.breathing = False
        self._bound = np.full(2, _FINGER.max_force)
        self._felt = person.patient.stiffness_of(level)  # N/m, for holding a force

    @property
    def force(self) -> float:
        """Of the pair, N."""
        return float(self.plant.force.sum())

    @property
    def travel(self) -> float:
        """Mean height of both tips, m."""
        return float(self.plant.position.mean())

    def move(self, speed: float) -> float:
        """Move both tips for one cycle at a speed, m/s; return the force of the pair, N."""
        self.plant.step(np.full(2, speed), -self._bound, self._bound)
        return self.force

    def approach(self) -> None:
        """Come close to the skin."""
        near = float(self.plant.contour(self.layout.row_x)[0]) - 0.005
        while self.plant.position[0] < near:
            self.move(_FINGER.max_speed)

    def press(self, target: float) -> None:
        """Move in until the pair carries `target`, N.

        Raises:
            InvalidInput: the body does not bear it within the stroke.
        """
        for _ in range(1000):
            if self.move(SPEED) >= target:
                return
        raise InvalidInput("force", target, f"one that {self.level} bears within the stroke")

    def hold(self, target: float, duration: float) -> None:
        """Hold a force of the pair, N, for s."""
        force = self.force
        for _ in range(round(duration / self.layout.cycle)):
            speed = FOLLOW * (target - force) / self._felt
            force = self.move(float(np.clip(speed, -SPEED, SPEED)))

    def precondition(self, top: float) -> None:
        """Two cycles up to a force of the pair, N, then a preload of 5 N."""
        for _ in range(PRECONDITIONING):
            self.press(0.6 * top)
            start, begun = self.travel, self.force
            self.press(top)
            self._felt = (self.force - begun) / (self.travel - start)
            while self.move(-SPEED) > 0.2 * PRELOAD:
                pass
        self.hold(PRELOAD, SETTLE)


def indent(
    person: Person, level: str, forces: Sequence[float], trunk: Trunk | None = None
) -> Indentation:
    """Press one level up a staircase of forces per pair and read travel and force.

    Args:
        person: who is pressed.
        level: ``C1`` … ``L5``.
        forces: N per pair, ascending.
        trunk: springs of the same person, to save calibrating them again.

    Raises:
        InvalidInput: there is no such level, or the forces are not ascending from above zero.
    """
    if len(forces) == 0 or forces[0] <= 0.0 or np.any(np.diff(forces) <= 0.0):
        raise InvalidInput("forces", list(forces), "N, ascending, above zero")
    indenter = Indenter(person, level, trunk)
    x = float(indenter.layout.row_x[0])
    indenter.approach()
    indenter.precondition(max(fit_interval(person, x)[1], forces[0]))
    settle = SETTLE_NECK if in_neck(person, x) else SETTLE
    travel, found, last = [], [], PRELOAD
    for force in forces:
        if force > PRELOAD:
            indenter.press(0.95 * force)
        indenter.hold(force + OVER * (force - last), CHARGE)
        indenter.hold(force, settle)
        last = force
        travel.append(indenter.plant.position.copy())
        found.append(indenter.plant.force.copy())
    return Indentation(np.array(travel).T, np.array(found).T)


def stiffness_truth(
    person: Person, levels: Sequence[str] | None = None, trunk: Trunk | None = None
) -> dict[tuple[str, str], float]:
    """PA stiffness of levels by simulated indentation, N/m.

    Args:
        person: who is measured.
        levels: names; default T1 to L5.
        trunk: springs of the same person, to save calibrating them again.

    Returns:
        Values by (level, side); side is ``both`` (force of the pair over its mean travel),
        ``left`` or ``right`` (force of one finger over its own travel, both pressing).

    Raises:
        InvalidInput: there is no such level.
    """
    wanted = (*THORACIC[::-1], *LUMBAR[::-1]) if levels is None else tuple(levels)
    for level in wanted:
        choice("level", level, LEVELS)
    trunk = build_trunk(person) if trunk is None else trunk
    truth: dict[tuple[str, str], float] = {}
    for level in wanted:
        low, high = fit_interval(person, person.level_x[level])
        # Both ends of the interval are inside it: at the lower end the toe is just over.
        margin = 0.5 if in_neck(person, person.level_x[level]) else 1.0
        forces = np.linspace(low + margin, high, POINTS)
        found = indent(person, level, forces.tolist(), trunk).stiffness()
        truth |= {(level, side): value for side, value in zip(SIDES, found, strict=True)}
    return truth


def _slope(x: Array, y: Array) -> float:
    return float(np.polyfit(x, y, 1)[0])
