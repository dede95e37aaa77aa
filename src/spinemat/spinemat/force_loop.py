"""One cycle of the controller over all fingers, compiled: NumPy spends ten times as long on it.

`control.py` says what it does and why; it holds the arrays, whose rows are named below, and gives
them names for people. Everything is written for one finger `i`; only regional sums look at all.
"""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import asdict, fields
from typing import Any

import numba
import numpy as np

from spinemat.gains import ControlGains
from spinemat.layout import MatLayout
from spinemat.modes import Mode

LATE = 0.05  # N, a set-point further behind what is wanted counts as shaped by a limit (choice)
LOOK = 3  # cycles over which fast movements are compared (choice)
OFF, RETRACT, POSITION, FORCE, EXCLUDED = (int(mode) for mode in Mode)

# Rows of the controller's state, shape (ROWS, n).
(
    TARGET, HEIGHT, SPEED, EXPECTED,  # goals: N, m, m/s, m
    REFERENCE, RATE, WANTED, INTEGRAL,  # set-point: N, N/s; N; N s
    ZERO, ZEROED, ZERO_AGE, FELT,  # load cell: N, cycles, s; force without the zero, N
    ABOVE,  # consecutive cycles above the force of a contact
    TOE_FORCE, LIMIT, OMEGA,  # N, N, rad/s
    BELIEVED_TOE, BELIEVED_LINEAR,  # N/m
    SLOW_TOE, SLOW_LINEAR,  # slow correction of it, times
    LEAST_TOE, LEAST_LINEAR,  # quick correction: at least so stiff, N/m
    WAS_LINEAR, WAS_PRESSED,  # in the last cycle, 1 or 0
    SQUARE, PRODUCT,  # remembered movement squared, and times force
    JERK,  # N/s^2
    SEEN,  # position in the last cycles, then force, LOOK + 1 rows each
    ROWS,
) = (*range(28), 28 + 2 * (LOOK + 1) - 1)  # fmt: skip

_NAMES = [*(f.name for f in fields(ControlGains)), "cycle", "low", "high", "max_speed", "decay"]
Numbers: Any = namedtuple("Numbers", _NAMES)  # type: ignore[misc]
_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


def numbers(gains: ControlGains, layout: MatLayout) -> Any:
    """What all fingers share, as compiled code takes it."""
    f = layout.finger
    values = [float(v) for v in asdict(gains).values()]
    decay = math.exp(-layout.cycle / gains.stiffen_memory)
    return Numbers._make((*values, layout.cycle, *f.stroke, f.max_speed, decay))


@_compiled
def _clip(value, low, high):
    return min(max(value, low), high)


@_compiled
def _sense(i, g, mode, contact, s, position, raw):
    """Zero of the load cell, contact, and the force at the moment of contact."""
    s[ZERO_AGE, i] += g.cycle
    if mode[i] == OFF and position[i] <= g.low + 0.0015:
        s[ZERO_AGE, i] = 0.0
        s[ZEROED, i] += 1.0
        share = max(g.cycle / g.zero_time, 1.0 / s[ZEROED, i])
        s[ZERO, i] += share * (raw[i] - s[ZERO, i])
    force = raw[i] - s[ZERO, i]
    s[FELT, i] = force
    if mode[i] == RETRACT and position[i] <= g.low + 0.001:
        mode[i] = OFF
    s[ABOVE, i] = s[ABOVE, i] + 1.0 if force > g.contact_on else 0.0
    if contact[i]:
        contact[i] = force > g.contact_off
    elif s[ABOVE, i] >= g.contact_cycles and mode[i] != EXCLUDED:
        contact[i] = True
        if mode[i] == FORCE:  # bumpless: the reference starts from what is felt
            s[REFERENCE, i] = _clip(force, 0.0, s[LIMIT, i])
    for k in range(LOOK):
        s[SEEN + k, i] = s[SEEN + k + 1, i]
        s[SEEN + LOOK + 1 + k, i] = s[SEEN + LOOK + 2 + k, i]
    s[SEEN + LOOK, i], s[SEEN + 2 * LOOK + 1, i] = position[i], force


