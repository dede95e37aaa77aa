"""Node mat_markers: what RViz shows of a mat besides its model.

The contour that was felt, an arrow on every finger that presses, coloured by how near its force
comes to the limit at which the mat stops, and the words of safety and session. Where no supervisor
speaks it says so and shows no forces. It only listens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from spinemat.layout import MatLayout
from spinemat_interfaces.msg import Contour, FingerState, SafetyState, SessionState
from spinemat_ros.codec import floats
from spinemat_ros.node import declare_layout, header, publisher, subscription
from spinemat_ros.spin import run

LENGTH = 0.004  # m of arrow per N of force
LEAST = 0.5  # N, below it a finger shows no arrow
WIDTH = 0.006  # m, of lines and arrows
LETTERS = 0.05  # m, height of a letter
ABOVE = 0.25  # m, the words over the mat's surface
LOOK = 0.25  # s of the steady clock between two looks whether the supervisor speaks
SILENCE = 1.0  # s of the same after which it is missing; it speaks at 10 Hz
RED = (1.0, 0.25, 0.2)
SAFETY = {
    SafetyState.STARTING: ("STARTING", (0.9, 0.8, 0.2)),
    SafetyState.READY: ("READY", (0.3, 0.9, 0.4)),
    SafetyState.MOVING: ("MOVING", (0.3, 0.7, 1.0)),
    SafetyState.STOPPED: ("STOPPED", RED),
}
PHASES = {
    getattr(SessionState, name): name.lower().replace("_", " ")
    for name in (
        "IDLE", "INTAKE", "ON_MAT", "SCAN", "PLAN", "TREAT", "PAUSED", "RESCAN", "REPORT",
        "ABORTED",
    )
}  # fmt: skip


def colour(share: float) -> ColorRGBA:
    """Return the colour of a force by its share of the limit: green, yellow, red."""
    s = min(max(share, 0.0), 1.0)
    return ColorRGBA(r=min(2.0 * s, 1.0), g=min(2.0 - 2.0 * s, 1.0), b=0.1, a=1.0)


def _marker(head: Header, name: str, number: int, kind: int) -> Marker:
    marker = Marker(header=head, ns=name, id=number, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker


def contour_marker(contour: Contour) -> Marker:
    """Return the felt contour as a line along the mat's middle, frame and lengths as in it."""
    line = _marker(contour.header, "contour", 0, Marker.LINE_STRIP)
    line.scale.x = WIDTH
    line.color = ColorRGBA(r=1.0, g=0.55, b=0.3, a=1.0)
    pairs = zip(floats(contour.x), floats(contour.z), strict=True)
    line.points = [Point(x=x, y=0.0, z=z) for x, z in pairs if math.isfinite(x + z)]
    if len(line.points) < 2:
        line.action = Marker.DELETE
    return line


def force_markers(
    layout: MatLayout, fingers: FingerState, limit: NDArray[np.float64]
) -> list[Marker]:
    """Return an arrow over every finger that presses; the others lose theirs.

    Args:
        layout: of the mat.
        fingers: state of all n fingers.
        limit: N, force of each finger that stops the mat, shape (n,).
    """
    arrows = []
    forces, heights = floats(fingers.force), floats(fingers.position)
    for i, (force, height) in enumerate(zip(forces, heights, strict=True)):
        arrow = _marker(fingers.header, "forces", i, Marker.ARROW)
        if math.isfinite(force + height) and force >= LEAST:
            foot = Point(x=float(layout.x[i]), y=float(layout.y[i]), z=float(height))
            arrow.points = [foot, Point(x=foot.x, y=foot.y, z=foot.z + LENGTH * float(force))]
            arrow.scale.x, arrow.scale.y, arrow.scale.z = WIDTH, 2.0 * WIDTH, 2.0 * WIDTH
            arrow.color = colour(force / limit[i])
        else:
            arrow.action = Marker.DELETE
        arrows.append(arrow)
    return arrows


def words_marker(safety: SafetyState, layout: MatLayout, session: SessionState | None) -> Marker:
    """Return the state of safety, with the cause of a stop, and the session's, as one text."""
    words, colours = SAFETY[safety.state]
    lines = [words, *list(safety.waiting_for)[:3]]
    if safety.cause:
        lines = [f"{words}: {safety.cause}", safety.detail]
    if session is not None and session.phase != SessionState.IDLE:
        lines.append(f"{PHASES[session.phase]}, {100.0 * session.progress:.0f} %")
    return _text(safety.header, layout, lines, colours)


def silence_markers(head: Header, layout: MatLayout) -> list[Marker]:
    """Return what is shown where no supervisor speaks: words in red, and no arrow any more."""
    lines = ["NO SUPERVISOR", "safety/state is silent; what is shown may be old"]
    arrows = [_marker(head, "forces", i, Marker.ARROW) for i in range(layout.n)]
    for arrow in arrows:
        arrow.action = Marker.DELETE
    return [_text(head, layout, lines, RED), *arrows]


def _text(
    head: Header, layout: MatLayout, lines: Sequence[str], colours: tuple[float, float, float]
) -> Marker:
    text = _marker(head, "state", 0, Marker.TEXT_VIEW_FACING)
    text.pose.position.x = float(layout.surface.x_max)
    text.pose.position.z = ABOVE
    text.scale.z = LETTERS
    r, g, b = colours
    text.text, text.color = "\n".join(lines), ColorRGBA(r=r, g=g, b=b, a=1.0)
    return text


class MatMarkers(Node):
    """Wiring of the functions above: everything at once, whenever safety speaks (10 Hz)."""

    def __init__(self) -> None:
        super().__init__("mat_markers")
        self._layout = declare_layout(self)
        self._contour: Contour | None = None
        self._fingers: FingerState | None = None
        self._session: SessionState | None = None
        self._quiet = 0.0  # s since safety spoke
        self._markers = publisher(self, "markers")
        subscription(self, "contour", self._on_contour)
        subscription(self, "fingers/state", self._on_fingers)
        subscription(self, "session/state", self._on_session)
        subscription(self, "safety/state", self._on_safety)
        self.create_timer(LOOK, self._on_look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_contour(self, msg: Contour) -> None:
        self._contour = msg

    def _on_fingers(self, msg: FingerState) -> None:
        self._fingers = msg if len(msg.force) == self._layout.n else None

    def _on_session(self, msg: SessionState) -> None:
        self._session = msg

    def _on_look(self) -> None:
        self._quiet += LOOK
        if self._quiet >= SILENCE:  # without a time: the drive's may stand still
            markers = silence_markers(header(self, 0), self._layout)
            self._markers.publish(MarkerArray(markers=markers))

    def _on_safety(self, msg: SafetyState) -> None:
        self._quiet = 0.0
        markers = [words_marker(msg, self._layout, self._session)]
        if self._fingers is not None and len(msg.force_limit) == self._layout.n:
            markers += force_markers(self._layout, self._fingers, floats(msg.force_limit))
        if self._contour is not None:
            markers.append(contour_marker(self._contour))
        self._markers.publish(MarkerArray(markers=markers))


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(MatMarkers, args)
