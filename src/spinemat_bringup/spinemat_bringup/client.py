"""What the command line says to a running mat, and what it hears."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from spinemat_bringup.graph import NodeSpec
from spinemat_interfaces.action import RunSession, ScanSpine
from spinemat_interfaces.msg import Event, SafetyState, SessionState
from spinemat_interfaces.srv import Adjust, Reset
from spinemat_ros.node import subscription


class NoAnswer(RuntimeError):
    """Somebody did not answer in time; the message names who, for people."""


class MatClient:
    """A plain ROS 2 client of one mat; a context manager."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.events: list[Event] = []
        self.safety: SafetyState | None = None
        self.session: SessionState | None = None
        self.check: Callable[[], None] = lambda: None  # called while waiting; may raise

    def __enter__(self) -> MatClient:
        """Join the graph."""
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node(
            "spinemat_command_line", namespace=self._namespace, context=self._context
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        subscription(self._node, "events", self.events.append)
        subscription(self._node, "safety/state", self._on_safety)
        subscription(self._node, "session/state", self._on_session)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _on_safety(self, msg: SafetyState) -> None:
        self.safety = msg

    def _on_session(self, msg: SessionState) -> None:
        self.session = msg

    def listen(self, topic: str, callback: Callable[[Any], None]) -> None:
        """Call `callback` with every message of a topic of the mat."""
        subscription(self._node, topic, callback)

    def spin(self, seconds: float) -> None:
        """Handle what comes in for up to `seconds`."""
        self.check()
        self._executor.spin_once(timeout_sec=seconds)

    def wait(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until `done()`.

        Raises:
            NoAnswer: it took longer than `timeout` s of wall time; `what` says what was awaited.
        """
        end = time.monotonic() + timeout
        while not done():
            if time.monotonic() > end:
                raise NoAnswer(f"{what}: nothing within {timeout:.0f} s")
            self.spin(0.1)

    def _result(self, future: Future, timeout: float, what: str) -> Any:
        self.wait(future.done, timeout, what)
        return future.result()

    def call(self, kind: Any, name: str, request: Any, timeout: float = 5.0) -> Any:
        """Call a service.

        Raises:
            NoAnswer: there is no such service or it does not answer.
        """
        client = self._node.create_client(kind, name)
        try:
            self.wait(client.service_is_ready, timeout, f"service {client.srv_name}")
            return self._result(client.call_async(request), timeout, f"service {client.srv_name}")
        finally:
            self._node.destroy_client(client)

    def trigger(self, name: str) -> tuple[bool, str]:
        """Call one of the plain services: stop, pause, resume."""
        answer = self.call(Trigger, name, Trigger.Request())
        return answer.success, answer.message

    def reset(self, who: str, reason: str) -> tuple[bool, str]:
        """Ask the supervisor to end STOPPED."""
        answer = self.call(Reset, "reset", Reset.Request(who=who, reason=reason))
        return answer.success, answer.message

    def adjust(self, strength: float, rate: float) -> tuple[bool, str]:
        """Change what runs; NaN keeps a value."""
        answer = self.call(Adjust, "adjust", Adjust.Request(strength=strength, rate=rate))
        return answer.success, answer.message

    def bring_up(self, nodes: Sequence[NodeSpec], timeout: float = 60.0) -> None:
        """Configure and activate the managed nodes, in order.

        Raises:
            NoAnswer: a node does not answer or refuses.
        """
        for spec in nodes:
            if not spec.lifecycle:
                continue
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                request = ChangeState.Request(transition=Transition(id=transition))
                answer = self.call(ChangeState, f"{spec.name}/change_state", request, timeout)
                if not answer.success:
                    step = (
                        "configure"
                        if transition == Transition.TRANSITION_CONFIGURE
                        else ("activate")
                    )
                    raise NoAnswer(f"{spec.name} could not {step}; its log says why")

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the supervisor grants permission.

        Raises:
            NoAnswer: it does not, or it is latched in STOPPED.
        """
        end = time.monotonic() + timeout
        while self.safety is None or self.safety.state not in (
            SafetyState.READY,
            SafetyState.MOVING,
        ):
            s = self.safety
            if s is not None and s.state == SafetyState.STOPPED:
                raise NoAnswer(f"the mat is STOPPED: {s.cause}: {s.detail}; see `spinemat reset`")
            if time.monotonic() > end:
                waiting = "; ".join(s.waiting_for) if s else "no word from safety_supervisor"
                raise NoAnswer(f"the mat is not ready after {timeout:.0f} s: {waiting}")
            self.spin(0.1)

    def act(
        self,
        kind: Any,
        name: str,
        goal: Any,
        feedback: Callable[[Any], None],
        wanted: Callable[[], bool],
        timeout: float = 10.0,
    ) -> Any:
        """Send a goal and return its result; it is cancelled once `wanted` is false."""
        client = ActionClient(self._node, kind, name)
        try:
            self.wait(client.server_is_ready, timeout, f"action {name}")
            handle = self._result(
                client.send_goal_async(goal, feedback_callback=lambda m: feedback(m.feedback)),
                timeout,
                f"action {name}",
            )
            future = handle.get_result_async()
            cancelling = False
            while not future.done():
                if not cancelling and not wanted():
                    handle.cancel_goal_async()
                    cancelling = True
                self.spin(0.1)
            return future.result().result
        finally:
            client.destroy()

    def run_session(
        self,
        goal: RunSession.Goal,
        feedback: Callable[[SessionState], None],
        wanted: Callable[[], bool],
    ) -> RunSession.Result:
        """Run a session to its end."""
        return self.act(RunSession, "run_session", goal, lambda f: feedback(f.state), wanted)

    def scan(
        self,
        goal: ScanSpine.Goal,
        feedback: Callable[[ScanSpine.Feedback], None],
        wanted: Callable[[], bool],
    ) -> ScanSpine.Result:
        """Run a scan to its end."""
        return self.act(ScanSpine, "scan_spine", goal, feedback, wanted)

    def wait_recorded(self, folder: str, timeout: float = 60.0) -> None:
        """Wait until the recorder has closed the bag in `folder`."""
        self.wait(
            lambda: any(e.kind == "recorded" and folder in e.data for e in self.events),
            timeout,
            "recorder",
        )
