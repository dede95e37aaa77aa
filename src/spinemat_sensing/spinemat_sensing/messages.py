"""Estimates as messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from spinemat.contour import ContourEstimate
from spinemat.stiffness import METHOD, LevelEstimate
from spinemat_interfaces.msg import Contour, LevelStiffness, StiffnessMap
from spinemat_ros.codec import bools, doubles

SIDES = {"both": LevelStiffness.BOTH, "left": LevelStiffness.LEFT, "right": LevelStiffness.RIGHT}


def contour_message(head: Header, c: ContourEstimate) -> Contour:
    """Return a contour as its message."""
    return Contour(
        header=head,
        x=doubles(c.x),
        z=doubles(c.z),
        z_std=doubles(c.z_std),
        row_x=doubles(c.row_x),
        left=doubles(c.left),
        right=doubles(c.right),
        valid=bools(c.valid),
        kyphosis=c.kyphosis,
        lordosis=c.lordosis,
        lateral_asymmetry=c.lateral_asymmetry,
        method=c.method,
    )


def stiffness_message(
    head: Header,
    levels: Sequence[LevelEstimate],
    linear: NDArray[np.float64],
    toe: NDArray[np.float64],
) -> StiffnessMap:
    """Return a stiffness map as its message."""
    return StiffnessMap(
        header=head,
        levels=[
            LevelStiffness(
                level=e.level,
                side=SIDES[e.side],
                x=e.x,
                value=e.value,
                standard_error=e.error,
                minimal_detectable_change=1.96 * float(np.sqrt(2.0)) * e.error,
                valid=e.valid,
                reason=e.reason,
            )
            for e in levels
        ],
        finger_stiffness=doubles(linear),
        finger_toe_stiffness=doubles(toe),
        method=METHOD,
    )
