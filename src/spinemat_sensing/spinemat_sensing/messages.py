"""Estimates as messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from numpy.typing import NDArray
from std_msgs.msg import Header

from spinemat.anatomy import LEVELS
from spinemat.back_model import UP
from spinemat.body_pose import body_pose
from spinemat.contour import ContourEstimate
from spinemat.deconvolution import LevelMap
from spinemat.findings import Findings
from spinemat.stiffness import METHOD, LevelEstimate
from spinemat.watches import Felt
from spinemat_interfaces.msg import Breathing, Contour, LevelStiffness, StiffnessMap
from spinemat_ros.codec import bools, doubles, stamp

LEVELS_UP = ("S1", *LEVELS[::-1])
SIDES = {"both": LevelStiffness.BOTH, "left": LevelStiffness.LEFT, "right": LevelStiffness.RIGHT}


def contour_message(head: Header, c: ContourEstimate) -> Contour:
    """Return a contour as its message."""
    at = np.array([c.place.levels[v] for v in LEVELS_UP])
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
        kyphosis_std=c.kyphosis_std,
        lordosis=c.lordosis,
        lordosis_std=c.lordosis_std,
        lateral_asymmetry=c.lateral_asymmetry,
        lateral_asymmetry_std=c.lateral_asymmetry_std,
        levels=list(LEVELS_UP),
        level_x=doubles(at),
        level_x_std=doubles([c.place.errors[v] for v in LEVELS_UP]),
        level_pitch=doubles(c.pitch(at)),
        method=c.method,
    )


def breathing_message(head: Header, felt: Felt) -> Breathing:
    """Return the breath as its message."""
    e = felt.breath
    if e is None:
        return Breathing(header=head, rate=np.nan, phase=np.nan)
    return Breathing(
        header=head,
        rate=e.rate,
        phase=e.phase,
        amplitude=e.amplitude,
        next_end_expiration=stamp(felt.next_end_expiration),
        quality=max(e.quality, 0.0),
        valid=e.valid,
    )


def pose_message(head: Header, c: ContourEstimate, lies: LevelMap) -> PoseWithCovarianceStamped:
    """How the body lies, as its message."""
    found = body_pose(c, lies)
    message = PoseWithCovarianceStamped(header=head)
    pose = message.pose.pose
    pose.position.x, pose.position.y, pose.position.z = found.position.tolist()
    q = pose.orientation
    q.x, q.y, q.z, q.w = found.orientation.tolist()
    message.pose.covariance = found.covariance.ravel()
    return message


def stiffness_message(
    head: Header,
    levels: Sequence[LevelEstimate],
    linear: NDArray[np.float64],
    toe: NDArray[np.float64],
    found: Findings | None,
    lies: LevelMap | None,
) -> StiffnessMap:
    """Return the parts of an `Evaluation` as a message."""
    out = dict(zip(UP, found.stands_out, strict=True)) if found is not None else {}
    result = StiffnessMap(
        header=head,
        levels=[
            LevelStiffness(
                level=e.level,
                side=SIDES[e.side],
                x=e.x,
                value=e.value,
                standard_error=e.error,
                minimal_detectable_change=1.96 * float(np.sqrt(2.0)) * e.error,
                stands_out=out.get(e.level, np.nan) if e.valid and e.side == "both" else np.nan,
                valid=e.valid,
                reason=e.reason,
            )
            for e in levels
        ],
        finger_stiffness=doubles(linear),
        finger_toe_stiffness=doubles(toe),
        method=METHOD,
        evenness=np.nan,
        across=np.nan,
        rotation=np.nan,
    )
    if found is not None and lies is not None:
        result.evenness, result.evenness_error = found.evenness, found.evenness_error
        result.tension_points = [point.level for point in found.tension]
        result.tension_ratio = doubles([point.ratio for point in found.tension])
        result.tension_probability = doubles([point.probability for point in found.tension])
        result.uneven_levels = [side.level for side in found.sides]
        result.side_difference = doubles([side.difference for side in found.sides])
        result.side_probability = doubles([side.probability for side in found.sides])
        result.across, result.across_error = lies.across
        result.rotation, result.rotation_error = lies.rotation
        result.method += "; " + found.method
    return result
