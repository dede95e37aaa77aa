"""Node dart_engine: DART in the place of Gazebo's server and the bridge.

It computes the same world with the engine that Gazebo runs by default and speaks the topics that
`ros_gz_bridge` would carry (`gazebo_link.py`, and `clock`), so the adapter can be tried over real
DDS where no Gazebo is installed. It keeps step with the adapter as `gazebo_system.py` does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from spinemat_ros.codec import nanoseconds, stamp
from spinemat_ros.node import declare, declare_layout, publisher, subscription
from spinemat_ros.spin import Stopper, run
from spinemat_sim.dart_plant import DartPlant
from spinemat_sim.gazebo_adapter import joint_message, joint_rows
from spinemat_sim.gazebo_link import (
    ENGINE_WAIT,
    ORDERS,
    STATE,
    TRUTH,
    Orders,
    state_rows,
    truth_rows,
)
from spinemat_sim.person import lie_down
from spinemat_sim.population import find_patient
from spinemat_sim.urdf import expand_urdf, xacro_beside


class DartEngine(Node):
    """A mat and a person in DART, driven by orders."""

    def __init__(self) -> None:
        super().__init__("dart_engine")
        self._layout = layout = declare_layout(self)
        urdf = declare(self, "urdf", "", "path of mat.urdf.xacro; empty: beside the layout")
        patient = declare(self, "patient", "", "as for mat_simulator")
        seed = declare(self, "seed", 0, "seed of person and drives", (0, 2**31 - 1))
        config = self.get_parameter("mat_config").value
        mat = expand_urdf(urdf or xacro_beside(config), config)
        person = lie_down(find_patient(patient, seed))
        self._plant = DartPlant(layout, person, mat, seed=seed)
        self._orders = Orders(layout)
        self._period = round(layout.cycle * 1e9)
        self._refused = ""
        self._states = publisher(self, STATE)
        self._truths = publisher(self, TRUTH)
        self._clocks = publisher(self, "clock")
        subscription(self, ORDERS, self._on_orders)

    def _on_orders(self, message: JointState) -> None:
        cycle = round(nanoseconds(message.header.stamp) / self._period)
        refused = self._orders.take(cycle, self._plant.cycle, joint_rows(message)) or ""
        if refused and refused.split(":")[0] != self._refused:
            self._refused = refused.split(":")[0]
            self.get_logger().warning(f"refused {refused} (said once)")

    def turn(self, executor: EventsExecutor, stopper: Stopper) -> None:
        """Run cycles until the stopper is true."""
        plant, orders, silent = self._plant, self._orders, False
        while not stopper:
            begun, heard = time.monotonic(), orders.answered
            plant.step(*orders.at(plant.cycle))
            now = plant.cycle * self._period
            self._truths.publish(joint_message(self, truth_rows(plant), now))
            self._states.publish(joint_message(self, state_rows(plant), now))
            self._clocks.publish(Clock(clock=stamp(now)))
            end = begun + (self._layout.cycle if silent else ENGINE_WAIT)
            while not stopper and orders.answered < plant.cycle:
                left = end - time.monotonic()
                if left <= 0.0:
                    break
                executor.spin_once(timeout_sec=min(left, 0.1))
            silent = orders.answered == heard


def _loop(node: Node, executor: EventsExecutor, stopper: Stopper) -> None:
    assert isinstance(node, DartEngine)
    node.turn(executor, stopper)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(DartEngine, args, _loop)


if __name__ == "__main__":
    main()
