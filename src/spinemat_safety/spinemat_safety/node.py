"""Node safety_supervisor: reads the raw drive state and grants or withdraws the permit to move.

It shares nothing with the controller: its inputs are the drives themselves, the control in the
person's hand, heartbeats, and whoever asks for a stop. The first cause latches, on disk too.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from spinemat.safety import STEADY_TIMEOUT, Sample, State, Supervisor
from spinemat_interfaces.msg import (
    DrivePermit,
    DriveState,
    Event,
    HandControl,
    Heartbeat,
    SafetyState,
)
from spinemat_interfaces.srv import Reset
from spinemat_ros.codec import doubles, floats, nanoseconds
from spinemat_ros.files import write_whole
from spinemat_ros.node import Voice, declare, declare_layout, header, publisher, subscription
from spinemat_ros.spin import run

STATE_CYCLES = 25  # safety/state at 10 Hz


class SafetySupervisor(Node):
    """Wiring of `spinemat.safety.Supervisor`."""

    def __init__(self) -> None:
        super().__init__("safety_supervisor")
        self._layout = declare_layout(self)
        required = declare(
            self, "required_nodes", ["finger_actuation"], "nodes whose heartbeat is needed"
        )
        folder = Path(declare(self, "state_dir", "", "folder of the latch; empty: not kept"))
        self._latch = folder / "safety_latch.json" if str(folder) != "." else None
        self._boot = uuid.uuid4().hex
        self._supervisor = Supervisor(
            self._layout, required=tuple(required), latched=self._earlier_stop()
        )
        self._keep()
        self._sequence = 0
        self._last: DriveState | None = None
        self._heard = time.monotonic()
        self._permits = publisher(self, "drive/permit")
        self._states = publisher(self, "safety/state")
        self._voice = Voice(self)
        subscription(self, "drive/state", self._on_state)
        subscription(self, "hand_control", self._on_hand)
        subscription(self, "heartbeat", self._on_heartbeat)
        subscription(self, "stop", self._on_stop_topic)
        self.create_service(Trigger, "stop", self._on_stop)
        self.create_service(Reset, "reset", self._on_reset)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.5, self._check_silence, clock=steady)
        self._announced: tuple[State, int] | None = None

    def _earlier_stop(self) -> str:
        if self._latch is None:
            return ""
        try:
            kept = json.loads(self._latch.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            return f"the latch {self._latch} cannot be read: {error}"
        if kept.get("state") == "STOPPED":
            return f"stopped before the restart: {kept.get('cause')}: {kept.get('detail')}"
        return "the supervisor ended without shutting down"

    def _keep(self) -> None:
        """Write the latch; a supervisor that dies is STOPPED when it comes back."""
        if self._latch is None:
            return
        s = self._supervisor
        text = json.dumps({"state": s.state.name, "cause": s.cause, "detail": s.detail})
        try:
            write_whole(self._latch, text)
        except OSError as error:
            self.get_logger().error(f"the latch cannot be kept: {error}")

    def close(self) -> None:
        """Forget the latch after a clean end that was not a stop."""
        if self._latch is not None and self._supervisor.state is not State.STOPPED:
            self._latch.unlink(missing_ok=True)

    def _on_state(self, msg: DriveState) -> None:
        self._heard = time.monotonic()
        self._last = msg
        sample = Sample(
            cycle=msg.cycle,
            stamp=nanoseconds(msg.header.stamp),
            boot_id=msg.boot_id,
            position=floats(msg.position),
            velocity=floats(msg.velocity),
            force=floats(msg.force),
            current=floats(msg.current),
            temperature=floats(msg.temperature),
            status=np.array(msg.status, dtype=np.int64),
            stage=msg.stage,
            stage_reason=msg.stage_reason,
        )
        decision = self._supervisor.on_state(sample, self._heard)
        if msg.cycle % 2 == 0 or not decision.granted:
            self._answer(msg, decision.granted, decision.category)
        self._voice.tick(msg.cycle, sample.stamp)
        if msg.cycle % STATE_CYCLES == 0 or decision.changed:
            self._tell()

    def _answer(self, msg: DriveState, granted: bool, category: int) -> None:
        self._sequence += 1
        self._permits.publish(
            DrivePermit(
                header=header(self, nanoseconds(msg.header.stamp)),
                cycle=msg.cycle,
                sequence=self._sequence,
                boot_id=self._boot,
                granted=granted,
                category=int(category),
            )
        )

    def _tell(self) -> None:
        s = self._supervisor
        self._states.publish(
            SafetyState(
                header=header(self, self._voice.now),
                state=int(s.state),
                cause=s.cause,
                detail=s.detail,
                later_causes=list(s.later),
                waiting_for=list(s.waiting),
                cycle=self._voice.cycle,
                stops=s.stops,
                force_limit=doubles(s.trip_limit),
            )
        )
        key = (s.state, s.stops)
        if key == self._announced:
            return
        before, self._announced = self._announced, key
        data = {"state": s.state.name, "cause": s.cause, "detail": s.detail}
        if s.state is State.STOPPED:
            self._keep()
            self._voice.say("stop", f"STOPPED: {s.cause}: {s.detail}", data, Event.STOP)
        elif before is None or {before[0], s.state} != {State.READY, State.MOVING}:
            self._voice.say("safety", s.state.name, data)

    def _on_hand(self, msg: HandControl) -> None:
        self._supervisor.hand(msg.held, self._voice.cycle)

    def _on_heartbeat(self, msg: Heartbeat) -> None:
        if msg.node != self.get_name():
            self._supervisor.heartbeat(
                msg.node, msg.cycle, time.monotonic(), msg.healthy, msg.detail
            )

    def _stop(self, who: str) -> None:
        self._supervisor.stop(who)
        if self._last is not None:
            self._answer(self._last, False, self._supervisor.category)
        self._tell()

    def _on_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop("the stop service")
        response.success = True
        response.message = "stopped: fingers release and retract; reset ends it"
        return response

    def _on_stop_topic(self, _msg: Empty) -> None:
        self._stop("the stop topic")

    def _on_reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        response.success, response.message = self._supervisor.reset(request.who, request.reason)
        if response.success:
            self._keep()
            self._voice.say("reset", response.message)
            self._tell()
        else:
            self._voice.say("refused", f"reset: {response.message}", severity=Event.WARNING)
        return response

    def _check_silence(self) -> None:
        silent = time.monotonic() - self._heard
        if self._last is None:
            self._tell()
        elif silent > STEADY_TIMEOUT:
            self._supervisor.stalled(silent)
            self._tell()


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(SafetySupervisor, args)
