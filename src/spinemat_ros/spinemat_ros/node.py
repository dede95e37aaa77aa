"""Small helpers that every node uses: parameters, publishers by topic table, heartbeat, events."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from std_msgs.msg import Header

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout
from spinemat_interfaces.msg import Event, Heartbeat
from spinemat_ros.codec import stamp
from spinemat_ros.topics import TOPICS

FRAME = "mat"


def declare(
    node: Node,
    name: str,
    default: Any,
    description: str,
    limits: tuple[float, float] | None = None,
    read_only: bool = True,
) -> Any:
    """Declare a parameter with its description and range, and return its value.

    Raises:
        InvalidInput: the value given at start is of another type or out of range.
    """
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if limits is not None and isinstance(default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=limits[0], to_value=limits[1])
        ]
    elif limits is not None:
        descriptor.integer_range = [
            IntegerRange(from_value=int(limits[0]), to_value=int(limits[1]), step=1)
        ]
    try:
        return node.declare_parameter(name, default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        given = node._parameter_overrides[name].value  # rclpy's errors do not carry it
        kind = {
            float: "a number with a decimal point",
            int: "a whole number",
            bool: "true or false",
        }
        allowed = kind.get(type(default), f"like {default!r}")
        if limits is not None:
            allowed += f", {limits[0]:g} to {limits[1]:g}"
        raise InvalidInput(name, given, allowed) from error


def declare_layout(node: Node) -> MatLayout:
    """Declare `mat_config` and load the layout it names.

    Raises:
        InvalidInput: it is not given or the file is not acceptable.
    """
    path = declare(node, "mat_config", "", "path of the YAML file that describes the mat")
    if not path:
        raise InvalidInput("mat_config", path, "the path of a mat description, such as mat.yaml")
    return load_layout(Path(path))


def publisher(node: Node, topic: str) -> Publisher:
    """Create a publisher with type and QoS from the table of topics."""
    entry = TOPICS[topic]
    return node.create_publisher(entry.type, topic, entry.qos)


def subscription(
    node: Node,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile | None = None,
    raw: bool = False,
) -> Subscription:
    """Create a subscription with type and QoS from the table of topics."""
    entry = TOPICS[topic]
    return node.create_subscription(entry.type, topic, callback, qos or entry.qos, raw=raw)


def header(node: Node, nanoseconds: int) -> Header:
    """Return a header in the mat's frame, prefixed by the node's namespace if it has one."""
    space = node.get_namespace().strip("/")
    return Header(stamp=stamp(nanoseconds), frame_id=f"{space}/{FRAME}" if space else FRAME)


class Voice:
    """A node's heartbeat and events."""

    def __init__(self, node: Node, layout: MatLayout | None = None, beat_cycles: int = 10) -> None:
        self._node = node
        self._mat = layout.checksum if layout is not None else ""
        self._every = beat_cycles
        self._beat_at = -1
        self._beats = publisher(node, "heartbeat")
        self._events = publisher(node, "events")
        inspect.getframeinfo(sys._getframe())  # rclpy asks who logs: 0.1 s the first time
        self.now = 0  # ns of drive time
        self.cycle = 0
        self.late = 0

    def tick(self, cycle: int, nanoseconds: int, complaint: str = "") -> None:
        """Note the drive's time; beat every `beat_cycles` cycles."""
        self.cycle, self.now = cycle, nanoseconds
        if self._beat_at < 0 or cycle - self._beat_at >= self._every or cycle < self._beat_at:
            self._beat_at = cycle
            self._beats.publish(
                Heartbeat(
                    header=header(self._node, nanoseconds),
                    node=self._node.get_name(),
                    cycle=cycle,
                    late_cycles=self.late,
                    healthy=not complaint,
                    mat=self._mat,
                    detail=complaint,
                )
            )

    def say(
        self,
        kind: str,
        text: str,
        data: Mapping[str, Any] | None = None,
        severity: int = Event.INFO,
    ) -> None:
        """Publish an event and log it."""
        self._events.publish(
            Event(
                header=header(self._node, self.now),
                source=self._node.get_name(),
                severity=severity,
                kind=kind,
                text=text,
                data=json.dumps(dict(data or {})),
            )
        )
        log = self._node.get_logger()
        if severity == Event.INFO:
            log.info(text)
        elif severity == Event.WARNING:
            log.warning(text)
        else:
            log.error(text)
