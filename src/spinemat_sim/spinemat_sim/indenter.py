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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, choice
from spinemat.layout import Finger, MatLayout, Row, Surface
from spinemat_sim.person import LEVELS, LUMBAR, THORACIC, Person
from spinemat_sim.plant import Imperfections, Plant
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
    layout = laboratory(person, level)
    plant = Plant(layout, person, plain_urdf(layout), 0, Imperfections.none(), trunk)
    plant.breathing = False
    bound = np.full(2, _FINGER.max_force)

    def move(speed: float) -> float:
        plant.step(np.full(2, speed), -bound, bound)
        return float(plant.force.sum())

    def press(target: float) -> None:
        for _ in range(1000):
            if move(SPEED) >= target:
                return
        raise InvalidInput("force", target, f"one that {level} bears within the stroke")

    def hold(target: float, duration: float) -> None:
        force = float(plant.force.sum())
        for _ in range(round(duration / layout.cycle)):
            force = move(float(np.clip(FOLLOW * (target - force) / felt, -SPEED, SPEED)))

    near = float(plant.contour(layout.row_x)[0]) - 0.005
    while plant.position[0] < near:
        move(_FINGER.max_speed)
    top = max(fit_interval(person, layout.row_x[0])[1], forces[0])
    for _ in range(PRECONDITIONING):
        press(0.6 * top)
        start, begun = float(plant.position[0]), float(plant.force.sum())
        press(top)
        felt = (float(plant.force.sum()) - begun) / (float(plant.position[0]) - start)
        while move(-SPEED) > 0.2 * PRELOAD:
            pass
    hold(PRELOAD, SETTLE)
    settle = SETTLE_NECK if in_neck(person, layout.row_x[0]) else SETTLE
    travel, found, last = [], [], PRELOAD
    for force in forces:
        if force > PRELOAD:
            press(0.95 * force)
        hold(force + OVER * (force - last), CHARGE)
        hold(force, settle)
        last = force
        travel.append(plant.position.copy())
        found.append(plant.force.copy())
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
