"""What the command line says to a running mat, and what it hears."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from std_srvs.srv import Trigger

from spinemat_bringup.graph import NodeSpec
from spinemat_interfaces.action import Calibrate, RunSession, ScanSpine
from spinemat_interfaces.msg import Event, Heartbeat, SafetyState, SessionState
from spinemat_interfaces.srv import Adjust, Reset
from spinemat_ros.node import publisher, subscription
from spinemat_ros.spin import make_executor

NAME = "spinemat_command_line"
_REPEAT = 1.0  # s of wall time after which an unanswered request is made again
_NEW, _IDLE, _ACTIVE = (
    State.PRIMARY_STATE_UNCONFIGURED,
    State.PRIMARY_STATE_INACTIVE,
    State.PRIMARY_STATE_ACTIVE,
)
_STEPS = (
    ("configure", Transition.TRANSITION_CONFIGURE, _NEW, _IDLE),
    ("activate", Transition.TRANSITION_ACTIVATE, _IDLE, _ACTIVE),
)


class NoAnswer(RuntimeError):
    """Somebody did not answer in time; the message names who, for people."""


class _Patience:
    """How long to wait: in the mat's own time, so that a slow machine is given longer.

    What a second of wall time counts is how far the mat came in it, and at most one second; where
    the mat does not move on at all, it is the whole second.
    """

    def __init__(self, seconds: float, mat_time: Callable[[], float]) -> None:
        self._left = seconds
        self._mat_time = mat_time
        self._wall, self._mat = time.monotonic(), mat_time()

    @property
    def over(self) -> bool:
        """Whether there is none left."""
        passed = time.monotonic() - self._wall
        came = self._mat_time() - self._mat
        if passed >= min(1.0, self._left):
            self._left -= min(came, passed) if came > 0.0 else passed
            self._wall += passed
            self._mat += came
        return self._left <= 0.0


class Sent:
    """A goal that a server has accepted."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._answer = handle.get_result_async()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self._answer.done())

    @property
    def result(self) -> Any:
        """Its result, once it is done."""
        return self._answer.result().result

    def cancel(self) -> None:
        """Ask the server to cancel it."""
        self._handle.cancel_goal_async()


