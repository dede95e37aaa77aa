"""The launch files: what they start, what they refuse, and that nothing is left behind.

Where launch is not installed, `launch_stub` stands in for what they use of it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module, util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from launch_stub import modules
from mats import MAT, ROOT
from spinemat_bringup import gazebo_paths, graph
from spinemat_bringup.graph import DRIVE_STAGES, MARKERS, RECORDER, GraphOptions, describe, share
from spinemat_bringup.prepare import prepare
from spinemat_bringup.processes import END_WAIT, follow_parent
from spinemat_recording.profiles import PROFILES
from spinemat_ros.topics import TOPICS

FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NAMES = [path.name.split(".")[0] for path in FILES]
SOURCE = (ROOT / "src/spinemat_bringup/spinemat_bringup/launching.py").read_text()
SERVICES = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
needs_ros2 = pytest.mark.skipif(
    shutil.which("ros2") is None or util.find_spec("ros2launch") is None,
    reason="ros2 launch is not installed",
)


def test_launch_files_compile_and_call_what_there_is() -> None:
    functions = {node.name for node in ast.parse(SOURCE).body if isinstance(node, ast.FunctionDef)}
    assert NAMES == ["mat", "record", "sim", "view"]
    for path, name in zip(FILES, NAMES, strict=True):
        compile(path.read_text(), str(path), "exec")
        assert f"return {name}_launch()" in path.read_text()
        assert f"{name}_launch" in functions


PLAIN_PYTHON = """
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

THERE = {"ament_index_python", "spinemat_bringup", "xacro", "yaml"}

class Stub(Loader):
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__path__ = []
        module.__getattr__ = lambda name: type(name, (), {})

class Plain(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in ("launch", "launch_ros"):
            return ModuleSpec(name, Stub())
        if top not in THERE | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"a plain ROS installation has no {name}", name=name)
        return None

sys.meta_path.insert(0, Plain())
import spinemat_bringup.launching
"""


def test_launch_files_need_nothing_but_ros_and_the_standard_library() -> None:
    line = [sys.executable, "-c", PLAIN_PYTHON]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_programs_of_the_graph_and_of_the_launch_files_are_installed() -> None:
    specs = [s for sim in (*DRIVE_STAGES, "none") for s in describe(GraphOptions(MAT, sim=sim))]
    programs = {(spec.package, spec.executable) for spec in [*specs, MARKERS, RECORDER]}
    programs |= {("spinemat_bringup", p) for p in re.findall(r'_program\("(\w+)"\)', SOURCE)}
    assert ("spinemat_bringup", "prepare") in programs
    for package, executable in programs:
        program = Path(get_package_prefix(package), "lib", package, executable)
        assert os.access(program, os.X_OK), program


def test_a_recording_names_a_simulated_person_where_there_is_one() -> None:
    for sim in (*DRIVE_STAGES, "none"):
        nodes = {spec.name: spec for spec in describe(GraphOptions(MAT, sim=sim, patient="17"))}
        about = json.loads(nodes[RECORDER.name].parameters["about"])
        simulated = set() if sim == "none" else {"patient", "seed"}
        assert about.keys() == {"parameters"} | simulated


def test_what_people_edit_is_installed() -> None:
    for path in [*FILES, ROOT / "urdf/mat.urdf.xacro", *(ROOT / "config").rglob("*.*")]:
        assert share(*path.relative_to(ROOT).parts).is_file(), path


def test_arguments_offer_what_the_recorder_has() -> None:
    assert set(graph.PROFILES) == set(PROFILES)


@pytest.fixture
def launching(plain: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As if all were installed."""
    for check in ("need", "missing_modules"):
        monkeypatch.setattr(plain, check, lambda *_names: None)
    return plain


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    name = "spinemat_bringup.launching"
    if util.find_spec("launch_ros") is None:
        for stub, made in modules().items():
            monkeypatch.setitem(sys.modules, stub, made)
        sys.modules.pop(name, None)
    yield import_module(name)
    del sys.modules[name]


