"""Posteroanterior stiffness: from slow probes of finger pairs to vertebral levels.

Definition, printed beside every number (`METHOD`): slope of the pair's force over its mean
indentation, loading, quasi-static, after two preconditioning cycles, 5 N preload, 20 to 38 N per
pair in the trunk and 7 to 18 N in the neck. Published values were measured prone, from above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import LEVELS, level_positions, region_of
from spinemat.breathing import harmonics

Array = NDArray[np.float64]

PRELOAD = 5.0  # N per pair
INTERVAL = {"neck": (7.0, 18.0), "thoracic": (20.0, 38.0), "lumbar": (20.0, 38.0)}  # N per pair
MIN_STIFFNESS, MAX_STIFFNESS = 1000.0, 60000.0  # N/m per pair: outside is not a back
MAX_RESIDUAL = 0.00015  # m, RMS of the fit: above it the person moved
UNRESOLVED = 0.08  # share of a level's value that 46 mm rows cannot see (engineering choice)
REACH = 0.030  # m, a level further than this from any measured row is not reported
METHOD = (
    "loading slope of pair force over mean indentation after two preconditioning cycles, preload"
    " 5 N, 20-38 N per pair (neck 7-18 N), ramp of 5 s, breathing removed by a two-harmonic fit,"
    " rows interpolated to levels; single sides: force of one finger over its own indentation"
)


@dataclass(frozen=True)
class ProbeFit:
    """Slopes of one probe, N/m; `error` is the standard error of `slope`."""

    slope: float
    toe: float
    error: float
    reason: str = ""

    @property
    def valid(self) -> bool:
        """Whether the slope may be used."""
        return not self.reason


@dataclass(frozen=True)
class LevelEstimate:
    """Stiffness of one level and side; see LevelStiffness.msg. N/m."""

    level: str
    side: str
    x: float
    value: float
    error: float
    reason: str = ""

    @property
    def valid(self) -> bool:
        """Whether the value may be used."""
        return not self.reason


def refused(reason: str) -> ProbeFit:
    """Return a probe without a value and why."""
    return ProbeFit(np.nan, np.nan, np.nan, reason)


def fit_probe(
    t: Array, force: Array, height: Array, interval: tuple[float, float], breath_rate: float
) -> ProbeFit:
    """Fit one loading ramp.

    Model: height = a + c_toe min(F, F1) + c max(F - F1, 0) + two breathing harmonics, with F1 the
    lower end of the interval, where the toe has ended; 1/c is the stiffness.

    Args:
        t: times of the ramp, shape (m,), s.
        force: measured force, shape (m,), N.
        height: tip height, shape (m,), m.
        interval: force interval of the slope, N.
        breath_rate: Hz; NaN when breathing is not known, then it is not removed.
    """
    low, high = interval
    inside = (force >= low) & (force <= high)
    if int(inside.sum()) < 15 or float(np.ptp(force[inside])) < 0.6 * (high - low):
        return refused("the force interval was not reached")
    use = force <= high + 0.5
    tt, f, z = t[use] - t[use][0], force[use], height[use]
    columns = [np.ones_like(f), np.minimum(f, low), np.maximum(f - low, 0.0)]
    a = np.stack(columns, axis=1)
    if np.isfinite(breath_rate):
        a = np.concatenate([a, harmonics(tt, breath_rate, 2)], axis=1)
    scale = np.linalg.norm(a, axis=0)
    x, *_ = np.linalg.lstsq(a / scale, z, rcond=None)
    residual = z - (a / scale) @ x
    rms = float(np.sqrt(np.mean(residual**2)))
    x = x / scale
    compliance, toe = float(x[2]), float(x[1])
    if rms > MAX_RESIDUAL:
        return refused(f"poor fit: {1e3 * rms:.2f} mm RMS (moved or guarded)")
    if not 1.0 / MAX_STIFFNESS <= compliance <= 1.0 / MIN_STIFFNESS:
        return refused("slope outside what a back can be")
    covariance = np.linalg.pinv((a / scale).T @ (a / scale))
    # neighbouring samples share the drift of the residual: count one in five as independent
    variance = 5.0 * float(residual @ residual) / max(z.size - a.shape[1], 1)
    error = float(np.sqrt(covariance[2, 2] * variance)) / float(scale[2])
    slope = 1.0 / compliance
    return ProbeFit(slope, 1.0 / toe if toe > 0.0 else np.nan, error * slope**2)


def to_levels(
    row_x: Array, fits: Mapping[str, Sequence[ProbeFit]], stature: float
) -> list[LevelEstimate]:
    """Interpolate probes to levels.

    Args:
        row_x: position of the rows, shape (rows,), m, ascending.
        fits: "both", "left", "right" -> one fit per row.
        stature: m, for where the levels are expected.

    Returns:
        An estimate per level C1 … L5 and side; the neck is measured at two or three rows for
        seven levels and is marked as not resolvable.
    """
    positions = level_positions(stature)
    result: list[LevelEstimate] = []
    for side, probes in fits.items():
        good = np.array([p.valid for p in probes])
        x = row_x[good]
        value = np.array([p.slope for p in probes])[good]
        error = np.array([p.error for p in probes])[good]
        for level in LEVELS:
            at = positions[level]
            reason = _unusable(level, at, row_x, x, probes)
            if reason:
                result.append(LevelEstimate(level, side, at, np.nan, np.nan, reason))
                continue
            k = float(np.exp(np.interp(at, x, np.log(value))))
            e = float(np.hypot(np.interp(at, x, error), UNRESOLVED * k))
            result.append(LevelEstimate(level, side, at, k, e))
    return result


def _unusable(
    level: str, at: float, row_x: Array, good_x: Array, probes: Sequence[ProbeFit]
) -> str:
    if region_of(level) == "neck":
        return "not resolvable: rows are 46 mm apart, neck levels 15 to 18 mm"
    if good_x.size and float(np.min(np.abs(good_x - at))) <= REACH:
        return ""
    if not row_x[0] - REACH <= at <= row_x[-1] + REACH:
        return "no row under this level"
    nearest = probes[int(np.argmin(np.abs(row_x - at)))]
    return nearest.reason or "no measured row near this level"
