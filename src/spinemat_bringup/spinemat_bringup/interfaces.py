"""Everything that a mat offers to other programs, as a page: `docs/interfaces.md`.

    python -m spinemat_bringup.interfaces > docs/interfaces.md

Each node is made, asked what it has, and destroyed; nothing runs. QoS and rates are those of the
table of topics, the fields with their units those of the interface files.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
import yaml
from ament_index_python.packages import get_package_share_directory
from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rclpy.action import (
    get_action_client_names_and_types_by_node,
    get_action_server_names_and_types_by_node,
)
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from spinemat_bringup.graph import MARKERS, GraphOptions, NodeSpec, describe, share
from spinemat_ros.topics import TOPICS

SPACE = "/interfaces"
CLASSES = {  # where the class of a node is
    "mat_simulator": ("spinemat_sim.node", "MatSimulator"),
    "gazebo_adapter": ("spinemat_sim.gazebo_adapter", "GazeboAdapter"),
    "safety_supervisor": ("spinemat_safety.node", "SafetySupervisor"),
    "recorder": ("spinemat_recording.node", "Recorder"),
    "session_orchestrator": ("spinemat_session.node", "SessionOrchestrator"),
    "spine_contour": ("spinemat_sensing.node", "SpineContour"),
    "finger_actuation": ("spinemat_actuation.node", "FingerActuation"),
    "mat_markers": ("spinemat_bringup.markers", "MatMarkers"),
}
LIKE_ALL = re.compile(  # what every node of ROS 2 has
    r"/rosout$|/parameter_events$|_parameters?(_types|_atomically)?$|type_description$"
    r"|/(change|get)_state$|/get_available_(states|transitions)$|/get_transition_graph$"
    r"|/transition_event$|/_action/"
)


OF_ALL = ("use_sim_time", "start_type_description_service")  # parameters of every node
TASKS = {
    "mat_simulator": "drive stage, MuJoCo plant with a virtual person, virtual hand, truth",
    "gazebo_adapter": "the same drive stage for a mat that lives in Gazebo",
    "safety_supervisor": "watches the drives, grants or withdraws the permit to move",
    "recorder": "records every session",
    "session_orchestrator": "intake, scan, plan, treatment, scan again, report",
    "spine_contour": "feels the back: contour, stiffness, breathing, tension",
    "finger_actuation": "fingers under force control",
    "mat_markers": "what RViz shows besides the mat's model",
    "gazebo_bridge": "`ros_gz_bridge`: carries topics between Gazebo and ROS",
    "robot_state_publisher": "the mat's model and where its parts are, for RViz",
}
OUTSIDE = {  # topics that no node of a simulated mat writes
    "drive/hand_input": "the hand control",
    "posture/imu": "a strip of inertial sensors",
    "comfort": "the person",
    "stop": "anybody",
}
RECEIVERS = {  # who reads a topic besides our nodes as they are by default
    "drive/hand_input": "a drive stage without a virtual hand: `virtual_hand` false",
    "clock": "every node with `use_sim_time`",
    "markers": "RViz",
    "robot_description": "RViz",
    "/tf": "RViz",
    "/tf_static": "RViz",
}
BRIDGE, MODEL = "gazebo_bridge", "robot_state_publisher"
FOREIGN = {  # topics that only programs of others write: rate, QoS
    "gazebo/tip_force": ("250 Hz per finger while somebody listens", "reliable, 10"),
    "robot_description": ("once", "reliable, latched, 1"),
    "/tf": ("up to 20 Hz", "reliable, 100"),
    "/tf_static": ("once", "reliable, latched, 1"),
}
KINDS = {
    getattr(ParameterType, f"PARAMETER_{name}"): words
    for name, words in {
        "BOOL": "bool",
        "INTEGER": "integer",
        "DOUBLE": "double",
        "STRING": "string",
        "DOUBLE_ARRAY": "doubles",
        "STRING_ARRAY": "strings",
    }.items()
}
PARAMETERS = ("parameter", "type", "default", "range", "change", "meaning, with unit")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a node."""

    default: Any
    descriptor: ParameterDescriptor
    given: bool  # the graph's description gives it


@dataclass(frozen=True)
class Offer:
    """What one node has: names relative to the mat, with types; and parameters."""

    name: str
    managed: bool
    publishes: Mapping[str, str]
    subscribes: Mapping[str, str]
    services: Mapping[str, str]
    calls: Mapping[str, str]
    actions: Mapping[str, str]
    asks: Mapping[str, str]
    parameters: Mapping[str, Parameter]


def offers() -> list[Offer]:
    """Make every node once and return what each has."""
    options = GraphOptions(share("config", "mat.yaml"))
    found = describe(options)
    found.insert(1, describe(replace(options, sim="gazebo"))[0])
    found.append(replace(MARKERS, parameters={"mat_config": str(options.mat_config)}))
    return [_offer(spec) for spec in found]


