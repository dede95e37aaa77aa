"""What Gazebo and the adapter tell one another: rows of named joints, and orders.

All are sensor_msgs/JointState, gz.msgs.Model in Gazebo, which `ros_gz_bridge` carries both ways,
so the adapter needs no Gazebo and the world no ROS. The engine's side (`gazebo_system.py`, or
`dart_engine.py` where no Gazebo is installed) ends a drive cycle, tells the state and the truth,
and waits for the orders that answer them.

- ``gazebo/state``: position, velocity and motor force of each finger's joint; the tissue's force
  on its tip is the effort of ``<finger>_tip_joint``. It is the force that the world's system
  applies there; what the force-torque sensor in that joint makes of it is told on
  ``gazebo/tip_force``, for comparison.
- ``gazebo/truth``: ``<finger>_skin``: indentation as position, tissue force as effort;
  ``<finger>_peak``: largest tissue force in the cycle as effort; ``padding_<i>``: load of a
  station as effort; ``breath``: 0 to 1 as position.
- ``gazebo/orders``: with the stamp of the state they answer, set-point of velocity and highest
  motor force as effort of each finger's joint; the lowest motor force as effort of
  ``<finger>_low``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.drive import WATCHDOG
from spinemat.layout import MatLayout
from spinemat_sim import kernel
from spinemat_sim.plant import Plant

Array = NDArray[np.float64]

STATE, TRUTH, ORDERS = "gazebo/state", "gazebo/truth", "gazebo/orders"
ENGINE_WAIT = 3.0  # s of wall time that an engine waits for orders; longer than anybody's answer


class Rows(NamedTuple):
    """Joints as in sensor_msgs/JointState; equally long."""

    name: Sequence[str]
    position: Array
    velocity: Array
    effort: Array


class Order(NamedTuple):
    """Orders for one cycle, shape (n,) each: m/s, N, N."""

    velocity: Array
    low: Array
    high: Array


def state_names(layout: MatLayout) -> tuple[str, ...]:
    """Names in the rows of a state."""
    return (*layout.joint_names, *(f"{name}_tip_joint" for name in layout.names))


def truth_names(layout: MatLayout, stations: int) -> tuple[str, ...]:
    """Names in the rows of the truth."""
    return (
        *(f"{name}_skin" for name in layout.names),
        *(f"{name}_peak" for name in layout.names),
        *(f"padding_{i}" for i in range(stations)),
        "breath",
    )


def order_names(layout: MatLayout) -> tuple[str, ...]:
    """Names in the rows of orders."""
    return (*layout.joint_names, *(f"{name}_low" for name in layout.names))


def order_rows(layout: MatLayout, order: Order) -> Rows:
    """Orders as rows."""
    none = np.zeros(layout.n)
    return Rows(
        order_names(layout),
        np.zeros(2 * layout.n),
        np.concatenate([order.velocity, none]),
        np.concatenate([order.high, order.low]),
    )


def state_rows(plant: Plant) -> Rows:
    """What Gazebo tells of the fingers at the end of a cycle."""
    q, v = plant.data.qpos, plant.data.qvel
    at, none = plant.body.finger_q, np.zeros(plant.layout.n)
    return Rows(
        state_names(plant.layout),
        np.concatenate([q[at], none]),
        np.concatenate([v[at], none]),
        np.concatenate([plant.fingers[kernel.MOTOR], plant.fingers[kernel.FORCE]]),
    )


def truth_rows(plant: Plant) -> Rows:
    """What really happened in the cycle."""
    truth, loads = plant.truth(), plant.station_loads
    n, k = plant.layout.n, len(loads)
    rest = np.zeros(n + k)
    return Rows(
        truth_names(plant.layout, k),
        np.concatenate([truth.indentation, rest, [truth.breath]]),
        np.zeros(2 * n + k + 1),
        np.concatenate([truth.force, truth.peak_force, loads, [0.0]]),
    )


class Orders:
    """Orders as they reach an engine; the newest count, and old ones let go of the fingers."""

    def __init__(self, layout: MatLayout) -> None:
        self._n, self._names = layout.n, order_names(layout)
        self._watchdog = round(WATCHDOG / layout.cycle)
        self._none = Order(*np.zeros((3, layout.n)))
        self._order, self.answered = self._none, -1

    def take(self, cycle: int, now: int, rows: Rows) -> str | None:
        """Take orders that answer a cycle; return why they are refused, or None."""
        if tuple(rows.name) != self._names:
            return f"orders: {len(rows.name)} joints; allowed: those of this mat in their order"
        order = Order(rows.velocity[: self._n], rows.effort[self._n :], rows.effort[: self._n])
        if not all(np.isfinite(v).all() for v in order) or (order.low > order.high).any():
            return "orders: a value is not finite, or a lowest force is above the highest"
        if not self.answered < cycle <= now:
            return f"orders: cycle {cycle} is repeated, out of order or in the future"
        self._order, self.answered = order, cycle
        return None

    def at(self, cycle: int) -> Order:
        """Orders that hold in the cycle after this one."""
        fresh = self.answered >= 0 and cycle - self.answered <= self._watchdog
        return self._order if fresh else self._none
