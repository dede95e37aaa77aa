"""Node tamper: stands between those who publish and those who listen, and spoils what passes.

Publishers of the topics in PATHS are remapped to `untampered/…`; this node passes on what they
say. The parameter `faults` tells what to do to it, one text each: a topic, a kind and its
arguments, such as ``drive/state set force nan 10``.

| kind | arguments | what listeners get |
| --- | --- | --- |
| drop | | nothing |
| delay | messages | everything so many messages later |
| duplicate | | everything twice |
| swap | | two and two in the wrong order |
| replay | messages | the last so many again and again |
| set | field, value, index or nothing | another value |
| add | field, value, index or nothing | that much more |
| ramp | field, per message, at most, index | more and more |
| hold | field | what the field said at first |
| flip | field | one random bit of one random value is wrong |
| cut | field | one value too few |

The field `stamp` is the header's, in s. The parameter `since` tells the drive cycle since which
the faults are in force.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message, serialize_message

from spinemat.errors import InvalidInput, choice
from spinemat_interfaces.msg import DriveState
from spinemat_ros.codec import nanoseconds, stamp
from spinemat_ros.node import declare, publisher
from spinemat_ros.spin import run
from spinemat_ros.topics import EVERY, TOPICS

PATHS = {  # topic -> nodes that publish it
    "drive/state": ("mat_simulator",),
    "hand_control": ("mat_simulator",),
    "drive/command": ("finger_actuation",),
    "fingers/state": ("finger_actuation",),
    "drive/permit": ("safety_supervisor",),
    "safety/state": ("safety_supervisor",),
    "session/state": ("session_orchestrator",),
    "breathing": ("spine_contour",),
    "guarding": ("spine_contour",),
    "heartbeat": ("finger_actuation", "spine_contour", "session_orchestrator"),
}

KEPT = 100  # messages of each topic that may be replayed

Pass = Callable[[bytes], Iterable[bytes]]


def remappings(node: str) -> dict[str, str]:
    """Return the remappings that lead a node's messages through this one."""
    return {topic: f"untampered/{topic}" for topic, nodes in PATHS.items() if node in nodes}


def _drop(_data: bytes) -> list[bytes]:
    return []


def _duplicate(data: bytes) -> list[bytes]:
    return [data, data]


def _later(count: int) -> Pass:
    kept: deque[bytes] = deque()

    def tamper(data: bytes) -> list[bytes]:
        kept.append(data)
        return [kept.popleft()] if len(kept) > count else []

    return tamper


def _swap() -> Pass:
    kept: list[bytes] = []

    def tamper(data: bytes) -> list[bytes]:
        kept.append(data)
        if len(kept) < 2:
            return []
        pair = [kept[1], kept[0]]
        kept.clear()
        return pair

    return tamper


def _replay(recent: Sequence[bytes]) -> Pass:
    kept = deque(recent)

    def tamper(_data: bytes) -> list[bytes]:
        kept.rotate(-1)
        return [kept[-1]] if kept else []

    return tamper


def _changed(kind: Any, change: Callable[[Any], None]) -> Pass:
    def tamper(data: bytes) -> list[bytes]:
        message = deserialize_message(data, kind)
        change(message)
        return [serialize_message(message)]

    return tamper


def _get(message: Any, field: str) -> Any:
    return (
        1e-9 * nanoseconds(message.header.stamp) if field == "stamp" else getattr(message, field)
    )


def _put(message: Any, field: str, value: Any) -> None:
    if field == "stamp":
        message.header.stamp = stamp(round(1e9 * value))
    else:
        setattr(message, field, value)


def _like(now: Any, value: str) -> Any:
    """Read a value as the field has it."""
    if isinstance(now, str):
        return value
    if isinstance(now, bool):
        return value == "true"
    return int(float(value)) if isinstance(now, int) else float(value)


def _set(message: Any, field: str, value: str, index: str = "", *, add: bool = False) -> None:
    now = _get(message, field)
    if not hasattr(now, "__setitem__"):
        new = _like(now, value)
        _put(message, field, now + new if add else new)
        return
    for i in [int(index)] if index else range(len(now)):
        new = _like(now[i], value)
        now[i] = now[i] + new if add else new


def _ramp(field: str, step: str, most: str, index: str = "") -> Callable[[Any], None]:
    passed = 0

    def change(message: Any) -> None:
        nonlocal passed
        passed += 1
        top = float(most)
        _set(message, field, str(min(passed * float(step), top)), index, add=True)

    return change


