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
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinemat.layout import MatLayout

Array = NDArray[np.float64]

LATE = 0.05  # N, a set-point further behind what is wanted counts as shaped by a limit (choice)
LOOK = 3  # cycles over which fast movements are compared (choice)


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
    omega_known: float = 30.0  # rad/s, force loop with a measured stiffness
    stiffness: float = 5000.0  # N/m per finger, believed before a scan
    toe_stiffness: float = 2000.0  # N/m per finger, believed in the toe before a scan
    toe_force_trunk: float = 10.0  # N per finger, end of the toe (20 N per pair)
    toe_force_neck: float = 3.5  # N per finger, end of the toe (7 N per pair)
    zero_time: float = 0.5  # s, average of the unloaded load cells
    contact_on: float = 0.6  # N, six times the load cell's noise
    contact_off: float = 0.25  # N
    contact_cycles: int = 2  # consecutive cycles above contact_on
    slow_approach: float = 0.005  # m/s, on unknown tissue
    approach_margin: float = 0.004  # m, before the expected contact the slow approach begins
    position_gain: float = 8.0  # 1/s
    retract_speed: float = 0.08  # m/s
    slew: float = 100.0  # N/s, treatment
    jerk: float = 3000.0  # N/s^2, largest change of the slew
    integral: float = 0.006  # m/s, most that the integral action may ask for
    lead: float = 0.008  # s, delay of the loop: one cycle and the drive's lag
    adapt: float = 4.0  # 1/s, slow correction of the stiffness
    adapt_range: tuple[float, float] = (0.5, 2.0)  # of the believed stiffness
    quicker: float = 1.25  # a rhythm feels tissue this much stiffer than a slow scan (choice)
    adapt_rate: float = 10.0  # N/s, set-points that change less teach little
    stiffen_margin: float = 2.5  # of the stiffness in use: more than that is felt, it is corrected
    stiffen_memory: float = 0.06  # s
    stiffen_noise: float = 1.5  # N, what noise and neighbours may change in the meantime
    contact_noise: float = 0.5  # N, of a rise of force at contact that says nothing
    contact_travel: float = 20e-6  # m, shortest travel over which that rise is looked at
    most_stiffness: float = 60000.0  # N/m per finger
    set_point_share: float = 0.97  # of a press limit: room for overshoot and for the load cell
    ceiling_margin: float = 2.0  # N above the set-point that the drive may reach
    ceiling_friction: float = 0.3  # N below the press limit: friction of a drive may be smaller
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
        self._zeroed = np.zeros(n, dtype=np.int64)  # cycles that the zero was learnt in
        regions = np.array(layout.regions)
        self._member = {r: regions == r for r in layout.press_limits}
        self._sums: dict[str, float] = {}
        self._above = np.zeros(n, dtype=np.int64)
        self._target = np.zeros(n)
        self._speed = np.full(n, g.slow_approach)
        self._expected = np.full(n, np.nan)
        self._reference = np.zeros(n)
        self._rate = np.zeros(n)
        self._wanted = np.zeros(n)
        self._integral = np.zeros(n)  # N s
        self._slow = np.ones((2, n))  # slow correction of the stiffness: toe, linear
        self._least = np.zeros((2, n))  # N/m, quick correction: at least so stiff (toe, linear)
        self._linear = np.zeros(n, dtype=bool)  # in the last cycle
        self._pressed = np.zeros(n, dtype=bool)  # in the last cycle
        self._seen = np.zeros((2, LOOK + 1, n))  # position and force in the last cycles
        self._moved = np.zeros((2, n))  # remembered movement squared, and times force
        self.mode = np.full(n, Mode.OFF, dtype=np.int64)
        self.contact = np.zeros(n, dtype=bool)
        self.clamped = np.zeros(n, dtype=bool)
        self.force = np.zeros(n)
        self.zero_age = np.full(n, np.inf)  # s since the load cells' zero was last learnt
        self.position = np.full(n, layout.finger.stroke[0])

    @property
    def load_zero(self) -> Array:
        """What the load cells say without load, shape (n,), N."""
        return self._zero.copy()

    @property
    def reference(self) -> Array:
        """Force set-points now in effect, shape (n,), N."""
        return self._reference.copy()

    def _learn_zero(self, position: Array, force: Array) -> None:
        """Average what the load cells say while nothing touches them."""
        free = (self.mode == Mode.OFF) & (position <= self.layout.finger.stroke[0] + 0.0015)
        self._zeroed += free
        self.zero_age = np.where(free, 0.0, self.zero_age + self.layout.cycle)
        cycle = self.layout.cycle
        share = np.maximum(cycle / self.gains.zero_time, 1.0 / np.maximum(self._zeroed, 1))
        self._zero = np.where(free, self._zero + share * (force - self._zero), self._zero)

    def believe(self, stiffness: Array, toe: Array) -> None:
        """Use measured stiffness per finger, shape (n,), N/m; NaN keeps the earlier belief."""
        good = np.isfinite(stiffness) & np.isfinite(toe) & (stiffness > 0.0) & (toe > 0.0)
        low, high = 1000.0, self.gains.most_stiffness
        self._stiffness = np.where(good, np.clip(stiffness, low, high), self._stiffness)
        self._toe_stiffness = np.where(good, np.clip(toe, low, high), self._toe_stiffness)
        self._omega = np.where(good, self.gains.omega_known, self._omega)
        self._slow[:, good] = self.gains.quicker

    def bear(self, sums: Mapping[str, float]) -> None:
        """Keep the set-points under each region within a sum, N; lower while any are pressed."""
        pressed = bool((self.mode == Mode.FORCE).any())
        for region, allowed in sums.items():
            known = self._sums.get(region, np.inf) if pressed else np.inf
            self._sums[region] = min(known, allowed)

    def approach(self, fingers: NDArray[np.int64], speed: float, expected: Array) -> None:
        """Move `fingers` up until contact; fast only to just before `expected` (m or NaN)."""
        self.mode[fingers] = Mode.FORCE
        self._speed[fingers] = speed
        self._expected[fingers] = expected
        self._target[fingers] = self.gains.contact_on
        self._reference[fingers] = 0.0
        self._rate[fingers] = 0.0
        self._least[:, fingers] = 0.0
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
        g, f, dt = self.gains, self.layout.finger, self.layout.cycle
        self._learn_zero(position, raw_force)
        force = raw_force - self._zero
        self.force = force
        self.position = position
        arrived = (self.mode == Mode.RETRACT) & (position <= f.stroke[0] + 0.001)
        self.mode[arrived] = Mode.OFF
        self._feel(force)
        in_force = self.mode == Mode.FORCE
        loaded = in_force & self.contact
        rate, jerk = self._advance_reference(loaded, dt)
        stiffness = self._correct_stiffness(loaded, position, force, rate)
        error = self._reference - force
        gain = 0.25 * self._omega**2
        pressing = (rate + g.lead * jerk + self._omega * error + gain * self._integral) / stiffness
        most = g.integral * stiffness / gain
        free = loaded & (np.abs(pressing) < g.force_velocity)
        integral = np.clip(self._integral + np.where(free, error * dt, 0.0), -most, most)
        self._integral = np.where(loaded, integral, 0.0)
        near = ~(position < self._expected - g.approach_margin)  # NaN counts as near
        seeking = np.where(near, np.minimum(self._speed, g.slow_approach), self._speed)
        velocity = np.where(loaded, pressing, seeking)
        velocity = np.clip(velocity, -f.max_speed, g.force_velocity)
        velocity = np.where(in_force & (position >= f.stroke[1] - 0.001), 0.0, velocity)

        down = np.clip(g.position_gain * (f.stroke[0] - position), -g.retract_speed, -0.004)
        velocity = np.where(in_force, velocity, np.where(self.mode == Mode.OFF, 0.0, down))
        ceiling = np.where(loaded, self._reference + g.ceiling_margin, g.ceiling_margin + 1.0)
        ceiling = np.minimum(ceiling, self.layout.press_limit - g.ceiling_friction)
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

    def _advance_reference(self, loaded: NDArray[np.bool_], dt: float) -> tuple[Array, Array]:
        """Follow the wanted force within all limits; return its first two derivatives."""
        g = self.gains
        wanted = np.clip(self._target, 0.0, g.set_point_share * self.layout.press_limit)
        wanted = np.where(loaded, wanted, 0.0)
        for region, allowed in self._sums.items():
            total = float(wanted[self._member[region]].sum())
            if total > allowed:
                wanted = np.where(self._member[region], wanted * (allowed / total), wanted)
        ahead = wanted - self._wanted  # what is wanted moves, too
        self._wanted = wanted
        gap = wanted - self._reference
        # As fast as it can still brake on what is left, beside what the wanted force does itself.
        closing = np.sign(gap) * np.minimum(np.sqrt(g.jerk * np.abs(gap)), np.abs(gap) / dt)
        moving = np.clip(ahead / dt, -g.slew, g.slew)
        rate = np.where(np.abs(gap) <= np.abs(ahead) + 1e-9, gap / dt, closing + moving)
        rate = np.clip(rate, self._rate - g.jerk * dt, self._rate + g.jerk * dt)
        rate = np.where(loaded, np.clip(rate, -g.slew, g.slew), 0.0)
        for region, allowed in self._sums.items():  # some still fall while others rise
            mine = self._member[region]
            up = np.where(mine, np.maximum(rate, 0.0), 0.0)
            room = allowed - float((self._reference + np.minimum(rate, 0.0) * dt)[mine].sum())
            rise = float(up.sum()) * dt
            if rise > max(room, 0.0):
                rate = np.where(up > 0.0, rate * (max(room, 0.0) / rise), rate)
        jerk = (rate - self._rate) / dt
        before = self._reference
        self._reference = np.clip(before + rate * dt, 0.0, self.layout.press_limit)
        self._rate = rate
        late = np.abs(wanted - self._reference) > np.abs(ahead) + LATE
        self.clamped = loaded & (late | (wanted != self._target))
        return rate, jerk

    def _correct_stiffness(
        self, loaded: NDArray[np.bool_], position: Array, force: Array, rate: Array
    ) -> Array:
        """Return the stiffness to use now, shape (n,), N/m; see the module's text."""
        g, dt = self.gains, self.layout.cycle
        linear = force >= self._toe_force
        believed = np.where(linear, self._stiffness, self._toe_stiffness)
        slow = np.where(linear, self._slow[1], self._slow[0])
        lesson = (force - self._reference) * rate * self._omega
        lesson = np.clip(lesson / (rate**2 + g.adapt_rate**2), -1.0, 1.0)
        learnt = np.clip(slow * (1.0 + g.adapt * dt * lesson), *g.adapt_range)
        learning = loaded & (np.abs(rate) > g.adapt_rate)
        self._slow[0] = np.where(learning & ~linear, learnt, self._slow[0])
        self._slow[1] = np.where(learning & linear, learnt, self._slow[1])
        self._seen[:, :-1] = self._seen[:, 1:]
        self._seen[:, -1] = position, force
        moved, felt = self._seen[:, -1] - self._seen[:, 0]
        struck = np.maximum(felt - g.contact_noise, 0.0) / np.maximum(moved, g.contact_travel)
        struck = np.where(loaded & ~self._pressed, struck, 0.0)  # at the moment of contact
        self._pressed = loaded
        self._least = np.maximum(self._least, np.minimum(struck, g.most_stiffness))
        keep = loaded & (linear == self._linear)
        self._linear = linear
        self._moved *= np.where(keep, np.exp(-dt / g.stiffen_memory), 0.0)
        self._moved += np.where(keep, (moved**2, moved * felt), 0.0)
        square, product = self._moved
        least = np.where(linear, self._least.max(axis=0), self._least[0])
        now = np.maximum(believed, least) * slow
        sure = product - g.stiffen_noise * np.sqrt(square)
        found = np.where(sure > g.stiffen_margin * now * square, sure / (square + 1e-15), 0.0)
        found = np.minimum(found, g.most_stiffness)
        self._least[0] = np.where(linear, self._least[0], np.maximum(self._least[0], found))
        self._least[1] = np.where(linear, np.maximum(self._least[1], found), self._least[1])
        self._slow = np.where(found > 0.0, 1.0, self._slow)
        return np.asarray(np.maximum(now, found))
