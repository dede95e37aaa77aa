"""Asking finger_actuation to press, from another node, without blocking it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from spinemat.press_goal import PressGoal
from spinemat_interfaces.action import Press
from spinemat_ros.codec import doubles, uint16s
from spinemat_ros.script import wait


class CycleWaiter:
    """Lets a coroutine wait until a drive cycle has been seen."""

    def __init__(self) -> None:
        self._seen = 0
        self._waiting: list[tuple[int, Future]] = []

    def seen(self, cycle: int) -> None:
        """Note a drive cycle."""
        self._seen = cycle
        for entry in [e for e in self._waiting if e[0] <= cycle]:
            self._waiting.remove(entry)
            entry[1].set_result(None)

    async def until(self, cycle: int) -> None:
        """Wait until `cycle` has been seen."""
        if self._seen < cycle:
            future: Future = Future()
            self._waiting.append((cycle, future))
            await wait(future)


class ActionCall:
    """One goal at a time of an action, cancelled as soon as its owner no longer wants it.

    Call `poll` with every message that the owner receives.
    """

    def __init__(self, node: Node, action: Any, name: str) -> None:
        self._client = ActionClient(node, action, name)
        self._handle: Any = None
        self._unwanted: Callable[[], bool] = lambda: False
        self._cancelling = False

    def ready(self) -> bool:
        """Whether the server is there."""
        return bool(self._client.server_is_ready())

    async def call(
        self,
        goal: Any,
        unwanted: Callable[[], bool],
        feedback: Callable[[Any], None] | None = None,
    ) -> Any:
        """Send a goal and return its result; it is cancelled once `unwanted` is true."""
        self._unwanted, self._cancelling = unwanted, False
        handle = await wait(self._client.send_goal_async(goal, feedback_callback=feedback))
        self._handle = handle
        self.poll()
        answer = await wait(handle.get_result_async())
        self._handle = None
        return answer.result

    def poll(self) -> None:
        """Cancel the running goal if it is no longer wanted."""
        if self._handle is not None and not self._cancelling and self._unwanted():
            self._cancelling = True
            self._handle.cancel_goal_async()


def press_message(goal: PressGoal) -> Press.Goal:
    """Return a press goal as its message."""
    known = np.isfinite(goal.expected).any()
    return Press.Goal(
        waveform=int(goal.waveform),
        fingers=uint16s(goal.fingers),
        preload=doubles(goal.preload),
        amplitude=doubles(goal.amplitude),
        phase=doubles(goal.phase),
        rate=float(goal.rate),
        duration=float(goal.duration),
        gated=bool(goal.gated),
        mass=float(goal.mass),
        approach_speed=float(goal.approach_speed),
        expected_contact=doubles(goal.expected) if known else doubles([]),
        hold_after=bool(goal.hold_after),
        start_cycle=int(goal.start_cycle),
    )
