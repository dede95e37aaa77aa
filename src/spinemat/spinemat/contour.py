"""The back's contour from the heights at which the fingers met the skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from spinemat.anatomy import level_positions

Array = NDArray[np.float64]

GRID = 0.010  # m
MIN_ROWS = 4
BETWEEN_ROWS = 0.0015  # m, standard error added half-way between rows (engineering choice)
METHOD = (
    "two light forces per finger (1.5 and 3.5 N) extrapolated to zero force, highest point of the"
    " breath (end-expiration), mean of left and right, cubic spline through the rows"
)


@dataclass(frozen=True)
class ContourEstimate:
    """The estimated contour; see Contour.msg. Heights in m over the mat's surface."""

    x: Array
    z: Array
    z_std: Array
    row_x: Array
    left: Array
    right: Array
    valid: NDArray[np.bool_]
    kyphosis: float  # rad; NaN when not measurable
    lordosis: float  # rad; NaN when not measurable
    lateral_asymmetry: float  # m
    method: str = METHOD


def skin_height(light: Array, firm: Array, light_force: Array, firm_force: Array) -> Array:
    """Extrapolate the heights (m) felt at two forces (N) to zero force, element by element.

    The toe of the tissue's curve is straight, so two points are enough. Where the firm height is
    not above the light one, nothing is corrected.
    """
    slope = np.maximum(firm - light, 0.0) / np.maximum(firm_force - light_force, 0.1)
    result: Array = light - slope * light_force
    return result


def end_expiration(heights: Array) -> Array:
    """Return the height (k,) at end-expiration from samples (m, k): the back moves up then."""
    return np.asarray(np.quantile(heights, 0.95, axis=0), dtype=float)


def fit_contour(
    row_x: Array, left: Array, right: Array, noise: Array, stature: float
) -> ContourEstimate:
    """Fit the midline contour.

    Args:
        row_x: position of the rows, shape (rows,), m, ascending.
        left, right: unloaded skin height under each finger, shape (rows,), m; NaN without contact.
        noise: standard error of a row's height, shape (rows,), m.
        stature: of the person, m, for where the tangents of the angles are taken.

    Returns:
        The contour on a 10 mm grid from the first to the last valid row; empty with fewer than
        four valid rows. Angles as a surface instrument defines them: between the tangents to the
        skin at T1 and T12, and at T12 and S1.
    """
    valid = np.isfinite(left) & np.isfinite(right)
    rows = row_x[valid]
    if rows.size < MIN_ROWS:
        empty = np.empty(0)
        return ContourEstimate(
            empty, empty, empty, row_x, left, right, valid, np.nan, np.nan, np.nan
        )
    middle = 0.5 * (left + right)[valid]
    spline = CubicSpline(rows, middle, bc_type="natural")
    x = np.unique(np.concatenate([np.arange(rows[0], rows[-1], GRID), rows[-1:]]))
    gap = np.min(np.abs(x[:, None] - rows[None, :]), axis=1)
    pitch = float(np.max(np.diff(rows)))
    z_std = np.hypot(np.interp(x, rows, noise[valid]), BETWEEN_ROWS * 2.0 * gap / pitch)
    level = level_positions(stature)

    def tangent(at: float) -> float:
        return float(np.arctan(spline(np.clip(at, rows[0], rows[-1]), 1)))

    return ContourEstimate(
        x=x,
        z=np.asarray(spline(x), dtype=float),
        z_std=z_std,
        row_x=row_x,
        left=left,
        right=right,
        valid=valid,
        kyphosis=tangent(level["T1"]) - tangent(level["T12"]),
        lordosis=tangent(level["S1"]) - tangent(level["T12"]),
        lateral_asymmetry=float(np.mean((right - left)[valid])),
    )
