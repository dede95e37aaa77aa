"""What RViz shows of a mat: contour, forces, words, and that nobody watches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from mats import MAT
from spinemat.layout import load_layout
from spinemat_bringup.markers import (
    LEAST,
    LENGTH,
    LOOK,
    SILENCE,
    MatMarkers,
    colour,
    contour_marker,
    force_markers,
    silence_markers,
    words_marker,
)
from spinemat_interfaces.msg import Contour, FingerState, SafetyState, SessionState
from spinemat_ros.codec import doubles

LAYOUT = load_layout(MAT)
HEAD = Header(frame_id="mat/mat")
LIMIT = np.full(LAYOUT.n, 40.0)


def fingers(**forces: float) -> FingerState:
    """Fingers by name with their forces (N); the others press nothing."""
    force = [forces.get(name, 0.0) for name in LAYOUT.names]
    height = doubles(np.full(LAYOUT.n, 0.02))
    return FingerState(header=HEAD, force=doubles(force), position=height)


def test_a_force_is_green_yellow_or_red_by_its_share_of_the_limit() -> None:
    seen = [(c.r, c.g) for c in map(colour, (-1.0, 0.0, 0.5, 1.0, 3.0))]
    assert seen == [(0.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (1.0, 0.0)]


def test_only_fingers_that_press_have_an_arrow() -> None:
    first, second, third = LAYOUT.names[:3]
    state = fingers(**{first: 20.0, second: 0.9 * LEAST, third: math.nan})
    arrows = force_markers(LAYOUT, state, LIMIT)
    assert [arrow.id for arrow in arrows] == list(range(LAYOUT.n))
    assert [a.action for a in arrows] == [Marker.ADD] + [Marker.DELETE] * (LAYOUT.n - 1)
    arrow = arrows[0]
    foot, tip = arrow.points
    assert (foot.x, foot.y, foot.z) == (LAYOUT.x[0], LAYOUT.y[0], 0.02)
    assert (tip.x, tip.y) == (foot.x, foot.y)
    assert tip.z - foot.z == pytest.approx(20.0 * LENGTH)
    assert arrow.color == colour(0.5)
    assert arrow.header == HEAD


def test_a_contour_is_a_line_of_what_was_felt() -> None:
    felt = Contour(header=HEAD)
    felt.x, felt.z = doubles([0.0, 0.1, 0.2]), doubles([0.01, math.nan, 0.02])
    line = contour_marker(felt)
    assert line.action == Marker.ADD
    assert [(p.x, p.y, p.z) for p in line.points] == [(0.0, 0.0, 0.01), (0.2, 0.0, 0.02)]
    felt.z = doubles([0.01, math.nan, math.nan])
    assert contour_marker(felt).action == Marker.DELETE


def test_the_words_are_those_of_safety_and_session() -> None:
    safety = SafetyState(header=HEAD, state=SafetyState.STARTING, waiting_for=["a", "b", "c", "d"])
    assert words_marker(safety, LAYOUT, None).text == "STARTING\na\nb\nc"
    safety = SafetyState(state=SafetyState.STOPPED, cause="force", detail="r06_left: 52 N")
    session = SessionState(phase=SessionState.PAUSED, progress=0.42)
    text = words_marker(safety, LAYOUT, session)
    assert text.text == "STOPPED: force\nr06_left: 52 N\npaused, 42 %"
    assert text.color.r > 2.0 * text.color.g
    session.phase = SessionState.IDLE
    ready = words_marker(SafetyState(state=SafetyState.READY), LAYOUT, session)
    assert ready.text == "READY" and ready.color.g > ready.color.r


def test_silence_replaces_words_and_takes_all_arrows_away() -> None:
    text, *arrows = silence_markers(HEAD, LAYOUT)
    words = words_marker(SafetyState(header=HEAD, state=SafetyState.READY), LAYOUT, None)
    assert text.text.startswith("NO SUPERVISOR") and text.color.r > 2.0 * text.color.g
    assert (text.ns, text.id, text.type) == (words.ns, words.id, words.type)
    pressing = force_markers(LAYOUT, fingers(**dict.fromkeys(LAYOUT.names, 9.0)), LIMIT)
    assert [(a.ns, a.id) for a in arrows] == [(a.ns, a.id) for a in pressing]
    assert {a.action for a in arrows} == {Marker.DELETE}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[MatMarkers]:
    """A node that nobody turns and that meets no other."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    rclpy.init(args=["--ros-args", "-r", "__ns:=/mat", "-p", f"mat_config:={MAT}"])
    made = MatMarkers()
    try:
        yield made
    finally:
        made.destroy_node()
        rclpy.try_shutdown()


def test_a_supervisor_that_falls_silent_is_missed(
    node: MatMarkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[MarkerArray] = []
    monkeypatch.setattr(node._markers, "publish", shown.append)
    (timer,) = [t for t in node.timers if t.timer_period_ns == round(LOOK * 1e9)]
    node._on_safety(SafetyState(header=HEAD, state=SafetyState.MOVING))
    looks = round(SILENCE / LOOK)
    for _ in range(looks - 1):
        timer.callback()
    assert [m.markers[0].text for m in shown] == ["MOVING"]
    timer.callback()
    assert shown[-1].markers[0].text.startswith("NO SUPERVISOR")
    assert {m.header.frame_id for m in shown[-1].markers} == {"mat/mat"}
    node._on_safety(SafetyState(header=HEAD, state=SafetyState.READY))
    timer.callback()
    assert shown[-1].markers[0].text == "READY"
