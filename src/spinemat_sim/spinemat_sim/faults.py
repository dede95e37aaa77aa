"""What goes wrong on the simulated mat: sensors that lie, drives that jam, people who move.

For trying what the product does about it; every kind can come and go while the plant runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, choice, number
from spinemat.layout import MatLayout
from spinemat_sim.sensors import Measurement

KINDS = {  # value unless given, lowest, highest, unit, meaning
    "load_cell_stuck": (0.0, 0.0, 0.0, "", "says what it said at first"),
    "load_cell_offset": (5.0, -100.0, 100.0, "N", "is off by this"),
    "load_cell_drift": (1.0, -100.0, 100.0, "N/s", "goes off at this rate"),
    "load_cell_saturated": (3.0, 0.0, 100.0, "N", "never says more than this"),
    "encoder_stuck": (0.0, 0.0, 0.0, "", "says what it said at first"),
    "encoder_reversed": (0.0, 0.0, 0.0, "", "counts the wrong way"),
    "encoder_scale": (0.5, 0.0, 10.0, "times", "counts so many steps"),
    "encoder_offset": (0.005, -0.05, 0.05, "m", "jumps by this"),
    "jammed": (30.0, 0.0, 200.0, "N", "friction of the drive"),
    "dead_motor": (0.0, 0.0, 0.0, "", "gives no force"),
    "hot": (90.0, -20.0, 200.0, "degC", "temperature of the winding"),
}

PELVIS = 0.15  # m along the mat, where the trunk bends when a person sits up (choice)
MOVEMENTS = {  # what a person may do, all engineering choices
    "lies still": "",
    "slides a heel": "the pelvis tilts, over the sacrum 5 mm up left, 2 mm down right in 1.5 s",
    "raises an arm": "the chest turns, at the row nearest the head 5 mm up left in 1 s",
    "sits up": "bends at the pelvis, by 0.4 within 0.8 s",
    "rolls": "the left side rises by 45 mm within 5 s",
    "leaves": "rises by 100 mm within 0.5 s",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one finger; see KINDS."""

    finger: int
    kind: str
    value: float


def parse_faults(layout: MatLayout, words: Sequence[str]) -> list[Fault]:
    """Read faults such as ``r06_left jammed`` or ``r06_left load_cell_offset 5.0``.

    Raises:
        InvalidInput: a finger, kind or value is not known.
    """
    faults = []
    for text in words:
        parts = text.split()
        if len(parts) not in (2, 3):
            raise InvalidInput("finger_faults", text, "a finger, a kind and perhaps a value")
        kind = choice("finger_faults kind", parts[1], KINDS)
        value, low, high, unit, _ = KINDS[kind]
        if len(parts) == 3:
            try:
                value = float(parts[2])
            except ValueError as error:
                raise InvalidInput(f"finger_faults {kind}", parts[2], "a number") from error
            number(f"finger_faults {kind}", value, low, high, unit)
        faults.append(Fault(layout.index(parts[0]), kind, value))
    return faults


class FaultySensors:
    """What broken sensors make of a measurement, from the moment they broke.

    Args:
        faults: of the fingers.
        first: the measurement at that moment.
        time: drive time of that moment, s.
    """

    def __init__(self, faults: Sequence[Fault], first: Measurement, time: float) -> None:
        self._faults, self._since = tuple(faults), time
        self._first = Measurement._make(values.copy() for values in first)

    def apply(self, now: Measurement, time: float) -> Measurement:
        """Return what is said instead at drive time `time`, s."""
        m = Measurement._make(values.copy() for values in now)
        for fault in self._faults:
            self._spoil(m, fault, time - self._since)
        return m

    def _spoil(self, m: Measurement, fault: Fault, age: float) -> None:
        i, value, first = fault.finger, fault.value, self._first
        force, position, velocity = m.force, m.position, m.velocity
        if fault.kind == "load_cell_stuck":
            force[i] = first.force[i]
        elif fault.kind == "load_cell_offset":
            force[i] += value
        elif fault.kind == "load_cell_drift":
            force[i] += value * age
        elif fault.kind == "load_cell_saturated":
            force[i] = min(force[i], value)
        elif fault.kind == "encoder_offset":
            position[i] += value
        elif fault.kind == "hot":
            m.temperature[i] = value
        else:
            factor = {"encoder_stuck": 0.0, "encoder_reversed": -1.0, "encoder_scale": value}
            if fault.kind in factor:
                times = factor[fault.kind]
                position[i] = first.position[i] + times * (position[i] - first.position[i])
                velocity[i] *= times


def motor_bounds(
    faults: Sequence[Fault], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of motor force that broken drives still give."""
    dead = [f.finger for f in faults if f.kind == "dead_motor"]
    if not dead:
        return low, high
    low, high = low.copy(), high.copy()
    low[dead] = high[dead] = 0.0
    return low, high


def movement(layout: MatLayout, kind: str) -> tuple[NDArray[np.float64], float]:
    """Return where a person's movement takes the skin over each finger.

    The skin moves as if it were carried: the load on the padding does not change.

    Args:
        layout: of the mat.
        kind: one of MOVEMENTS.

    Returns:
        How much higher the skin ends over each finger, shape (n,), m, and in how many s.

    Raises:
        InvalidInput: the kind is not known.
    """
    choice("person_moves", kind, MOVEMENTS)
    if kind == "slides a heel":
        side = np.where(layout.y < 0.0, 0.005, -0.002)
        return side * np.clip(1.0 - layout.x / PELVIS, 0.0, 1.0), 1.5
    if kind == "raises an arm":
        chest = np.clip((layout.x - PELVIS) / (layout.x.max() - PELVIS), 0.0, 1.0)
        return np.where(layout.y < 0.0, 0.005, 0.0) * chest, 1.0
    if kind == "sits up":
        return 0.4 * np.maximum(layout.x - PELVIS, 0.0), 0.8
    if kind == "rolls":
        return np.where(layout.y < 0.0, 0.045, 0.0), 5.0
    if kind == "leaves":
        return np.full(layout.n, 0.1), 0.5
    return np.zeros(layout.n), 1.0