@_compiled
def _approach_wanted(i, g, s, wanted):
    """Rate of the set-point toward what is wanted, within slew and jerk, N/s."""
    dt = g.cycle
    ahead = wanted - s[WANTED, i]  # what is wanted moves, too
    gap = wanted - s[REFERENCE, i]
    if abs(gap) <= abs(ahead) + 1e-9:
        rate = gap / dt
    else:  # as fast as it can still brake on what is left, beside what the wanted force does
        closing = min(math.sqrt(g.jerk * abs(gap)), abs(gap) / dt)
        rate = math.copysign(closing, gap) + _clip(ahead / dt, -g.slew, g.slew)
    change = g.jerk * dt
    rate = _clip(rate, s[RATE, i] - change, s[RATE, i] + change)
    return _clip(rate, -g.slew, g.slew)


@_compiled
def _stiffness(i, g, s):
    """Correct the believed stiffness and return the one to use now, N/m."""
    force, rate = s[FELT, i], s[RATE, i]
    linear = 1 if force >= s[TOE_FORCE, i] else 0
    slow = s[SLOW_TOE + linear, i]
    if abs(rate) > g.adapt_rate:
        lesson = (force - s[REFERENCE, i]) * rate * s[OMEGA, i]
        lesson = _clip(lesson / (rate * rate + g.adapt_rate * g.adapt_rate), -1.0, 1.0)
        learnt = slow * (1.0 + g.adapt * g.cycle * lesson)
        s[SLOW_TOE + linear, i] = _clip(learnt, g.adapt_least, g.adapt_most)
    moved = s[SEEN + LOOK, i] - s[SEEN, i]
    felt = force - s[SEEN + LOOK + 1, i]
    if s[WAS_PRESSED, i] == 0.0:  # at the moment of contact
        struck = max(felt - g.contact_noise, 0.0) / max(moved, g.contact_travel)
        struck = min(struck, g.most_stiffness)
        s[LEAST_TOE, i] = max(s[LEAST_TOE, i], struck)
        s[LEAST_LINEAR, i] = max(s[LEAST_LINEAR, i], struck)
    if s[WAS_LINEAR, i] == linear:
        s[SQUARE, i] = g.decay * s[SQUARE, i] + moved * moved
        s[PRODUCT, i] = g.decay * s[PRODUCT, i] + moved * felt
    else:
        s[SQUARE, i] = s[PRODUCT, i] = 0.0
    now = max(s[BELIEVED_TOE + linear, i], s[LEAST_TOE + linear, i]) * slow
    sure = s[PRODUCT, i] - g.stiffen_noise * math.sqrt(s[SQUARE, i])
    if sure > g.stiffen_margin * now * s[SQUARE, i]:
        found = min(sure / (s[SQUARE, i] + 1e-15), g.most_stiffness)
        s[LEAST_TOE + linear, i] = max(s[LEAST_TOE + linear, i], found)
        # tissue does not get softer above its toe
        s[LEAST_LINEAR, i] = max(s[LEAST_LINEAR, i], s[LEAST_TOE, i])
        s[SLOW_TOE, i] = s[SLOW_LINEAR, i] = 1.0
        now = max(now, found)
    return now


@_compiled
def _press(i, g, s):
    """Velocity of a finger that follows a force, m/s."""
    stiffness = _stiffness(i, g, s)
    error, omega = s[REFERENCE, i] - s[FELT, i], s[OMEGA, i]
    gain = 0.25 * omega * omega
    velocity = (
        s[RATE, i] + g.lead * s[JERK, i] + omega * error + gain * s[INTEGRAL, i]
    ) / stiffness
    if abs(velocity) < g.force_velocity:
        s[INTEGRAL, i] += error * g.cycle
    most = g.integral * stiffness / gain
    s[INTEGRAL, i] = _clip(s[INTEGRAL, i], -most, most)
    return min(velocity, g.force_velocity)