def helpers() -> list[Offer]:
    """Return what programs of others have that the launch files start beside the nodes."""
    entries = yaml.safe_load(share("config", "gazebo", "bridge.yaml").read_text(encoding="utf-8"))

    def carried(way: str) -> dict[str, str]:
        return {  # /clock is remapped
            e["ros_topic_name"].lstrip("/"): e["ros_type_name"]
            for e in entries
            if e["direction"] == way
        }

    transforms = dict.fromkeys(("/tf", "/tf_static"), "tf2_msgs/msg/TFMessage")
    model = {"robot_description": "std_msgs/msg/String"} | transforms
    joints = {"joint_states": "sensor_msgs/msg/JointState"}
    none: list[dict[str, Any]] = [{}] * 5
    return [
        Offer(BRIDGE, False, carried("GZ_TO_ROS"), carried("ROS_TO_GZ"), *none),
        Offer(MODEL, False, model, joints, *none),
    ]


def _offer(spec: NodeSpec) -> Offer:
    values = dict(spec.parameters)
    if "urdf" in values:  # a simulated mat
        values |= {"stiffness_truth": False}  # takes its time
    line = ["--ros-args", "-r", f"__ns:={SPACE}", "--log-level", "error"]
    for name, value in values.items():
        line += ["-p", f"{name}:={json.dumps(value)}"]
    module, kind = CLASSES[spec.name]
    with _declared() as defaults:
        rclpy.init(args=line)
        try:
            node: Node = getattr(import_module(module), kind)()
            try:
                if isinstance(node, LifecycleNode):
                    node.trigger_configure()
                return _ask(node, set(spec.parameters), defaults)
            finally:
                node.destroy_node()
        finally:
            rclpy.try_shutdown()


@contextmanager
def _declared() -> Iterator[dict[str, Any]]:
    """Yield the defaults of all parameters that nodes declare meanwhile; ROS forgets them."""
    defaults: dict[str, Any] = {}
    declare = Node.declare_parameter

    def note(self: Node, name: str, value: Any = None, *rest: Any, **more: Any) -> Any:
        defaults[name] = value
        return declare(self, name, value, *rest, **more)

    Node.declare_parameter = note  # type: ignore[method-assign]
    try:
        yield defaults
    finally:
        Node.declare_parameter = declare  # type: ignore[method-assign]


def _ask(node: Node, given: set[str], defaults: Mapping[str, Any]) -> Offer:
    name = node.get_name()

    def names(found: Iterable[tuple[str, list[str]]]) -> dict[str, str]:
        mine = {n: kinds[0] for n, kinds in found if not LIKE_ALL.search(n)}
        private, space = f"{SPACE}/{name}/", f"{SPACE}/"
        short = {n: n.replace(private, "~/").removeprefix(space) for n in mine}
        return {short[n]: mine[n] for n in sorted(mine)}

    return Offer(
        name=name,
        managed=isinstance(node, LifecycleNode),
        publishes=names(node.get_publisher_names_and_types_by_node(name, SPACE)),
        subscribes=names(node.get_subscriber_names_and_types_by_node(name, SPACE)),
        services=names(node.get_service_names_and_types_by_node(name, SPACE)),
        calls=names(node.get_client_names_and_types_by_node(name, SPACE)),
        actions=names(get_action_server_names_and_types_by_node(node, name, SPACE)),
        asks=names(get_action_client_names_and_types_by_node(node, name, SPACE)),
        parameters={
            n: Parameter(value, node.describe_parameter(n), n in given)
            for n, value in sorted(defaults.items())
            if n not in OF_ALL
        },
    )


# -- the page ------------------------------------------------------------------------------------


