"""The back's midline: skin height over the mat by integrating curvature.

Along x (toward the head) the skin is convex toward the mat over sacrum, thorax and occiput and
hollow over the loins and the neck. Each zone has a parabolic curvature (an engineering choice)
whose integral is the zone's angle; the whole line is then turned and lowered until the thorax and
the buttocks touch the mat at the depth to which they sink into the padding.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

if TYPE_CHECKING:
    from spinemat_sim.person import Person

NECK_HOLLOW = 0.055
"""Largest height of the skin over the mat, m (engineering choice, within the fingers' reach)."""

_STEP = 0.001  # m
_HEAD_LENGTH = 0.075  # m from C1 to where the occiput touches (engineering choice)


def _bump(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Parabola over [low, high] with integral 1, zero outside."""
    t = (2.0 * x - low - high) / (high - low)
    return np.where(np.abs(t) < 1.0, 1.5 / (high - low) * (1.0 - t * t), 0.0)


def buttock_x(person: Person) -> float:
    """Where the buttocks touch, m: below L4 by the standing heights of crest and buttock."""
    m = person.patient.measures
    return person.x_of("L4") - (m.iliac_height - m.buttock_height)


def occiput_x(person: Person) -> float:
    """Where the head touches, m."""
    return person.x_of("C1") + _HEAD_LENGTH


def skin_midline(person: Person, sink: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height of the unloaded skin on the midline, lying at rest at end-expiration.

    Args:
        person: who lies there.
        sink: depth of the touching zones under the mat's surface, m.

    Returns:
        x and z, shape (k,), m, x ascending from below the buttocks to the back of the head.
    """
    x_b, x_o = buttock_x(person), occiput_x(person)
    t1, t12, s1 = person.x_of("T1"), person.x_of("T12"), person.s1_x
    c1 = person.x_of("C1")
    x = np.arange(x_b - 0.12, x_o + 0.06, _STEP)
    base = (
        person.kyphosis * _bump(x, t12, t1)
        - person.lordosis * _bump(x, s1, t12)
        - person.cervical_lordosis * _bump(x, t1, c1)
    )
    below = np.searchsorted(x, x_b)
    thorax = slice(np.searchsorted(x, t12), np.searchsorted(x, t1))

    def line(turn: float) -> NDArray[np.float64]:
        slope = np.cumsum(base) * _STEP
        slope += turn - slope[np.searchsorted(x, s1)]
        # The sacrum turns the line level where the buttocks touch.
        slope -= slope[below] * np.cumsum(_bump(x, x_b, s1)[::-1])[::-1] * _STEP
        slope[:below] = 0.0
        return np.cumsum(slope) * _STEP

    def gap(turn: float) -> float:
        z = line(turn)
        return float(z[thorax].min() - z[below])

    z = line(brentq(gap, -0.6, 0.6))
    z -= z[below] + sink
    # The back of the head comes down to the mat with a smooth step (engineering choice).
    t = np.clip((x - c1) / (x_o - c1), 0.0, 1.0)
    drop = t * t * (3.0 - 2.0 * t)
    return x, (1.0 - drop) * z + drop * -sink


def lying(person: Person) -> Person:
    """The same person with a spine that can lie on a flat mat without a pillow.

    The thorax flattens (kyphosis) until the neck's hollow is not higher than `NECK_HOLLOW`, and
    the neck's lordosis shrinks until the neck does not sink into the mat: engineering choices,
    applied only where the drawn angles ask for more.
    """

    def scaled(factor: float, field: str) -> Person:
        return replace(person, **{field: factor * getattr(person, field)})

    def extreme(p: Person) -> tuple[float, float]:
        z = skin_midline(p, 0.0)[1]
        return float(z.min()), float(z.max())

    for field, sound in (
        ("kyphosis", lambda p: extreme(p)[1] <= NECK_HOLLOW),
        ("cervical_lordosis", lambda p: extreme(p)[0] >= -0.001),
    ):
        if not sound(person):
            low, high = 0.2, 1.0
            for _ in range(8):
                middle = 0.5 * (low + high)
                low, high = (middle, high) if sound(scaled(middle, field)) else (low, middle)
            person = scaled(low, field)
    return person
