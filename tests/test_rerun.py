"""What a rerun compares: every number that the estimators told."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Imu
from std_msgs.msg import Header

from mats import MAT
from spinemat.analysis import Bag, rerun
from spinemat.analysis.comparing import Comparison
from spinemat.analysis.rerun_results import SCANNED, WATCHED, Results
from spinemat.analysis.rerun_scans import Scans
from spinemat.anatomy import check_intake
from spinemat.back_model import UP
from spinemat.contour import ContourEstimate, SpinePlace
from spinemat.deconvolution import LevelMap
from spinemat.errors import InvalidInput
from spinemat.findings import Findings, SideDifference, TensionPoint
from spinemat.layout import load_layout
from spinemat.posture import PostureWatch
from spinemat.scan_log import Begin, kind, write
from spinemat.stiffness import LevelEstimate
from spinemat.watches import FingerSample
from spinemat_interfaces.msg import Breathing, Event, FingerState, Pressure
from spinemat_recording.bag import Definitions, SessionFolder
from spinemat_recording.node import bag_topic, message_texts
from spinemat_ros.codec import nanoseconds, stamp
from spinemat_sensing.messages import contour_message, pose_message, stiffness_message
from spinemat_sensing.strip import posture_message

LAYOUT = load_layout(MAT)
N = LAYOUT.n
AT = 5_000_000_000  # ns
RNG = np.random.default_rng(1)


def some(count: int) -> Any:
    return RNG.uniform(0.1, 1.0, count)


CONTOUR = ContourEstimate(
    x=np.linspace(0.0, 0.5, 20), z=some(20), z_std=some(20), row_x=some(13), left=some(13),
    right=some(13), valid=np.ones(13, dtype=bool), kyphosis=0.5, kyphosis_std=0.04,
    lordosis=0.4, lordosis_std=0.05, lateral_asymmetry=0.001, lateral_asymmetry_std=1e-4,
    place=SpinePlace(0.01, 0.44, 1e-5 * np.eye(2)),
)  # fmt: skip
FOUND = Findings(
    (TensionPoint("T7", 1.3, 0.9),), (SideDifference("L4", -0.2, 0.8),), some(24), 0.9, 0.01
)
LIES = LevelMap(some(24), some(24), np.eye(24), np.eye(24), 1.0, across=(0.01, 0.002),
                rotation=(0.02, 0.003))  # fmt: skip
ESTIMATES = [LevelEstimate(level, "both", 0.1, 9e3, 300.0) for level in UP[:3]] + [
    LevelEstimate("C1", "both", 0.5, np.nan, np.nan, "not felt")
]
NONE: Any = {"found": None, "lies": None}


class Scan:
    """A scan that has been worked out."""

    contour = CONTOUR

    def __init__(self, found: Findings | None = FOUND, lies: LevelMap | None = LIES) -> None:
        self._found, self.map = found, lies

    def levels(self) -> list[LevelEstimate]:
        return ESTIMATES

    def finger_stiffness(self) -> tuple[Any, Any]:
        return np.full(N, 9e3), np.full(N, 4e3)

    def findings(self) -> Findings | None:
        return self._found


def again(topic: str, message: Any, scan: Any) -> Comparison:
    """Compare a recorded message with what comes of a scan."""
    recorded: dict[str, list[Any]] = {name: [] for name in (*WATCHED, *SCANNED)}
    message.header.stamp = stamp(AT)
    recorded[topic].append(message)
    found: dict[str, Comparison] = {}
    scans = Scans(LAYOUT, Results(recorded, found, 0), [])
    scans._scan = scan
    if topic == "contour":
        scans._compare_contour(AT)
    else:
        scans._evaluate(AT)
    return found[topic]


def spoilt(message: Any, name: str) -> Any:
    """The message with another value in a field."""
    other = deepcopy(message)
    value = getattr(other, name)
    if isinstance(value, float):
        setattr(other, name, 0.25 if value != value else value + 1e-9)
    elif value and isinstance(value[0], str):
        setattr(other, name, [f"{v}x" for v in value])
    elif isinstance(value[0], bool):
        setattr(other, name, [not v for v in value])
    else:
        setattr(other, name, [v + 1e-9 for v in value])
    return other


CASES = [("contour", contour_message(Header(), CONTOUR), Scan())]
for chosen in ({"found": FOUND, "lies": LIES}, NONE):
    map_ = stiffness_message(Header(), ESTIMATES, np.full(N, 9e3), np.full(N, 4e3), **chosen)
    CASES.append(("stiffness", map_, Scan(**chosen)))


@pytest.mark.parametrize(("topic", "message", "scan"), CASES)
def test_every_number_of_a_scan_is_compared(topic: str, message: Any, scan: Any) -> None:
    same = again(topic, deepcopy(message), scan)
    assert same.compared == 1 and same.equal, same.largest
    names = set(message.get_fields_and_field_types()) - {"header", "method", "levels"}
    for name in sorted(names):
        if isinstance(getattr(message, name), float) or len(getattr(message, name)):
            assert not again(topic, spoilt(message, name), scan).equal, name
    if topic == "stiffness":
        others = {"value": 0.25, "standard_error": 0.25, "stands_out": 0.25, "valid": False}
        for name, value in (others | {"reason": "not felt"}).items():
            other = deepcopy(message)
            setattr(other.levels[0], name, value)
            assert not again(topic, other, scan).equal, name


def test_how_the_body_lies_is_compared() -> None:
    message = pose_message(Header(), CONTOUR, LIES)
    assert again("body_pose", deepcopy(message), Scan()).equal
    for part, name in (("position", "y"), ("position", "z"), ("orientation", "w")):
        other = deepcopy(message)
        field = getattr(other.pose.pose, part)
        setattr(field, name, getattr(field, name) + 1e-9)
        assert not again("body_pose", other, Scan()).equal, name
    other = deepcopy(message)
    other.pose.covariance[7] += 1e-9
    assert not again("body_pose", other, Scan()).equal


def test_a_recording_from_before_a_field_came_is_compared_without_it() -> None:
    message = CASES[1][1]
    fields = message.get_fields_and_field_types()
    older = SimpleNamespace(
        **{name: getattr(message, name) for name in fields if name != "across"}
    )
    older.levels = [
        SimpleNamespace(value=v.value, standard_error=v.standard_error, valid=v.valid)
        for v in message.levels
    ]
    older.header = SimpleNamespace(stamp=None)
    assert again("stiffness", older, Scan()).equal


@pytest.mark.parametrize(("told", "equal"), [(7_000_000_000, True), (7_000_000_001, False)])
def test_the_end_of_the_next_breath_is_compared(told: int, equal: bool) -> None:
    message = Breathing(rate=0.2, phase=1.0, amplitude=0.003, quality=0.8, valid=True)
    message.header.stamp, message.next_end_expiration = stamp(AT), stamp(told)
    recorded: dict[str, list[Any]] = {name: [] for name in (*WATCHED, *SCANNED)}
    recorded["breathing"].append(message)
    found: dict[str, Comparison] = {}
    breath = SimpleNamespace(rate=0.2, phase=1.0, amplitude=0.003, quality=0.8, valid=True)
    felt = SimpleNamespace(
        breath=breath, reaction=None, running=None, tell_guarding=False, tell_presence=False,
        slow=True, load=np.zeros(13), next_end_expiration=7_000_000_000,
    )  # fmt: skip
    none = np.zeros(N)
    sample = FingerSample(9, AT, none, none, none, none.astype(np.int64), none.astype(bool))
    Results(recorded, found, 0).felt(sample, felt)
    assert found["breathing"].compared == 1 and found["breathing"].equal == equal


@pytest.mark.parametrize(("told", "equal"), [((0, 1, 2), True), ((0, 1), True), ((0, 2), False)])
def test_what_the_node_never_told_is_told(told: tuple[int, ...], equal: bool) -> None:
    """Unless the recording, or the node, had ended by then."""
    recorded: dict[str, list[Any]] = {name: [] for name in (*WATCHED, *SCANNED)}
    for k in told:
        recorded["pressure"].append(Pressure(fingers=np.zeros(13)))
        recorded["pressure"][-1].header.stamp = stamp((5 + k) * AT)
    felt = SimpleNamespace(
        breath=None, reaction=None, running=None, tell_guarding=False, tell_presence=False,
        slow=True, load=np.zeros(13), next_end_expiration=0,
    )  # fmt: skip
    for whole in (False, True):
        found: dict[str, Comparison] = {}
        results = Results(recorded, found, 0, whole)
        for k in range(3):
            none = np.zeros(N)
            results.felt(
                FingerSample(
                    9 + k, (5 + k) * AT, none, none, none, none.astype(np.int64), none.astype(bool)
                ),
                felt,
            )
        assert found["pressure"].equal == equal and found["pressure"].compared == len(told)
        if whole:  # a topic that the recorder kept, and on which nothing was told
            assert found["breathing"].unmatched == max(told)
        else:
            assert "breathing" not in found


PLACES = np.array([0.0, 0.15, 0.3, 0.45])
ABOUT = {
    "mat": json.dumps({"file": MAT.read_text(encoding="utf-8")}),
    "parameters": json.dumps({"spine_contour": {"posture_strip": PLACES.tolist()}}),
}


class Curves:
    """Takes what the strip's listener would publish, as messages."""

    def __init__(self) -> None:
        self.watch = PostureWatch(PLACES)
        self.told: list[tuple[int, Any]] = []

    def get_namespace(self) -> str:
        return "/mat"

    def hear(self, m: Imu, drive: int) -> None:
        q, at = m.orientation, nanoseconds(m.header.stamp)
        direction = np.array([q.x, q.y, q.z, q.w])
        with suppress(InvalidInput):
            found = self.watch.add(
                m.header.frame_id, at, direction, m.orientation_covariance, drive
            )
            if found is not None:
                self.told.append((at, posture_message(self, at, found)))  # type: ignore[arg-type]


