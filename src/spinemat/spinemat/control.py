"""Force and position control of all fingers at once.

The drive closes a velocity loop; on top of it the force loop is

    v = (dF_ref/dt + lead * d2F_ref/dt2 + omega * e + (omega / 2)^2 * I) / K(F),  e = F_ref - F

with a two-slope believed stiffness K(F) per finger: soft in the toe, linear above. A velocity
drive integrates, so the loop has no static error, and its bandwidth `omega` does not depend on
the tissue as long as K is right. I, the integral of e, takes out what moves the back by itself,
mostly breathing; it stands still while a limit holds the velocity. `lead` makes up for the loop's
delay.

K is corrected while a force is followed. Slowly, within bounds, to what the rhythm itself shows: a
force that runs ahead of a rising set-point means tissue stiffer than believed. And quickly, only
upward, when the tip's own fast movements meet much more force than believed: that keeps the loop
stable on tissue up to ten times stiffer than believed, `docs/control.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spinemat import force_loop as loop
from spinemat.errors import InvalidInput
from spinemat.gains import ControlGains
from spinemat.layout import MatLayout
from spinemat.modes import Mode

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class FingerController:
    """Vectorised controller of all fingers of one mat.

    Set goals with `approach`, `follow_force`, `move`, `retract`, `off`; call `step` once per drive
    state. Force set-points are clamped to the press limits and to the slew limit, counted from
    the last set-point and never from the measurement.
    """

    def __init__(self, layout: MatLayout, gains: ControlGains | None = None) -> None:
        self.layout = layout
        n = layout.n
        self.mode = np.full(n, Mode.OFF, dtype=np.int64)
        self.contact, self.clamped = np.zeros((2, n), dtype=bool)
        self.position = np.full(n, layout.finger.stroke[0])
        self.velocity = np.zeros(n)  # m/s, last set-points given
        self._measured = np.zeros(n, dtype=bool)
        self._regions = list(layout.press_limits)
        self._region = np.array([self._regions.index(r) for r in layout.regions])
        self._allowed = np.full(len(self._regions), np.inf)  # N, of all fingers under a region
        s = self._state = np.zeros((loop.ROWS, n))
        s[loop.LIMIT] = layout.press_limit
        s[loop.ZERO_AGE], s[loop.EXPECTED] = np.inf, np.nan
        s[[loop.SLOW_TOE, loop.SLOW_LINEAR]] = 1.0
        s[loop.SEEN : loop.SEEN + loop.LOOK + 1] = self.position
        self.tune(gains or ControlGains())
        s[loop.SPEED] = self.gains.slow_approach

    def tune(self, gains: ControlGains) -> None:
        """Use these gains from now on; what was measured of the tissue stays."""
        g, s = gains, self._state
        self.gains, self._numbers = g, loop.numbers(g, self.layout)
        neck = np.array([r == "neck" for r in self.layout.regions])
        s[loop.TOE_FORCE] = np.where(neck, g.toe_force_neck, g.toe_force_trunk)
        s[loop.BELIEVED_TOE, ~self._measured] = g.toe_stiffness
        s[loop.BELIEVED_LINEAR, ~self._measured] = g.stiffness
        s[loop.OMEGA] = np.where(self._measured, g.omega_known, g.omega_unknown)

    def _of(self, row: int) -> Array:
        return np.array(self._state[row])

    def exclude(self, fingers: Mask) -> None:
        """Let these fingers lie, unpowered, from now on, shape (n,); the others come back."""
        self.mode[fingers] = Mode.EXCLUDED
        self._drop(np.flatnonzero(fingers))
        self.mode[~fingers & (self.mode == Mode.EXCLUDED)] = Mode.OFF

    @property
    def excluded(self) -> Mask:
        """Fingers that take no part, shape (n,)."""
        return np.asarray(self.mode == Mode.EXCLUDED)

    @property
    def height(self) -> Array:
        """Where moves go, shape (n,), m."""
        return self._of(loop.HEIGHT)

    @property
    def idle(self) -> bool:
        """Whether no finger is driven."""
        return bool(((self.mode == Mode.OFF) | self.excluded).all())

    def _usable(self, fingers: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        index = np.arange(self.layout.n)[fingers]
        return np.asarray(index[self.mode[index] != Mode.EXCLUDED])

    def forget_zero(self) -> None:
        """Learn the load cells' zero anew."""
        self._state[loop.ZEROED] = 0.0

    @property
    def load_zero(self) -> Array:
        """What the load cells say without load, shape (n,), N."""
        return self._of(loop.ZERO)

    @property
    def reference(self) -> Array:
        """Force set-points now in effect, shape (n,), N."""
        return self._of(loop.REFERENCE)

    @property
    def force(self) -> Array:
        """Felt forces without the load cells' zero, shape (n,), N."""
        return self._of(loop.FELT)

    @property
    def zero_age(self) -> Array:
        """Time since the zero was last learnt, shape (n,), s; inf: never."""
        return self._of(loop.ZERO_AGE)

    def believe(self, stiffness: Array, toe: Array) -> None:
        """Use measured stiffness per finger, shape (n,), N/m; NaN keeps the earlier belief."""
        good = np.isfinite(stiffness) & np.isfinite(toe) & (stiffness > 0.0) & (toe > 0.0)
        s, most = self._state, self.gains.most_stiffness
        s[loop.BELIEVED_TOE, good] = np.clip(toe[good], 1000.0, most)
        s[loop.BELIEVED_LINEAR, good] = np.clip(stiffness[good], 1000.0, most)
        s[loop.SLOW_TOE, good] = s[loop.SLOW_LINEAR, good] = self.gains.quicker
        s[loop.OMEGA, good] = self.gains.omega_known
        self._measured |= good

    def bear(self, sums: Mapping[str, float]) -> None:
        """Keep the set-points under each region within a sum, N; lower while any are pressed."""
        pressed = bool((self.mode == Mode.FORCE).any())
        for region, allowed in sums.items():
            i = self._regions.index(region)
            self._allowed[i] = min(self._allowed[i], allowed) if pressed else allowed

    def approach(self, fingers: NDArray[np.int64], speed: float, expected: Array) -> None:
        """Move `fingers` up until contact; fast only to just before `expected` (m or NaN)."""
        s = self._state
        s[loop.EXPECTED, fingers] = expected
        fingers = self._usable(fingers)
        self.mode[fingers] = Mode.FORCE
        self._drop(fingers)
        s[loop.SPEED, fingers] = speed
        s[loop.TARGET, fingers] = self.gains.contact_on
        s[loop.LEAST_TOE, fingers] = s[loop.LEAST_LINEAR, fingers] = 0.0

    def follow_force(self, fingers: NDArray[np.int64], force: Array) -> None:
        """Ask for `force` (N, shape of `fingers`) on fingers that are in force mode."""
        self._state[loop.TARGET, fingers] = force

    def move(self, fingers: NDArray[np.int64], height: Array, speed: float) -> None:
        """Move unloaded `fingers` to heights (m, shape of `fingers`) and hold them there.

        Raises:
            InvalidInput: a finger carries load, or a height or the speed is out of range.
        """
        low, high = self.layout.finger.stroke
        loaded = fingers[self.contact[fingers]]
        if loaded.size:
            raise InvalidInput("fingers", self.layout.names[loaded[0]], "fingers without contact")
        if not ((height >= low) & (height <= high)).all():
            raise InvalidInput("height", np.asarray(height).tolist(), f"{low:g} to {high:g} m")
        if not 0.0 < speed <= self.layout.finger.max_speed:
            raise InvalidInput("speed", speed, f"0 to {self.layout.finger.max_speed:g} m/s")
        self._state[loop.HEIGHT, fingers] = height
        fingers = self._usable(fingers)
        self.mode[fingers] = Mode.POSITION
        self._drop(fingers)
        self._state[loop.SPEED, fingers] = speed

    def retract(self, fingers: NDArray[np.int64] | slice) -> None:
        """Take `fingers` down to the lower end of the stroke."""
        fingers = self._usable(fingers)
        self.mode[fingers] = Mode.RETRACT
        self._drop(fingers)

    def off(self) -> None:
        """Drop every goal: ceilings 0, nothing resumes by itself."""
        self.mode[self._usable(slice(None))] = Mode.OFF
        self._drop(slice(None))

    def _drop(self, fingers: NDArray[np.int64] | slice) -> None:
        for row in (loop.TARGET, loop.REFERENCE, loop.RATE, loop.ABOVE):
            self._state[row, fingers] = 0.0
        self.contact[fingers] = False

    def step(self, position: Array, raw_force: Array) -> tuple[Array, Array]:
        """Advance by one drive cycle.

        Args:
            position: measured tip heights, shape (n,), m.
            raw_force: load cells, shape (n,), N.

        Returns:
            velocity set-points (m/s) and force ceilings (N), each of shape (n,).
        """
        velocity, ceiling = np.empty((2, self.layout.n))
        loop.cycle(
            *(self._numbers, self.mode, self.contact, self.clamped, self._state),
            *(self._region, self._allowed, position, raw_force, velocity, ceiling),
        )
        self.position, self.velocity = position, velocity
        return velocity, ceiling
