"""Asking finger_actuation to press, from another node, without blocking it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

from spinemat.press_goal import PressGoal
from spinemat_interfaces.action import Press
from spinemat_ros.codec import doubles, uint16s
from spinemat_ros.script import wait

ANSWER_WAIT = 10.0  # s of steady time in which a server appears or accepts (engineering choice)
ASK_AGAIN = 2.0  # s of steady time after which a result is asked for again (engineering choice)


class CycleWaiter:
    """Lets a coroutine wait until a drive cycle has been seen."""

    def __init__(self) -> None:
        self._seen = 0
        self._waiting: list[tuple[int, Future]] = []

    @property
    def cycle(self) -> int:
        """The last one seen."""
        return self._seen

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


class ServerLost(RuntimeError):
    """Whoever was asked is gone, or has forgotten what it was asked for."""


class ActionCall:
    """One goal at a time of an action, cancelled as soon as its owner no longer wants it.

    Call `poll` with every message that the owner receives. A server that ends and comes back has
    forgotten its goals, so the result is asked for again and again: that of a goal it does not
    know comes at once.
    """

    def __init__(self, node: Node, action: Any, name: str) -> None:
        self._name = name
        self._client = ActionClient(node, action, name)
        self._handle: Any = None
        self._end: Future | None = None
        self._asked = 0.0  # s of steady time, when the server was last asked for something
        self._unwanted: Callable[[], bool] = lambda: False
        self._cancelling = False
        self._found: Future | None = None
        self._sought = 0.0  # s of steady time, when the server began to be looked for
        node.create_timer(1.0, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def ready(self) -> bool:
        """Whether the server is there."""
        return bool(self._client.server_is_ready())

    async def find(self) -> bool:
        """Wait until the server is there, but not for long; return whether it is.

        A node that has just started is not seen by all the others at once.
        """
        if not self.ready():
            if self._found is None:
                self._found, self._sought = Future(), time.monotonic()
            await wait(self._found)
        return self.ready()

    async def call(
        self,
        goal: Any,
        unwanted: Callable[[], bool],
        feedback: Callable[[Any], None] | None = None,
    ) -> Any:
        """Send a goal and return its result; it is cancelled once `unwanted` is true.

        Raises:
            ServerLost: there will be no result.
        """
        self._unwanted, self._cancelling = unwanted, False
        self._end, self._asked = Future(), time.monotonic()
        sent = self._client.send_goal_async(goal, feedback_callback=feedback)
        sent.add_done_callback(self._accepted)
        try:
            return await wait(self._end)
        finally:
            self._handle = self._end = None

    def _accepted(self, sent: Future) -> None:
        if self._end is not None and not self._end.done():
            self._handle = sent.result()
            self._ask()
            self.poll()

    def _ask(self) -> None:
        handle, self._asked = self._handle, time.monotonic()

        def answered(answer: Future) -> None:
            end = self._end
            if handle is not self._handle or end is None or end.done():
                return
            if answer.result().status == GoalStatus.STATUS_UNKNOWN:
                self._lose("was started anew and knows nothing of it")
            else:
                end.set_result(answer.result().result)

        handle.get_result_async().add_done_callback(answered)

    def _watch(self) -> None:
        over = time.monotonic() - self._sought > ANSWER_WAIT
        if self._found is not None and (over or self.ready()):
            found, self._found = self._found, None
            found.set_result(None)
        if self._end is None or self._end.done():
            return
        waited = time.monotonic() - self._asked
        if self._handle is None:
            if waited > ANSWER_WAIT:
                self._lose("does not answer")
        elif not self.ready():
            self._lose("is gone")
        elif waited > ASK_AGAIN:
            self._ask()

    def _lose(self, what: str) -> None:
        assert self._end is not None
        self._end.set_exception(ServerLost(f"{self._name}: the server {what}"))

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
