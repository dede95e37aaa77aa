"""A system of Gazebo's server: the part of the plant that no physics engine knows.

The world written by `gazebo_world.py` has Gazebo's loader of Python systems load this module. It
builds the same plant from the same patient, and before each step of Gazebo's physics applies the
computed forces (`gazebo_plant.py`) to joints and tips. At the end of each drive cycle it tells the
state and waits for the adapter's orders, so that both stay in step whatever their speed. Without
orders within `ENGINE_WAIT` it goes on without waiting, and after the drives' watchdog, counted in
its own cycles, the motors are unpowered.

It runs in the Python of `gz sim`; what it imports from Gazebo is of Harmonic.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from spinemat.layout import load_layout
from spinemat_sim.gazebo_link import (
    ENGINE_WAIT,
    ORDERS,
    STATE,
    TRUTH,
    Orders,
    Rows,
    state_rows,
    truth_rows,
)
from spinemat_sim.gazebo_plant import SteppedPlant
from spinemat_sim.gazebo_world import tip_name, topic
from spinemat_sim.person import lie_down
from spinemat_sim.population import find_patient
from spinemat_sim.sensors import Imperfections
from spinemat_sim.urdf import expand_urdf

PAUSED = 0.001  # s between two looks of a paused world
LISTEN = 0.0002  # s per cycle in which orders are heard when nobody is waited for


class MatSystem:
    """Drives, tissue, couplings and the link to the adapter; called by Gazebo."""

    def configure(self, _entity: int, sdf: Any, _ecm: Any, _events: Any) -> None:
        """Build the plant that the world names."""
        from gz.msgs10.model_pb2 import Model
        from gz.transport13 import Node

        def told(name: str) -> str:
            return str(sdf.get_string(name))

        config, seed = Path(told("mat_config")), int(told("seed"))
        self._told = {
            "person": lie_down(find_patient(told("patient"), seed)),
            "urdf": expand_urdf(told("xacro"), config),
            "seed": seed,
            "imperfections": Imperfections.none() if told("ideal") == "true" else None,
        }
        self._layout = load_layout(config)
        self._period = round(self._layout.cycle * 1e9)
        self._heard = threading.Condition()
        self._message = Model
        self._node = Node()
        space = told("namespace")
        name = {key: topic(space, key.split("/")[1]) for key in (STATE, TRUTH, ORDERS)}
        self._states = self._node.advertise(f"/{name[STATE]}", Model)
        self._truths = self._node.advertise(f"/{name[TRUTH]}", Model)
        self._node.subscribe(Model, f"/{name[ORDERS]}", self._on_orders)
        self._start()

    def _start(self) -> None:
        self._plant = SteppedPlant(self._layout, **self._told)
        self._orders = Orders(self._layout)
        self._joints: list[Any] = []
        self._tips: list[Any] = []
        self._made = -1  # steps made in this cycle; -1: not begun
        self._silent = False
        self._refused = ""

    def reset(self, _info: Any, _ecm: Any) -> None:
        """Begin anew when the world is reset."""
        self._start()

    def pre_update(self, info: Any, ecm: Any) -> None:
        """Take what the last step did, end the cycle if it was the last, apply the next forces."""
        from gz.math7 import Vector3d

        if info.paused:
            time.sleep(PAUSED)  # lets go of Python's lock, which who takes orders needs
            return
        plant = self._plant
        if not self._joints:
            self._find(ecm)
        elif self._made > 0:
            self._read(ecm)
        if self._made == plant.substeps:
            plant.end()
            self._exchange()
        if self._made in (-1, plant.substeps):
            order = self._orders.at(plant.cycle)
            plant.begin(order.velocity, order.low, order.high)
            self._made = 0
        joints, tips = plant.forces()
        for joint, force in zip(self._joints, joints.tolist(), strict=True):
            joint.set_force(ecm, [force])
        nothing = Vector3d(0.0, 0.0, 0.0)
        for tip, press in zip(self._tips, tips.tolist(), strict=True):
            if press > 0.0:
                tip.add_world_wrench(ecm, Vector3d(0.0, 0.0, -press), nothing)
        self._made += 1

    def _find(self, ecm: Any) -> None:
        """Find joints and tips in the world, and put the fingers where they rest."""
        from gz.sim8 import Joint, Link, Model, World, world_entity

        world, layout, chain = World(world_entity(ecm)), self._layout, self._plant.chain
        owner = dict(zip(layout.joint_names, layout.names, strict=True))
        for name, place in zip(chain.names, self._plant.data.qpos.tolist(), strict=True):
            model = Model(world.model_by_name(ecm, owner.get(name, "person")))
            joint = Joint(model.joint_by_name(ecm, name))
            if not joint.valid(ecm):
                raise RuntimeError(f"joint {name} is not in the world")
            joint.enable_position_check(ecm, True)
            joint.enable_velocity_check(ecm, True)
            if place:
                joint.reset_position(ecm, [place])
            self._joints.append(joint)
        for name in layout.names:
            model = Model(world.model_by_name(ecm, name))
            self._tips.append(Link(model.link_by_name(ecm, tip_name(name))))

    def _read(self, ecm: Any) -> None:
        position = [joint.position(ecm) for joint in self._joints]
        velocity = [joint.velocity(ecm) for joint in self._joints]
        if all(position) and all(velocity):  # both are known after the first step
            self._plant.moved(np.ravel(position), np.ravel(velocity))

    def _exchange(self) -> None:
        """Tell the state, wait for its orders."""
        cycle = self._plant.cycle
        self._tell(self._truths, truth_rows(self._plant))
        self._tell(self._states, state_rows(self._plant))
        with self._heard:
            if self._silent:
                self._heard.wait(LISTEN)  # other threads run only while this one waits
            end = time.monotonic() + ENGINE_WAIT
            while not self._silent and self._orders.answered < cycle:
                self._heard.wait(max(end - time.monotonic(), 0.0))
                if time.monotonic() >= end:
                    self._silent = True

    def _tell(self, publisher: Any, rows: Rows) -> None:
        message = self._message(name=self._layout.name)
        stamp = self._plant.cycle * self._period
        message.header.stamp.sec, message.header.stamp.nsec = divmod(stamp, 1_000_000_000)
        columns = (rows.name, *(column.tolist() for column in rows[1:]))
        for name, position, velocity, effort in zip(*columns, strict=True):
            axis = message.joint.add(name=name).axis1
            axis.position, axis.velocity, axis.force = position, velocity, effort
        publisher.publish(message)

    def _on_orders(self, message: Any) -> None:
        stamp = message.header.stamp
        cycle = round((stamp.sec * 1_000_000_000 + stamp.nsec) / self._period)
        axes = [joint.axis1 for joint in message.joint]
        rows = Rows(
            [joint.name for joint in message.joint],
            np.array([axis.position for axis in axes]),
            np.array([axis.velocity for axis in axes]),
            np.array([axis.force for axis in axes]),
        )
        with self._heard:
            refused = self._orders.take(cycle, self._plant.cycle, rows) or ""
            if not refused:
                self._silent = False
                self._heard.notify()
            elif refused.split(":")[0] != self._refused:
                self._refused = refused.split(":")[0]
                print(f"spinemat: refused {refused} (said once)", file=sys.stderr, flush=True)


def get_system() -> MatSystem:
    """Return the system; called by Gazebo's loader."""
    return MatSystem()
