"""The fingers' drives: a velocity loop within bounds of motor force, friction and return spring.

Each finger is a mass on a slide. Between the slow drive cycle and the physics step the loop is
much faster than tissue, so it is modelled by its closed form: the motor applies the force that
takes the tip's velocity to the set-point with a lag, as far as the bounds allow, knowing the load
on the tip (a drive's integral term would learn it). Coulomb friction acts after the motor. Both
are exact for one implicit step of MuJoCo, so neither needs a constraint, and a saturated or
unpowered finger moves by its mass and the forces on it alone.

Numbers without a source are engineering choices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spinemat.layout import Finger

Array = NDArray[np.float64]

END_STOP = 1e5  # N/m
VELOCITY_LAG = 0.004  # s, of the closed velocity loop
STOP_LAG = 0.02  # s, the drive slows down before the ends of the stroke


class Drives:
    """Motors of n fingers.

    Args:
        finger: properties of the layout.
        damping: of the finger joint, N s/m.
        step: physics step, s.
        friction: whether Coulomb friction acts.
    """

    def __init__(self, finger: Finger, damping: float, step: float, friction: bool) -> None:
        self._low, self._high = finger.stroke
        self._preload, self._spring = finger.return_preload, finger.return_stiffness
        self._friction = finger.friction if friction else 0.0
        self._damping = damping
        self._inertia = (finger.mass + step * damping) / step  # N per m/s in one step
        self._share = 1.0 - np.exp(-step / VELOCITY_LAG)

    def goal(self, velocity: Array, position: Array) -> Array:
        """Set-point slowed down before the ends of the stroke, shape (n,), m/s."""
        up = np.maximum(self._high - position, 0.0) / STOP_LAG
        down = np.minimum(self._low - position, 0.0) / STOP_LAG
        return np.minimum(np.maximum(velocity, down), up)

    def force(
        self, goal: Array, low: Array, high: Array, position: Array, velocity: Array, tissue: Array
    ) -> tuple[Array, Array]:
        """Forces of one physics step, shape (n,) each, N.

        Args:
            goal: set-point, m/s.
            low, high: bounds of motor force, N.
            position, velocity: of the tips at the start of the step, m and m/s.
            tissue: force of the tissue on the tips, N.

        Returns:
            The motor's force, and motor, friction and return preload together.
        """
        load = tissue + (self._preload + self._spring * (position - self._low))
        beyond = position - np.minimum(np.maximum(position, self._low), self._high)
        load = load + (END_STOP * beyond + self._damping * velocity)
        wanted = self._share * (goal - velocity)
        motor = self._inertia * wanted + load + self._friction * np.sign(velocity + wanted)
        motor = np.minimum(np.maximum(motor, low), high)
        free = self._inertia * velocity + motor - load
        friction = np.minimum(np.maximum(free, -self._friction), self._friction)
        return motor, motor - friction - self._preload