def _hold(field: str) -> Callable[[Any], None]:
    kept: list[Any] = []

    def change(message: Any) -> None:
        if not kept:
            kept.append(_get(message, field))
        _put(message, field, kept[0])

    return change


def _flip(field: str) -> Callable[[Any], None]:
    rng = np.random.default_rng(0)

    def change(message: Any) -> None:
        values = np.array(_get(message, field), dtype=np.float64)
        bits = values.view(np.uint64)
        bits[rng.integers(len(bits))] ^= np.uint64(1) << np.uint64(rng.integers(64))
        for i, value in enumerate(values):
            getattr(message, field)[i] = value

    return change


def _cut(message: Any, field: str) -> None:
    getattr(message, field).pop()


WHOLE: dict[str, Callable[..., Pass]] = {  # of whole messages, given those before them
    "drop": lambda _recent: _drop,
    "delay": lambda _recent, count: _later(int(count)),
    "duplicate": lambda _recent: _duplicate,
    "swap": lambda _recent: _swap(),
    "replay": lambda recent, count: _replay(recent[-int(count) :]),
}
INSIDE: dict[str, Callable[..., Callable[[Any], None]]] = {  # of one field
    "set": lambda field, value, index="": lambda m: _set(m, field, value, index),
    "add": lambda field, value, index="": lambda m: _set(m, field, value, index, add=True),
    "ramp": _ramp,
    "hold": _hold,
    "flip": _flip,
    "cut": lambda field: lambda m: _cut(m, field),
}


def parse(text: str, recent: Mapping[str, Sequence[bytes]]) -> tuple[str, Pass]:
    """Read one fault.

    Args:
        text: a topic, a kind and its arguments.
        recent: the latest messages of each topic, oldest first.

    Raises:
        InvalidInput: topic, kind or arguments are not known.
    """
    topic, _, rest = text.partition(" ")
    choice("faults topic", topic, PATHS)
    kind, *words = rest.split() or [""]
    choice("faults kind", kind, [*WHOLE, *INSIDE])
    try:
        if kind in WHOLE:
            return topic, WHOLE[kind](recent[topic], *words)
        if words[0] != "stamp" and not hasattr(TOPICS[topic].type, words[0]):
            raise InvalidInput("faults field", words[0], f"a field of {topic}")
        return topic, _changed(TOPICS[topic].type, INSIDE[kind](*words))
    except (TypeError, ValueError, IndexError) as error:
        raise InvalidInput("faults", text, f"the arguments of '{kind}': {error}") from error


class Tamper(Node):
    """The man in the middle."""

    def __init__(self) -> None:
        super().__init__("tamper")
        declare(self, "faults", [""], "what to do to the messages", read_only=False)
        declare(self, "since", 0, "drive cycle since which it is done", read_only=False)
        self._faults: dict[str, list[Pass]] = {}
        self._texts: list[str] = []
        self._since = 0
        self._recent: dict[str, deque[bytes]] = {topic: deque(maxlen=KEPT) for topic in PATHS}
        for topic in PATHS:
            out = publisher(self, topic)
            latched = TOPICS[topic].qos.durability
            qos = EVERY if latched == EVERY.durability else TOPICS[topic].qos
            self.create_subscription(
                TOPICS[topic].type,
                f"untampered/{topic}",
                partial(self._pass, topic, out.publish),
                qos,
                raw=True,
            )
        self.add_on_set_parameters_callback(self._on_parameters)
        self.add_post_set_parameters_callback(self._on_set)

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        changed = [p for p in parameters if p.name == "faults"]
        texts = [text for p in changed for text in p.value if text]
        if changed and texts != self._texts:  # a request that came twice changes nothing
            faults: dict[str, list[Pass]] = {}
            try:
                for text in texts:
                    topic, tamper = parse(text, {t: [*kept] for t, kept in self._recent.items()})
                    faults.setdefault(topic, []).append(tamper)
            except InvalidInput as error:
                return SetParametersResult(successful=False, reason=str(error))
            self._faults, self._texts = faults, texts
            kept = self._recent["drive/state"]
            self._since = deserialize_message(kept[-1], DriveState).cycle if kept else 0
        return SetParametersResult(successful=True)

    def _on_set(self, parameters: Sequence[Parameter]) -> None:
        if any(p.name == "faults" for p in parameters):
            self.set_parameters([Parameter("since", value=self._since)])

    def _pass(self, topic: str, publish: Callable[[bytes], None], data: bytes) -> None:
        self._recent[topic].append(data)
        out: list[bytes] = [data]
        for tamper in self._faults.get(topic, ()):
            out = [after for before in out for after in tamper(before)]
        for message in out:
            publish(message)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(Tamper, args)
