"""Force and position control of all fingers at once.

The drive closes a velocity loop; on top of it the force loop is

    v = (dF_ref/dt + omega * (F_ref - F)) / K(F)

with a two-slope believed stiffness K(F) per finger: soft in the toe, linear above. A velocity
drive integrates, so the loop has no static error, and its bandwidth `omega` does not depend on
the tissue as long as K is right. It stays stable when the tissue is up to three times stiffer
than believed at 250 Hz with one cycle of delay (measured in the simulated mat).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinemat.layout import MatLayout

Array = NDArray[np.float64]


class Mode(IntEnum):
    """What a finger does; values as in FingerState.msg."""

    OFF = 0
    RETRACT = 1
    POSITION = 2
    FORCE = 3


@dataclass(frozen=True)
class ControlGains:
    """Engineering choices of the controller; SI units."""

    omega_unknown: float = 10.0  # rad/s, force loop before the tissue was measured
    omega_known: float = 20.0  # rad/s, force loop with a measured stiffness
    stiffness: float = 5000.0  # N/m per finger, believed before a scan
    toe_stiffness: float = 2000.0  # N/m per finger, believed in the toe before a scan
    toe_force_trunk: float = 10.0  # N per finger, end of the toe (20 N per pair)
    toe_force_neck: float = 3.5  # N per finger, end of the toe (7 N per pair)
    contact_on: float = 0.6  # N, six times the load cell's noise
    contact_off: float = 0.25  # N
    contact_cycles: int = 2  # consecutive cycles above contact_on
    slow_approach: float = 0.005  # m/s, on unknown tissue
    approach_margin: float = 0.004  # m, before the expected contact the slow approach begins
    position_gain: float = 8.0  # 1/s
    retract_speed: float = 0.08  # m/s
    slew: float = 100.0  # N/s, treatment
    ceiling_margin: float = 2.0  # N above the set-point that the drive may reach
    force_velocity: float = 0.06  # m/s, largest velocity in force mode


class FingerController:
    """Vectorised controller of all fingers of one mat.

    Set goals with `follow_force`, `approach`, `retract` and `off`; call `step` once per drive
    state. Force set-points are clamped to the press limits and to the slew limit, counted from
    the last set-point and never from the measurement.
    """

    def __init__(self, layout: MatLayout, gains: ControlGains | None = None) -> None:
        self.layout = layout
        self.gains = gains or ControlGains()
        n = layout.n
        g = self.gains
        neck = np.array([r == "neck" for r in layout.regions])
        self._toe_force = np.where(neck, g.toe_force_neck, g.toe_force_trunk)
        self._stiffness = np.full(n, g.stiffness)
        self._toe_stiffness = np.full(n, g.toe_stiffness)
        self._omega = np.full(n, g.omega_unknown)
        self._zero = np.zeros(n)
        self._above = np.zeros(n, dtype=np.int64)
        self._target = np.zeros(n)
        self._speed = np.full(n, g.slow_approach)
        self._expected = np.full(n, np.nan)
        self._reference = np.zeros(n)
        self.mode = np.full(n, Mode.OFF, dtype=np.int64)
        self.contact = np.zeros(n, dtype=bool)
        self.clamped = np.zeros(n, dtype=bool)
        self.force = np.zeros(n)
        self.position = np.full(n, layout.finger.stroke[0])

    @property
    def reference(self) -> Array:
        """Force set-points now in effect, shape (n,), N."""
        return self._reference.copy()

    def zero(self, force: Array) -> None:
        """Take `force` (n,), N, measured with retracted fingers, as the load cells' zero."""
        self._zero = np.array(force, dtype=float)

    def believe(self, stiffness: Array, toe: Array) -> None:
        """Use measured stiffness per finger, shape (n,), N/m; NaN keeps the earlier belief."""
        good = np.isfinite(stiffness) & np.isfinite(toe) & (stiffness > 0.0) & (toe > 0.0)
        low, high = 1000.0, 50000.0
        self._stiffness = np.where(good, np.clip(stiffness, low, high), self._stiffness)
        self._toe_stiffness = np.where(good, np.clip(toe, low, high), self._toe_stiffness)
        self._omega = np.where(good, self.gains.omega_known, self._omega)

    def approach(self, fingers: NDArray[np.int64], speed: float, expected: Array) -> None:
        """Move `fingers` up until contact; fast only to just before `expected` (m or NaN)."""
        self.mode[fingers] = Mode.FORCE
        self._speed[fingers] = speed
        self._expected[fingers] = expected
        self._target[fingers] = self.gains.contact_on
        self._reference[fingers] = 0.0
        self.contact[fingers] = False
        self._above[fingers] = 0

    def follow_force(self, fingers: NDArray[np.int64], force: Array) -> None:
        """Ask for `force` (N, shape of `fingers`) on fingers that are in force mode."""
        self._target[fingers] = force

    def retract(self, fingers: NDArray[np.int64] | slice) -> None:
        """Take `fingers` down to the lower end of the stroke."""
        self.mode[fingers] = Mode.RETRACT
        self._drop(fingers)

    def off(self) -> None:
        """Drop every goal: ceilings 0, nothing resumes by itself."""
        self.mode[:] = Mode.OFF
        self._drop(slice(None))

    def _drop(self, fingers: NDArray[np.int64] | slice) -> None:
        self._target[fingers] = 0.0
        self._reference[fingers] = 0.0
        self.contact[fingers] = False
        self._above[fingers] = 0

    def step(self, position: Array, raw_force: Array) -> tuple[Array, Array]:
        """Advance by one drive cycle.

        Args:
            position: measured tip heights, shape (n,), m.
            raw_force: load cells, shape (n,), N.

        Returns:
            velocity set-points (m/s) and force ceilings (N), each of shape (n,).
        """
        g, f, dt = self.gains, self.layout.finger, self.layout.cycle
        force = raw_force - self._zero
        self.force = force
        self.position = position
        arrived = (self.mode == Mode.RETRACT) & (position <= f.stroke[0] + 0.001)
        self.mode[arrived] = Mode.OFF
        self._feel(force)
        in_force = self.mode == Mode.FORCE
        loaded = in_force & self.contact
        rate = self._advance_reference(loaded, dt)

        stiffness = np.where(force < self._toe_force, self._toe_stiffness, self._stiffness)
        pressing = (rate + self._omega * (self._reference - force)) / stiffness
        near = ~(position < self._expected - g.approach_margin)  # NaN counts as near
        seeking = np.where(near, np.minimum(self._speed, g.slow_approach), self._speed)
        velocity = np.where(loaded, pressing, seeking)
        velocity = np.clip(velocity, -f.max_speed, g.force_velocity)
        velocity = np.where(in_force & (position >= f.stroke[1] - 0.001), 0.0, velocity)

        down = np.clip(g.position_gain * (f.stroke[0] - position), -g.retract_speed, -0.004)
        velocity = np.where(in_force, velocity, np.where(self.mode == Mode.OFF, 0.0, down))
        ceiling = np.where(loaded, self._reference + g.ceiling_margin, g.ceiling_margin + 1.0)
        ceiling = np.minimum(ceiling, self.layout.press_limit + g.ceiling_margin)
        ceiling = np.where(self.mode == Mode.OFF, 0.0, ceiling)
        return velocity, ceiling

    def _feel(self, force: Array) -> None:
        g = self.gains
        self._above = np.where(force > g.contact_on, self._above + 1, 0)
        touched = self._above >= g.contact_cycles
        found = touched & ~self.contact
        self.contact = np.where(self.contact, force > g.contact_off, touched)
        # bumpless: the reference starts from what is felt at the moment of contact
        self._reference = np.where(
            found & (self.mode == Mode.FORCE),
            np.minimum(np.maximum(force, 0.0), self.layout.press_limit),
            self._reference,
        )

    def _advance_reference(self, loaded: NDArray[np.bool_], dt: float) -> Array:
        g = self.gains
        wanted = np.clip(self._target, 0.0, self.layout.press_limit)
        step = np.clip(wanted - self._reference, -g.slew * dt, g.slew * dt)
        step = np.where(loaded, step, 0.0)
        self.clamped = loaded & (
            (np.abs(wanted - self._reference - step) > 1e-9) | (wanted != self._target)
        )
        self._reference = self._reference + step
        return step / dt
