"""The optional posture strip: inertial sensors along the back, as the curve of the spine."""

from __future__ import annotations

import re

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Imu

from spinemat.anatomy import Intake
from spinemat.errors import InvalidInput
from spinemat.posture import PostureEstimate, check_strip, posture, rotation
from spinemat_interfaces.msg import Contour
from spinemat_ros.codec import doubles, nanoseconds
from spinemat_ros.node import Voice, declare, header, publisher, subscription

EVERY = 100_000_000  # ns between curves
FRESH = 200_000_000  # ns, age of the oldest direction
FUTURE = 100_000_000  # ns: the states of the fingers, which tell the time here, come every 20 ms
USUAL_ERROR = float(np.radians(2.0))  # rad, where a sensor does not tell (engineering choice)
FRAME = re.compile(r"(?:.*[/_])?posture_(\d+)")


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


class PostureStrip:
    """Listens to `posture/imu` and publishes `posture` once all sensors are fresh."""

    def __init__(self, node: Node, voice: Voice, places: np.ndarray) -> None:
        self._node, self._voice, self._places = node, voice, places
        k = places.size
        self._rotations = np.tile(np.eye(3), (k, 1, 1))
        self._stamps = np.zeros(k, dtype=np.int64)
        self._errors = np.full(k, USUAL_ERROR)
        self._told = 0
        self._refused = ""
        self.intake: Intake | None = None  # of the last scan
        self._curves = publisher(node, "posture")
        subscription(node, "posture/imu", self._on_imu)

    def _on_imu(self, message: Imu) -> None:
        try:
            self._take(message)
            self._refused = ""
        except InvalidInput as error:
            if error.field != self._refused:  # said once, not at every message
                self._refused = error.field
                self._voice.say("refused", f"posture/imu: {error}")

    def _take(self, m: Imu) -> None:
        """Take one direction.

        Raises:
            InvalidInput: the sensor, its time or its direction is not acceptable.
        """
        if not self._places.size:
            raise InvalidInput("posture_strip", "none", "the places of the strip's sensors")
        name = FRAME.fullmatch(m.header.frame_id)
        i = int(name.group(1)) if name else -1
        if not 0 <= i < self._places.size:
            raise InvalidInput(
                "frame_id", m.header.frame_id, f"posture_0 to posture_{self._places.size - 1}"
            )
        now, drive = nanoseconds(m.header.stamp), self._voice.now
        if drive and not drive - FRESH <= now <= drive + FUTURE:
            allowed = f"{1e-9 * (drive - FRESH):.3f} to {1e-9 * (drive + FUTURE):.3f} s"
            raise InvalidInput("stamp", 1e-9 * now, allowed)
        if self._stamps[i] > drive + FUTURE:
            self._stamps[:] = self._told = 0  # drive time began anew
        if now <= self._stamps[i]:
            raise InvalidInput("stamp", 1e-9 * now, f"later than {1e-9 * self._stamps[i]:.3f} s")
        if m.orientation_covariance[0] < 0.0:
            raise InvalidInput("orientation_covariance", -1.0, "a sensor that knows directions")
        q = m.orientation
        self._rotations[i] = rotation(np.array([q.x, q.y, q.z, q.w]))
        told = float(max(m.orientation_covariance[0], m.orientation_covariance[4]))
        self._errors[i] = np.sqrt(told) if told > 0.0 else USUAL_ERROR
        self._stamps[i] = now
        if now - self._told >= EVERY and now - int(self._stamps.min()) <= FRESH:
            self._told = now
            self._tell(now)

    def _tell(self, now: int) -> None:
        found = posture(self._places, self._rotations, self._errors, self.intake)
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