def page(found: Sequence[Offer]) -> str:
    """Return the page in Markdown."""
    others = helpers()
    every = [*found, *others]
    parts = [
        "# Interfaces",
        "Made by `python -m spinemat_bringup.interfaces > docs/interfaces.md`; a test compares it"
        " with the code.\n\nNames are relative to the mat's namespace, `/mat` by default; `~` is"
        " the node. Units are SI. Times and rates are of drive time, with the default cycle of"
        " 4 ms. Every node also has what all nodes of ROS 2 have: parameter services,"
        " `/rosout`, and those of managed nodes for their transitions. Topics beginning with"
        " `truth/` exist in simulation only, and no node of the mat reads them.",
        "## Nodes",
        _table(
            ("node", "managed", "task"),
            [(f"`{o.name}`", "yes" if o.managed else "", TASKS[o.name]) for o in every],
        ),
        f"{_names(others)} and RViz are programs of others, which the launch files start where"
        " they are needed; the transforms of all mats share `/tf`.",
        "## Topics",
        "QoS: `reliable` or `best effort`; `latched` is transient local: who comes late gets the"
        " last ones; the number is the writer's depth. `recorder` reads all"
        " topics but those that are marked.",
        _table(("topic", "type", "rate", "QoS", "from", "to"), _topics(every)),
        "## Actions",
        _table(("action", "type", "server", "used by"), _served(found, "actions", "asks")),
        "## Services",
        _table(("service", "type", "server", "used by"), _served(found, "services", "calls")),
        "## Parameters",
        "When they may be set: `start` at the start of the node; `bringup` as well, and the launch"
        " files and the command line do it; `now` while it runs.",
    ]
    for offer in found:
        if offer.name == "gazebo_adapter":
            parts += ["### gazebo_adapter", "As `mat_simulator`."]
            continue
        parts += [f"### {offer.name}", _table(PARAMETERS, _parameters(offer))]
    kinds = {kind for o in found for uses in (o.publishes, o.subscribes) for kind in uses.values()}
    kinds |= {kind for o in found for uses in (o.services, o.actions) for kind in uses.values()}
    parts += ["## Types", *_types(kinds)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _names(offers: Iterable[Offer]) -> str:
    return ", ".join(f"`{o.name}`" for o in offers)


def _topics(found: Sequence[Offer]) -> Iterator[Sequence[str]]:
    for name, topic in TOPICS.items():
        kind = f"{topic.type.__module__.split('.')[0]}/{topic.type.__name__}"
        writers = [o for o in found if name in o.publishes]
        readers = [o for o in found if name in o.subscribes and o.name != "recorder"]
        rate = topic.rate if topic.recorded else f"{topic.rate}; not recorded"
        yield (
            f"`{name}`",
            _linked(kind),
            rate,
            qos_words(topic.qos),
            _names(writers) or OUTSIDE[name],
            ", ".join(filter(None, [_names(readers), RECEIVERS.get(name)])),
        )
    for name, (rate, qos) in FOREIGN.items():
        (writer,) = (o for o in found if name in o.publishes)
        kind = writer.publishes[name].replace("/msg/", "/")
        words = f"{rate}; not recorded"
        yield f"`{name}`", _linked(kind), words, qos, f"`{writer.name}`", RECEIVERS.get(name, "")


def qos_words(qos: QoSProfile) -> str:
    """Return a profile in words."""
    words = ["reliable" if qos.reliability == ReliabilityPolicy.RELIABLE else "best effort"]
    words += ["latched"] if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL else []
    return ", ".join([*words, str(qos.depth)])


def _served(found: Sequence[Offer], serves: str, uses: str) -> Iterator[Sequence[str]]:
    for offer in found:
        for name, kind in getattr(offer, serves).items():
            users = [o for o in found if name in getattr(o, uses)]
            yield f"`{name}`", _linked(kind), f"`{offer.name}`", _names(users) or "anybody"


def _linked(kind: str) -> str:
    package, *_, name = kind.split("/")
    known = package == "spinemat_interfaces"
    return f"[{name}](#{name.lower()})" if known else f"`{package}/{name}`"


def _parameters(offer: Offer) -> Iterator[Sequence[str]]:
    for name, p in offer.parameters.items():
        d = p.descriptor
        limits = [*d.floating_point_range, *d.integer_range]
        allowed = "".join(f"{_shown(r.from_value)} to {_shown(r.to_value)}" for r in limits)
        change = "bringup" if p.given else "start"
        if not d.read_only:
            change += ", now"
        yield f"`{name}`", KINDS[d.type], _shown(p.default), allowed, change, d.description


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    values = [str(v) for v in value if v != ""] if isinstance(value, list) else [str(value)]
    return ", ".join(values) or "empty"


def _types(kinds: Iterable[str]) -> Iterator[str]:
    folder = Path(get_package_share_directory("spinemat_interfaces"))
    used = {kind.split("/")[-1] for kind in kinds if kind.startswith("spinemat_interfaces/")}
    for way in ("msg", "srv", "action"):
        for path in sorted((folder / way).glob(f"*.{way}")):
            text = path.read_text(encoding="utf-8")
            if path.stem in used or way == "msg":  # messages are also parts of others
                kind = f"`spinemat_interfaces/{way}/{path.stem}`"
                yield "\n\n".join([f"### {path.stem}", kind, _fields(text)])


def _fields(text: str) -> str:
    """Return an interface file as tables: request, result and feedback apart."""
    blocks: list[str] = []
    for part in re.split(r"^---\n", text, flags=re.M):
        rows: list[list[str]] = []
        words: list[str] = []
        for line in part.splitlines():
            code, _, comment = (text.strip() for text in line.partition("#"))
            if code:
                kind, name = code.split(None, 1)
                rows.append([f"`{name}`", f"`{kind}`", comment])
            elif comment and rows and line.startswith(" "):
                rows[-1][2] += f" {comment}"
            elif comment:
                words.append(comment)
        block = " ".join(words)
        table = _table(("field", "type", "meaning"), rows) if rows else "(nothing)"
        blocks.append("\n\n".join(filter(None, (block, table))))
    return "\n\n---\n\n".join(blocks)


def main() -> None:
    """Print the page."""
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 100))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "OFF"  # these nodes are not to meet others
    sys.stdout.write(page(offers()))


if __name__ == "__main__":
    main()
