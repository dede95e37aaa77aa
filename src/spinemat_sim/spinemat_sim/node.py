"""Node mat_simulator: a drive stage whose fingers press on a virtual person.

In lock-step it publishes a drive state, moves the physics on with the orders it already has (one
cycle of latency, as real drives have), and waits for the answers to that state, so that the whole
graph runs as fast as it can and every run with the same seed is the same. Nodes outside this loop
are waited for as well when their heartbeats fall behind, so that simulated time does not outrun
them on a busy machine. Whoever is silent for `answer_wait` (200 ms) is not waited for until it
keeps up again; while that is the controller or the supervisor, the rest goes on at real-time pace,
so that a dead node can be observed. In real-time mode it paces itself and counts late answers.

Services provoke faults: `~/hold_hand_control` (false: the virtual person lets go) and
`~/lose_drive_state` (true: the stage steps on, but its states reach nobody).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from spinemat.anatomy import TRUNK
from spinemat.drive import DriveStage, MotorOrder
from spinemat.errors import InvalidInput
from spinemat_interfaces.msg import (
    Contour,
    DriveCommand,
    DrivePermit,
    DriveState,
    HandControl,
    Heartbeat,
    LevelStiffness,
    PlantTruth,
    Pressure,
    StiffnessMap,
)
from spinemat_ros.codec import doubles, nanoseconds, uint16s
from spinemat_ros.node import declare, declare_layout, header, publisher, subscription
from spinemat_ros.spin import Stopper, run
from spinemat_sim.faults import KINDS, MOVEMENTS, parse_faults
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.sensors import RANGES, Imperfections
from spinemat_sim.urdf import expand_urdf, xacro_beside

HAND_CYCLES = 5  # hand control and clock at 50 Hz
LOOK = 0.010  # s, longest wait for an answer that is counted whole (engineering choice)
BEHIND = 30  # cycles that a heartbeat may be behind in lock-step; nodes beat every 10


def drive_state(
    head: Header, cycle: int, boot: str, plant: Plant, stage: DriveStage
) -> DriveState:
    """Return what the drives measured last, as the message."""
    m = plant.measure()
    return DriveState(
        header=head,
        cycle=cycle,
        boot_id=boot,
        period=plant.layout.cycle,
        position=doubles(m.position),
        velocity=doubles(m.velocity),
        force=doubles(m.force),
        current=doubles(m.current),
        temperature=doubles(m.temperature),
        status=uint16s(m.status),
        stage=int(stage.stage),
        stage_reason=stage.reason,
    )


class MatSimulator(Node):
    """Drive stage, plant, virtual hand and ground truth; `GazeboAdapter` puts Gazebo in it."""

    node_name = "mat_simulator"
    tells_clock = True

    def __init__(self) -> None:
        super().__init__(self.node_name)
        self._layout = declare_layout(self)
        urdf = declare(
            self, "urdf", "", "path of mat.urdf.xacro; empty: ../urdf beside the layout's folder"
        )
        patient = declare(
            self, "patient", "", "preset, path of a YAML file or row of the survey; empty: average"
        )
        seed = declare(self, "seed", 0, "seed of person, sensors and drives", (0, 2**31 - 1))
        ideal = declare(self, "ideal_sensors", False, "true: no sensor or drive imperfections")
        self._imperfections = Imperfections.none() if ideal else self._declare_imperfections()
        truth = declare(self, "stiffness_truth", True, "measure the true stiffness at the start")
        self.real_time = declare(
            self, "real_time", False, "true: pace by the wall clock", read_only=False
        )
        self._start_wait = declare(
            self, "start_wait", 60.0, "s to wait for the first answers in lock-step", (0.0, 600.0)
        )
        self._answer_wait = declare(
            self,
            "answer_wait",
            0.2,
            "s to wait for an answer in lock-step",
            (0.01, 10.0),
        )
        self._virtual_hand = declare(
            self,
            "virtual_hand",
            True,
            "true: the virtual person holds the hand control; false: listen to drive/hand_input",
        )
        broken = declare(
            self,
            "finger_faults",
            [""],
            f"broken fingers, such as 'r06_left jammed 30.0'; kinds: {', '.join(KINDS)}",
            read_only=False,
        )
        declare(
            self,
            "person_moves",
            "lies still",
            f"what the person does, to be set while the mat runs; one of: {', '.join(MOVEMENTS)}",
            read_only=False,
        )
        faults = parse_faults(self._layout, [words for words in broken if words])
        config = self.get_parameter("mat_config").value
        self._person = lie_down(find_patient(patient, seed))
        self._plant = self._build(
            self._layout,
            self._person,
            expand_urdf(urdf or xacro_beside(config), config),
            seed=seed,
            imperfections=self._imperfections,
        )
        self._plant.break_fingers(faults)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._stage = DriveStage(self._layout)
        self._boot = uuid.uuid4().hex
        self._period = round(self._layout.cycle * 1e9)
        self._cycle = 0
        self._late = 0
        self._hand_held = True
        self._hand_sequence = 0
        self._state_lost = False
        self._beats: dict[str, int] = {}  # the latest cycle that each node which keeps up has told
        self._silent: set[str] = set()  # "drive/command", "drive/permit": not waited for now
        self._refused = ""
        self._states = publisher(self, "drive/state")
        self._truths = publisher(self, "truth/state")
        self._clocks = publisher(self, "clock") if self.tells_clock else None
        self._hands = publisher(self, "hand_control")
        self._loads = publisher(self, "truth/pressure")
        self._contours = publisher(self, "truth/contour")
        self._maps = publisher(self, "truth/stiffness")
        subscription(self, "drive/command", self._on_command)
        subscription(self, "drive/permit", self._on_permit)
        subscription(self, "heartbeat", self._on_heartbeat)
        self.create_service(SetBool, "~/lose_drive_state", self._on_lose)
        if self._virtual_hand:
            self.create_service(SetBool, "~/hold_hand_control", self._on_hold)
        else:
            self._hand_held = False
            subscription(self, "drive/hand_input", self._on_hand)
        self._tell_contour()
        if truth:
            self._tell_stiffness()

    def _build(self, *arguments: Any, **keywords: Any) -> Plant:
        """Return the plant, made with these arguments of it."""
        return Plant(*arguments, **keywords)

    def _declare_imperfections(self) -> Imperfections:
        values = {
            field.name: declare(
                self,
                f"imperfections.{field.name}",
                field.default,
                f"{RANGES[field.name][2]}; see spinemat_sim/sensors.py",
                RANGES[field.name][:2],
            )
            for field in fields(Imperfections)
        }
        return Imperfections(**values)

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            for parameter in parameters:
                if parameter.name == "finger_faults":
                    words = [text for text in parameter.value or [] if text]
                    self._plant.break_fingers(parse_faults(self._layout, words))
                elif parameter.name == "person_moves":
                    self._plant.move_person(parameter.value)
                elif parameter.name == "real_time":
                    self.real_time = parameter.value
        except InvalidInput as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    @property
    def _now(self) -> int:
        return self._cycle * self._period

    def _on_command(self, msg: DriveCommand) -> None:
        self._note(self._stage.command(msg.cycle, msg.velocity, msg.force_ceiling))

    def _on_permit(self, msg: DrivePermit) -> None:
        self._note(self._stage.permit(msg.cycle, msg.granted, msg.category, msg.boot_id))

    def _note(self, refusal: str | None) -> None:
        if refusal and refusal.split(":")[0] != self._refused:
            self._refused = refusal.split(":")[0]
            self.get_logger().warning(f"refused {refusal} (said once)")

    def _on_hand(self, msg: HandControl) -> None:
        age = 1e-9 * (self._now - nanoseconds(msg.header.stamp))
        self._note(self._stage.hand(msg.held, age))
        self._hand_held = msg.held

    def _on_hold(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._hand_held = request.data
        self._tell_hand(header(self, self._now))  # a switch is heard at once, not at the next beat
        response.success = True
        response.message = f"the virtual person {'holds' if request.data else 'let go of'} it"
        return response

    def _on_lose(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._state_lost = request.data
        response.success = True
        response.message = f"drive states {'are lost' if request.data else 'are sent'}"
        return response

    def _on_heartbeat(self, msg: Heartbeat) -> None:
        if msg.cycle >= self._cycle - BEHIND:
            self._beats[msg.node] = msg.cycle

    def turn(self, executor: EventsExecutor, stopper: Stopper) -> None:
        """Run cycles until the stopper is true."""
        if not self.real_time:
            self._wait_for_start(executor, stopper)
        deadline = time.monotonic()
        while not stopper:
            self._cycle += 1
            self._publish()
            if self._virtual_hand:
                self._stage.hand(self._hand_held)
            self._advance(self._stage.step(self._cycle, self._measured))
            if self._silent or self.real_time:
                deadline = max(deadline + self._layout.cycle, time.monotonic() - 0.1)
                self._spin_until(executor, deadline)
            if not self.real_time:
                self._wait_for_answers(executor)
            if not (self._silent or self.real_time):
                deadline = time.monotonic()
            self._late += bool(self._missing())

    def _wait_for_start(self, executor: EventsExecutor, stopper: Stopper) -> None:
        """Repeat the first state until controller and supervisor both answer."""
        end = time.monotonic() + self._start_wait
        self._cycle = 2
        while not stopper and time.monotonic() < end:
            self._publish()
            self._stage.step(self._cycle, self._measured)
            self._silent.clear()
            self._wait_for_answers(executor)
            if not self._missing():
                break
        self._late = 0

    def _missing(self) -> set[str]:
        """Answers to the latest state that have not come."""
        command, permit = self._stage.answered
        late = {
            "drive/command": command < self._cycle,
            "drive/permit": permit < self._cycle - self._cycle % 2,
        }
        return {name for name, is_late in late.items() if is_late}

    def _behind(self) -> list[str]:
        return [node for node, cycle in self._beats.items() if cycle < self._cycle - BEHIND]

    def _wait_for_answers(self, executor: EventsExecutor) -> None:
        """Wait for all who are not silent; who stays away for `answer_wait` becomes silent.

        A wait counts `LOOK` at most, however long it was: where the host takes the processor away
        from this process, it takes it away from those that are to answer as well.
        """
        left = self._answer_wait
        while (missing := self._missing()) - self._silent or self._behind():
            if left <= 0.0:
                late = self._behind()
                who = ", ".join(sorted({*late, *(missing - self._silent)}))
                self.get_logger().info(f"cycle {self._cycle}: waits no longer for {who}")
                for node in late:
                    del self._beats[node]
                self._silent |= missing
                break
            began = time.monotonic()
            executor.spin_once(timeout_sec=min(left, LOOK))
            left -= min(time.monotonic() - began, LOOK)
        self._silent &= missing

    def _spin_until(self, executor: EventsExecutor, end: float) -> None:
        while (left := end - time.monotonic()) > 0.0:
            executor.spin_once(timeout_sec=left)

    def _publish(self) -> None:
        plant, head = self._plant, header(self, self._now)
        self._measured = plant.measure().position
        if not self._state_lost:
            self._states.publish(drive_state(head, self._cycle, self._boot, plant, self._stage))
        if self._cycle % HAND_CYCLES == 0:
            if self._virtual_hand:
                self._tell_hand(head)
            if self._clocks is not None:
                self._clocks.publish(Clock(clock=head.stamp))
        if self._cycle % 250 == 0:
            self._tell_load()

    def _tell_hand(self, head: Header) -> None:
        self._hand_sequence += 1
        self._hands.publish(
            HandControl(header=head, sequence=self._hand_sequence, held=self._hand_held)
        )

    def _advance(self, order: MotorOrder) -> None:
        self._plant.step(order.velocity, order.low, order.high)
        truth = self._plant.truth()
        self._truths.publish(
            PlantTruth(
                header=header(self, self._now),
                cycle=self._cycle,
                force=doubles(truth.force),
                position=doubles(truth.position),
                indentation=doubles(truth.indentation),
                peak_force=doubles(truth.peak_force),
                padding=float(truth.padding),
                breath=float(truth.breath),
                hand_held=self._hand_held,
                late_cycles=self._late,
                stage=int(self._stage.stage),
            )
        )

    def _tell_load(self) -> None:
        x, padding, fingers = self._plant.load_along_back()
        self._loads.publish(
            Pressure(
                header=header(self, self._now),
                x=doubles(x),
                padding=doubles(padding),
                fingers=doubles(fingers),
            )
        )

    def _tell_contour(self) -> None:
        row_x = self._layout.row_x
        x = np.arange(row_x[0], row_x[-1] + 1e-9, 0.005)
        z = self._plant.contour(x)
        self._contours.publish(
            Contour(
                header=header(self, 0),
                x=doubles(x),
                z=doubles(z),
                z_std=doubles(np.zeros_like(x)),
                row_x=doubles(row_x),
                kyphosis=float(self._person.kyphosis),
                lordosis=float(self._person.lordosis),
                method="plant: unloaded skin on the midline at rest, end-expiration",
            )
        )
        self._tell_load()

    def _tell_stiffness(self) -> None:
        from spinemat_sim.indenter import stiffness_truth

        sides = {
            "both": LevelStiffness.BOTH,
            "left": LevelStiffness.LEFT,
            "right": LevelStiffness.RIGHT,
        }
        levels = [
            LevelStiffness(
                level=level,
                side=sides[side],
                x=float(self._person.level_x[level]),
                value=float(value),
                standard_error=0.0,
                valid=True,
            )
            for (level, side), value in stiffness_truth(self._person, levels=TRUNK).items()
        ]
        self._maps.publish(
            StiffnessMap(
                header=header(self, 0),
                levels=levels,
                method="plant: noise-free single-level indentation, two preconditioning cycles,"
                " preload 5 N, 20-38 N per pair, quasi-static, breath held",
            )
        )


def _loop(node: Node, executor: EventsExecutor, stopper: Stopper) -> None:
    assert isinstance(node, MatSimulator)
    node.turn(executor, stopper)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(MatSimulator, args, _loop)
