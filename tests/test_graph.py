"""The real nodes as real processes, judged by the simulator's truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Quaternion
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Imu, JointState
from std_srvs.srv import SetBool, Trigger

from graphs import LAYOUT, PAIR, RELEASED, STRIP, Mat, running, session_goal
from mats import MAT, XACRO
from spinemat.analysis import Bag, rerun
from spinemat.analysis.bags import about_json
from spinemat_bringup.client import MatClient, NoAnswer
from spinemat_bringup.graph import NodeSpec
from spinemat_interfaces.action import Press, RunSession
from spinemat_interfaces.msg import Contour, Presence, SafetyState, SessionState
from spinemat_ros.codec import doubles, floats, uint16s
from spinemat_sim.urdf import expand_urdf

pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mat]:
    with running(tmp_path_factory.mktemp("graph"), profile="all") as mat:
        yield mat


@pytest.fixture
def mat(shared: Mat) -> Mat:
    shared.safe()
    return shared


def test_a_press_reaches_its_forces_and_lets_go(mat: Mat) -> None:
    start = len(mat.truth)
    said: list[Press.Feedback] = []
    result = mat.press(cycles=3.0, duration=0.0, mass=75.0, feedback=said.append)
    assert result.success, result.message
    phases = [f.phase for f in said]
    assert phases == sorted(phases) and Press.Feedback.RHYTHM in phases
    assert 2.0 < max(f.turn for f in said) <= 3.01
    assert result.end_cycle > result.loaded_cycle + 6.0 / LAYOUT.cycle - 1
    assert min(result.indentation) > 0.001 and max(result.indentation) < 0.015
    assert min(result.work) > 0.0 and max(result.work) < 0.5
    assert result.tracking_error < 0.5
    peaks = np.max([m.peak_force for m in mat.truth[start:]], axis=0)
    assert peaks[PAIR] == pytest.approx([10.0, 10.0], abs=1.0)
    others = np.delete(peaks, PAIR)
    assert others.max() < 0.1
    mat.retracted()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"amplitude": doubles([500.0, 8.0])}, ("amplitude", "500", "0 to 18 N")),
        ({"amplitude": doubles([math.nan, 8.0])}, ("amplitude", "nan")),
        ({"preload": doubles([-1.0, 2.0])}, ("preload", "-1.0", "0.5 to 20 N")),
        ({"fingers": uint16s([10, 26])}, ("fingers", "26", "r13_right")),
        ({"fingers": uint16s([10, 10])}, ("fingers", "once")),
        ({"fingers": uint16s([])}, ("fingers", "1 to 26")),
        ({"rate": 1e6}, ("rate", "1.5 Hz")),
        ({"duration": math.inf}, ("duration", "120 s")),
        ({"approach_speed": 0.5}, ("approach_speed", "0.03 m/s")),
        ({"waveform": 9}, ("waveform", "RAISED_COSINE")),
        ({"mass": 500.0}, ("mass", "500", "35 to 165 kg")),
        ({"cycles": math.nan}, ("cycles", "nan")),
        ({"amplitude": doubles([18.0, 18.0]), "rate": 1.9}, ("rate", "1.5 Hz")),
        ({"preload": doubles([15.0, 15.0]), "amplitude": doubles([2.0, 2.0])}, ("10 N", "5 s")),
    ],
)
def test_a_bad_press_is_refused_with_the_field_and_nothing_moves(
    mat: Mat, fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    mat.retracted()
    start = len(mat.truth)
    result = mat.press(**fields)
    assert not result.success
    for word in words:
        assert word in result.message
    assert "\n" not in result.message
    mat.cycles(50)
    assert np.max([m.position for m in mat.truth[start:]]) < -0.008


def test_joint_states_name_the_joints_of_the_description(mat: Mat) -> None:
    states: list[JointState] = []
    mat.client.listen("joint_states", states.append)
    mat.client.wait(lambda: bool(states), 20.0, "joint_states")
    urdf = ElementTree.fromstring(expand_urdf(XACRO, MAT))
    joints = [j.get("name") for j in urdf.iter("joint") if j.get("type") == "prismatic"]
    assert list(states[0].name) == joints
    assert len(states[0].position) == len(joints) == LAYOUT.n


def test_diagnostics_tell_of_every_finger(mat: Mat) -> None:
    heard: list[DiagnosticArray] = []
    mat.client.listen("/diagnostics", heard.append)
    mat.client.wait(lambda: bool(heard), 20.0, "diagnostics")
    names = [s.name.split(": ")[-1] for s in heard[0].status]
    assert names[1:] == list(LAYOUT.names)
    for status in heard[0].status[1:]:
        values = {v.key: v.value for v in status.values}
        assert status.level == DiagnosticStatus.OK and status.message == "ok"
        assert 20.0 < float(values["temperature / degC"]) < 40.0
        assert float(values["calibration age / s"]) < 3600.0
        assert status.hardware_id == LAYOUT.name


def test_who_lies_there_is_felt_and_told(mat: Mat) -> None:
    """Presence, guarding and running stiffness while a pair presses."""
    c = mat.client
    told: dict[str, list[Any]] = {"presence": [], "guarding": [], "stiffness/running": []}
    for topic, heard in told.items():
        c.listen(topic, heard.append)
    press = mat.begin(rate=1.0, mass=75.0)
    c.wait(lambda: bool(told["stiffness/running"]), 60.0, "stiffness/running")
    press.cancel()
    c.wait(lambda: press.done, 30.0, "cancel")
    assert any(m.presence == Presence.PRESENT for m in told["presence"])
    assert not any(m.moving for m in told["presence"])
    assert not any(m.active for m in told["guarding"])
    running = told["stiffness/running"][-1]
    value = floats(running.value)
    assert value[PAIR].min() > 1000.0 and value[PAIR].max() < 30000.0 and running.method
    assert np.isnan(np.delete(value, PAIR)).all()
    mat.retracted()


def test_a_posture_strip_becomes_a_curve_and_bad_directions_are_refused(mat: Mat) -> None:
    c = mat.client
    curves: list[Contour] = []
    c.listen("posture", curves.append)
    strip = c.publisher("posture/imu")
    c.wait(lambda: strip.get_subscription_count() > 0, 30.0, "spine_contour on posture/imu")

    def tell(stamp: Time, bad: bool = False) -> None:
        for i in range(len(STRIP)):
            q = Quaternion(y=-math.sin(0.05 * i), w=math.cos(0.05 * i))  # 0.1 rad more each
            m = Imu(orientation=Quaternion(w=3.0) if bad else q)
            m.header.stamp, m.header.frame_id = stamp, f"mat/posture_{i}"
            strip.publish(m)

    def fresh(bad: bool = False) -> None:
        mat.cycles(5)
        tell(mat.truth[-1].header.stamp, bad)

    def told() -> bool:
        fresh()
        return bool(curves)

    c.wait(told, 30.0, "posture")
    found = curves[-1]
    assert found.header.frame_id == "mat/posture"
    z, x = floats(found.z), floats(found.x)
    assert z.min() == pytest.approx(-0.45 * 0.3 / 8.0, rel=0.1), "an arc under its chord"
    assert x[-1] == pytest.approx(0.45, abs=0.003) and floats(found.z_std).max() < 0.01
    known = len(c.events)

    def refused() -> bool:
        fresh(bad=True)
        new = [e.text for e in c.events[known:] if e.source == "spine_contour"]
        return any("orientation" in text for text in new)

    c.wait(refused, 30.0, "a refused direction")
    c.withdraw(strip)


def test_cancel_releases_smoothly(mat: Mat) -> None:
    result = mat.press(wanted=lambda: not mat.loaded())
    assert not result.success
    assert "cancel" in result.message
    assert mat.client.safety.state != SafetyState.STOPPED
    mat.client.wait(lambda: bool((mat.force < RELEASED).all()), 20.0, "release")


def test_stop_releases_latches_and_needs_a_reset(mat: Mat) -> None:
    asked = []

    def wanted() -> bool:
        if not asked and mat.loaded():
            asked.append(len(mat.truth))
            assert mat.client.trigger("stop")[0]
        return True

    result = mat.press(wanted=wanted)
    assert not result.success
    c = mat.client
    c.wait(lambda: c.safety.state == SafetyState.STOPPED, 20.0, "STOPPED")
    mat.retracted()
    assert c.safety.cause == "stop requested"
    refused = mat.press(duration=2.0)
    assert not refused.success
    assert "permit" in refused.message
    assert c.reset("", "no name")[0] is False
    assert c.reset("test", "all fingers are down")[0]
    c.wait_ready()
    mat.cycles(100)
    assert mat.height.max() < -0.008, "nothing may resume by itself"


def test_letting_go_of_the_hand_control_stops(mat: Mat) -> None:
    let_go = []

    def hold(held: bool) -> None:
        mat.client.call(SetBool, "mat_simulator/hold_hand_control", SetBool.Request(data=held))

    def wanted() -> bool:
        if not let_go and mat.loaded():
            let_go.append(mat.truth[-1].cycle)
            hold(False)
        return True

    mat.press(wanted=wanted)
    c = mat.client
    c.wait(lambda: c.safety.state == SafetyState.STOPPED, 20.0, "STOPPED")
    c.wait(lambda: bool((mat.force < RELEASED).all()), 20.0, "release")
    assert c.safety.cause in ("hand control", "drive watchdog")
    mat.retracted()
    refused, message = c.reset("test", "still released")
    assert not refused
    assert "hand control" in message
    hold(True)
    mat.cycles(50)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"programme": "nonsense"}, ("programme", "nonsense", "demo")),
        ({"stature": 3.0}, ("stature", "3.0", "1.5 to 1.98 m")),
        ({"mass": math.nan}, ("mass", "nan", "35 to 165 kg")),
        ({"person_id": ""}, ("person_id",)),
    ],
)
def test_a_bad_session_is_refused_with_the_field(
    mat: Mat, fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    c = mat.client
    result = c.run_session(session_goal(**fields), lambda s: None, lambda: True)
    assert not result.success
    for word in words:
        assert word in result.message


def test_a_second_session_is_refused_and_cancel_ends_the_first(mat: Mat) -> None:
    c = mat.client
    answers: list[RunSession.Result] = []
    busy = []

    def wanted() -> bool:
        scanning = c.session is not None and c.session.phase == SessionState.SCAN
        if scanning and not busy:
            busy.append(True)
            answers.append(
                c.run_session(session_goal(person_id="p2"), lambda s: None, lambda: True)
            )
        return not answers

    first = c.run_session(session_goal(), lambda s: None, wanted)
    assert "one session at a time" in answers[0].message
    assert first.message == "cancelled"
    mat.retracted()
    c.wait_recorded(first.folder)
    assert (Path(first.folder) / "session.json").is_file()
    assert list((Path(first.folder) / "bag").glob("*.mcap"))
    bag = Bag(first.folder)
    assert about_json(bag, "person")["id"] == "p1"
    again = rerun(bag, what=("estimators",))  # the node's code over what the node got
    assert again.comparisons["guarding"].compared and again.equal, again.comparisons


class Lost(Exception):
    """Raised by a service: the request is taken, and nothing is sent back."""


@contextmanager
def deaf(services: dict[str, tuple[Any, Callable[[Any, Any], Any]]]) -> Iterator[MatClient]:
    """A client, and a server of its namespace that turns while the client waits."""
    with MatClient("/deaf") as c:
        context = Context()
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        node = Node("server", namespace="/deaf", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        for name, (kind, answer) in services.items():
            node.create_service(kind, name, answer)

        def serve() -> None:
            with suppress(Lost):
                executor.spin_once(timeout_sec=0.01)

        c.check = serve
        try:
            yield c
        finally:
            executor.shutdown()
            node.destroy_node()
            context.try_shutdown()


def test_an_answer_that_was_lost_is_asked_for_again_unless_that_could_do_harm() -> None:
    asked: list[str] = []

    def answer(name: str, request: Any, response: Any) -> Any:
        asked.append(name)
        if asked.count(name) == 1:
            raise Lost
        response.success, response.message = True, "done"
        return response

    with deaf({name: (Trigger, partial(answer, name)) for name in ("stop", "resume")}) as c:
        assert c.trigger("stop") == (True, "done")
        with pytest.raises(NoAnswer, match="resume"):
            c.trigger("resume")
    assert asked == ["stop", "stop", "resume"]


def test_a_managed_node_whose_answer_was_lost_is_not_asked_for_the_same_transition_again() -> None:
    state = [State.PRIMARY_STATE_UNCONFIGURED]
    asked: list[int] = []

    def change(request: ChangeState.Request, response: ChangeState.Response) -> Any:
        asked.append(request.transition.id)
        state[0] += 1  # unconfigured, inactive, active
        if len(asked) == 1:
            raise Lost
        response.success = True
        return response

    def tell(_request: Any, response: GetState.Response) -> Any:
        response.current_state.id = state[0]
        return response

    services = {"n/change_state": (ChangeState, change), "n/get_state": (GetState, tell)}
    with deaf(services) as c:
        c.bring_up([NodeSpec("n", "", "", lifecycle=True)])
    assert asked == [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE]