@pytest.mark.parametrize("spoil", [False, True])
@pytest.mark.parametrize("begin", [0, 700])  # ms, of the recording: from the middle on, too
def test_the_posture_strip_is_run_again(tmp_path: Path, begin: int, spoil: bool) -> None:
    """With a direction that was refused, and a person who is scanned, and leaves."""
    curves = Curves()
    said: list[tuple[str, int, Any]] = []
    for ms in range(0, 3000, 20):
        state = FingerState(cycle=ms // 4, position=[0.0] * N, force=[0.0] * N)
        state.set_point, state.mode, state.contact = [0.0] * N, bytes(N), [False] * N
        state.header.stamp = stamp(AT + ms * 10**6)
        said.append(("fingers/state", ms, state))
        if ms == 1000:
            entry = Begin(ms // 4, "male", 40.0, 1.756, 82.0, False, True, True, 0, None)
            log = Event(kind=kind(entry), data=write(entry))
            log.header.stamp = state.header.stamp
            said.append(("scan/inputs", ms, log))
            curves.watch.intake = check_intake("male", 40.0, 1.756, 82.0)
        for i in range(PLACES.size):
            bend = 0.05 * i + 1e-5 * ms
            m = Imu(orientation=Quaternion(y=-np.sin(bend), w=np.cos(bend)))
            m.header.frame_id = f"mat/posture_{i if ms != 1500 else 9}"
            m.header.stamp = stamp(AT + ms * 10**6 + 10**6 * (1 + i))
            said.append(("posture/imu", ms, m))
            curves.hear(m, AT + ms * 10**6)
    assert curves.told[0][1].levels == [] and "T12" in curves.told[-1][1].levels
    if spoil:
        curves.told[-2][1].level_pitch[1] += 1e-9
    said += [("posture", (at - AT) // 10**6, m) for at, m in curves.told]
    folder = SessionFolder(tmp_path, Definitions(message_texts()), about=dict(ABOUT))
    for name, ms, m in sorted(said, key=lambda entry: entry[1]):
        if ms >= begin:
            topic = bag_topic(name, f"/mat/{name}")
            folder.write(topic, AT + ms * 10**6, serialize_message(m))
    folder.close()
    found = rerun(Bag(tmp_path), what=("estimators",))
    posture = found.comparisons["posture"]
    assert posture.compared > 15 and posture.missing == posture.unmatched == 0, found
    assert posture.equal != spoil and not found.notes
