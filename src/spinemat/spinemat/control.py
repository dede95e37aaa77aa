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

from collections import deque
from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput
from spinemat.gains import ControlGains
from spinemat.layout import MatLayout

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

LATE = 0.05  # N, a set-point further behind what is wanted counts as shaped by a limit (choice)
LOOK = 3  # cycles over which fast movements are compared (choice)


class Mode(IntEnum):
    """What a finger does; values as in FingerState.msg."""

    OFF = 0
    RETRACT = 1
    POSITION = 2
    FORCE = 3
    EXCLUDED = 4


_OFF, _RETRACT, _FORCE, _EXCLUDED = (
    int(m) for m in (Mode.OFF, Mode.RETRACT, Mode.FORCE, Mode.EXCLUDED)
)


class FingerController:
    """Vectorised controller of all fingers of one mat.

    Set goals with `approach`, `follow_force`, `move`, `retract`, `off`; call `step` once per drive
    state. Force set-points are clamped to the press limits and to the slew limit, counted from
    the last set-point and never from the measurement.
    """

    def __init__(self, layout: MatLayout, gains: ControlGains | None = None) -> None:
        self.layout = layout
        n = layout.n
        self._neck = np.array([r == "neck" for r in layout.regions])
        self._measured = np.zeros(n, dtype=bool)
        self._first = np.arange(n)
        self._believed = np.zeros(2 * n)  # N/m: in the toe, then in the linear part
        self.tune(gains or ControlGains())
        g = self.gains
        self._zero = np.zeros(n)
        self._zeroed = np.zeros(n, dtype=np.int64)  # cycles that the zero was learnt in
        regions = np.array(layout.regions)
        self._regions = list(layout.press_limits)
        self._groups = np.array([regions == r for r in self._regions], dtype=float)
        self._allowed = np.full(len(self._regions), np.inf)  # N, of all fingers under a region
        self._above = np.zeros(n, dtype=np.int64)
        self._target = np.zeros(n)
        self._height = np.zeros(n)  # m, where moves go
        self._speed = np.full(n, g.slow_approach)
        self._expected = np.full(n, np.nan)
        self._reference = np.zeros(n)
        self._rate = np.zeros(n)
        self._wanted = np.zeros(n)
        self._integral = np.zeros(n)  # N s
        self._slow = np.ones(2 * n)  # slow correction of the stiffness: toe, linear
        self._least = np.zeros(2 * n)  # N/m, quick correction: at least so stiff (toe, linear)
        self._linear = np.zeros(n, dtype=bool)  # in the last cycle
        self._pressed = np.zeros(n, dtype=bool)  # in the last cycle
        start = np.full(n, layout.finger.stroke[0]), np.zeros(n)
        self._seen = deque([start], LOOK + 1)  # position and force in the last cycles
        self._square, self._product = np.zeros((2, n))  # remembered movement, and times force
        self.mode = np.full(n, Mode.OFF, dtype=np.int64)
        self._mode_code = b""
        self.contact = np.zeros(n, dtype=bool)
        self.clamped = np.zeros(n, dtype=bool)
        self.force = np.zeros(n)
        self.zero_age = np.full(n, np.inf)  # s since the load cells' zero was last learnt
        self.position = np.full(n, layout.finger.stroke[0])
        self.velocity = np.zeros(n)  # m/s, last set-points given

    def tune(self, gains: ControlGains) -> None:
        """Use these gains from now on; what was measured of the tissue stays."""
        g = self.gains = gains
        self._toe_force = np.where(self._neck, g.toe_force_neck, g.toe_force_trunk)
        ordinary = np.repeat([g.toe_stiffness, g.stiffness], self.layout.n)
        self._believed = np.where(np.tile(self._measured, 2), self._believed, ordinary)
        self._omega = np.where(self._measured, g.omega_known, g.omega_unknown)
        self._gain = 0.25 * self._omega**2
        self._decay = float(np.exp(-self.layout.cycle / g.stiffen_memory))
        self._highest_target = g.set_point_share * self.layout.press_limit
        self._highest = self.layout.press_limit - g.ceiling_friction

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
        return self._height.copy()

    @property
    def idle(self) -> bool:
        """Whether no finger is driven."""
        return bool(((self.mode == Mode.OFF) | self.excluded).all())

    def _usable(self, fingers: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        index = np.arange(self.layout.n)[fingers]
        return np.asarray(index[self.mode[index] != Mode.EXCLUDED])

    def forget_zero(self) -> None:
        """Learn the load cells' zero anew."""
        self._zeroed[:] = 0

    @property
    def load_zero(self) -> Array:
        """What the load cells say without load, shape (n,), N."""
        return self._zero.copy()

    @property
    def reference(self) -> Array:
        """Force set-points now in effect, shape (n,), N."""
        return self._reference.copy()

    def _learn_zero(self, position: Array, force: Array, is_off: Mask) -> None:
        """Average what the load cells say while nothing touches them."""
        cycle = self.layout.cycle
        free = is_off & (position <= self.layout.finger.stroke[0] + 0.0015)
        self.zero_age += cycle
        if free.any():
            self.zero_age[free] = 0.0
            self._zeroed += free
            share = np.maximum(cycle / self.gains.zero_time, 1.0 / np.maximum(self._zeroed, 1))
            self._zero = self._zero + free * share * (force - self._zero)

    def believe(self, stiffness: Array, toe: Array) -> None:
        """Use measured stiffness per finger, shape (n,), N/m; NaN keeps the earlier belief."""
        good = np.isfinite(stiffness) & np.isfinite(toe) & (stiffness > 0.0) & (toe > 0.0)
        both = np.clip(np.concatenate([toe, stiffness]), 1000.0, self.gains.most_stiffness)
        known = np.tile(good, 2)
        self._believed = np.where(known, both, self._believed)
        self._measured |= good
        self._omega = np.where(good, self.gains.omega_known, self._omega)
        self._gain = 0.25 * self._omega**2
        self._slow[known] = self.gains.quicker

    def bear(self, sums: Mapping[str, float]) -> None:
        """Keep the set-points under each region within a sum, N; lower while any are pressed."""
        pressed = bool((self.mode == Mode.FORCE).any())
        for region, allowed in sums.items():
            i = self._regions.index(region)
            self._allowed[i] = min(self._allowed[i], allowed) if pressed else allowed

    def approach(self, fingers: NDArray[np.int64], speed: float, expected: Array) -> None:
        """Move `fingers` up until contact; fast only to just before `expected` (m or NaN)."""
        self._expected[fingers] = expected
        fingers = self._usable(fingers)
        self.mode[fingers] = Mode.FORCE
        self._speed[fingers] = speed
        self._target[fingers] = self.gains.contact_on
        self._reference[fingers] = 0.0
        self._rate[fingers] = 0.0
        self._least[fingers] = self._least[fingers + self.layout.n] = 0.0
        self.contact[fingers] = False
        self._above[fingers] = 0

    def follow_force(self, fingers: NDArray[np.int64], force: Array) -> None:
        """Ask for `force` (N, shape of `fingers`) on fingers that are in force mode."""
        self._target[fingers] = force

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
        self._height[fingers] = height
        fingers = self._usable(fingers)
        self.mode[fingers] = Mode.POSITION
        self._drop(fingers)
        self._speed[fingers] = speed

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
        self._target[fingers] = 0.0
        self._reference[fingers] = 0.0
        self._rate[fingers] = 0.0
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
        g, f = self.gains, self.layout.finger
        is_off, retracting, in_force, driven = self._modes()
        self._learn_zero(position, raw_force, is_off)
        force = self.force = raw_force - self._zero
        self.position = position
        if retracting is not None:
            self.mode[retracting & (position <= f.stroke[0] + 0.001)] = _OFF
            _, _, in_force, driven = self._modes()
        self._feel(force, in_force)
        self._seen.append((position, force))
        if driven is None:
            self._rest()
            return self.velocity, np.zeros_like(position)
        loaded = in_force & self.contact
        pressing = np.count_nonzero(loaded)
        if pressing:
            velocity = self._press(position, force, loaded)
            ceiling = np.minimum(self._reference + g.ceiling_margin, self._highest)
        else:
            self._rest()
        if pressing < np.count_nonzero(driven):
            free = self._free(position)
            velocity = np.where(loaded, velocity, free) if pressing else free
            low = np.minimum(g.ceiling_margin + 1.0, self._highest)
            ceiling = np.where(loaded, ceiling, low) if pressing else low
        velocity = velocity * (driven & ~(in_force & (position >= f.stroke[1] - 0.001)))
        self.velocity = _clip(velocity, -f.max_speed, f.max_speed)
        return self.velocity, ceiling * driven

    def _modes(self) -> tuple[Mask, Mask | None, Mask, Mask | None]:
        """Fingers that are off, that retract, in force mode, driven; None: no finger at all."""
        code = self.mode.tobytes()
        if code != self._mode_code:
            off, retracting = self.mode == _OFF, self.mode == _RETRACT
            driven = ~(off | (self.mode == _EXCLUDED))
            self._mode_code = code
            self._masks = (
                off,
                retracting if retracting.any() else None,
                self.mode == _FORCE,
                driven if driven.any() else None,
            )
        return self._masks

    def _free(self, position: Array) -> Array:
        """Velocities of fingers that do not press: they search, move or retract, shape (n,)."""
        g, low = self.gains, self.layout.finger.stroke[0]
        near = ~(position < self._expected - g.approach_margin)  # NaN counts as near
        seeking = np.where(near, np.minimum(self._speed, g.slow_approach), self._speed)
        there = _clip(g.position_gain * (self._height - position), -self._speed, self._speed)
        down = _clip(g.position_gain * (low - position), -g.retract_speed, -0.004)
        velocity = np.where(self.mode == _FORCE, seeking, there)
        return np.asarray(np.where(self.mode == _RETRACT, down, velocity))

    def _press(self, position: Array, force: Array, loaded: Mask) -> Array:
        """Velocities of fingers that follow a force, shape (n,); see the module's text."""
        g, dt = self.gains, self.layout.cycle
        rate, jerk = self._advance_reference(loaded, dt)
        stiffness = self._correct_stiffness(loaded, position, force, rate)
        error = self._reference - force
        gain = self._gain
        pressing = (rate + g.lead * jerk + self._omega * error + gain * self._integral) / stiffness
        most = g.integral * stiffness / gain
        free = np.abs(pressing) < g.force_velocity
        self._integral = _clip(self._integral + free * error * dt, -most, most) * loaded
        return np.minimum(pressing, g.force_velocity)

    def _rest(self) -> None:
        """Keep nothing of what only fingers that press need."""
        zeros = np.zeros(self.layout.n)
        self.velocity = self._rate = self._wanted = self._integral = zeros
        self._square, self._product = zeros, zeros
        self._pressed = self.clamped = zeros > 0.0
        self._linear = self.force >= self._toe_force

    def _feel(self, force: Array, in_force: Mask) -> None:
        g = self.gains
        self._above = (self._above + 1) * (force > g.contact_on)
        touched = self._above >= g.contact_cycles
        found = touched & ~self.contact
        if found.any():  # bumpless: the reference starts from what is felt at contact
            touched &= self.mode != _EXCLUDED
            felt = _clip(force, 0.0, self.layout.press_limit)
            self._reference = np.where(found & in_force, felt, self._reference)
        self.contact = np.where(self.contact, force > g.contact_off, touched)

    def _advance_reference(self, loaded: Mask, dt: float) -> tuple[Array, Array]:
        """Follow the wanted force within all limits; return its first two derivatives."""
        g = self.gains
        wanted = _clip(self._target, 0.0, self._highest_target) * loaded
        total = self._groups @ wanted
        if (total > self._allowed).any():
            share = np.minimum(self._allowed / np.maximum(total, 1e-9), 1.0)
            wanted = wanted * (share @ self._groups)
        ahead = wanted - self._wanted  # what is wanted moves, too
        self._wanted = wanted
        gap = wanted - self._reference
        distance, way = np.abs(gap), np.abs(ahead)
        # As fast as it can still brake on what is left, beside what the wanted force does itself.
        closing = np.sign(gap) * np.minimum(np.sqrt(g.jerk * distance), distance / dt)
        moving = _clip(ahead / dt, -g.slew, g.slew)
        rate = np.where(distance <= way + 1e-9, gap / dt, closing + moving)
        change = g.jerk * dt
        rate = _clip(_clip(rate, self._rate - change, self._rate + change), -g.slew, g.slew)
        rate = rate * loaded
        rising = np.maximum(rate, 0.0)  # some still fall while others rise
        falling = self._reference + (rate - rising) * dt
        rise = self._groups @ rising * dt
        room = np.maximum(self._allowed - self._groups @ falling, 0.0)
        if (rise > room).any():
            share = np.minimum(room / np.maximum(rise, 1e-9), 1.0)
            rate = rate - rising * (1.0 - share @ self._groups)
        jerk = (rate - self._rate) / dt
        self._reference = _clip(self._reference + rate * dt, 0.0, self.layout.press_limit)
        self._rate = rate
        late = np.abs(wanted - self._reference) > way + LATE
        self.clamped = loaded & (late | (wanted != self._target))
        return rate, jerk

    def _correct_stiffness(
        self, loaded: Mask, position: Array, force: Array, rate: Array
    ) -> Array:
        """Return the stiffness to use now, shape (n,), N/m; see the module's text."""
        g, dt = self.gains, self.layout.cycle
        linear = force >= self._toe_force
        part = self._first + self.layout.n * linear  # where toe or linear value of a finger is
        slow = self._slow.take(part)
        lesson = (force - self._reference) * rate * self._omega
        lesson = _clip(lesson / (rate * rate + g.adapt_rate**2), -1.0, 1.0)
        learnt = _clip(slow * (1.0 + g.adapt * dt * lesson), g.adapt_least, g.adapt_most)
        learning = loaded & (np.abs(rate) > g.adapt_rate)
        self._slow[part] = np.where(learning, learnt, slow)
        moved, felt = position - self._seen[0][0], force - self._seen[0][1]
        begins = loaded & ~self._pressed
        if begins.any():  # at the moment of contact
            struck = np.maximum(felt - g.contact_noise, 0.0) / np.maximum(moved, g.contact_travel)
            struck = np.minimum(struck, g.most_stiffness) * begins
            self._least = np.maximum(self._least, np.tile(struck, 2))
        self._pressed = loaded
        keep = loaded & (linear == self._linear)
        self._linear = linear
        memory = keep * self._decay
        self._square = memory * self._square + keep * (moved * moved)
        self._product = memory * self._product + keep * (moved * felt)
        now = np.maximum(self._believed.take(part), self._least.take(part)) * slow
        sure = self._product - g.stiffen_noise * np.sqrt(self._square)
        stiffer = sure > g.stiffen_margin * now * self._square
        if not stiffer.any():
            return np.asarray(now)
        found = np.where(stiffer, sure / (self._square + 1e-15), 0.0)
        found = np.minimum(found, g.most_stiffness)
        self._least[part] = np.maximum(self._least.take(part), found)
        toe, steep = self._least[: self.layout.n], self._least[self.layout.n :]
        np.maximum(toe, steep, out=steep)  # tissue does not get softer above its toe
        self._slow[np.tile(found > 0.0, 2)] = 1.0
        return np.asarray(np.maximum(now, found))


def _clip(values: Array, low: Array | float, high: Array | float) -> Array:
    """What `np.clip` does, in a third of its time on a few numbers."""
    return np.asarray(np.minimum(np.maximum(values, low), high))
