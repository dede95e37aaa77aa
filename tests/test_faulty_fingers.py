"""The real graph with broken fingers: named, left out, and back when they are mended."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters

from graphs import LAYOUT, PAIR, Mat, running
from mats import MAT
from spinemat.self_test import parse_calibration
from spinemat_bringup.graph import NodeSpec
from spinemat_bringup.processes import command
from spinemat_interfaces.action import ScanSpine
from spinemat_interfaces.msg import FingerState
from spinemat_ros.codec import doubles, floats, uint16s

pytestmark = pytest.mark.graph

BROKEN = ("r06_left encoder_stuck",)
STRING_ARRAY, DOUBLE = 9, 3  # rcl_interfaces/ParameterType


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mat]:
    with running(tmp_path_factory.mktemp("faulty"), "/faulty", BROKEN) as mat:
        events = mat.client.events
        mat.client.wait(lambda: any(e.kind == "self-test" for e in events), 60.0, "self-test")
        yield mat


@pytest.fixture
def mat(shared: Mat) -> Mat:
    shared.safe()
    return shared


def set_parameter(mat: Mat, node: str, name: str, value: ParameterValue) -> tuple[bool, str]:
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    result = mat.client.call(SetParameters, f"{node}/set_parameters", request).results[0]
    return result.successful, result.reason


def break_fingers(mat: Mat, *faults: str) -> tuple[bool, str]:
    value = ParameterValue(type=STRING_ARRAY, string_array_value=list(faults) or [""])
    return set_parameter(mat, "mat_simulator", "finger_faults", value)


def test_a_broken_finger_is_named_everywhere(mat: Mat) -> None:
    said = [e for e in mat.client.events if e.kind == "self-test"]
    assert "25 of 26" in said[0].text and "r06_left (does not move" in said[0].text
    states: list[FingerState] = []
    arrays: list[DiagnosticArray] = []
    mat.client.listen("fingers/state", states.append)
    mat.client.listen("/diagnostics", arrays.append)
    mat.client.wait(lambda: bool(states and arrays), 30.0, "fingers/state, diagnostics")
    modes = np.array(states[-1].mode)
    assert np.flatnonzero(modes == FingerState.EXCLUDED).tolist() == [PAIR[0]]
    status = {s.name.split(": ")[-1]: s for s in arrays[-1].status}
    assert status["r06_left"].level == DiagnosticStatus.ERROR
    assert "excluded: does not move" in status["r06_left"].message
    values = {v.key: v.value for v in status["r06_right"].values}
    assert 0.7 < float(values["friction / N"]) < 1.4


def test_its_load_goes_to_neighbours_or_is_refused(mat: Mat) -> None:
    refused = mat.press()
    assert not refused.success
    for word in ("r06_left", "does not move", "neighbour"):
        assert word in refused.message
    result = mat.press(
        fingers=uint16s([8, 9, 10, 11, 12, 13]), preload=doubles([2.0] * 6),
        amplitude=doubles([4.0] * 6), cycles=3.0, duration=0.0, mass=75.0,
    )  # fmt: skip
    assert result.success, result.message
    assert list(result.contact) == [True, True, False, True, True, True]
    peaks = np.max([m.peak_force for m in mat.truth], axis=0)
    assert peaks[[8, 9, 10, 11, 12, 13]] == pytest.approx([9.0, 6.0, 0.0, 6.0, 9.0, 6.0], abs=1.0)


def test_a_scan_goes_on_without_it(mat: Mat) -> None:
    goal = ScanSpine.Goal(sex="male", age=41.0, stature=1.756, mass=81.9, stiffness=False)
    result = mat.client.scan(goal, lambda _: None, lambda: True)
    assert result.success, result.message
    row = PAIR[0] // 2
    assert np.isnan(floats(result.contour.left)[row])
    assert np.isfinite(np.delete(floats(result.contour.left), row)).sum() >= 10


def test_a_mended_finger_comes_back_after_a_calibration(mat: Mat) -> None:
    done, reason = break_fingers(mat, "r99 jammed")
    assert not done and "r99" in reason
    mat.retracted()
    assert break_fingers(mat)[0]
    result = mat.client.calibrate(True, lambda: True)
    assert result.success and "all 26 fingers passed" in result.message
    assert not any(result.fault) and list(result.name) == list(LAYOUT.names)
    assert floats(result.friction) == pytest.approx(1.0, abs=0.4)
    file = mat.processes.log_dir.parent / "calibration_mat.yaml"
    kept = parse_calibration(LAYOUT, file.read_text())
    assert kept.zero == pytest.approx(floats(result.zero), abs=1e-3)
    pressed = mat.press(cycles=1.0, duration=0.0, mass=75.0)
    assert pressed.success, f"{pressed.message}: {mat.client.safety}"


def test_gains_are_described_and_guarded(mat: Mat) -> None:
    names = ["gains.omega_known", "gains.slew"]
    ask = DescribeParameters.Request(names=names)
    told = mat.client.call(DescribeParameters, "finger_actuation/describe_parameters", ask)
    known, slew = told.descriptors
    assert "rad/s" in known.description and known.floating_point_range[0].to_value == 40.0
    assert slew.read_only and not known.read_only

    def change(name: str, value: float) -> tuple[bool, str]:
        wanted = ParameterValue(type=DOUBLE, double_value=value)
        return set_parameter(mat, "finger_actuation", name, wanted)

    mat.retracted()
    assert change("gains.omega_known", 25.0)[0]
    assert not change("gains.omega_known", 1000.0)[0]
    assert not change("gains.slew", 50.0)[0], "a limit of safety"
    now = GetParameters.Request(names=names)
    values = mat.client.call(GetParameters, "finger_actuation/get_parameters", now).values
    assert [v.double_value for v in values] == [25.0, 100.0]
    press = mat.begin()
    mat.client.wait(mat.loaded, 60.0, "press")
    done, reason = change("gains.omega_known", 30.0)
    assert not done and "while no finger is driven" in reason
    press.cancel()
    mat.client.wait(lambda: press.done, 30.0, "cancel")


def test_a_strip_that_cannot_be_ends_the_sensing_node_at_start() -> None:
    spec = NodeSpec("spine_contour", "spinemat_sensing", "spine_contour", True,
                    {"mat_config": str(MAT), "posture_strip": [0.0, 0.2, 0.1]})  # fmt: skip
    ended = subprocess.run(command(spec, "/bad"), capture_output=True, text=True, timeout=60)
    lines = [line for line in ended.stderr.splitlines() if line]
    assert ended.returncode == 2 and len(lines) == 1
    assert "posture_strip" in lines[0] and "ascending" in lines[0]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"gains.omega_known": 1000.0}, ("gains.omega_known", "1000.0", "2 to 40")),
        ({"gains.slew": 200.0}, ("gains.slew", "200.0", "10 to 100")),
        ({"gains.omega_known": 30}, ("gains.omega_known", "30", "decimal point")),
        ({"gains.contact_off": 0.9}, ("gains.contact_off", "0.9", "contact_on")),
        ({"calibration_file": str(MAT)}, ("calibration", "mat.yaml")),
        ({"mat_config": "/nowhere/mat.yaml"}, ("mat file", "/nowhere/mat.yaml")),
    ],
)
def test_a_bad_parameter_ends_the_node_at_start(
    parameters: dict[str, object], words: tuple[str, ...]
) -> None:
    spec = NodeSpec("finger_actuation", "spinemat_actuation", "finger_actuation", True,
                    {"mat_config": str(MAT), **parameters})  # fmt: skip
    ended = subprocess.run(command(spec, "/bad"), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if line]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
