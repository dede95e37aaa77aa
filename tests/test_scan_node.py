"""The scan of spine_contour alone, in this process, with presses in the plant beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.lifecycle import LifecycleState

from graphs import lone
from mats import MAT
from spinemat.layout import load_layout
from spinemat_actuation.messages import press_goal, press_result
from spinemat_interfaces.action import Press, ScanSpine
from spinemat_ros.script import Ending, start
from spinemat_sensing.node import SpineContour
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.patient_file import presets
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.urdf import plain_urdf

LAYOUT = load_layout(MAT)
ADULT = presets()["average_adult"]
SLID = "5 fingers are carried along"


class Plants:
    """In place of the action `fingers/press`: presses in the plant, and says when a person moved.

    Args:
        node: whose samples these are.
        moves: presses (counted from 1) in which the person is felt to move.
    """

    def __init__(self, node: SpineContour, *moves: int) -> None:
        self.node, self.moves = node, moves
        self.loop = ClosedLoop(Plant(LAYOUT, lie_down(ADULT), plain_urdf(LAYOUT), 5))
        self.presses = 0

    async def find(self) -> None:
        """It is there."""

    def ready(self) -> bool:
        """It is there."""
        return True

    def poll(self) -> None:
        """Nothing to cancel."""

    async def call(self, goal: Press.Goal, unwanted: Callable[[], bool]) -> Press.Result:
        self.presses += 1
        self.loop.samples.clear()
        run, _ = self.loop.press(press_goal(LAYOUT, goal, {}))
        for cycle, *felt in zip(*self.loop.samples.window(0, self.loop.cycle), strict=True):
            self.node._samples.add(int(cycle), *felt)
        if self.presses in self.moves:
            self.node._moved = SLID
        return press_result(run, True, "")


@pytest.fixture
def node() -> Iterator[SpineContour]:
    with lone(SpineContour, mat_config=MAT) as made:
        made.on_configure(LifecycleState(0, "unconfigured"))
        made.on_activate(LifecycleState(0, "inactive"))
        yield made


def scan(
    node: SpineContour, *moves: int
) -> tuple[Ending, ScanSpine.Result, list[str], list[ScanSpine.Feedback]]:
    """Scan the average adult; return how it ended, what events said, and the feedback."""
    told: list[str] = []
    node._voice.say = lambda kind, text, *a, **k: told.append(text)  # type: ignore[method-assign]
    node._press = Plants(node, *moves)  # type: ignore[assignment]
    goal = ScanSpine.Goal(
        sex=ADULT.sex, age=float(ADULT.age), stature=ADULT.stature, mass=ADULT.mass, stiffness=True
    )
    feedback: list[ScanSpine.Feedback] = []
    handle = SimpleNamespace(
        request=goal, is_cancel_requested=False, publish_feedback=feedback.append
    )
    ended: list[tuple[Ending, ScanSpine.Result]] = []

    async def run() -> None:
        ended.append(await node._scan(handle))  # type: ignore[arg-type]

    start(run())
    while not ended:
        node._cycles.seen(node._cycles.cycle + 25)
    return (*ended[0], told, feedback)


def test_a_person_who_moves_is_scanned_again_and_the_second_scan_counts(
    node: SpineContour,
) -> None:
    ending, result, told, feedback = scan(node, 4)
    assert ending is Ending.SUCCEEDED and result.success, result.message
    assert [text for text in told if SLID in text] == [f"scan: {SLID}"]
    assert sum(one.valid for one in result.stiffness.levels if one.side == one.BOTH) >= 15
    percent = [one.percent for one in feedback]
    again = percent.index(0.0, 1)
    assert percent[:again] == sorted(percent[:again]) and percent[again:] == sorted(
        percent[again:]
    )


def test_who_moves_twice_is_told_to_lie_still_and_gets_no_number(node: SpineContour) -> None:
    ending, result, told, _ = scan(node, 4, 8)
    assert ending is Ending.ABORTED and not result.success
    assert result.message == f"{SLID}, twice; lie still and scan again"
    assert sum(SLID in text for text in told) == 2
    assert not result.stiffness.levels


def test_a_refused_press_ends_the_scan_with_its_words(node: SpineContour) -> None:
    refused = Press.Result(message="fingers: r03_left is excluded")

    async def call(*_: Any) -> Press.Result:
        return refused

    press = Plants(node)
    press.call = call  # type: ignore[method-assign]
    ended: list[Any] = []
    node._press = press  # type: ignore[assignment]
    handle = SimpleNamespace(
        request=ScanSpine.Goal(sex="male", age=40.0, stature=1.75, mass=80.0),
        is_cancel_requested=False,
        publish_feedback=lambda _: None,
    )

    async def run() -> None:
        ended.append(await node._scan(handle))  # type: ignore[arg-type]

    start(run())
    ((ending, result),) = ended
    assert ending is Ending.ABORTED and result.message == refused.message
