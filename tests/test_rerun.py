"""What a rerun compares: every number that the estimators told."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from std_msgs.msg import Header

from mats import MAT
from spinemat.analysis.comparing import Comparison
from spinemat.analysis.rerun import SCANNED, WATCHED, _Results, _Scans
from spinemat.back_model import UP
from spinemat.contour import ContourEstimate, SpinePlace
from spinemat.deconvolution import LevelMap
from spinemat.findings import Findings, SideDifference, TensionPoint
from spinemat.layout import load_layout
from spinemat.stiffness import LevelEstimate
from spinemat.watches import FingerSample
from spinemat_interfaces.msg import Breathing, Pressure
from spinemat_ros.codec import stamp
from spinemat_sensing.messages import contour_message, stiffness_message

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
    scans = _Scans(LAYOUT, _Results(recorded, found, 0), [])
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
        for name in ("value", "standard_error", "stands_out", "valid"):
            other = deepcopy(message)
            setattr(other.levels[0], name, False if name == "valid" else 0.25)
            assert not again(topic, other, scan).equal, name


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
    _Results(recorded, found, 0).felt(sample, felt)
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
        results = _Results(recorded, found, 0, whole)
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
