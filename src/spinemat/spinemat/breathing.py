"""Breathing, felt as the slow common motion of the fingers that rest lightly on the back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from spinemat.layout import MatLayout

Array = NDArray[np.float64]

SLOWEST, FASTEST, STEP = 0.10, 0.495, 0.005  # Hz, 6 to 30 per minute
TURN = 0.25  # turns over the whole record by which neighbouring rates may differ (choice)
MIN_BREATHS = 1.5  # a shorter record is not believed
MIN_QUALITY = 0.7  # share of variance explained (engineering choice)
SHAPED_BREATHS = 2.5  # that must have been seen to tell the shape of one (engineering choice)
FALLEN = 0.02  # of the movement: inspiration has begun (engineering choice)


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


def since_end_expiration(t: Array, breath: BreathingEstimate, order: int = 3) -> Array:
    """Return harmonics of a breath that are zero at end-expiration, shape (m, 2 order)."""
    angle = breath.phase + 2.0 * np.pi * breath.rate * (t - breath.time)
    turns = angle[:, None] * np.arange(1, order + 1)[None, :]
    return np.concatenate([np.cos(turns) - 1.0, np.sin(turns)], axis=1)


def estimate_breathing(
    t: Array, signal: Array, trend: Array | None = None
) -> BreathingEstimate | None:
    """Estimate breathing from a height signal that falls with inspiration.

    Args:
        t: times, shape (m,), s, ascending.
        signal: mean height of resting fingers, shape (m,), any unit.
        trend: what the height follows beside breathing, shape (m, k); default: `steady_trend`.

    Returns:
        The best harmonic fit over 6 to 30 breaths per minute beside the trend, or None when too
        little was seen: fewer than 1.5 breaths of the rate found, or a best rate at the edge of
        what the record can tell.
    """
    if t.size < 20:
        return None
    seen = t.size * float(np.median(np.diff(t)))
    step = min(STEP, TURN / float(t[-1] - t[0]))
    rates = np.arange(SLOWEST, FASTEST + 0.5 * step, step)
    rates = rates[rates * seen >= MIN_BREATHS]
    if rates.size < 3:
        return None
    s = t - t[-1]
    if trend is None:
        trend = steady_trend(t, np.zeros(t.size, dtype=np.int64))
    aside = _Aside(trend)
    flat = aside(signal)
    total = float(flat @ flat)
    if total <= 0.0:
        return None

    def residual(rate: float) -> tuple[float, Array]:
        return _least(aside(harmonics(s, rate, 1)), flat)

    costs = [residual(float(f))[0] for f in rates]
    best = int(np.argmin(costs))
    if best in (0, rates.size - 1):
        return None
    c0, c1, c2 = costs[best - 1 : best + 2]  # parabola through the three best
    curve = c0 - 2.0 * c1 + c2
    rate = float(rates[best]) + (0.5 * (c0 - c2) / curve * step if curve > 0.0 else 0.0)
    cost, (cosine, sine) = residual(rate)
    amplitude = float(np.hypot(cosine, sine))
    found = BreathingEstimate(rate, 0.0, float(t[-1]), amplitude, 1.0 - cost / total)
    if seen * rate < SHAPED_BREATHS:
        return replace(found, phase=_phase(np.array([cosine, sine])))
    return replace(found, phase=_phase(_least(aside(harmonics(s, rate, 3)), flat)[1]))


class _Aside:
    """What a trend of shape (m, k) leaves of columns."""

    def __init__(self, trend: Array) -> None:
        u, size, _ = np.linalg.svd(trend, full_matrices=False)
        self._u = u[:, size > 1e-9 * size[0]]  # a column may be zero

    def __call__(self, columns: Array) -> Array:
        return np.asarray(columns - self._u @ (self._u.T @ columns))


def _least(columns: Array, signal: Array) -> tuple[float, Array]:
    """Least squares: sum of squares that is left, and the coefficients."""
    x: Array = np.asarray(np.linalg.lstsq(columns, signal, rcond=None)[0], dtype=float)
    rest = signal - columns @ x
    return float(rest @ rest), x


def _phase(x: Array) -> float:
    """Phase now, from the cos and sin coefficients of the height's harmonics at this time.

    The height is greatest while nothing is breathed; that ends, and phase 0 is, where it begins to
    fall.
    """
    ahead = np.linspace(0.0, 2.0 * np.pi, 720, endpoint=False)
    height = harmonics(ahead / (2.0 * np.pi), 1.0, x.size // 2) @ x
    from_peak = np.roll(height, -int(np.argmax(height)))
    falls = int(np.argmax(from_peak < from_peak[0] - FALLEN * np.ptp(height)))
    return float(np.mod(-ahead[(int(np.argmax(height)) + falls) % ahead.size], 2.0 * np.pi))


def refine_breathing(
    t: Array, signal: Array, trend: Array, found: BreathingEstimate
) -> BreathingEstimate:
    """Sharpen an estimate with three harmonics over a long record.

    Args:
        t, signal, trend: as in `estimate_breathing`.
        found: what that returned; the rate is looked for within 0.6 breaths per minute around it,
            in a long record within half a turn.
    """
    s = t - t[-1]
    aside = _Aside(trend)
    flat = aside(signal)
    far = min(0.01, 2.0 * TURN / float(t[-1] - t[0]))

    def fit(rate: float) -> tuple[float, Array]:
        return _least(aside(harmonics(s, rate, 3)), flat)

    near = minimize_scalar(
        lambda rate: fit(rate)[0],
        bounds=(found.rate - far, found.rate + far),
        method="bounded",
        options={"xatol": 1e-5},
    )
    x = fit(float(near.x))[1]
    return replace(found, rate=float(near.x), phase=_phase(x), time=float(t[-1]))


def steady_trend(t: Array, part: NDArray[np.int64]) -> Array:
    """A level per stretch of rest and a slope common to all, shape (m, k).

    Args:
        t: times, shape (m,), s.
        part: number of the stretch each sample belongs to, shape (m,).
    """
    levels = (part[:, None] == np.unique(part)[None, :]).astype(float)
    return np.concatenate([levels, (t - t[-1])[:, None]], axis=1)


WINDOW = 20.0  # s that an estimate looks at
SPACING = 0.1  # s between the samples that are kept
REFRESH = 1.0  # s between estimates
LEAST_CONTACT = 5.0  # s without a break that a finger must have touched
LAG = 0.2  # s by which tissue follows late, about (engineering choice)
KNOTS = (3.5, 10.0)  # N where the tissue of neck and trunk leaves its toe
ENDS = 0.1  # of the way from S1 to T1 at each end, where the skin moves too little (choice)


class BreathWatch:
    """Breathing in real time from all fingers that touch the back, at rest or pressing.

    What a finger's height owes to its own force and to its neighbours' is taken out by a fit over
    the window; what the fingers then have in common and is periodic is the breath.

    Fingers under the neck and at the ends of the trunk are left out: the skin moves less there
    than the whole back is heaved, and so the other way round.

    Args:
        layout: the mat.
    """

    def __init__(self, layout: MatLayout) -> None:
        n = layout.n
        self._x = layout.x
        trunk = self._x[[region != "neck" for region in layout.regions]]
        self._trunk = (self._x > trunk.min()) & (self._x < trunk.max())
        self._kept: deque[tuple[float, Array, Array, NDArray[np.bool_]]] = deque()
        self._neighbours = np.zeros((n, n))
        for i in range(n):
            for j in (i - 2, i + 2):
                if 0 <= j < n:
                    self._neighbours[j, i] = 1.0
        self._estimated = -np.inf
        self._estimate: BreathingEstimate | None = None

    def learn(self, s1: float, t1: float) -> None:
        """Take over where along the mat a scan found S1 and T1, m."""
        share = (self._x - s1) / (t1 - s1)
        self._trunk = (share >= ENDS) & (share <= 1.0 - ENDS)

    def add(self, now: float, position: Array, force: Array, contact: NDArray[np.bool_]) -> None:
        """Take a sample.

        Args:
            now: drive time, s.
            position: tip heights, shape (n,), m.
            force: felt forces, shape (n,), N.
            contact: fingers that touch the back, shape (n,).
        """
        if self._kept and now - self._kept[-1][0] < SPACING - 1e-6:
            return
        self._kept.append((now, position, force, contact & self._trunk))
        while now - self._kept[0][0] > WINDOW:
            self._kept.popleft()
        turn = np.floor(now / REFRESH + 1e-6)  # by the clock, not by the first sample
        if turn != self._estimated:
            self._estimated = turn
            self._estimate = self._look()

    def _look(self) -> BreathingEstimate | None:
        t = np.array([kept[0] for kept in self._kept])
        position, force = (np.array([kept[i] for kept in self._kept]) for i in (1, 2))
        touching = np.array([kept[3] for kept in self._kept])
        since = np.where(touching.all(axis=0), 0, t.size - np.argmin(touching[::-1], axis=0))
        begin = t[np.minimum(since, t.size - 1)]
        usable = np.flatnonzero(touching[-1] & (t[-1] - begin >= LEAST_CONTACT))
        if usable.size == 0:
            return None
        first = int(np.median(since[usable]))  # a common stretch; late comers are left out
        use = usable[since[usable] <= first]
        s, z, f = t[first:], position[first:], force[first:]
        beside = f @ self._neighbours
        late = np.stack([np.interp(s - LAG, s, f[:, i]) for i in use], axis=1)
        signal = np.zeros(s.size)
        for k, i in enumerate(use):
            own = [np.maximum(f[:, i] - knot, 0.0) for knot in (0.0, *KNOTS)]
            a = np.stack([np.ones_like(s), s - s[-1], *own, late[:, k], beside[:, i]], axis=1)
            scale = np.maximum(np.linalg.norm(a, axis=0), 1e-12)
            rest = z[:, i] - a @ (np.linalg.lstsq(a / scale, z[:, i], rcond=1e-6)[0] / scale)
            signal += rest / use.size
        return estimate_breathing(s, signal)

    def at(self, now: float) -> BreathingEstimate | None:
        """Return the estimate carried forward to `now` (s), or None while there is none."""
        e = self._estimate
        if e is None:
            return None
        phase = float(np.mod(e.phase + 2.0 * np.pi * e.rate * (now - e.time), 2.0 * np.pi))
        return replace(e, phase=phase, time=now)