@_compiled
def _free(i, g, s, mode, position):
    """Velocity of a finger that searches, moves or retracts, m/s."""
    if mode == FORCE:
        near = not position < s[EXPECTED, i] - g.approach_margin  # NaN counts as near
        return min(s[SPEED, i], g.slow_approach) if near else s[SPEED, i]
    if mode == RETRACT:
        return _clip(g.position_gain * (g.low - position), -g.retract_speed, -0.004)
    return _clip(g.position_gain * (s[HEIGHT, i] - position), -s[SPEED, i], s[SPEED, i])


@_compiled
def cycle(g, mode, contact, clamped, s, region, allowed, position, raw, velocity, ceiling):
    """Run one cycle for all fingers.

    Args:
        g: what they share, from `numbers`.
        mode, contact, clamped: of the fingers, shape (n,); changed.
        s: state, shape (ROWS, n); changed.
        region: index of each finger's region, shape (n,).
        allowed: largest sum of set-points under each region, N.
        position, raw: measured heights, m, and load cells, N, shape (n,).
        velocity, ceiling: result, shape (n,), m/s and N.
    """
    n, dt = len(mode), g.cycle
    total, rise, held = np.zeros((3, len(allowed)))
    wanted, rate = np.zeros((2, n))
    for i in range(n):
        _sense(i, g, mode, contact, s, position, raw)
        if mode[i] == FORCE and contact[i]:
            wanted[i] = _clip(s[TARGET, i], 0.0, g.set_point_share * s[LIMIT, i])
            total[region[i]] += wanted[i]
    for i in range(n):
        r = region[i]
        if mode[i] == FORCE and contact[i]:
            if total[r] > allowed[r]:
                wanted[i] *= allowed[r] / total[r]
            rate[i] = _approach_wanted(i, g, s, wanted[i])
        rise[r] += max(rate[i], 0.0) * dt
        held[r] += s[REFERENCE, i] + min(rate[i], 0.0) * dt
    for i in range(n):
        loaded = mode[i] == FORCE and contact[i]
        if loaded:
            r = region[i]
            room = max(allowed[r] - held[r], 0.0)
            if rise[r] > room and rate[i] > 0.0:  # some still fall while others rise
                rate[i] *= room / rise[r]
            s[JERK, i] = (rate[i] - s[RATE, i]) / dt
            s[RATE, i] = rate[i]
            s[REFERENCE, i] = _clip(s[REFERENCE, i] + rate[i] * dt, 0.0, s[LIMIT, i])
            behind = abs(wanted[i] - s[REFERENCE, i]) > abs(wanted[i] - s[WANTED, i]) + LATE
            clamped[i] = behind or wanted[i] != s[TARGET, i]
            speed, top = _press(i, g, s), s[REFERENCE, i] + g.ceiling_margin
        else:
            clamped[i] = False
            s[RATE, i] = s[INTEGRAL, i] = s[SQUARE, i] = s[PRODUCT, i] = 0.0
            speed, top = _free(i, g, s, mode[i], position[i]), g.ceiling_margin + 1.0
        s[WANTED, i] = wanted[i]
        s[WAS_PRESSED, i] = 1.0 if loaded else 0.0
        s[WAS_LINEAR, i] = 1.0 if s[FELT, i] >= s[TOE_FORCE, i] else 0.0
        if mode[i] == OFF or mode[i] == EXCLUDED:
            speed = top = 0.0
        elif mode[i] == FORCE and position[i] >= g.high - 0.001:
            speed = 0.0
        velocity[i] = _clip(speed, -g.max_speed, g.max_speed)
        ceiling[i] = min(top, s[LIMIT, i] - g.ceiling_friction)
