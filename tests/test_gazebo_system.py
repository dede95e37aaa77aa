"""The system in Gazebo's server, over DART: Gazebo's modules are stubs, its physics is real.

Gazebo itself is not among what the tests require; docs/gazebo.md says how it was run. The stubs do
what Harmonic's modules do: coordinates of a joint are known after the first step, forces hold for
one step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from mats import MAT, XACRO
from spinemat.drive import WATCHDOG
from spinemat.layout import load_layout
from spinemat_sim import gazebo_system
from spinemat_sim.dart_plant import DartPlant
from spinemat_sim.gazebo_link import Order, Rows, order_rows
from spinemat_sim.gazebo_world import write_world
from spinemat_sim.person import lie_down
from spinemat_sim.population import find_patient
from spinemat_sim.sensors import Imperfections
from spinemat_sim.urdf import expand_urdf

RUNNING, PAUSED = SimpleNamespace(paused=False), SimpleNamespace(paused=True)


class Message:
    """gz.msgs.Model."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nsec=0))
        self.joint = Joints()


class Joints(list[Any]):
    """Its repeated field."""

    def add(self, name: str) -> Any:
        self.append(SimpleNamespace(name=name, axis1=SimpleNamespace()))
        return self[-1]


def rows_of(message: Message) -> Rows:
    axes = [joint.axis1 for joint in message.joint]
    columns = ([getattr(a, f) for a in axes] for f in ("position", "velocity", "force"))
    return Rows([joint.name for joint in message.joint], *map(np.array, columns))


def message_of(rows: Rows, cycle: int, period: int) -> Message:
    message = Message()
    message.header.stamp.sec, message.header.stamp.nsec = divmod(cycle * period, 10**9)
    for name, position, velocity, force in zip(*rows, strict=True):
        axis = message.joint.add(name).axis1
        axis.position, axis.velocity, axis.force = position, velocity, force
    return message


class Transport:
    """gz.transport13.Node; what is published is heard at once."""

    def __init__(self) -> None:
        self.heard: dict[str, Callable[[Message], None]] = {}

    def advertise(self, topic: str, _kind: Any) -> Any:
        return SimpleNamespace(publish=lambda message: self.publish(topic, message))

    def subscribe(self, _kind: Any, topic: str, call: Callable[[Message], None]) -> None:
        self.heard[topic] = call

    def publish(self, topic: str, message: Message) -> None:
        if topic in self.heard:
            self.heard[topic](message)


class World:
    """A server with one world in it: Gazebo's entities are names, its engine is DART.

    Attributes:
        answers: orders for the next state; None: nobody answers.
        states, truths: what the system told: cycle and rows.
    """

    def __init__(self, folder: Path, mat: Path, patch: pytest.MonkeyPatch) -> None:
        self.layout = load_layout(mat)
        self.period = round(self.layout.cycle * 1e9)
        path = folder / "world.sdf"
        write_world(path, mat, namespace="/mat", xacro=XACRO, ideal=True)
        arguments = (self.layout, lie_down(find_patient("", 0)), expand_urdf(XACRO, mat))
        dart, self.twin = (
            DartPlant(*arguments, path, imperfections=Imperfections.none()) for _ in range(2)
        )
        self._dart = dart.world
        self._dofs = {dof.getName(): dof for dof in dart._dofs}
        self._tips = {f"{n}_tip": t for n, t in zip(self.layout.names, dart._tips, strict=True)}
        for dof in self._dofs.values():
            dof.setPosition(0.0)  # the system puts the fingers where they rest
        self._known = False
        self.answers: Order | None = None
        self.states: list[tuple[int, Rows]] = []
        self.truths: list[tuple[int, Rows]] = []
        self.node = Transport()
        for name, module in self._modules().items():
            patch.setitem(sys.modules, name, module)
        self.node.subscribe(None, "/mat/gazebo/state", self._on_state)
        self.node.subscribe(None, "/mat/gazebo/truth", lambda m: self._note(self.truths, m))
        told = {"mat_config": mat, "xacro": XACRO, "patient": "", "seed": 0, "namespace": "/mat"}
        told |= {"ideal": "true"}
        self.system = gazebo_system.get_system()
        sdf = SimpleNamespace(get_string=lambda name: str(told[name]))
        self.system.configure(1, sdf, self, None)

    def _modules(self) -> dict[str, ModuleType]:
        world = self

        class Joint:
            def __init__(self, name: str) -> None:
                self._dof = world._dofs.get(name)

            def valid(self, _ecm: Any) -> bool:
                return self._dof is not None

            def enable_position_check(self, _ecm: Any, _on: bool) -> None: ...

            def enable_velocity_check(self, _ecm: Any, _on: bool) -> None: ...

            def reset_position(self, _ecm: Any, place: list[float]) -> None:
                self._dof.setPosition(*place)

            def position(self, _ecm: Any) -> list[float] | None:
                return [self._dof.getPosition()] if world._known else None

            def velocity(self, _ecm: Any) -> list[float] | None:
                return [self._dof.getVelocity()] if world._known else None

            def set_force(self, _ecm: Any, force: list[float]) -> None:
                self._dof.setForce(*force)

        class Link:
            def __init__(self, name: str) -> None:
                self._body = world._tips[name]

            def add_world_wrench(self, _ecm: Any, force: Any, torque: Any) -> None:
                assert not any(torque)
                self._body.addExtForce(list(force))

        named = SimpleNamespace(
            model_by_name=lambda _ecm, name: name,
            joint_by_name=lambda _ecm, name: name,
            link_by_name=lambda _ecm, name: name,
        )
        content: dict[str, dict[str, Any]] = {
            "gz": {},
            "gz.math7": {"Vector3d": lambda x, y, z: (x, y, z)},
            "gz.msgs10": {},
            "gz.msgs10.model_pb2": {"Model": Message},
            "gz.sim8": {
                "Joint": Joint,
                "Link": Link,
                "Model": lambda _entity: named,
                "World": lambda _entity: named,
                "world_entity": lambda _ecm: 1,
            },
            "gz.transport13": {"Node": lambda: self.node},
        }
        made = {name: ModuleType(name) for name in content}
        for name, module in made.items():
            vars(module).update(content[name])
        return made

    def _note(self, kept: list[tuple[int, Rows]], message: Message) -> None:
        stamp = message.header.stamp
        cycle, rest = divmod(stamp.sec * 10**9 + stamp.nsec, self.period)
        assert rest == 0
        kept.append((cycle, rows_of(message)))

    def _on_state(self, message: Message) -> None:
        self._note(self.states, message)
        if self.answers is not None:
            self.order(self.answers, self.states[-1][0])

    def order(self, order: Order, cycle: int) -> None:
        """Send orders that answer a cycle."""
        message = message_of(order_rows(self.layout, order), cycle, self.period)
        self.node.publish("/mat/gazebo/orders", message)

    def cycles(self, count: int) -> None:
        """Let the server run for so many drive cycles."""
        for _ in range(count * self.system._plant.substeps):
            self.system.pre_update(RUNNING, self)
            self._dart.step()
            self._known = True

    def reset(self) -> None:
        """Set the world back to its start."""
        self._dart.reset()
        for dof in self._dofs.values():
            dof.setPosition(0.0)
            dof.setVelocity(0.0)
        self._known = False
        self.system.reset(RUNNING, self)

    def forces(self) -> np.ndarray:
        """Force on each tip in the newest state, (n,), N."""
        return self.states[-1][1].effort[self.layout.n :]


