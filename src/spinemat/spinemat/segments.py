"""Stretches of a scan: how far every finger moved in each, with breathing taken out of all.

One least-squares fit per finger over the whole scan: every stretch has values of its own, the
breath's movement is common to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from spinemat.breathing import (
    BreathingEstimate,
    estimate_breathing,
    refine_breathing,
    since_end_expiration,
)

Array = NDArray[np.float64]

CORNERS = np.linspace(0.4, 1.4, 21)  # where a tip may leave its toe, over where a mean pair does
SURE_CORNER = 9.0  # twice the log-likelihood for an end of the toe that was not expected (choice)
DRIFTING = 25.0  # samples that count as one independent one (engineering choice)
STIFFENS = 0.7  # of the travel in the toe goes on beyond it at most (engineering choice)
LEAST_ERROR = 2e-5  # m, of a movement: encoder steps and backlash (engineering choice)


class Segment(NamedTuple):
    """A stretch of a scan: a rest, or a ramp in which some fingers press harder.

    Attributes:
        t: times, shape (m,), s.
        height: of the tips, shape (m, n), m; NaN where a finger takes no part.
        push: share of the ramp, shape (m, n) of each finger's own, 0 to 1; 0 at rest.
        corner: share of the ramp where the tissue under each pressing finger leaves its toe,
            shape (n,).
        rise: of each finger's force in the whole ramp, shape (n,), N; 0 for those at rest.
        guarded: fingers around which muscles tensed, shape (n,).
    """

    t: Array
    height: Array
    push: Array
    corner: Array
    rise: Array
    guarded: NDArray[np.bool_]

    @property
    def ramp(self) -> bool:
        """Whether any finger presses."""
        return bool((self.rise > 0.0).any())

    def columns(self, finger: int, later: float = 1.0) -> Array:
        """What a finger's height follows beside breathing, shape (m, 1, 2 or 3).

        Under a finger at rest bone alone moves, which has no toe.

        Args:
            finger: which.
            later: factor of the corner: of an uneven pair one tip leaves its toe later.
        """
        one = np.ones(self.t.size)
        if not self.ramp:
            return one[:, None]
        u, at = self.push[:, finger], later * self.corner[finger]
        if self.rise[finger] == 0.0:
            return np.stack([one, u], axis=1)
        return np.stack([one, np.minimum(u, at), np.maximum(u - at, 0.0)], axis=1)


class SegmentFit(NamedTuple):
    """Movement of every finger in one segment; shape (n,) each, NaN where it took no part.

    Attributes:
        height: at the begin, at end-expiration, m.
        below, above: travel in the whole ramp if it went on as below and above the corner, m; the
            same of a finger at rest.
        corner: share of the ramp at which the toe ended.
        total: travel in the whole ramp, m.
        error: standard error of `above` (of `height` in a rest), m.
        total_error: standard error of `total`, m.
        residual: root mean square of what the fit leaves, m.
    """

    height: Array
    below: Array
    above: Array
    corner: Array
    total: Array
    error: Array
    total_error: Array
    residual: Array


def fit_segments(
    segments: Sequence[Segment],
    breath: BreathingEstimate | None,
    fingers: NDArray[np.int64] | None = None,
) -> list[SegmentFit]:
    """Fit all stretches of a scan together.

    Model of each finger: a + b min(push, corner) + c max(push - corner, 0) in a ramp, a + b push
    when others press, a in a rest, and over all of them the same breathing movement, which is zero
    at end-expiration.

    Args:
        segments: in order of time.
        breath: None: no breathing is removed.
        fingers: which to fit; None: all.
    """
    n = segments[0].height.shape[1]
    fits = [SegmentFit(*np.full((8, n), np.nan)) for _ in segments]
    for k in range(n) if fingers is None else fingers:
        mine = [i for i, s in enumerate(segments) if np.isfinite(s.height[:, k]).all()]
        if not mine:
            continue
        blocks = [segments[i].columns(k) for i in mine]
        heights = [segments[i].height[:, k] for i in mine]
        times = [segments[i].t for i in mine]
        if breath is None:
            breaths = [np.empty((t.size, 0)) for t in times]
        else:
            breaths = [since_end_expiration(t, breath) for t in times]
        corner = np.array([segments[i].corner[k] for i in mine])
        first = [_Stretch(b, c, z) for b, c, z in zip(blocks, breaths, heights, strict=True)]
        idle = [a for i, a in zip(mine, first, strict=True) if segments[i].rise[k] == 0.0]
        moves = _together(idle or first)[0]
        for place, i in enumerate(mine):
            if segments[i].rise[k] > 0.0:
                still = heights[place] - breaths[place] @ moves
                later = CORNERS[CORNERS * corner[place] < 1.0]
                tried = [segments[i].columns(k, float(factor)) for factor in later]
                found = [np.linalg.pinv(b) @ still for b in tried]
                rests = [np.sum((still - b @ x) ** 2) for b, x in zip(tried, found, strict=True)]
                best = int(np.argmin(rests))
                if corner[place] >= 1.0:
                    straight = still - blocks[place] @ (np.linalg.pinv(blocks[place]) @ still)
                    ratio = straight @ straight / max(rests[best], LEAST_ERROR**2)
                    clear = still.size / DRIFTING * np.log(ratio) > SURE_CORNER
                    if not clear or found[best][2] > STIFFENS * found[best][1]:
                        continue
                corner[place] *= later[best]
                blocks[place] = tried[best]
        asides = [_Stretch(b, c, z) for b, c, z in zip(blocks, breaths, heights, strict=True)]
        moves, sure = _together(asides)
        for i, aside, at_corner in zip(mine, asides, corner, strict=True):
            x, spread, left = aside.solve(moves, sure)
            # samples close to one another share the drift of what is left
            variance = DRIFTING * float(left @ left) / left.size
            last, whole = np.zeros(x.size), np.zeros(x.size)
            last[-1] = 1.0
            if x.size == 2:
                whole[1] = 1.0
            elif x.size > 2:
                whole[1:] = at_corner, 1.0 - at_corner
            error, total_error = (
                float(np.sqrt(variance * (w @ spread @ w))) for w in (last, whole)
            )
            below, above = x[[1, -1]] if x.size > 1 else (np.nan, np.nan)
            values = (
                x[0],
                below,
                above,
                at_corner,
                float(whole @ x),
                max(error, LEAST_ERROR),
                max(total_error, LEAST_ERROR),
                float(np.sqrt(np.mean(left**2))),
            )
            for field, value in zip(fits[i], values, strict=True):
                field[k] = value
    return fits


class _Stretch:
    """One stretch of a least-squares fit whose other columns all stretches share.

    Args:
        block: columns of this stretch alone, shape (m, q).
        common: those that all share, shape (m, c).
        z: what is to be explained, shape (m,).
    """

    def __init__(self, block: Array, common: Array, z: Array) -> None:
        self._block, self._common, self._z = block, common, z
        self._inverse = np.linalg.pinv(block)  # a column may be zero
        self._seen = self._inverse @ common
        self.common = common - block @ self._seen
        self.z = z - block @ (self._inverse @ z)

    def solve(self, shared: Array, covariance: Array) -> tuple[Array, Array, Array]:
        """Values of this stretch, their covariance per unit of noise, and what is left.

        Args:
            shared: values of the shared columns, shape (c,).
            covariance: of these per unit of noise, shape (c, c).
        """
        z = self._z - self._common @ shared
        x = self._inverse @ z
        spread = self._inverse @ self._inverse.T + self._seen @ covariance @ self._seen.T
        return x, spread, z - self._block @ x


def _together(asides: Sequence[_Stretch]) -> tuple[Array, Array]:
    """Values of the columns that all stretches share, and their covariance per unit of noise."""
    normal = np.asarray(sum(a.common.T @ a.common for a in asides))
    inverse = np.linalg.pinv(normal, hermitian=True).astype(float)
    return inverse @ sum(a.common.T @ a.z for a in asides), inverse


def breathing_over(segments: Sequence[Segment]) -> BreathingEstimate | None:
    """Breathing felt by the fingers at rest, over all stretches of a scan."""
    times, signals, trends = [], [], []
    for s in segments:
        idle = np.flatnonzero((s.rise == 0.0) & np.isfinite(s.height).all(axis=0))
        if idle.size == 0:
            continue
        pick = slice(None, None, 5)  # 10 Hz are enough
        times.append(s.t[pick])
        signals.append(s.height[pick][:, idle].mean(axis=1))
        trends.append(s.columns(int(idle[0]))[pick])
    if not times:
        return None
    record = np.concatenate(times), np.concatenate(signals), block_diag(*trends)
    found = estimate_breathing(*record)
    return refine_breathing(*record, found) if found is not None and found.valid else None
