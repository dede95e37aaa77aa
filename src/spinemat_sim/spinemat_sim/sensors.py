"""What the drives measure, and what is wrong with sensors and drives.

The work is done in `kernel.py`. Numbers without a source are engineering choices.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, number

Array = NDArray[np.float64]

RANGES = {
    "force_noise": (0.0, 10.0, "N"), "force_offset": (0.0, 10.0, "N"),
    "force_drift": (0.0, 10.0, "N/min"), "force_temperature": (0.0, 1.0, "N/K"),
    "force_step": (0.0, 10.0, "N"), "position_step": (0.0, 0.001, "m"),
    "friction": (0.0, 5.0, "times"), "friction_spread": (0.0, 0.9, "share"),
    "backlash": (0.0, 10.0, "times"), "ambient": (-20.0, 60.0, "degC"),
    "heating": (0.0, 200.0, "K"), "heating_time": (1.0, 1e5, "s"), "latency": (0, 50, "cycles"),
}  # fmt: skip


@dataclass(frozen=True)
class Imperfections:
    """What sensors and drives do wrong; every value is an engineering choice.

    What the mat's own file says (stroke, limits of force and speed, friction, backlash) is the
    nominal drive; this is what a real one does beside it. Values per finger are drawn from the
    plant's seed.

    Attributes:
        force_noise: N, root mean square of the load cell.
        force_offset: N, largest offset of a load cell.
        force_drift: N/min, largest drift of a load cell.
        force_temperature: N/K, largest shift of a load cell with the winding's temperature.
        force_step: N, quantisation.
        position_step: m, quantisation of the encoder.
        friction: Coulomb friction over that of the mat's file.
        friction_spread: largest deviation of a finger's friction, share.
        backlash: play between encoder and tip over that of the mat's file.
        latency: cycles by which figures come late, beyond the cycle that orders take.
        ambient: degC.
        heating: K of the winding at the largest motor force.
        heating_time: s, time constant of it.

    Raises:
        InvalidInput: a value is out of range.
    """

    force_noise: float = 0.1
    force_offset: float = 0.2
    force_drift: float = 0.05
    force_temperature: float = 0.002
    force_step: float = 0.02
    position_step: float = 10e-6
    friction: float = 1.0
    friction_spread: float = 0.2
    backlash: float = 1.0
    latency: int = 0
    ambient: float = 25.0
    heating: float = 60.0
    heating_time: float = 900.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = f"imperfections.{field.name}", getattr(self, field.name)
            number(name, value, *RANGES[field.name])
            if field.name == "latency" and not isinstance(value, int):
                raise InvalidInput(name, value, "a whole number of cycles")

    @staticmethod
    def none() -> Imperfections:
        """Perfect sensors and drives."""
        return Imperfections(*(0.0,) * 9)


class Measurement(NamedTuple):
    """What the drives measure, shape (n,) each.

    Attributes:
        position: m, tip over the mat's surface as the encoder sees it.
        velocity: m/s, from the encoder.
        force: N, load cell.
        current: A.
        temperature: degC, motor winding.
        status: bits as in DriveState. END_STOP tells of the upper end only: the lower end is
            where a finger rests.
    """

    position: Array
    velocity: Array
    force: Array
    current: Array
    temperature: Array
    status: NDArray[np.uint16]
