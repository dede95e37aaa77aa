"""Node gazebo_adapter: the drive stage for a mat that lives in Gazebo.

It is `MatSimulator` with Gazebo in the plant's place: the same drive stage, watchdogs, lock-step,
virtual hand and topics. Gazebo says where the fingers are and what presses their tips; what real
sensors make of that is added here, as in the plant. `gazebo_link.py` describes the topics between
the two; `ros_gz_bridge` carries them. Time is Gazebo's: cycles are counted from the start of its
world, `/clock` comes from there, and while Gazebo is paused time stands still.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from spinemat.drive import DriveStage, MotorOrder
from spinemat.errors import InvalidInput
from spinemat_ros.codec import doubles, floats, nanoseconds
from spinemat_ros.node import header, publisher, subscription
from spinemat_ros.spin import Stopper, run
from spinemat_sim import kernel
from spinemat_sim.faults import Fault
from spinemat_sim.gazebo_link import (
    ORDERS,
    STATE,
    TRUTH,
    Order,
    Rows,
    order_rows,
    state_names,
    truth_names,
)
from spinemat_sim.node import MatSimulator
from spinemat_sim.plant import Plant

Array = NDArray[np.float64]

TELL_MISSING = 10.0  # s of wall time without Gazebo after which it is said


def joint_message(node: Node, rows: Rows, stamp: int) -> JointState:
    """Rows as a message; stamp in ns."""
    return JointState(
        header=header(node, stamp),
        name=list(rows.name),
        position=doubles(rows.position),
        velocity=doubles(rows.velocity),
        effort=doubles(rows.effort),
    )


def joint_rows(message: JointState) -> Rows:
    """A message as rows."""
    columns = (message.position, message.velocity, message.effort)
    return Rows(message.name, *(floats(column) for column in columns))


class RemotePlant(Plant):
    """A plant that Gazebo moves: orders go out, state and truth come in.

    Args:
        node: has the topics.
        arguments, keywords: as for `Plant`.

    Attributes:
        engine_cycle: cycle of the newest state taken over; 0 before the first.
        skipped: how many cycles Gazebo ran on without orders before it.
        restarted: Gazebo's time began anew before it.
    """

    def __init__(self, node: Node, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._node, self._period = node, round(self.layout.cycle * 1e9)
        self._wait: Callable[[Callable[[], bool]], bool] = lambda _arrived: False
        self._state: tuple[int, Rows] | None = None
        self._truth: tuple[int, Rows] | None = None
        self._names = state_names(self.layout), truth_names(self.layout, len(self._loads))
        self.engine_cycle = self.skipped = 0
        self.restarted = False
        self._orders = publisher(node, ORDERS)
        subscription(node, STATE, self._on_state)
        subscription(node, TRUTH, self._on_truth)

    def wait_with(self, wait: Callable[[Callable[[], bool]], bool]) -> None:
        """Wait for Gazebo with this: it returns whether the condition came true."""
        self._wait = wait

    def _on_state(self, message: JointState) -> None:
        self._state = self._read_rows(message, self._names[0])

    def _on_truth(self, message: JointState) -> None:
        self._truth = self._read_rows(message, self._names[1])

    def _read_rows(self, message: JointState, names: Sequence[str]) -> tuple[int, Rows]:
        """Return the cycle and the content of a message.

        Raises:
            InvalidInput: it is of another mat, or not finite.
        """
        rows = joint_rows(message)
        if tuple(rows.name) != tuple(names):
            found = next((n for n in names if n not in rows.name), f"{len(rows.name)} joints")
            raise InvalidInput("world", found, "the world of this mat: the same mat_config")
        if not all(np.isfinite(column).all() for column in rows[1:]):
            raise InvalidInput("state", "not finite", "finite numbers from Gazebo")
        return round(nanoseconds(message.header.stamp) / self._period), rows

    def arrived(self) -> bool:
        """Whether state and truth of another cycle than the last are there."""
        state, truth = self._state, self._truth
        both = state is not None and truth is not None and state[0] == truth[0]
        return both and state is not None and state[0] != self.engine_cycle

    def step(self, velocity: Array, motor_low: Array, motor_high: Array) -> None:
        """Send the orders of a cycle and take what Gazebo made of it; see `Plant.step`."""
        _, _, *order = self._begin(velocity, motor_low, motor_high)
        rows = order_rows(self.layout, Order(*order))
        stamp = self.engine_cycle * self._period
        self._orders.publish(joint_message(self._node, rows, stamp))
        self.take_over()

    def take_over(self) -> bool:
        """Wait for a new state and take it over; false if waiting was given up."""
        if not self._wait(self.arrived):
            return False
        assert self._state is not None and self._truth is not None
        cycle, state = self._state
        truth = self._truth[1]
        n, f = self.layout.n, self._fingers
        self.restarted = cycle < self.engine_cycle
        self.skipped = max(cycle - self.engine_cycle - 1, 0)
        self.engine_cycle = cycle
        f[kernel.POSITION], f[kernel.MOTOR] = state.position[:n], state.effort[:n]
        f[kernel.FORCE] = state.effort[n:]  # what presses on the tips
        heard = self._noise[self.cycle % len(self._noise)]
        kernel.sense(f, self._numbers, self._status, heard, self.cycle)
        f[kernel.FORCE], f[kernel.PEAK] = truth.effort[:n], truth.effort[n : 2 * n]
        f[kernel.INDENTATION] = truth.position[:n]
        self._loads[:] = truth.effort[2 * n : -1]
        self._breath = float(truth.position[-1])
        self._end(float(self._loads.sum()))
        return True

    def break_fingers(self, faults: Sequence[Fault]) -> None:
        """Let sensors and motors be faulty; see `Plant.break_fingers`.

        Raises:
            InvalidInput: a fault that only the simulated physics could have.
        """
        if any(fault.kind == "jammed" for fault in faults):
            raise InvalidInput("finger_faults", "jammed", "in Gazebo any kind but this")
        super().break_fingers(faults)

    def move_person(self, kind: str) -> None:
        """Refuse all that the person in Gazebo cannot do.

        Raises:
            InvalidInput: the kind is another than ``lies still``.
        """
        if kind != "lies still":
            raise InvalidInput("person_moves", kind, "in Gazebo: lies still")


class GazeboAdapter(MatSimulator):
    """Drive stage, virtual hand and ground truth of a mat in Gazebo."""

    node_name = "gazebo_adapter"
    tells_clock = False

    _plant: RemotePlant

    def _build(self, *arguments: Any, **keywords: Any) -> Plant:
        return RemotePlant(self, *arguments, **keywords)

    def turn(self, executor: EventsExecutor, stopper: Stopper) -> None:
        """Run cycles as Gazebo runs them until the stopper is true."""
        told = False

        def wait(arrived: Callable[[], bool]) -> bool:
            nonlocal told
            end = time.monotonic() + TELL_MISSING
            while not stopper and not arrived():
                executor.spin_once(timeout_sec=0.1)
                if not told and time.monotonic() > end:
                    told = True
                    self.get_logger().warning(
                        f"no state from Gazebo on {STATE}: time stands still"
                    )
            return not stopper

        self._plant.wait_with(wait)
        if self._plant.take_over():
            self._cycle = self._plant.engine_cycle - 1  # count on from Gazebo's
            super().turn(executor, stopper)

    def _wait_for_start(self, executor: EventsExecutor, stopper: Stopper) -> None:
        """Wait for nobody: Gazebo's time runs already."""

    def _advance(self, order: MotorOrder) -> None:
        super()._advance(order)
        self._cycle += self._plant.skipped
        if self._plant.restarted:
            self._boot, self._stage = uuid.uuid4().hex, DriveStage(self._layout)
            self._cycle = self._plant.engine_cycle - 1


def _loop(node: Node, executor: EventsExecutor, stopper: Stopper) -> None:
    assert isinstance(node, GazeboAdapter)
    node.turn(executor, stopper)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(GazeboAdapter, args, _loop)


if __name__ == "__main__":
    main()
