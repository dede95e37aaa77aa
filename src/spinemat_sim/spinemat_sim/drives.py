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
        n: number of fingers.
        finger: properties of the layout.
        damping: of the finger joint, N s/m.
        step: physics step, s.
        friction: whether Coulomb friction acts.
    """

    def __init__(
        self, n: int, finger: Finger, damping: float, step: float, friction: bool
    ) -> None:
        self._low, self._high = finger.stroke
        self._ends = np.array([[self._low], [self._high]])
        self._one = np.ones(n)
        self._friction = finger.friction if friction else 0.0
        self._preload = finger.return_preload
        inertia = (finger.mass + step * damping) / step  # N per m/s in one step
        share = 1.0 - np.exp(-step / VELOCITY_LAG)
        spring = finger.return_stiffness
        base = finger.return_preload - spring * self._low
        # Linear forms of (goal, position, velocity, tissue, 1): the motor force that is wanted,
        # the velocity that is wanted, and the impulse without motor and friction.
        self._forms = np.array(
            [
                [inertia * share, spring, damping - inertia * share, 1.0, base],
                [share, 0.0, 1.0 - share, 0.0, 0.0],
                [0.0, -spring, inertia - damping, -1.0, -base],
            ]
        )

    def goal(self, velocity: Array, position: Array) -> Array:
        """Set-point slowed down before the ends of the stroke, shape (n,), m/s."""
        down, up = (self._ends - position) * (1.0 / STOP_LAG)
        return np.minimum(np.maximum(velocity, np.minimum(down, 0.0)), np.maximum(up, 0.0))

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
        state = np.array((goal, position, velocity, tissue, self._one))
        motor, wanted, free = self._forms @ state
        stop = position - np.minimum(np.maximum(position, self._low), self._high)
        stop *= END_STOP
        motor += stop
        if self._friction > 0.0:
            motor += np.copysign(self._friction, wanted)
        np.minimum(np.maximum(motor, low, out=motor), high, out=motor)
        drive = motor - self._preload
        if self._friction > 0.0:
            free += motor
            free -= stop
            drive -= np.minimum(np.maximum(free, -self._friction), self._friction)
        return motor, drive