# -- RViz --------------------------------------------------------------------------------------


def rviz(path: Path) -> tuple[set[str], set[str]]:
    """Topics and frames of a configuration."""
    manager = yaml.safe_load(path.read_text())["Visualization Manager"]
    displays = manager["Displays"]
    topics = {v["Value"] for d in displays for k, v in d.items() if k.endswith("Topic")}
    prefixes = {d["TF Prefix"] for d in displays if "TF Prefix" in d}
    return topics, prefixes | {manager["Global Options"]["Fixed Frame"].rpartition("/")[0]}


def test_rviz_looks_at_topics_that_there_are() -> None:
    topics, frames = rviz(share("config", "rviz", "mat.rviz"))
    assert topics == {"/mat/robot_description", "/mat/markers"}
    assert "markers" in TOPICS and not TOPICS["markers"].recorded
    assert frames == {"mat"}


def test_configurations_of_another_mat_are_its_own(launching: ModuleType, tmp_path: Path) -> None:
    config = share("config", "rviz", "mat.rviz")
    assert launching.in_namespace(config, "/mat", tmp_path) == config
    topics, frames = rviz(launching.in_namespace(config, "/room/a", tmp_path))
    assert topics == {"/room/a/robot_description", "/room/a/markers"}
    assert frames == {"room/a"}


# -- before anything starts --------------------------------------------------------------------


def asked(**other: Any) -> dict[str, Any]:
    values = {"mat_config": str(MAT), "sim": "mujoco", "patient": "", "seed": 0}
    return values | {"namespace": "/mat", "folder": ""} | other


def test_an_acceptable_wish_is_accepted() -> None:
    told = prepare(asked(patient="desk_worker_45", seed=3))
    assert told["world"] == "" and any(Path(p, "numpy").is_dir() for p in told["python_path"])


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"patient": "nobody"}, ("patient", "nobody", "average_adult")),
        ({"patient": "99999"}, ("99999", "4853")),
        ({"seed": -1}, ("seed", "-1", "0 to")),
        ({"mat_config": "/none.yaml"}, ("/none.yaml", "No such file")),
    ],
)
def test_a_wish_that_cannot_be_is_one_line(wish: dict[str, Any], words: tuple[str, ...]) -> None:
    program = Path(get_package_prefix("spinemat_bringup"), "lib/spinemat_bringup/prepare")
    line = [str(program), json.dumps(asked(**wish))]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (said,) = done.stderr.strip().splitlines()
    for word in words:
        assert word in said


# -- what a description starts -----------------------------------------------------------------


def started(name: str, **arguments: str) -> dict[str, Any]:
    """What a launch file starts, by name; nodes with their names resolved."""
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument, ExecuteProcess, GroupAction, OpaqueFunction
    from launch.utilities import perform_substitutions
    from launch_ros.actions import Node

    spec = util.spec_from_file_location(f"{name}_launch", share("launch", f"{name}.launch.py"))
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    found: dict[str, Any] = {}

    def walk(entities: list[Any]) -> None:
        for entity in entities:
            if isinstance(entity, DeclareLaunchArgument):
                assert entity.description and entity.default_value is not None
                entity.execute(context)
            elif isinstance(entity, (OpaqueFunction, GroupAction)):
                walk(entity.execute(context) or [])
            elif isinstance(entity, Node):
                entity._perform_substitutions(context)
                found[entity.node_name] = entity
            elif isinstance(entity, ExecuteProcess):
                words = [perform_substitutions(context, part) for part in entity.cmd]
                found[perform_substitutions(context, entity.name)] = words

    context.launch_configurations.update(arguments)
    walk(module.generate_launch_description().entities)
    return found


