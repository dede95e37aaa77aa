"""Node safety_supervisor: reads the raw drive state and grants or withdraws the permit to move.

It shares nothing with the controller: its inputs are the drives themselves, the control in the
person's hand, heartbeats, and whoever asks for a stop. The first cause latches, on disk too.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from spinemat.drive_track import Sample
from spinemat.errors import InvalidInput
from spinemat.rules import HAND_TIMEOUT, PRESSING_TIME, SESSION_TIME
from spinemat.safety import PERMIT_CYCLES, STATE_CYCLES, STEADY_TIMEOUT, State, Supervisor
from spinemat_interfaces.msg import (
    DriveCommand,
    DrivePermit,
    DriveState,
    Event,
    FingerState,
    Guarding,
    HandControl,
    Heartbeat,
    SafetyState,
    SessionState,
)
from spinemat_interfaces.srv import LowerLimits, Reset
from spinemat_ros.codec import doubles, floats, nanoseconds, seconds
from spinemat_ros.files import write_whole
from spinemat_ros.node import Voice, declare, declare_layout, header, publisher, subscription
from spinemat_ros.spin import run
from spinemat_safety.evidence import Evidence

WATCH_CYCLES = 10  # how often publishers are counted
ONE_PUBLISHER = ("drive/command", "drive/permit", "hand_control")
LOOK = 0.5  # s between looks whether the drive is silent (engineering choice)
FUTURE = 0.100  # s that a stamp may be ahead of the drive's time (engineering choice)


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
        self._evidence = Evidence(
            self._latch.parent if self._latch else None,
            self._layout.cycle,
            self.get_logger().error,
        )
        self._sample: Sample | None = None
        longest = tuple(
            declare(
                self, name, most, f"s; stops the mat; limit of the mat: {most:g} s", (1.0, most)
            )
            for name, most in (
                ("max_session_time", SESSION_TIME),
                ("max_pressing_time", PRESSING_TIME),
            )
        )
        self._supervisor = Supervisor(
            self._layout, tuple(required), self._earlier_stop(), (longest[0], longest[1])
        )
        self._known = self._supervisor.state, 0, 0  # state, stops and later causes already noted
        self._note("started", State.STARTING, mat=self._layout.checksum)
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
        subscription(self, "drive/command", self._on_command)
        subscription(self, "fingers/state", self._on_fingers)
        subscription(self, "guarding", self._on_guarding)
        subscription(self, "session/state", self._on_session)
        self.create_service(LowerLimits, "limits", self._on_limits)
        self.create_service(Trigger, "stop", self._on_stop)
        self.create_service(Reset, "reset", self._on_reset)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._quiet = 0  # looks since the last drive state
        self.create_timer(LOOK, self._check_silence, clock=steady)
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
        return "the supervisor ended without shutting down, or while fingers moved"

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
        """Forget the latch after a clean end at which nothing moved and nothing was stopped."""
        self._evidence.close()
        clean = sys.exc_info()[0] is None
        at_rest = self._supervisor.state in (State.STARTING, State.READY)
        if self._latch is not None and clean and at_rest:
            self._latch.unlink(missing_ok=True)

    def _on_state(self, msg: DriveState) -> None:
        self._heard, self._quiet = time.monotonic(), 0
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
        self._sample = sample
        if msg.cycle % WATCH_CYCLES == 0:
            self._supervisor.publishers = {
                topic: self.count_publishers(topic) for topic in ONE_PUBLISHER
            }
        began = time.thread_time()  # its own work, not what a busy machine does meanwhile
        decision = self._supervisor.on_state(sample, self._heard)
        self._supervisor.took = (self._supervisor.took[1], time.thread_time() - began)
        if msg.cycle % PERMIT_CYCLES == 0 or not decision.granted:
            self._answer(msg, decision.granted, decision.category)
        self._evidence.keep(sample)
        self._note_changes()
        self._voice.tick(msg.cycle, sample.stamp)
        news = self._announced is None or self._announced[0] is not self._supervisor.shown
        if msg.cycle % STATE_CYCLES == 0 or decision.changed or news:
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
        s, shown = self._supervisor, self._supervisor.shown
        waiting = ["drive stage: does not run yet"] if shown is not s.state else s.waiting
        self._states.publish(
            SafetyState(
                header=header(self, self._voice.now),
                state=int(shown),
                cause=s.cause,
                detail=s.detail,
                later_causes=list(s.later),
                waiting_for=list(waiting),
                cycle=self._voice.cycle,
                stops=s.stops,
                force_limit=doubles(s.trip_limit),
            )
        )
        key = (shown, s.stops)
        if key == self._announced:
            return
        before, self._announced = self._announced, key
        data = {"state": shown.name, "cause": s.cause, "detail": s.detail}
        if shown is State.STOPPED:
            self._keep()
            self._voice.say("stop", f"STOPPED: {s.cause}: {s.detail}", data, Event.STOP)
        elif before is None or {before[0], shown} != {State.READY, State.MOVING}:
            self._voice.say("safety", shown.name, data)

    def _note(self, kind: str, before: State, **data: Any) -> None:
        self._evidence.note(kind, self._sample, before, self._supervisor.state, **data)

    def _note_changes(self) -> None:
        """Write stops and later causes to the log."""
        s = self._supervisor
        (before, stops, later), self._known = self._known, (s.state, s.stops, len(s.later))
        if s.stops > stops:
            self._note("stop", before, cause=s.cause, detail=s.detail, category=s.category.name)
            later = 0
        for text in s.later[later:]:
            cause, _, detail = text.partition(": ")
            self._note("later cause", s.state, cause=cause, detail=detail)

    def _fresh(self, stamp: Time, oldest: float) -> bool:
        """Whether a message is neither too old nor from the future, in the drive's time."""
        return -FUTURE <= 1e-9 * self._voice.now - seconds(stamp) <= oldest

    def _on_command(self, msg: DriveCommand) -> None:
        velocity, ceiling = floats(msg.velocity), floats(msg.force_ceiling)
        shapes = velocity.shape == ceiling.shape == (self._layout.n,)
        if shapes and np.isfinite(velocity + ceiling).all():
            self._supervisor.commanded, self._supervisor.ceiling = velocity, ceiling

    def _on_fingers(self, msg: FingerState) -> None:
        mode = np.array(msg.mode)
        if mode.shape == (self._layout.n,):
            self._supervisor.excluded = mode == FingerState.EXCLUDED

    def _on_guarding(self, msg: Guarding) -> None:
        self._supervisor.guarding(msg.active, self._voice.cycle)

    def _on_session(self, msg: SessionState) -> None:
        active = msg.phase not in (SessionState.IDLE, SessionState.ABORTED)
        self._supervisor.session(active, self._voice.cycle)

    def _on_limits(
        self, request: LowerLimits.Request, response: LowerLimits.Response
    ) -> LowerLimits.Response:
        s = self._supervisor
        force = floats(request.force)
        try:
            s.lower(
                force if force.size else None, None if np.isnan(request.mass) else request.mass
            )
        except InvalidInput as error:
            response.success, response.message = False, str(error)
            return response
        sums = ", ".join(f"{name} {most:.0f} N" for name, most in s.region_limit.items())
        response.success = True
        response.message = f"fingers up to {s.trip_limit.max():g} N; together: {sums}"
        self._note("limits", s.state, detail=response.message)
        mass = None if np.isnan(request.mass) else request.mass
        given = {"cycle": self._voice.cycle, "force": force.tolist(), "mass": mass}
        self._voice.say("limits", f"limits: {response.message}", given)
        self._tell()
        return response

    def _on_hand(self, msg: HandControl) -> None:
        if not msg.held or self._fresh(msg.header.stamp, HAND_TIMEOUT):
            self._supervisor.hand(msg.held, self._voice.cycle)

    def _on_heartbeat(self, msg: Heartbeat) -> None:
        # in lock-step a node may lag behind the drive; repeated beats are no beats, see there
        if msg.node != self.get_name() and self._fresh(msg.header.stamp, np.inf):
            self._supervisor.heartbeat(
                msg.node, msg.cycle, time.monotonic(), msg.healthy, msg.detail, msg.mat
            )

    def _stop(self, who: str) -> None:
        self._supervisor.stop(who)
        if self._last is not None:  # the drive first, then the disk
            self._answer(self._last, False, self._supervisor.category)
        self._tell()
        self._note_changes()

    def _on_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop("the stop service")
        response.success = True
        response.message = "stopped: fingers release and retract; reset ends it"
        return response

    def _on_stop_topic(self, _msg: Empty) -> None:
        self._stop("the stop topic")

    def _on_reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        before = self._supervisor.state
        silent = time.monotonic() - self._heard
        response.success, response.message = self._supervisor.reset(
            request.who, request.reason, silent
        )
        kind = "reset" if response.success else "reset refused"
        self._note(kind, before, detail=response.message)
        self._known = self._supervisor.state, self._supervisor.stops, len(self._supervisor.later)
        if response.success:
            self._keep()
            self._voice.say("reset", response.message)
            self._tell()
        else:
            self._voice.say("refused", f"reset: {response.message}", severity=Event.WARNING)
        return response

    def _check_silence(self) -> None:
        # looks are counted, not seconds: this process may have been kept from hearing anything
        self._quiet += 1
        if self._last is None:
            self._tell()
        elif (self._quiet - 1) * LOOK >= STEADY_TIMEOUT:
            self._supervisor.stalled(time.monotonic() - self._heard)
            self._note_changes()
            self._tell()


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(SafetySupervisor, args)
