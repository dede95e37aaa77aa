"""The mat in Gazebo: its world, the same physics in DART, the contract of the adapter."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dartpy
import numpy as np
import pytest
import rclpy
import yaml
from rclpy.node import Node
from sensor_msgs.msg import JointState

from mats import MAT, ROOT, XACRO
from spinemat.drive import Stage
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout
from spinemat_bringup.gazebo_paths import MODULES, gazebo_python, missing_modules
from spinemat_interfaces.msg import DriveCommand, DrivePermit, DriveState, HandControl, PlantTruth
from spinemat_ros.codec import doubles, floats
from spinemat_ros.node import publisher, subscription
from spinemat_ros.spin import make_executor
from spinemat_ros.topics import TOPICS
from spinemat_sim.dart_plant import DartPlant
from spinemat_sim.gazebo_chain import Joint, read_chain
from spinemat_sim.gazebo_link import Orders, Rows, order_names
from spinemat_sim.gazebo_world import main as write_from_command_line
from spinemat_sim.gazebo_world import topic, write_world
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.sensors import Imperfections
from spinemat_sim.urdf import expand_urdf


def small_mat(folder: Path) -> Path:
    """Three rows of other fingers."""
    data = yaml.safe_load(MAT.read_text())
    data["rows"] = [data["rows"][i] for i in (2, 7, 11)]
    data["finger"] |= {"tip_area": 0.0008, "mass": 0.4, "return_stiffness": 30.0}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


class World:
    """A written world and the plant that it should be."""

    def __init__(self, folder: Path, mat: Path, patient: str, namespace: str) -> None:
        self.path, self.mat = folder / "w.sdf", mat
        self.patient, self.namespace = patient, namespace
        write_world(self.path, mat, patient, 3, namespace, XACRO)
        self.layout = load_layout(mat)
        person = lie_down(find_patient(patient, 3))
        self.plant = Plant(self.layout, person, expand_urdf(XACRO, mat), 3)
        self.chain = read_chain(self.plant.body)
        (self.root,) = ET.parse(self.path).getroot()

    def model(self, name: str) -> ET.Element:
        found = self.root.find(f"model[@name='{name}']")
        assert found is not None, name
        return found


@pytest.fixture(scope="module", params=["average", "small"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    if request.param == "average":
        return World(folder, MAT, "", "/mat")
    return World(folder, small_mat(folder), "athlete_25", "/clinic/mat_2")


def number(element: ET.Element, path: str) -> float:
    return float(element.findtext(path, "nan"))


# --- the world -----------------------------------------------------------------------------------


def test_masses_and_joints_are_those_of_the_plant(world: World) -> None:
    chain, layout = world.chain, world.layout
    person = world.model("person")
    for part in chain.parts:
        links = [person.find(f"link[@name='{part.name}{end}']") for end in ("", "_carrier")]
        both = [link for link in links if link is not None]
        assert sum(number(v, "inertial/mass") for v in both) == pytest.approx(part.mass, rel=1e-12)
    for name in layout.names:
        masses = [number(v, "inertial/mass") for v in world.model(name).iter("link")]
        assert sum(masses) == pytest.approx(layout.finger.mass, rel=1e-12)
    wanted: dict[str, Joint] = {j.name: j for part in chain.parts for j in part.joints}
    wanted |= {joint.name: joint for joint in chain.fingers}
    found = {j.get("name"): j for j in world.root.iter("joint") if j.get("type") != "fixed"}
    assert found.keys() == wanted.keys() == set(chain.names)
    for name, joint in wanted.items():
        element = found[name]
        assert element.get("type") == ("prismatic" if joint.sliding else "revolute")
        assert [float(v) for v in element.findtext("axis/xyz", "").split()] == list(joint.axis)
        spring = [number(element, f"axis/dynamics/{word}") for word in
                  ("spring_stiffness", "spring_reference", "damping")]  # fmt: skip
        assert spring == [joint.stiffness, joint.reference, joint.damping], name


def test_every_finger_has_its_place_its_limit_and_a_sensor_under_its_tip(world: World) -> None:
    layout, f = world.layout, world.layout.finger
    for name, x, y in zip(layout.names, layout.x, layout.y, strict=True):
        model = world.model(name)
        place = [float(v) for v in model.findtext("pose", "").split()[:3]]
        np.testing.assert_allclose(place, [x, y, 0.0], atol=1e-12)
        joint = model.find(f"joint[@name='{name}_joint']")
        assert joint is not None
        assert f.max_force < number(joint, "axis/limit/effort") < 3.0 * f.max_force
        fixed = model.find("joint[@type='fixed']")
        assert fixed is not None
        assert (fixed.findtext("parent"), fixed.findtext("child")) == (name, f"{name}_tip")
        assert fixed.find("sensor").get("type") == "force_torque"
        tip = model.find(f"link[@name='{name}_tip']")
        assert tip is not None
        radius = number(tip, "collision/geometry/sphere/radius")
        assert np.pi * radius**2 == pytest.approx(f.tip_area)


def test_the_world_tells_its_system_whom_it_holds(world: World) -> None:
    (plugin,) = [p for p in world.root.findall("plugin") if "python" in p.get("filename", "")]
    told = {child.tag: child.text or "" for child in plugin}
    assert told["module_name"] == "spinemat_sim.gazebo_system"
    assert told["mat_config"] == str(world.mat) and told["xacro"] == str(XACRO)
    assert (told["patient"], told["seed"]) == (world.patient, "3")
    assert told["namespace"] == world.namespace


@pytest.mark.skipif(
    shutil.which("ign") is None, reason="ign is missing (apt: ignition-tools libsdformat-dev)"
)
def test_gazebos_parser_accepts_the_world(world: World) -> None:
    found = subprocess.run(
        ["ign", "sdf", "-k", str(world.path)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0 and "Valid." in found.stdout, found.stderr
    assert "Error" not in found.stderr and "Warning" not in found.stderr, found.stderr


def test_the_bridge_carries_what_both_sides_tell() -> None:
    entries = yaml.safe_load((ROOT / "config/gazebo/bridge.yaml").read_text())
    by_name = {entry["ros_topic_name"]: entry for entry in entries}
    for name in ("gazebo/state", "gazebo/truth", "gazebo/orders"):
        entry = by_name[name]
        kind = TOPICS[name].type
        package = kind.__module__.split(".")[0]
        assert entry["ros_type_name"] == f"{package}/msg/{kind.__name__}"
        assert entry["gz_type_name"] == "gz.msgs.Model"
        assert topic("", name.split("/")[1]) == entry["gz_topic_name"]
        assert entry["direction"] == ("ROS_TO_GZ" if name == "gazebo/orders" else "GZ_TO_ROS")
    assert by_name["/clock"]["ros_type_name"] == "rosgraph_msgs/msg/Clock"


def test_a_gazebo_without_its_python_modules_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MODULES:
        made = tmp_path.joinpath(*name.split("."))
        made.parent.mkdir(parents=True, exist_ok=True)
        made.with_suffix(".py").write_text("")
    monkeypatch.setenv("PYTHONPATH", "")
    assert missing_modules([str(tmp_path)]) == ""
    (tmp_path / "sdformat14.py").unlink()
    said = missing_modules([str(tmp_path)])
    assert "sdformat14" in said and "ros-jazzy-gz-sim-vendor" in said and "\n" not in said


def test_gazebos_python_modules_are_found_in_a_ros_installation(tmp_path: Path) -> None:
    folders = [
        tmp_path / f"opt/{name}/lib/python"
        for name in ("gz_msgs_vendor", "gz_sim_vendor", "sdformat_vendor")
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    found = gazebo_python(os.pathsep.join(["/none", str(tmp_path)]))
    assert found == [str(folder) for folder in folders]
    assert gazebo_python("") == []


@pytest.mark.parametrize(
    "wrong, words",
    [
        (["--patient", "nobody"], "patient"),
        (["--namespace", "/a b"], "namespace"),
        (["--xacro", "/none.xacro"], "xacro file"),
    ],
)
def test_wrong_input_is_one_line(
    wrong: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        write_from_command_line([str(tmp_path / "w.sdf"), "--mat-config", str(MAT), *wrong])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "w.sdf").exists()


# --- the same physics in DART --------------------------------------------------------------------


def test_dart_reads_the_same_masses(world: World) -> None:
    skeleton = dartpy.utils.SdfParser.readWorld(str(world.path)).getSkeleton("person")
    names = [skeleton.getDof(i).getName() for i in range(skeleton.getNumDofs())]
    index = [world.chain.names.index(name) for name in names]
    wanted = world.chain.mass_matrix[np.ix_(index, index)]
    np.testing.assert_allclose(skeleton.getMassMatrix(), wanted, rtol=1e-9, atol=1e-12)


def test_dart_refuses_the_world_of_another_mat(world: World, tmp_path: Path) -> None:
    mat = MAT if world.layout.n != 26 else small_mat(tmp_path)
    person = world.plant.person
    with pytest.raises(InvalidInput, match="joints of this mat"):
        DartPlant(load_layout(mat), person, expand_urdf(XACRO, mat), world=world.path)


def test_a_press_is_the_same_in_both_engines(tmp_path: Path) -> None:
    """One level, in and out: force and indentation over time, and the sensor under the tip."""
    mat = small_mat(tmp_path)
    layout, urdf = load_layout(mat), expand_urdf(XACRO, mat)
    person = lie_down(find_patient(""))
    none = Imperfections.none()
    mujoco = Plant(layout, person, urdf, imperfections=none)
    dart = DartPlant(layout, person, urdf, imperfections=none, trunk=mujoco.trunk)
    low, high = np.full(layout.n, -20.0), np.full(layout.n, 40.0)
    forces, depths = [], []
    for i in range(300):
        speed = 0.09 if mujoco.force.max() == 0.0 and i < 150 else 0.015 if i < 220 else -0.1
        for plant in (mujoco, dart):
            plant.step(np.full(layout.n, speed), low, high)
        forces.append((mujoco.force.copy(), dart.force.copy()))
        depths.append((mujoco.truth().indentation, dart.truth().indentation))
        if 150 < i < 220:  # a step later than the force, and the tip has a mass
            np.testing.assert_allclose(dart.tip_wrench(), dart.force, atol=0.3)
    force, depth = np.array(forces), np.array(depths)
    assert force[:, 0].max() > 8.0
    np.testing.assert_allclose(force[:, 1], force[:, 0], atol=0.02 * force.max())
    np.testing.assert_allclose(depth[:, 1].max(axis=0), depth[:, 0].max(axis=0), rtol=0.02)
    assert dart.force.max() == 0.0  # both let go
    assert dart.world.getLastCollisionResult().getNumContacts() == 0


def test_orders_that_make_no_sense_or_are_old_move_nothing() -> None:
    layout = load_layout(MAT)
    orders = Orders(layout)
    names, n = order_names(layout), layout.n

    def rows(high: float = 5.0, names: Any = names) -> Rows:
        return Rows(names, np.zeros(2 * n), np.full(2 * n, 0.01), np.repeat([high, -5.0], n))

    assert not orders.at(0).velocity.any()
    assert orders.take(3, 3, rows()) is None
    assert orders.at(3).velocity.all() and (orders.at(3).low == -5.0).all()
    for bad in (rows(np.nan), rows(-6.0), rows(names=names[1:])):
        assert orders.take(4, 4, bad) is not None
    assert orders.take(3, 4, rows()) is not None and orders.take(9, 4, rows()) is not None
    assert orders.at(28).velocity.all()
    assert not any(values.any() for values in orders.at(29))


# --- the adapter, over DDS, with DART in Gazebo's place ------------------------------------------


class Loop:
    """Controller, supervisor and hand in one, around a real adapter and a real engine.

    Attributes:
        commands, permits, held: whether they are given; `granted`: what the permit says.
        speed, ceiling: of all fingers.
        states, truth: what was heard.
    """

    def __init__(self, folder: Path, mat: Path) -> None:
        self.layout: MatLayout = load_layout(mat)
        self.commands = self.permits = self.granted = self.held = True
        self.speed, self.ceiling = 0.0, 8.0
        self.states: list[DriveState] = []
        self.truth: list[PlantTruth] = []
        self.engine: list[JointState] = []
        self.node = Node("loop", namespace="mat")
        self.executor = make_executor(self.node)
        self._command = publisher(self.node, "drive/command")
        self._permit = publisher(self.node, "drive/permit")
        self._hand = publisher(self.node, "drive/hand_input")
        subscription(self.node, "drive/state", self._on_state)
        subscription(self.node, "truth/state", self.truth.append)
        subscription(self.node, "gazebo/truth", self.engine.append)
        self.processes = {}
        options = {"gazebo_adapter": {"virtual_hand": "false", "stiffness_truth": "false"}}
        for name in ("dart_engine", "gazebo_adapter"):
            given = {"mat_config": str(mat), "urdf": str(XACRO)} | options.get(name, {})
            line = [sys.executable, "-m", f"spinemat_sim.{name}", "--ros-args", "-r", "__ns:=/mat"]
            for key, value in given.items():
                line += ["-p", f"{key}:={value}"]
            self.processes[name] = subprocess.Popen(line, cwd=folder)

    def _on_state(self, msg: DriveState) -> None:
        self.states.append(msg)
        n = self.layout.n
        if self.commands:
            speed, ceiling = doubles(np.full(n, self.speed)), doubles(np.full(n, self.ceiling))
            self._command.publish(
                DriveCommand(
                    header=msg.header, cycle=msg.cycle, velocity=speed, force_ceiling=ceiling
                )
            )
        if self.permits and msg.cycle % 2 == 0:
            self._permit.publish(
                DrivePermit(
                    header=msg.header, cycle=msg.cycle, granted=self.granted, boot_id="loop"
                )
            )
        if msg.cycle % 5 == 0:
            self._hand.publish(HandControl(header=msg.header, held=self.held))

    def until(self, condition: Callable[[], Any], cycles: int, what: str) -> int:
        """Turn until the condition holds; return in how many cycles."""
        first = len(self.truth)
        idle = 0
        while not condition():
            heard = len(self.truth)
            self.executor.spin_once(timeout_sec=0.5)
            idle = 0 if len(self.truth) > heard else idle + 1
            ended = [name for name, p in self.processes.items() if p.poll() is not None]
            assert not ended and idle < 200, f"{what}: ended {ended}, silence {idle}"
            assert len(self.truth) - first <= cycles, f"{what}: not within {cycles} cycles"
        return len(self.truth) - first

    def stage(self) -> Stage:
        return Stage(self.states[-1].stage)

    def force(self) -> np.ndarray:
        return floats(self.truth[-1].force)

    def press(self) -> None:
        """All fingers into the person, from wherever they are."""
        self.commands = self.permits = self.granted = self.held = True
        self.speed = 0.05
        self.until(lambda: self.states and self.stage() is Stage.RUNNING, 2000, "runs")
        self.until(lambda: (self.force() > 4.0).all(), 1500, "presses")

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
        self.node.destroy_node()


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, ros_domain: int) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("loop")
    rclpy.init()
    running = Loop(folder, small_mat(folder))
    try:
        yield running
    finally:
        running.end()
        rclpy.try_shutdown()


@pytest.mark.graph
def test_the_adapter_counts_gazebos_cycles_and_says_what_happens(loop: Loop) -> None:
    loop.press()
    states = loop.states[-100:]  # while nodes start, Gazebo runs on and states are skipped
    assert (np.diff([state.cycle for state in states]) == 1).all()
    assert len({state.boot_id for state in loop.states}) == 1
    last = loop.states[-1]
    stamp = last.header.stamp.sec * 10**9 + last.header.stamp.nanosec
    assert stamp == last.cycle * 4_000_000 and last.period == loop.layout.cycle
    truth = next(t for t in loop.truth if t.cycle == last.cycle - 1)  # what that state measured
    np.testing.assert_allclose(floats(last.force), floats(truth.force), atol=1.0)
    np.testing.assert_allclose(floats(last.position), floats(truth.position), atol=1e-3)
    assert floats(truth.force).max() < 10.0 < truth.padding
    assert floats(last.temperature).min() > 20.0 and not np.any(last.status)


LOSSES: dict[str, Callable[[Loop], None]] = {
    "permit withdrawn": lambda loop: setattr(loop, "granted", False),
    "no fresh permit": lambda loop: setattr(loop, "permits", False),
    "no fresh command": lambda loop: setattr(loop, "commands", False),
    "hand control released": lambda loop: setattr(loop, "held", False),
}


@pytest.mark.graph
@pytest.mark.parametrize("reason", LOSSES)
def test_a_stop_releases_every_finger_and_retracts(loop: Loop, reason: str) -> None:
    loop.press()
    lost = loop.states[-1].cycle
    LOSSES[reason](loop)
    loop.until(lambda: loop.stage() is Stage.RELEASING, 40, "releases")
    assert loop.states[-1].stage_reason == reason
    assert loop.states[-1].cycle - lost <= 32  # the watchdog's 25, the hand's beat, latency
    loop.until(lambda: (loop.force() < 1.0).all(), 60, "lets go")
    loop.until(lambda: max(loop.truth[-1].position) < -0.008, 600, "is down")
    loop.until(lambda: loop.stage() is Stage.RELEASED, 600, "is released")


@pytest.mark.graph
def test_fingers_are_released_when_the_adapter_dies(loop: Loop) -> None:
    loop.press()
    adapter = loop.processes.pop("gazebo_adapter")
    adapter.kill()
    adapter.wait()
    n = loop.layout.n
    loop.engine.clear()
    for _ in range(400):
        loop.executor.spin_once(timeout_sec=0.5)
        if loop.engine and max(loop.engine[-1].effort[:n]) == 0.0:
            break
    assert max(loop.engine[-1].effort[:n]) == 0.0
    assert len(loop.engine) < 60  # cycles
