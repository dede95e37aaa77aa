"""What the files in `launch/` do: they start the nodes that `graph.describe` names, no others.

This module runs in the Python of `ros2`, which need not have what SpineMat itself requires. What
needs more is asked of a program of its own before anything starts: `prepare` checks what the
user wants. Another, `bring_up`, configures and activates the managed nodes as the command line
does.

A node that ends is reported and never started again. Before the mat is up this ends everything;
later the supervisor stops the mat, and the rest stays up so that one can look at it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import launch.logging
from ament_index_python.packages import get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch_ros.actions import Node, SetParameter
from launch_ros.parameter_descriptions import ParameterValue

from spinemat_bringup.gazebo_paths import missing_modules, python_path
from spinemat_bringup.graph import (
    MARKERS,
    NAMESPACE,
    NO_RECORD,
    PROFILES,
    RECORDER,
    GraphOptions,
    NodeSpec,
    describe,
    share,
)
from spinemat_bringup.launch_arguments import (
    ARGUMENTS,
    MAT,
    RECORD,
    SIM,
    VIEW,
    Argument,
    Refused,
    mat_config,
    options,
    space,
    state_dir,
    whole,
)
from spinemat_bringup.processes import END_WAIT, ENVIRONMENT, follow_parent

Build = Callable[[Mapping[str, str]], Sequence[Action]]


def mat_launch() -> LaunchDescription:
    """Return the nodes alone, for a drive stage that is started elsewhere."""
    return _description(MAT, _mat)


def sim_launch() -> LaunchDescription:
    """Return a simulated mat with a virtual person on it."""
    return _description(SIM, _sim)


def record_launch() -> LaunchDescription:
    """Return the recorder alone: of sessions for a mat without one, or beside it into a folder."""
    words = "of the person on a simulated mat, kept in the recording; empty: not known"
    return _description(
        RECORD,
        _record,
        patient=Argument("", f"preset, file or row {words}"),
        seed=Argument("", f"seed {words}"),
    )


def view_launch() -> LaunchDescription:
    """Return what shows a running mat in RViz."""
    return _description(VIEW, _view, rviz=replace(ARGUMENTS["rviz"], default="true"))


def _description(names: Sequence[str], build: Build, **own: Argument) -> LaunchDescription:
    """Return a description that declares arguments and hands their values to `build`."""
    arguments = {name: own.get(name, ARGUMENTS[name]) for name in names}
    declared = [
        DeclareLaunchArgument(name, default_value=a.default, description=a.words)
        for name, a in arguments.items()
    ]

    def start(context: LaunchContext) -> Sequence[Action]:
        values = {name: context.launch_configurations[name] for name in names}
        for name, value in values.items():  # launch says the same in two lines
            choices = arguments[name].choices
            if choices and value not in choices:
                raise Refused(f"{name}: {value!r} is not allowed ({' or '.join(choices)})")
        return build(values)

    return LaunchDescription([*declared, OpaqueFunction(function=start)])


# -- what is started -----------------------------------------------------------------------------


def _mat(values: Mapping[str, str]) -> Sequence[Action]:
    wanted, namespace = options(values), space(values)
    prepare(wanted, namespace)
    return _graph(describe(wanted), namespace, _Deaths())


def _sim(values: Mapping[str, str]) -> Sequence[Action]:
    wanted, namespace = options(values), space(values)
    if values["rviz"] == "true":
        need("rviz2", "robot_state_publisher")
    if wanted.sim == "gazebo":
        need("gz", "ros_gz_bridge")
    told = prepare(wanted, namespace)
    if wanted.sim == "gazebo":
        missing = missing_modules(told["python_path"])
        if missing:
            raise Refused(missing)
    actions: list[Action] = [SetParameter("use_sim_time", True)]
    deaths = _Deaths()
    if wanted.sim == "gazebo":
        actions += _gazebo(wanted, namespace, values["headless"] == "true", told, deaths)
    actions += _graph(describe(wanted), namespace, deaths)
    if values["rviz"] == "true":
        actions += _viewers(wanted.mat_config, namespace, state_dir(values), rviz=True)
    return [GroupAction(actions)]


def _record(values: Mapping[str, str]) -> Sequence[Action]:
    mat = mat_config(values)
    prepare(GraphOptions(mat, sim="none"), space(values))
    if values["record"] == NO_RECORD:
        raise Refused(f"record: {NO_RECORD!r} is not allowed here ({' or '.join(PROFILES)})")
    folder = values["folder"] and str(Path(values["folder"]).expanduser().resolve())
    about = {name: values[name] for name in ("patient", "seed") if values[name]}
    if values["seed"]:
        whole("seed", values["seed"])
    told = {"mat_config": str(mat), "profile": values["record"], "folder": folder}
    told["about"] = json.dumps(about)
    name = "bag_recorder" if folder else RECORDER.name  # beside the mat's own
    node = _node(replace(RECORDER, name=name, parameters=told), space(values))

    def ended(event: ProcessExited, context: LaunchContext) -> None:
        if not context.is_shutdown:
            raise Refused(f"{name} has ended (status {event.returncode}); its last words say why")

    return [_when_ended(node, ended), node]


def _view(values: Mapping[str, str]) -> Sequence[Action]:
    namespace, rviz = space(values), values["rviz"] == "true"
    mat = mat_config(values)
    need("robot_state_publisher", *(["rviz2"] if rviz else []))
    prepare(GraphOptions(mat, sim="none"), namespace)
    time = SetParameter("use_sim_time", values["use_sim_time"] == "true")
    return [GroupAction([time, *_viewers(mat, namespace, state_dir(values), rviz)])]


def need(*names: str) -> None:
    """Refuse if one of the ROS packages, or Gazebo itself (``gz``), is not installed.

    Raises:
        Refused: it is not; the message names Debian's package.
    """
    for name in names:
        debian = "ros-jazzy-ros-gz" if "gz" in name else f"ros-jazzy-{name.replace('_', '-')}"
        try:
            if name == "gz" and shutil.which(name) is None:
                raise LookupError
            if name == "robot_state_publisher" and find_spec("xacro") is None:
                name, debian = "xacro", "ros-jazzy-xacro"
                raise LookupError
            if name != "gz":
                get_package_prefix(name)
        except LookupError:
            raise Refused(f"{name} is not installed: sudo apt-get install {debian}") from None


def prepare(wanted: GraphOptions, namespace: str) -> dict[str, Any]:
    """Have the mat's description, the person and the seed checked, and Gazebo's world written.

    Returns:
        world: path of Gazebo's world; python_path: where what SpineMat requires is.

    Raises:
        Refused: something is not acceptable.
    """
    asked = {
        "mat_config": str(wanted.mat_config),
        "sim": wanted.sim,
        "patient": wanted.patient,
        "seed": wanted.seed,
        "namespace": namespace,
        "folder": str(wanted.state_dir),
    }
    line = [_program("prepare"), json.dumps(asked)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused((done.stderr.strip().splitlines() or ["prepare failed"])[-1])
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _program(name: str) -> str:
    return str(Path(get_package_prefix("spinemat_bringup"), "lib", "spinemat_bringup", name))


class _Deaths:
    """Who has ended, and what that means."""

    def __init__(self) -> None:
        self.up = False
        self._log = launch.logging.get_logger("spinemat")

    def of(self, name: str) -> Callable[[ProcessExited, LaunchContext], None]:
        """Return what is to be done when the node `name` has ended."""

        def ended(event: ProcessExited, context: LaunchContext) -> None:
            if context.is_shutdown:
                return
            what = f"{name} has ended (status {event.returncode})"
            if not self.up:
                raise Refused(f"{what} before the mat was up; its last words say why")
            if name == RECORDER.name:
                self._log.error(f"{what}: sessions are recorded no longer")
            else:
                self._log.error(
                    f"{what}: a mat that lacks a node stops and releases; nothing starts again by"
                    " itself. Ctrl-C ends all"
                )

        return ended

    def brought_up(self, event: ProcessExited, context: LaunchContext) -> None:
        """Say that the mat is up, or end everything."""
        if context.is_shutdown:
            return
        if event.returncode != 0:
            raise Refused("the managed nodes could not be activated; the last words say why")
        self.up = True
        self._log.info("all nodes are up; Ctrl-C ends")


def _graph(nodes: Sequence[NodeSpec], namespace: str, deaths: _Deaths) -> list[Action]:
    """Return the nodes of a mat, and what brings them up and watches them."""
    actions: list[Action] = []
    for spec in nodes:
        node = _node(spec, namespace)
        actions += [_when_ended(node, deaths.of(spec.name)), node]
    managed = [spec.name for spec in nodes if spec.lifecycle]
    bring_up = ExecuteProcess(
        cmd=[*follow_parent(), _program("bring_up"), namespace, *managed],
        name="bring_up",
        output="screen",
    )
    return [*actions, _when_ended(bring_up, deaths.brought_up), bring_up]


def _gazebo(
    wanted: GraphOptions,
    namespace: str,
    headless: bool,
    told: Mapping[str, Any],
    deaths: _Deaths,
) -> list[Action]:
    """Return Gazebo's server, its window and the bridge; mats do not see each other's Gazebo."""
    own = ENVIRONMENT | {
        "GZ_PARTITION": f"spinemat{namespace.replace('/', '_')}_{os.getpid()}",
        "GZ_IP": "127.0.0.1",
        "PYTHONPATH": python_path(told["python_path"]),  # of the system that the world loads
    }

    def gz_sim(name: str, *words: str) -> ExecuteProcess:
        line = [*follow_parent(), "gz", "sim", *words]
        return ExecuteProcess(cmd=line, name=name, additional_env=own, output="both")

    server = gz_sim("gazebo", "-s", "-r", told["world"])
    actions = [_when_ended(server, deaths.of("gazebo")), server]
    if not headless:
        actions.append(gz_sim("gazebo_window", "-g"))
    config = str(share("config", "gazebo", "bridge.yaml"))
    bridge = NodeSpec(
        "gazebo_bridge",
        "ros_gz_bridge",
        "parameter_bridge",
        parameters={"config_file": config, "expand_gz_topic_names": True},
    )
    node = _node(bridge, namespace, additional_env=own)
    return [*actions, _when_ended(node, deaths.of(bridge.name)), node]


def _when_ended(process: ExecuteProcess, do: Callable[..., None]) -> Action:
    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=do))


def _node(spec: NodeSpec, namespace: str, **more: Any) -> Node:
    return Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        exec_name=spec.name,
        namespace=namespace,
        parameters=[{name: _parameter(value) for name, value in spec.parameters.items()}],
        remappings=[("/clock", "clock"), *spec.remappings.items()],
        ros_arguments=["--enclave", f"{namespace}/{spec.name}"],
        prefix=" ".join(follow_parent()),
        output="both",
        sigterm_timeout=str(END_WAIT),
        **({"additional_env": ENVIRONMENT} | more),
    )


def _parameter(value: Any) -> Any:
    """Texts stay texts: launch would read "17" as a number."""
    if isinstance(value, str):
        return ParameterValue(value, value_type=str)
    if isinstance(value, list):
        return ParameterValue(value, value_type=list[str])
    return value


# -- what shows it -------------------------------------------------------------------------------


def _viewers(mat: Path, namespace: str, folder: Path, rviz: bool) -> list[Action]:
    import xacro

    urdf = xacro.process_file(str(share("urdf", "mat.urdf.xacro")), mappings={"config": str(mat)})
    frames = namespace.strip("/") + "/"
    state = NodeSpec(
        "robot_state_publisher",
        "robot_state_publisher",
        "robot_state_publisher",
        parameters={"robot_description": urdf.toxml(), "frame_prefix": frames},
    )
    markers = replace(MARKERS, parameters={"mat_config": str(mat)})
    actions: list[Action] = [_node(state, namespace), _node(markers, namespace)]
    if rviz:
        spec = NodeSpec("rviz", "rviz2", "rviz2")
        config = share("config", "rviz", "mat.rviz")
        config = in_namespace(config, namespace, folder)
        actions.append(_node(spec, namespace, arguments=["-d", str(config)]))
    return actions


def in_namespace(config: Path, namespace: str, folder: Path) -> Path:
    """Return the path of a configuration for another namespace than the default.

    Args:
        config: written for the mat under `graph.NAMESPACE`.
        namespace: of the mat.
        folder: where the changed copy goes.
    """
    if namespace == NAMESPACE:
        return config
    old, new = NAMESPACE.strip("/"), namespace.strip("/")
    text = re.sub(rf"""(?<=[\s"'])(/?){old}(?=/)""", rf"\g<1>{new}", config.read_text())
    text = re.sub(rf"(TF Prefix: ){old}$", rf"\g<1>{new}", text, flags=re.M)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / config.name
    path.write_text(text)
    return path