class MatClient:
    """A plain ROS 2 client of one mat; a context manager."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.events: list[Event] = []
        self.safety: SafetyState | None = None
        self.session: SessionState | None = None
        self._time = 0.0  # s, of the mat
        self._clients: dict[tuple[Any, str], Any] = {}
        self.check: Callable[[], None] = lambda: None  # called while waiting; may raise

    def __enter__(self) -> MatClient:
        """Join the graph."""
        self._context = Context()
        rclpy.init(
            args=["--ros-args", "--enclave", f"{self._namespace}/{NAME}"],
            context=self._context,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = Node(NAME, namespace=self._namespace, context=self._context)
        self._executor = make_executor(self._node)
        subscription(self._node, "events", self.events.append)
        subscription(self._node, "safety/state", self._on_safety)
        subscription(self._node, "session/state", self._on_session)
        subscription(self._node, "heartbeat", self._on_heartbeat)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        for client in self._clients.values():
            client.destroy()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _on_safety(self, msg: SafetyState) -> None:
        self.safety = msg

    def _on_session(self, msg: SessionState) -> None:
        self.session = msg

    def _on_heartbeat(self, msg: Heartbeat) -> None:
        self._time = Time.from_msg(msg.header.stamp).nanoseconds * 1e-9

    def _patience(self, seconds: float) -> _Patience:
        return _Patience(seconds, lambda: self._time)

    def listen(
        self, topic: str, callback: Callable[[Any], None], qos: QoSProfile | None = None
    ) -> None:
        """Call `callback` with every message of a topic of the mat."""
        subscription(self._node, topic, callback, qos)

    def spin(self, seconds: float) -> None:
        """Handle what comes in for up to `seconds`."""
        self.check()
        self._executor.spin_once(timeout_sec=seconds)

    def wait(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until `done()`.

        Raises:
            NoAnswer: it took longer than `timeout` s, of the mat's own time where that runs slower
                than the wall clock; `what` says what was awaited.
        """
        patience = self._patience(timeout)
        while not done():
            if patience.over:
                raise NoAnswer(f"{what}: nothing within {timeout:.0f} s{self._stopped()}")
            self.spin(0.1)

    def _stopped(self) -> str:
        s = self.safety
        if s is None or s.state != SafetyState.STOPPED:
            return ""
        return f"; the mat is STOPPED: {s.cause}: {s.detail}"

    def _kept(self, kind: Any, name: str, make: Callable[[], Any]) -> Any:
        key = (kind, name)
        if key not in self._clients:
            self._clients[key] = make()
        return self._clients[key]

    def call(
        self, kind: Any, name: str, request: Any, timeout: float = 5.0, repeat: bool = False
    ) -> Any:
        """Call a service and return its answer.

        A server that has not yet discovered this client's reader drops its answer (a known race
        of rmw_fastrtps). With `repeat`, for requests that may safely be made twice, an unanswered
        request is made again and the first answer counts.

        Raises:
            NoAnswer: there is no such service or it does not answer.
        """
        client = self._kept(kind, name, lambda: self._node.create_client(kind, name))
        what = f"service {client.srv_name}"
        self.wait(client.service_is_ready, timeout, what)
        asked = [client.call_async(request)]
        again = time.monotonic() + _REPEAT

        def answered() -> bool:
            nonlocal again
            if repeat and time.monotonic() > again:
                asked.append(client.call_async(request))
                again += _REPEAT
            return any(future.done() for future in asked)

        self.wait(answered, timeout, what)
        return next(future.result() for future in asked if future.done())

    def _transit(self, name: str, transition: int, start: int, goal: int, timeout: float) -> bool:
        """Bring a managed node from one state to the next.

        rclpy ends a node that is asked for a transition which its state does not have. So the
        request is made again only when the node itself says that it is still where it was.
        """
        patience = self._patience(timeout)
        change, ask = ChangeState.Request(transition=Transition(id=transition)), GetState.Request()
        while True:
            answer = self.call(GetState, f"{name}/get_state", ask, timeout, repeat=True)
            if answer.current_state.id != start:
                return bool(answer.current_state.id == goal)
            try:
                return bool(
                    self.call(ChangeState, f"{name}/change_state", change, _REPEAT).success
                )
            except NoAnswer:
                if patience.over:
                    raise

    def set_parameter(self, node: str, name: str, value: Any) -> tuple[bool, str]:
        """Set a node's parameter; return whether it was taken, and why not."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        answer = self.call(SetParameters, f"{node}/set_parameters", request, repeat=True)
        return answer.results[0].successful, answer.results[0].reason

    def parameter(self, node: str, name: str) -> Any:
        """Return the value of a node's parameter; None where the node does not have it."""
        request = GetParameters.Request(names=[name])
        answer = self.call(GetParameters, f"{node}/get_parameters", request, repeat=True)
        return parameter_value_to_python(answer.values[0])

    def knows(self, node: str) -> bool:
        """Whether a node of this name is in the graph, in this mat's namespace."""
        known = self._node.get_node_names_and_namespaces()
        return (node, self._node.get_namespace()) in known

    def publisher(self, topic: str) -> Publisher:
        """Return a publisher on a topic of the mat; `withdraw` ends it."""
        return publisher(self._node, topic)

    def withdraw(self, publisher: Publisher) -> None:
        """End a publisher."""
        self._node.destroy_publisher(publisher)

    def count_publishers(self, topic: str) -> int:
        """How many publishers of a topic of the mat are known."""
        return self._node.count_publishers(topic)

    def trigger(self, name: str) -> tuple[bool, str]:
        """Call one of the plain services: stop, pause, resume."""
        repeat = name != "resume"  # what lets the mat move again is asked for once
        answer = self.call(Trigger, name, Trigger.Request(), repeat=repeat)
        return answer.success, answer.message

    def reset(self, who: str, reason: str) -> tuple[bool, str]:
        """Ask the supervisor to end STOPPED; once it has, `safety` says so too."""
        answer = self.call(Reset, "reset", Reset.Request(who=who, reason=reason))
        known = self.safety.stops if self.safety is not None else 0

        def told() -> bool:  # the answer may come before what was published ahead of it
            s = self.safety
            return s is not None and (s.state != SafetyState.STOPPED or s.stops > known)

        if answer.success:
            self.wait(told, 10.0, "safety/state after the reset")
        return answer.success, answer.message

    def adjust(
        self, strength: float, rate: float, regions: Sequence[str] = ()
    ) -> tuple[bool, str]:
        """Change what runs; NaN, or no region, keeps a value."""
        request = Adjust.Request(strength=strength, rate=rate, regions=list(regions))
        answer = self.call(Adjust, "adjust", request)
        return answer.success, answer.message

    def bring_up(self, nodes: Sequence[NodeSpec], timeout: float = 120.0) -> None:
        """Configure and activate the managed nodes, in order.

        Raises:
            NoAnswer: a node does not answer or refuses.
        """
        for spec in nodes:
            if not spec.lifecycle:
                continue
            for step, transition, start, goal in _STEPS:
                if not self._transit(spec.name, transition, start, goal, timeout):
                    raise NoAnswer(f"{spec.name} could not {step}; its log says why")

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the supervisor grants permission.

        Raises:
            NoAnswer: it does not, or it is latched in STOPPED.
        """
        patience = self._patience(timeout)
        while self.safety is None or self.safety.state not in (
            SafetyState.READY,
            SafetyState.MOVING,
        ):
            s = self.safety
            if stopped := self._stopped():
                raise NoAnswer(f"the mat is not ready{stopped}; see `spinemat reset`")
            if patience.over:
                waiting = "; ".join(s.waiting_for) if s else "no word from safety_supervisor"
                raise NoAnswer(f"the mat is not ready after {timeout:.0f} s: {waiting}")
            self.spin(0.1)

    def send(
        self,
        kind: Any,
        name: str,
        goal: Any,
        feedback: Callable[[Any], None] = lambda _f: None,
        timeout: float = 10.0,
    ) -> Sent:
        """Send a goal and return once it is accepted.

        Raises:
            NoAnswer: there is no such server or it does not answer.
        """
        client = self._kept(kind, name, lambda: ActionClient(self._node, kind, name))
        self.wait(client.server_is_ready, timeout, f"action {name}")
        accepted = client.send_goal_async(goal, feedback_callback=lambda m: feedback(m.feedback))
        self.wait(accepted.done, timeout, f"action {name}")
        return Sent(accepted.result())

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
        sent = self.send(kind, name, goal, feedback, timeout)
        cancelling = False
        while not sent.done:
            if not cancelling and not wanted():
                sent.cancel()
                cancelling = True
            self.spin(0.1)
        return sent.result

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

    def calibrate(self, keep: bool, wanted: Callable[[], bool]) -> Calibrate.Result:
        """Test the fingers; `keep` makes the result what later tests are compared with."""
        goal = Calibrate.Goal(keep=keep)
        return self.act(Calibrate, "fingers/calibrate", goal, lambda _: None, wanted)

    def wait_recorded(self, folder: str, timeout: float = 60.0) -> None:
        """Wait until the recorder has closed the bag in `folder`; not where none runs."""
        if not self.knows("recorder"):
            return
        self.wait(
            lambda: any(e.kind == "recorded" and folder in e.data for e in self.events),
            timeout,
            "recorder",
        )
