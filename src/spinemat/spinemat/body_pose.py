"""How the body lies on the mat, from a contour and a map of stiffness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transforms3d.euler import euler2quat

from spinemat.contour import ContourEstimate
from spinemat.deconvolution import LevelMap

Array = NDArray[np.float64]

UNKNOWN = np.pi / 2.0  # rad, of roll and pitch, which are not estimated (engineering choice)


@dataclass(frozen=True)
class BodyPose:
    """A frame at S1 on the skin, x along the spine toward the head.

    Attributes:
        position: shape (3,), m, in the frame of the mat.
        orientation: quaternion x, y, z, w; roll and pitch are not estimated: 0.
        covariance: of x, y, z and the rotations about them, shape (6, 6), m and rad.
    """

    position: Array
    orientation: Array
    covariance: Array


def body_pose(c: ContourEstimate, lies: LevelMap) -> BodyPose:
    """Work out how the body lies; the height is NaN where there is no contour."""
    (across, across_error), (rotation, rotation_error) = lies.across, lies.rotation
    place = c.place.levels
    lever = place["T8"] - place["S1"]  # `across` is at T8
    felt = c.x.size > 0
    height = float(np.interp(place["S1"], c.x, c.z)) if felt else np.nan
    height_error = float(np.interp(place["S1"], c.x, c.z_std)) if felt else np.inf
    spread = np.diag(np.full(6, UNKNOWN**2))
    spread[0, 0] = c.place.errors["S1"] ** 2
    spread[1, 1] = across_error**2 + (lever * rotation_error) ** 2
    spread[2, 2] = height_error**2
    spread[5, 5] = rotation_error**2
    spread[1, 5] = spread[5, 1] = -lever * rotation_error**2
    return BodyPose(
        np.array([place["S1"], across - lever * rotation, height]),
        np.asarray(euler2quat(0.0, 0.0, rotation))[[1, 2, 3, 0]],
        spread,
    )