def noted(launching: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Return what nodes are given, by name, once they are made."""
    made: dict[str, dict[str, Any]] = {}
    real = launching.Node

    def node(**given: Any) -> Any:
        made[given["name"]] = given
        return real(**given)

    monkeypatch.setattr(launching, "Node", node)
    return made


@pytest.mark.parametrize("space", ["/mat", "/room/a"])
def test_a_simulated_mat_is_what_the_graph_describes(
    launching: ModuleType, tmp_path: Path, space: str
) -> None:
    chosen = {"patient": "17", "namespace": space, "state": str(tmp_path), "rviz": "true"}
    found = started("sim", **chosen)
    specs = describe(GraphOptions(MAT, patient="17"))
    helpers = {"robot_state_publisher", "mat_markers", "rviz"}
    names = {f"{space}/{name}" for name in {spec.name for spec in specs} | helpers}
    assert found.keys() == names | {"bring_up"}
    for spec in specs:
        node = found[f"{space}/{spec.name}"]
        assert (node.node_package, node.node_executable) == (spec.package, spec.executable)
    managed = [spec.name for spec in specs if spec.lifecycle]
    assert found["bring_up"][-len(managed) - 1 :] == [space, *managed]


def test_a_mat_alone_has_no_drive_stage_and_no_simulated_time(
    launching: ModuleType, tmp_path: Path
) -> None:
    found = started("mat", state=str(tmp_path), record="none")
    specs = describe(GraphOptions(MAT, sim="none", record=False))
    assert found.keys() == {f"/mat/{spec.name}" for spec in specs} | {"bring_up"}


def test_gazebo_is_started_with_its_bridge(launching: ModuleType, tmp_path: Path) -> None:
    found = started("sim", simulator="gazebo", state=str(tmp_path), headless="false")
    assert {"gazebo", "gazebo_window", "/mat/gazebo_bridge", "/mat/gazebo_adapter"} <= found.keys()
    assert "/mat/mat_simulator" not in found
    assert found["gazebo"][-1] == str(tmp_path / "world.sdf")
    assert (tmp_path / "world.sdf").read_text().startswith("<?xml")


def test_nodes_have_the_time_to_close_what_they_keep(
    launching: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = noted(launching, monkeypatch)
    started("sim", state=str(tmp_path))
    assert len(made) == len(describe(GraphOptions(MAT)))
    grace = SERVICES["headless"]["stop_grace_period"]
    for given in made.values():
        assert float(given["sigterm_timeout"]) == END_WAIT < float(grace.removesuffix("s"))


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ((), "gz is not installed: sudo apt-get install ros-jazzy-ros-gz"),
        (("gz",), "ros_gz_bridge is not installed: sudo apt-get install ros-jazzy-ros-gz"),
        (("gz", "ros_gz_bridge"), "Gazebo's Python modules are missing"),
    ],
)
def test_without_gazebo_it_says_what_is_missing_and_starts_nothing(
    plain: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    there: tuple[str, ...],
    words: str,
) -> None:
    real = plain.get_package_prefix

    def prefix(name: str) -> str:
        if name in there:
            return "/"
        if name == "ros_gz_bridge":
            raise PackageNotFoundError(name)
        return str(real(name))

    monkeypatch.setattr(plain, "get_package_prefix", prefix)
    monkeypatch.setattr(shutil, "which", lambda name: "/gz" if name in there else None)
    monkeypatch.setattr(gazebo_paths, "MODULES", ("no_such_gazebo",))
    with pytest.raises(plain.Refused, match=words):
        started("sim", simulator="gazebo", state=str(tmp_path))


def test_a_recorder_beside_that_of_the_mat_has_a_name_of_its_own(
    launching: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = noted(launching, monkeypatch)
    assert started("record").keys() == {"/mat/recorder"}
    given = started("record", folder="here", patient="athlete_25", seed="3")
    assert given.keys() == {"/mat/bag_recorder"}
    about = []
    for node in made.values():
        text = node["parameters"][0]["about"]
        about.append(json.loads(getattr(text, "value", text)))
    assert about == [{}, {"patient": "athlete_25", "seed": "3"}]
    with pytest.raises(launching.Refused, match="seed: 'x' is not allowed"):
        started("record", seed="x")


def test_a_recorder_alone_that_dies_ends_the_launch(
    launching: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: dict[str, Any] = {}
    monkeypatch.setattr(launching, "OnProcessExit", lambda **given: watched.update(given))
    monkeypatch.setattr(launching, "RegisterEventHandler", lambda _handler: None)
    (*_, node) = launching._record(
        {"namespace": "/mat", "mat_config": "", "record": "all", "folder": "x"}
        | dict.fromkeys(("patient", "seed"), "")
    )
    assert watched["target_action"] is node
    event, context = SimpleNamespace(returncode=-9), SimpleNamespace(is_shutdown=False)
    with pytest.raises(launching.Refused, match="bag_recorder has ended"):
        watched["on_exit"](event, context)
    context.is_shutdown = True
    watched["on_exit"](event, context)


@pytest.mark.parametrize("name", ["sim", "view"])
def test_the_configuration_of_rviz_goes_where_the_state_goes(
    launching: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    made = noted(launching, monkeypatch)
    started(name, namespace="/b", state=str(tmp_path), rviz="true")
    assert made["rviz"]["arguments"] == ["-d", str(tmp_path / "mat.rviz")]
    assert (tmp_path / "mat.rviz").is_file()


def test_the_view_starts_alone(launching: ModuleType) -> None:
    assert started("view").keys() == {
        "/mat/robot_state_publisher", "/mat/mat_markers", "/mat/rviz"
    }  # fmt: skip


# -- real processes ----------------------------------------------------------------------------


@needs_ros2
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["patient:=nobody"], ("patient", "nobody", "average_adult")),
        (["simulator:=bullet"], ("simulator", "bullet", "mujoco or gazebo")),
        (["namespace:=9mat"], ("namespace", "9mat")),
    ],
)
def test_ros2_launch_refuses_in_one_line_and_starts_nothing(
    tmp_path: Path, arguments: list[str], words: tuple[str, ...]
) -> None:
    line = ["ros2", "launch", "spinemat_bringup", "sim.launch.py", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    (said,) = [text for text in (done.stdout + done.stderr).splitlines() if "[ERROR]" in text]
    for word in words:
        assert word in said
    assert "process started" not in done.stdout + done.stderr


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def gone(pids: list[int], limit: float = 30.0) -> bool:
    end = time.monotonic() + limit
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


@needs_ros2
@pytest.mark.graph
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_mat_that_was_launched(tmp_path: Path, end: signal.Signals) -> None:
    line = ["ros2", "launch", "-n", "spinemat_bringup", "sim.launch.py", f"state:={tmp_path}"]
    output = ""
    with subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            output += text
            if "all nodes are up" in text:
                break
        process.send_signal(end)
        if end == signal.SIGINT:
            output += process.stdout.read()
        pids = [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", output)]
        assert len(pids) == 7, output
        assert process.wait(60) == (0 if end == signal.SIGINT else -signal.SIGKILL)
        assert gone(pids)


@pytest.mark.skipif(not follow_parent(), reason="setpriv is missing (apt: util-linux)")
def test_who_follows_its_parent_ends_when_that_is_killed() -> None:
    code = (
        "import subprocess; from spinemat_bringup.processes import follow_parent;"
        "child = subprocess.Popen([*follow_parent(), 'sleep', '600'], start_new_session=True);"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        child = int(p.stdout.readline())
        command = Path(f"/proc/{child}/cmdline")
        end = time.monotonic() + 30.0
        while not command.read_bytes().startswith(b"sleep") and time.monotonic() < end:
            time.sleep(0.01)  # setpriv has still to do its part
        assert alive(child)
        p.kill()
    assert gone([child])
