"""The fault campaign: its tables, its man in the middle, and its quick cases on a real graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from spinemat.errors import InvalidInput
from spinemat.rules import RULES
from spinemat_bringup.campaign.cases import FAULTS
from spinemat_bringup.campaign.command import QUICK, cases
from spinemat_bringup.campaign.fault import Fault
from spinemat_bringup.campaign.run import Campaign
from spinemat_bringup.campaign.tamper import parse
from spinemat_bringup.campaign.trial import MOMENTS
from spinemat_interfaces.msg import DriveState
from spinemat_ros.codec import doubles

pytestmark = pytest.mark.graph

RECENT = {"drive/state": [b"1", b"2", b"3"]}


def test_the_campaign_is_complete() -> None:
    assert len(cases(False, ())) >= 60
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))
    own = [fault.rule for fault in FAULTS if fault.rule]
    assert sorted(own) == sorted(rule.name for rule in RULES), "one case for every rule"
    for fault in FAULTS:
        assert fault.moments and set(fault.moments) <= MOMENTS.keys()
        assert not fault.rule or fault.causes == (fault.rule,) or fault.rule in fault.causes
    assert {moment for _, moment in cases(False, ())} == MOMENTS.keys()
    assert len(cases(True, ())) == len(QUICK)


def passed(text: str, *messages: bytes) -> list[bytes]:
    topic, tamper = parse(text, RECENT)
    assert topic == "drive/state"
    return [after for before in messages for after in tamper(before)]


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ("drop", []),
        ("delay 2", [b"4"]),
        ("duplicate", [b"4", b"4", b"5", b"5", b"6", b"6"]),
        ("swap", [b"5", b"4"]),
        ("replay 2", [b"2", b"3", b"2"]),
    ],
)
def test_messages_are_lost_late_twice_out_of_order_and_replayed(
    fault: str, heard: list[bytes]
) -> None:
    assert passed(f"drive/state {fault}", b"4", b"5", b"6") == heard


def spoilt(text: str, times: int = 1) -> DriveState:
    message = DriveState(cycle=7, force=doubles([1.0, 2.0, 3.0]))
    message.header.stamp.sec = 5
    data = passed(text, *[serialize_message(message)] * times)[-1]
    return deserialize_message(data, DriveState)


def test_fields_are_spoilt() -> None:
    assert np.isnan(spoilt("drive/state set force nan 1").force[1])
    assert list(spoilt("drive/state set force 9").force) == [9.0, 9.0, 9.0]
    assert list(spoilt("drive/state add force -1 2").force) == [1.0, 2.0, 2.0]
    assert list(spoilt("drive/state ramp force 0.5 1.2 0", times=2).force) == [2.0, 2.0, 3.0]
    assert list(spoilt("drive/state ramp force 0.5 1.2 0", times=9).force) == [2.2, 2.0, 3.0]
    assert list(spoilt("drive/state cut force").force) == [1.0, 2.0]
    assert spoilt("drive/state add stamp 10").header.stamp.sec == 15
    assert spoilt("drive/state add cycle 3").cycle == 10
    assert spoilt("drive/state set boot_id other").boot_id == "other"
    flipped = np.array(spoilt("drive/state flip force").force)
    assert np.count_nonzero(flipped != [1.0, 2.0, 3.0]) == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("nowhere drop", "topic"),
        ("drive/state explode", "kind"),
        ("drive/state", "kind"),
        ("drive/state set pain 1", "pain"),
        ("drive/state delay long", "delay"),
        ("drive/state set", "set"),
    ],
)
def test_what_cannot_be_done_is_refused(text: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        parse(text, RECENT)


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    campaign = Campaign(seed=0)
    yield campaign
    campaign.end()


@pytest.mark.parametrize(
    ("fault", "moment"), cases(True, ()), ids=[fault.name for fault, _ in cases(True, ())]
)
def test_the_truth_confirms_every_quick_case(
    campaign: Campaign, fault: Fault, moment: str
) -> None:
    result = campaign.run(fault, moment)
    assert not result.failed, result