def orders(world: World, velocity: float) -> Order:
    n = world.layout.n
    return Order(np.full(n, velocity), np.full(n, -20.0), np.full(n, 40.0))


def press(world: World) -> None:
    """All fingers into the person."""
    world.answers = orders(world, 0.09)
    for _ in range(150):
        world.cycles(1)
        if world.states and world.forces().max() > 4.0:
            return
    raise AssertionError("nothing is pressed")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    data = yaml.safe_load(MAT.read_text())
    data["rows"] = [data["rows"][i] for i in (2, 7, 11)]
    mat = tmp_path / "small.yaml"
    mat.write_text(yaml.safe_dump(data))
    monkeypatch.setattr(gazebo_system, "ENGINE_WAIT", 0.0)  # orders are there, or never come
    yield World(tmp_path, mat, monkeypatch)


def test_a_press_is_that_of_dart_number_by_number(world: World) -> None:
    """And its forces come back, cycle by cycle."""
    told = [Order(*np.zeros((3, world.layout.n)))]  # nobody has answered before the first cycle
    world.cycles(1)
    for i in range(200):
        world.answers = orders(world, 0.09 if i < 120 else 0.015)
        world.cycles(1)  # ends a cycle and begins the next with what answers its state
        world.twin.step(*told[-1])
        told.append(world.answers)
        np.testing.assert_allclose(world.forces(), world.twin.force, atol=1e-9)
    assert [cycle for cycle, _ in world.states] == list(range(1, 201))
    assert world.forces().max() > 4.0
    cycle, truth = world.truths[-1]
    assert cycle == world.states[-1][0]
    n = world.layout.n
    np.testing.assert_array_equal(truth.effort[:n], world.forces())
    assert (truth.position[:n][world.forces() > 1.0] > 0.0).all()  # the skin gives way


def test_fingers_are_let_go_when_orders_stop(world: World) -> None:
    press(world)
    world.answers = None
    watchdog = round(WATCHDOG / world.layout.cycle)
    last = world.states[-1][0]
    n = world.layout.n
    world.cycles(watchdog)
    assert world.states[-1][1].effort[:n].max() > 0.0  # still driven by the last orders
    assert world.forces().max() > 4.0
    world.cycles(2)
    assert world.states[-1][0] - last == watchdog + 2
    assert not world.states[-1][1].effort[:n].any()  # the motors are unpowered
    world.cycles(60)
    assert world.forces().max() == 0.0
    assert (np.diff([cycle for cycle, _ in world.states]) == 1).all()  # nobody is waited for
    press(world)  # who answers again moves them again


def test_orders_that_make_no_sense_are_refused_and_said_once(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    world.answers = orders(world, np.nan)
    world.cycles(5)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and "not finite" in lines[0]
    assert not world.states[-1][1].effort[: world.layout.n].any()


def test_a_paused_world_stands_still(world: World) -> None:
    press(world)
    told = len(world.states)
    for _ in range(20):
        world.system.pre_update(PAUSED, world)
    assert len(world.states) == told
    world.cycles(3)
    assert (np.diff([cycle for cycle, _ in world.states]) == 1).all()
    assert world.forces().max() > 4.0


def test_a_world_that_is_reset_begins_anew_and_knows_no_old_orders(world: World) -> None:
    press(world)
    first = [(cycle, rows.effort) for cycle, rows in world.states]
    world.states.clear()
    world.answers = None
    world.reset()
    world.cycles(4)
    assert [cycle for cycle, _ in world.states] == [1, 2, 3]
    assert not world.states[-1][1].effort.any()  # neither driven nor pressing
    world.order(orders(world, 0.09), first[-1][0])  # an answer to the world before
    world.cycles(2)
    assert not world.states[-1][1].effort.any()
    world.reset()
    world.states.clear()
    press(world)
    for (cycle, effort), (again, rows) in zip(first, world.states, strict=True):
        assert again == cycle
        np.testing.assert_allclose(rows.effort, effort, atol=1e-9)
