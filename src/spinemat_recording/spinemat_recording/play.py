"""A recorded bag as live topics again: `play`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import rclpy
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.validate_topic_name import validate_topic_name
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2.metadata import parse_qos
from rosgraph_msgs.msg import Clock

from spinemat.analysis.bags import SECOND, Bag, Channel
from spinemat.errors import InvalidInput, number
from spinemat_ros.codec import stamp
from spinemat_ros.spin import make_executor

CLOCK_PERIOD = SECOND // 100  # ns of recorded time between clocks
LOOK_ROUND = 1.5  # s in which a mat that is up is discovered
LOOK_AGAIN = 1.0  # s between two looks for a mat that has come up meanwhile
ALIVE = ("drive/state", "safety/state")  # tell of a mat, whatever is played
DEPTH = 1000  # messages that a slow listener may be behind
LISTEN = 3.0  # s that subscribers are waited for, if there are any


@dataclass(frozen=True)
class PlayOptions:
    """What a user may choose.

    Attributes:
        rate: of recorded over real time; 0.01 to 100.
        loop: begin again at the end.
        start: s after the beginning of the recording.
        topics: relative names; empty: all.
        clock: publish the clock, for nodes that use simulated time …
        clock_topic: … under this name; empty: the namespace's own, as a mat does.
        namespace: of the topics and frames; empty: as recorded.
    """

    rate: float = 1.0
    loop: bool = False
    start: float = 0.0
    topics: tuple[str, ...] = ()
    clock: bool = False
    clock_topic: str = ""
    namespace: str = ""

    def check(self, bag: Bag) -> None:
        """Check the options for a bag.

        Raises:
            InvalidInput: a value is out of range, a topic was not recorded, or a name is none.
        """
        number("rate", self.rate, 0.01, 100.0)
        number("start", self.start, 0.0, bag.seconds, "s")
        there = [bag.relative(name) for name in bag.topics]
        for topic in self.topics:
            if topic not in there:
                raise InvalidInput("topic", topic, ", ".join(there))
        for field in ("clock_topic", "namespace"):
            name = getattr(self, field)
            try:
                validate_topic_name(name or "clock")
            except InvalidTopicNameException as error:
                raise InvalidInput(field, name, "a name such as /clock or /replay") from error

    def space(self, bag: Bag) -> str:
        """Return the namespace to publish in, with its last slash, such as ``/mat/``."""
        space = self.namespace.strip("/")
        return f"/{space}/" if space else bag.prefix

    def target(self, bag: Bag, name: str) -> str:
        """Return the name to publish a topic under; a namespace takes in absolute ones, too."""
        if not self.namespace.strip("/"):
            return name
        return self.space(bag) + bag.relative(name).lstrip("/")

    def clock_target(self, bag: Bag) -> str:
        """Return the name to publish the clock under; empty: nowhere."""
        name = self.clock_topic or "clock"
        return "" if not self.clock else name if name.startswith("/") else self.space(bag) + name


class Busy(RuntimeError):
    """Somebody publishes the topics already; the message is one line."""


def play(
    bag: Bag,
    options: PlayOptions,
    wanted: Callable[[], bool] = lambda: True,
    progress: Callable[[float], object] = lambda seconds: None,
) -> int:
    """Publish a bag's messages as they were serialized, paced by the steady clock.

    In another namespace than that of the recording only the frames in their headers differ.

    Args:
        bag: the recording.
        options: how.
        wanted: false once the user asks to end.
        progress: told the recorded time since the beginning, s.

    Returns:
        Messages that were published.

    Raises:
        InvalidInput: an option is not acceptable.
        Busy: a mat is up under these names, or comes up meanwhile.
    """
    options.check(bag)
    full = {bag.full(name) for name in options.topics} or None
    rclpy.init(args=[])
    node = Node("bag_player", use_global_arguments=False)
    executor = make_executor(node)
    try:
        return _Player(bag, options, node, executor, full).run(wanted, progress)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


class _Player:
    def __init__(
        self,
        bag: Bag,
        options: PlayOptions,
        node: Node,
        executor: Any,
        full: Collection[str] | None,
    ) -> None:
        self._bag, self._options, self._node, self._full = bag, options, node, full
        self._executor = executor
        self._space = options.space(bag)
        played = [name for name in bag.topics if not full or name in full]
        self._names = {name: options.target(bag, name) for name in played}
        self._clock_name = options.clock_target(bag)
        self._clock: Publisher | None = None
        end = time.monotonic() + LOOK_ROUND
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        self._publishers: dict[str, Publisher] = {}
        self._looked = 0.0
        self._refuse_company()
        self._publishers = {
            name: self._publisher(bag.topics[name], target)
            for name, target in self._names.items()
            if bag.counts.get(name, 0)
        }
        if self._clock_name:
            self._clock = node.create_publisher(Clock, self._clock_name, 10)

    def _refuse_company(self) -> None:
        """Never speak beside a mat that is up: what was said then could move fingers now."""
        self._looked = time.monotonic()
        mine = {self._names[name] for name in self._publishers}
        others = {*self._names.values(), *(self._space + name for name in ALIVE)}
        if self._clock_name:
            others.add(self._clock_name)
            mine |= {self._clock_name} if self._clock is not None else set()
        for target in others:
            if self._node.count_publishers(target) > (target in mine):
                option = "clock-topic" if target == self._clock_name else "namespace"
                raise Busy(
                    f"{target} is published already: is a mat up? Choose another --{option}"
                )

    def _publisher(self, channel: Channel, target: str) -> Publisher:
        package, _, kind = channel.type.partition("/msg/")
        try:
            message = getattr(importlib.import_module(f"{package}.msg"), kind)
        except (ImportError, AttributeError) as error:
            raise InvalidInput(
                "topic",
                self._bag.relative(channel.name),
                f"types known here ({channel.type} is not)",
            ) from error
        return self._node.create_publisher(message, target, _profile(channel))

    def run(self, wanted: Callable[[], bool], progress: Callable[[float], object]) -> int:
        self._await_listeners(wanted)
        sent = 0
        while wanted():
            sent += self._once(wanted, progress)
            if not self._options.loop:
                break
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=1.0))
        return sent

    def _await_listeners(self, wanted: Callable[[], bool]) -> None:
        """Give subscribers that are there time to be matched."""
        end = time.monotonic() + LISTEN
        while wanted() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)
            counts = [p.get_subscription_count() for p in self._publishers.values()]
            known = [self._node.count_subscribers(n) for n in self._names.values()]
            if any(counts) and sum(counts) >= sum(known):
                return

    def _once(self, wanted: Callable[[], bool], progress: Callable[[float], object]) -> int:
        first = self._bag.span[0] + round(self._options.start * SECOND)
        sent, tick, told = 0, first, -1
        begun: float | None = None
        kept: dict[str, bytes] = {}
        for channel, at, raw in self._bag.messages(self._full):
            if at < first:
                if _latched(channel):
                    kept[channel.name] = raw
                continue
            if begun is None:
                begun = time.monotonic()
                for name, data in kept.items():  # as a late joiner would have got them
                    self._publish(name, data)
                    sent += 1
            while self._clock is not None and tick <= at:
                self._wait(begun + (tick - first) / SECOND / self._options.rate)
                self._clock.publish(Clock(clock=stamp(tick)))
                tick += CLOCK_PERIOD
            self._wait(begun + (at - first) / SECOND / self._options.rate)
            if not wanted():
                break
            self._publish(channel.name, raw)
            sent += 1
            if time.monotonic() - self._looked > LOOK_AGAIN:
                self._refuse_company()
            if at // SECOND != told:
                told = at // SECOND
                progress((at - self._bag.span[0]) / SECOND)
        return sent

    def _publish(self, name: str, raw: bytes) -> None:
        publisher = self._publishers[name]
        old = self._bag.prefix.removeprefix("/")
        publisher.publish(reframed(raw, publisher.msg_type, old, self._space.removeprefix("/")))

    def _wait(self, due: float) -> None:
        left = due - time.monotonic()
        if left > 0.0005:
            self._executor.spin_once(timeout_sec=left)
            left = due - time.monotonic()
            if left > 0.0:
                time.sleep(left)


def reframed(raw: bytes, kind: Any, old: str, new: str) -> bytes:
    """Return a serialized message with the frame of its header in another namespace.

    Args:
        raw: the message; returned as it is where it has no header, or a frame of another kind.
        kind: its class.
        old, new: what frames begin with, such as ``mat/``.
    """
    if old == new or kind.get_fields_and_field_types().get("header") != "std_msgs/Header":
        return raw
    try:
        message = deserialize_message(raw, kind)
    except Exception:  # of an older definition: its listeners must see to it
        return raw
    frame = message.header.frame_id
    if not frame or not frame.startswith(old):
        return raw
    message.header.frame_id = new + frame.removeprefix(old)
    return bytes(serialize_message(message))


@lru_cache(maxsize=256)  # parsing YAML takes 3 ms, and it is asked of every message
def _latched(channel: Channel) -> bool:
    return any(q.durability == QosDurability.TRANSIENT_LOCAL for q in _offered(channel))


def _offered(channel: Channel) -> list[Any]:
    try:
        return list(parse_qos(channel.qos)) if channel.qos else []
    except Exception:  # a profile in words of another version
        return []


def _profile(channel: Channel) -> QoSProfile:
    """Return the recorded quality of service; reliable and deep where none is known."""
    offered = _offered(channel)
    latched = _latched(channel)
    best_effort = any(q.reliability == QosReliability.BEST_EFFORT for q in offered)
    depth = max([q.depth for q in offered] or [50])
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth if latched and depth > 0 else max(depth, DEPTH),
        reliability=(ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE),
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
