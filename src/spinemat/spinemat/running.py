"""Stiffness under each finger while a rhythm runs, so that dosing can follow what changes.

It is not the stiffness of a scan: the tissue moves fast, neighbours press as well, and nothing is
deconvolved. Compared with itself a minute earlier in the same press, it tells what changed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.layout import MatLayout
from spinemat.reactions import CORNER

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# All numbers here are engineering choices.
WINDOW = 6.0  # s, two turns of a slow rhythm
LOWER = 0.4  # of the swing of force that is left out at its lower end
LEAST_SWING = 2.0  # N above that
SAME_PEAK = 1.5  # N by which peaks may differ: the slope depends on how hard one presses
LASTING = 10.0  # samples at 50 Hz that count as one independent one
METHOD = (
    "inverse slope of a finger's height over its own force, last 6 s of the rhythm, without the"
    " lowest 40 % of the swing, beyond the toe (10 N, neck 3.5 N) if the rhythm goes there; not a"
    " stiffness at rest and not of one level; change against the first value of the same press"
    " whose peaks were within 1.5 N of these"
)


@dataclass(frozen=True)
class Running:
    """See RunningStiffness.msg; shape (n,) each, NaN where not known."""

    value: Array
    error: Array
    change: Array
    change_error: Array


class RunningStiffness:
    """Running stiffness of every finger.

    Args:
        layout: the mat.
        period: s between samples.
    """

    def __init__(self, layout: MatLayout, period: float) -> None:
        n = layout.n
        self._toe_end = np.array([CORNER[region] for region in layout.regions])
        self._kept: deque[tuple[Array, Array]] = deque(maxlen=round(WINDOW / period))
        self._period = period
        self._touched = np.zeros(n)  # s
        self._first, self._first_error, self._peak = np.full((3, n), np.nan)

    def add(self, position: Array, force: Array, contact: Flags) -> None:
        """Take a sample: heights (m), felt forces (N) and contact, shape (n,) each."""
        self._kept.append((position, force))
        self._touched = np.where(contact, self._touched + self._period, 0.0)
        gone = ~contact
        self._first[gone] = self._first_error[gone] = np.nan

    def now(self) -> Running:
        """Return what the window says."""
        n = self._touched.size
        value, error = np.full((2, n), np.nan)
        if len(self._kept) == self._kept.maxlen:
            z, f = (np.array([kept[i] for kept in self._kept]) for i in (0, 1))
            peak = f.max(axis=0)
            self._first[np.abs(peak - self._peak) > SAME_PEAK] = np.nan  # another rhythm
            for i in np.flatnonzero(self._touched >= WINDOW):
                value[i], error[i] = self._slope(z[:, i], f[:, i], float(self._toe_end[i]))
            new = np.isnan(self._first) & np.isfinite(value)
            self._first[new], self._first_error[new] = value[new], error[new]
            self._peak[new] = peak[new]
        ratio = value / self._first
        share = np.hypot(error / value, self._first_error / self._first)
        return Running(value, error, ratio - 1.0, ratio * share)

    def _slope(self, z: Array, f: Array, toe_end: float) -> tuple[float, float]:
        """Stiffness and its standard error, N/m."""
        low, high = float(f.min()), float(f.max())
        beyond = high > toe_end + LEAST_SWING
        above = f > max(toe_end if beyond else 0.0, low + LOWER * (high - low))
        if above.sum() < 4.0 * LASTING or np.ptp(f[above]) < LEAST_SWING:
            return np.nan, np.nan
        t = np.linspace(-1.0, 1.0, z.size)[above]  # slow creep and breathing
        a = np.stack([f[above] - f[above].mean(), np.ones_like(t), t], axis=1)
        x, rest = np.linalg.lstsq(a, z[above], rcond=None)[:2]
        if rest.size == 0 or x[0] <= 0.0:
            return np.nan, np.nan
        noise = LASTING * float(rest[0]) / max(int(above.sum()) - 3, 1)
        error = float(np.sqrt(noise * np.linalg.inv(a.T @ a)[0, 0]))
        return 1.0 / float(x[0]), error / float(x[0]) ** 2
