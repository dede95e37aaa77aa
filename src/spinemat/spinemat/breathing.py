"""Breathing, felt as the slow common motion of the fingers that rest lightly on the back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATES = np.arange(0.10, 0.50, 0.005)  # Hz, 6 to 30 per minute
MIN_BREATHS = 1.5  # a shorter record is not believed
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


def estimate_breathing(
    t: Array, signal: Array, segment: NDArray[np.int64] | None = None
) -> BreathingEstimate | None:
    """Estimate breathing from a height signal that falls with inspiration.

    Args:
        t: times, shape (m,), s, ascending.
        signal: mean height of resting fingers, shape (m,), any unit.
        segment: number of the stretch of rest each sample belongs to, shape (m,); levels of
            stretches may differ. Default: one stretch.

    Returns:
        The best harmonic fit over 6 to 30 breaths per minute beside a straight trend and the
        levels, or None when too little was seen: fewer than 1.5 breaths of the rate found, or a
        best rate at the edge of what the record can tell.
    """
    if t.size < 20:
        return None
    parts = np.zeros(t.size, dtype=np.int64) if segment is None else segment
    levels = (parts[:, None] == np.unique(parts)[None, :]).astype(float)
    seen = t.size * float(np.median(np.diff(t)))
    rates = RATES[RATES * seen >= MIN_BREATHS]
    if rates.size < 3:
        return None
    s = t - t[-1]
    trend = np.concatenate([levels, s[:, None]], axis=1)
    flat = signal - trend @ np.linalg.lstsq(trend, signal, rcond=None)[0]
    total = float(flat @ flat)
    if total <= 0.0:
        return None

    def residual(rate: float) -> tuple[float, Array]:
        a = np.concatenate([trend, harmonics(s, rate, 1)], axis=1)
        x = np.linalg.lstsq(a, signal, rcond=None)[0]
        r = signal - a @ x
        return float(r @ r), x[-2:]

    costs = [residual(float(f))[0] for f in rates]
    best = int(np.argmin(costs))
    if best in (0, rates.size - 1):
        return None
    c0, c1, c2 = costs[best - 1 : best + 2]  # parabola through the three best
    curve = c0 - 2.0 * c1 + c2
    step = float(rates[1] - rates[0])
    rate = float(rates[best]) + (0.5 * (c0 - c2) / curve * step if curve > 0.0 else 0.0)
    cost, (cosine, sine) = residual(rate)
    # highest at end-expiration: cos(phase), phase from the cos and sin coefficients at s = 0
    phase = float(np.mod(-np.arctan2(sine, cosine), 2.0 * np.pi))
    amplitude = float(np.hypot(cosine, sine))
    return BreathingEstimate(rate, phase, float(t[-1]), amplitude, 1.0 - cost / total)


WINDOW = 15.0  # s of rest that an estimate looks at
STEADY = 0.05  # N: set-points that change more are a press, not rest
MIN_FINGERS = 4  # resting fingers that are needed
REFRESH = 1.0  # s between estimates
MIN_REST = 1.0  # s, shorter stretches of rest say nothing


class BreathWatch:
    """Breathing in real time from the fingers that rest on the back at constant force."""

    def __init__(self, n: int) -> None:
        self._heights: deque[tuple[float, float, int]] = deque()
        self._resting = np.zeros(n, dtype=bool)
        self._set_point = np.zeros(n)
        self._segment = 0
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
        steady = resting.sum() >= MIN_FINGERS and not changed.any()
        if not steady or (resting != self._resting).any():
            self._segment += 1
        self._resting, self._set_point = resting, set_point
        if steady:
            self._heights.append((now, float(position[resting].mean()), self._segment))
        while self._heights and now - self._heights[0][0] > WINDOW:
            self._heights.popleft()
        if now - self._estimated >= REFRESH:
            self._estimated = now
            self._estimate = self._look()

    def _look(self) -> BreathingEstimate | None:
        """Estimate from the stretches of rest in the window that last at least a second."""
        if not self._heights:
            return None
        t, z, segment = np.array(self._heights).T
        names, counts = np.unique(segment, return_counts=True)
        period = float(np.median(np.diff(t))) if t.size > 1 else REFRESH
        use = np.isin(segment, names[counts * period >= MIN_REST])
        return estimate_breathing(t[use], z[use], segment[use].astype(np.int64))

    def at(self, now: float) -> BreathingEstimate | None:
        """Return the estimate carried forward to `now` (s), or None while there is none."""
        e = self._estimate
        if e is None:
            return None
        phase = float(np.mod(e.phase + 2.0 * np.pi * e.rate * (now - e.time), 2.0 * np.pi))
        return replace(e, phase=phase, time=now)
