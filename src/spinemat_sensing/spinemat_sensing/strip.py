"""The optional posture strip: inertial sensors along the back, as the curve of the spine."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Imu

from spinemat.errors import InvalidInput
from spinemat.posture import PostureEstimate, PostureWatch, check_strip
from spinemat_interfaces.msg import Contour
from spinemat_ros.codec import doubles, nanoseconds
from spinemat_ros.node import Voice, declare, header, publisher, subscription


def declare_strip(node: Node) -> np.ndarray:
    """Declare `posture_strip` and return the places of the sensors, shape (k,), m; k = 0: none.

    Raises:
        InvalidInput: these cannot be the places of a strip.
    """
    words = (
        "places of a strip's sensors along the back, m above the sacrum's upper edge; one number:"
        " no strip"
    )
    places = declare(node, "posture_strip", [0.0], words)
    return check_strip(np.array(places)) if len(places) > 1 else np.empty(0)


class PostureStrip(PostureWatch):
    """Listens to `posture/imu` and publishes `posture` once all sensors are fresh."""

    def __init__(self, node: Node, voice: Voice, places: np.ndarray) -> None:
        super().__init__(places)
        self._node, self._voice = node, voice
        self._refused = ""
        self._curves = publisher(node, "posture")
        subscription(node, "posture/imu", self._on_imu)

    def _on_imu(self, m: Imu) -> None:
        now, q = nanoseconds(m.header.stamp), m.orientation
        direction = np.array([q.x, q.y, q.z, q.w])
        try:
            found = self.add(
                m.header.frame_id, now, direction, m.orientation_covariance, self._voice.now
            )
            self._refused = ""
        except InvalidInput as error:
            if error.field != self._refused:  # said once, not at every message
                self._refused = error.field
                self._voice.say("refused", f"posture/imu: {error}")
            return
        if found is not None:
            self._curves.publish(posture_message(self._node, now, found))


def posture_message(node: Node, now: int, found: PostureEstimate) -> Contour:
    """Return a curve as the contour message; its frame is the strip's own."""
    head = header(node, now)
    head.frame_id = f"{head.frame_id.rpartition('/')[0]}/posture".strip("/")
    return Contour(
        header=head,
        x=doubles(found.x),
        z=doubles(found.z),
        z_std=doubles(found.z_std),
        kyphosis=found.kyphosis,
        kyphosis_std=found.kyphosis_std,
        lordosis=found.lordosis,
        lordosis_std=found.lordosis_std,
        lateral_asymmetry=np.nan,
        lateral_asymmetry_std=np.nan,
        levels=list(found.levels),
        level_x=doubles(found.level_x),
        level_x_std=doubles(found.level_x_std),
        level_pitch=doubles(found.level_pitch),
        method=found.method,
    )
