"""What the drives measure, with the imperfections of real sensors.

Numbers without a source are engineering choices.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import number
from spinemat.layout import MatLayout

Array = NDArray[np.float64]

OVER_TEMPERATURE, END_STOP_BIT = 1, 8  # bits of DriveState.status

VELOCITY_FILTER = 0.5  # share of a new difference in the measured velocity
AMBIENT, HOT = 25.0, 100.0  # degC, and where OVER_TEMPERATURE starts
HEATING, HEATING_TIME = 60.0, 900.0  # K at the largest motor force, s
HEAT_CYCLES = 10  # cycles between updates of the temperature
NOISE_BLOCK = 256  # cycles of noise drawn at once


@dataclass(frozen=True)
class Imperfections:
    """What sensors and drives do wrong; every value is an engineering choice.

    Attributes:
        force_noise: N, root mean square of the load cell.
        force_drift: N/min, largest drift of a load cell.
        force_step: N, quantisation.
        position_step: m, quantisation of the encoder.
        backlash: whether the layout's backlash separates encoder and tip.
        friction: whether the layout's Coulomb friction acts.
    """

    force_noise: float = 0.1
    force_drift: float = 0.05
    force_step: float = 0.02
    position_step: float = 10e-6
    backlash: bool = True
    friction: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, bool):
                number(f"imperfections.{field.name}", value, 0.0, 10.0)

    @staticmethod
    def none() -> Imperfections:
        """Perfect sensors and drives."""
        return Imperfections(0.0, 0.0, 0.0, 0.0, False, False)


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


class Sensors:
    """Load cells, encoders and temperature probes of all fingers.

    Args:
        layout: the mat.
        imperfections: what is wrong with them.
        seed: of noise and drift.
        position: of the tips at the start, shape (n,), m.
    """

    def __init__(
        self, layout: MatLayout, imperfections: Imperfections, seed: int, position: Array
    ) -> None:
        self._layout, self._bad = layout, imperfections
        self._rng = np.random.default_rng([int(seed), 1])
        n, per_cycle = layout.n, layout.cycle / 60.0
        self._drift = self._rng.uniform(-1.0, 1.0, n) * (imperfections.force_drift * per_cycle)
        self._play = 0.5 * layout.finger.backlash if imperfections.backlash else 0.0
        self._encoder = position.copy()
        self._read = _quantise(position, imperfections.position_step)
        self._speed = np.zeros(n)
        self._temperature = np.full(n, AMBIENT)
        self._noise = np.zeros((NOISE_BLOCK, n))
        self._reads = 0

    def read(self, position: Array, force: Array, motor: Array) -> Measurement:
        """Measure once; called once per cycle.

        Args:
            position: of the tips, shape (n,), m.
            force: of the tissue on them, shape (n,), N.
            motor: motor forces, shape (n,), N.
        """
        bad, finger = self._bad, self._layout.finger
        if self._play > 0.0:
            low, high = position - self._play, position + self._play
            self._encoder = np.minimum(np.maximum(self._encoder, low), high)
        else:
            self._encoder = position
        read = _quantise(self._encoder, bad.position_step)
        speed = (read - self._read) * (VELOCITY_FILTER / self._layout.cycle)
        self._speed = speed + (1.0 - VELOCITY_FILTER) * self._speed
        self._read = read

        felt = force + self._drift * self._reads
        if bad.force_noise > 0.0:
            i = self._reads % NOISE_BLOCK
            if i == 0:
                noise = self._rng.standard_normal(self._noise.shape)
                self._noise = bad.force_noise * noise
            felt += self._noise[i]
        if self._reads % HEAT_CYCLES == 0:
            heat = HEATING * (motor / finger.max_force) ** 2
            rate = HEAT_CYCLES * self._layout.cycle / HEATING_TIME
            self._temperature = self._temperature + rate * (heat + AMBIENT - self._temperature)
            self._hot = (self._temperature > HOT) * np.uint16(OVER_TEMPERATURE)
        self._reads += 1
        return Measurement(
            position=read,
            velocity=self._speed,
            force=_quantise(felt, bad.force_step),
            current=motor * (1.0 / finger.force_constant),
            temperature=self._temperature,
            status=self._hot | (position >= finger.stroke[1]) * np.uint16(END_STOP_BIT),
        )


def _quantise(value: Array, step: float) -> Array:
    return np.rint(value * (1.0 / step)) * step if step > 0.0 else value.copy()
