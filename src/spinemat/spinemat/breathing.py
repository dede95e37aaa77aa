"""Breathing, felt as the slow common motion of the fingers that rest lightly on the back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATES = np.arange(0.10, 0.50, 0.005)  # Hz, 6 to 30 per minute
MIN_BREATHS = 1.2  # a shorter record is not believed
MIN_QUALITY = 0.6  # share of variance explained (engineering choice)


@dataclass(frozen=True)
class BreathingEstimate:
    """Rate and phase of the breath; phase 0 is end-expiration."""

    rate: float  # Hz
    phase: float  # rad at `time`, [0, 2 pi)
    time: float  # s
    amplitude: float  # half of the peak-to-peak of the signal, in its unit
    quality: float  # share of variance explained, [0, 1]

    @property
    def valid(self) -> bool:
        """Whether rate and phase may be used."""
        return self.quality >= MIN_QUALITY


def harmonics(t: Array, rate: float, order: int = 2) -> Array:
    """Return cos and sin of the first `order` harmonics at times t (m,), shape (m, 2 order)."""
    angle = 2.0 * np.pi * rate * t[:, None] * np.arange(1, order + 1)[None, :]
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def estimate_breathing(t: Array, signal: Array) -> BreathingEstimate | None:
    """Estimate breathing from a height signal that falls with inspiration.

    Args:
        t: times, shape (m,), s, ascending.
        signal: mean height of resting fingers, shape (m,), any unit.

    Returns:
        The best harmonic fit over 6 to 30 breaths per minute beside a straight trend, or None
        when the record holds fewer than 1.2 of the slowest plausible breaths it could show.
    """
    if t.size < 20:
        return None
    span = float(t[-1] - t[0])
    rates = RATES[RATES * span >= MIN_BREATHS]
    if rates.size == 0:
        return None
    s = t - t[-1]
    trend = np.stack([np.ones_like(s), s], axis=1)
    flat = signal - trend @ np.linalg.lstsq(trend, signal, rcond=None)[0]
    total = float(flat @ flat)
    if total <= 0.0:
        return None

    def residual(rate: float) -> tuple[float, Array]:
        a = np.concatenate([trend, harmonics(s, rate, 1)], axis=1)
        x = np.linalg.lstsq(a, signal, rcond=None)[0]
        r = signal - a @ x
        return float(r @ r), x

    costs = [residual(float(f))[0] for f in rates]
    best = int(np.argmin(costs))
    rate = float(rates[best])
    if 0 < best < rates.size - 1:  # parabola through the three best
        c0, c1, c2 = costs[best - 1 : best + 2]
        curve = c0 - 2.0 * c1 + c2
        if curve > 0.0:
            rate += float(0.5 * (c0 - c2) / curve * (rates[1] - rates[0]))
    cost, x = residual(rate)
    amplitude = float(np.hypot(x[2], x[3]))
    # highest at end-expiration: cos(phase) with phase = angle of (cos, sin) coefficients at s = 0
    phase = float(np.mod(-np.arctan2(x[3], x[2]), 2.0 * np.pi))
    return BreathingEstimate(rate, phase, float(t[-1]), amplitude, 1.0 - cost / total)


WINDOW = 15.0  # s of rest that an estimate looks at
STEADY = 0.05  # N: set-points that change more are a press, not rest
MIN_FINGERS = 4  # resting fingers that are needed
REFRESH = 1.0  # s between estimates


class BreathWatch:
    """Breathing in real time from the fingers that rest on the back at constant force."""

    def __init__(self, n: int) -> None:
        self._heights: deque[tuple[float, float]] = deque()
        self._resting = np.zeros(n, dtype=bool)
        self._set_point = np.zeros(n)
        self._estimated = -np.inf
        self._estimate: BreathingEstimate | None = None

    def add(
        self, now: float, position: Array, set_point: Array, resting: NDArray[np.bool_]
    ) -> None:
        """Take a sample.

        Args:
            now: drive time, s.
            position: tip heights, shape (n,), m.
            set_point: force set-points, shape (n,), N.
            resting: fingers in contact under force control, shape (n,).
        """
        both = resting & self._resting
        changed = np.abs(set_point - self._set_point)[both] > STEADY
        if (resting != self._resting).any() or changed.any() or resting.sum() < MIN_FINGERS:
            self._heights.clear()
            self._estimate = None
        self._resting, self._set_point = resting, set_point
        if resting.sum() < MIN_FINGERS:
            return
        self._heights.append((now, float(position[resting].mean())))
        while now - self._heights[0][0] > WINDOW:
            self._heights.popleft()
        if now - self._estimated >= REFRESH:
            self._estimated = now
            t, z = np.array(self._heights).T
            self._estimate = estimate_breathing(t, z)

    def at(self, now: float) -> BreathingEstimate | None:
        """Return the estimate carried forward to `now` (s), or None while there is none."""
        e = self._estimate
        if e is None:
            return None
        phase = float(np.mod(e.phase + 2.0 * np.pi * e.rate * (now - e.time), 2.0 * np.pi))
        return replace(e, phase=phase, time=now)
