"""Node recorder: everything that a session says, in one folder.

It subscribes, without decoding them, to the topics of its profile (`profiles`). While
`session/state` names a folder and a phase other than IDLE, all of it goes into `<folder>/bag`
(rosbag2, MCAP) and every event as a line into `<folder>/events.jsonl`. When the session is over
the bag is closed and an Event of kind `recorded` tells where it is and what is missing in it. A
failure to write never disturbs a session: it is said once and counted. With the parameter
`folder` it records from its start to its end instead, whatever sessions do.

Times in the bag are drive time, from the header of each message; a stamp that does not fit the
drive's clock is replaced by the stamp of the newest drive state.
"""

from __future__ import annotations

import ctypes
import json
import struct
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from spinemat import __version__
from spinemat.errors import InvalidInput, choice
from spinemat.layout import load_layout
from spinemat_interfaces.msg import Event, SafetyState, SessionState
from spinemat_recording.background import Background
from spinemat_recording.bag import (
    SPLIT_BYTES,
    SPLIT_SECONDS,
    BagTopic,
    Definitions,
    SessionFolder,
)
from spinemat_recording.profiles import PROFILES
from spinemat_recording.record import PHASES, SAFETY, SEVERITIES
from spinemat_ros.codec import nanoseconds
from spinemat_ros.node import declare, header, publisher
from spinemat_ros.spin import run
from spinemat_ros.topics import TOPICS

SECOND = 1_000_000_000
AFTER_ABORT = SECOND  # ns of drive time recorded after ABORTED: shows the fingers let go
AFTER_IDLE = SECOND // 5  # ns of drive time for messages that are still on their way
STAMP_TOLERANCE = SECOND  # ns, how far a stamp may lead the newest drive state
BACKLOG = 10 * SECOND  # ns, how far a session's state may be ahead of the drive states read
STILL_CLOCK = 2.0  # s of steady time without drive time that end a finished session's bag
LARGE = 128 * 1024  # bytes; blocks from here on are mapped one by one
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_STAMP = struct.Struct("<iI")
_LENGTH = struct.Struct("<I")
_CYCLE = struct.Struct("<Q")


class Recorder(Node):
    """Records sessions until it is shut down; call `close` before destroying it."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self._depth: int = declare(
            self,
            "queue_depth",
            1000,
            "messages kept per topic while the disk is slow",
            (50, 100_000),
        )
        self._compress: bool = declare(
            self, "compress", True, "compress the bag in chunks with zstd"
        )
        profile = declare(self, "profile", "all", "what is recorded: " + ", ".join(PROFILES))
        self._topics = PROFILES[choice("profile", profile, PROFILES)]
        self._split: tuple[int, float] = (
            declare(self, "split_bytes", SPLIT_BYTES, "bytes; then a new file begins", (1, 2**50)),
            declare(self, "split_seconds", SPLIT_SECONDS, "s; then a new file begins", (1.0, 1e7)),
        )
        self._about = self._declare_about(profile)
        self._definitions = Definitions(message_texts())
        self._folder: Background | None = None
        self._session = ("", "")  # id and folder of the session that is or was recorded last
        self._drive_time = 0  # ns, stamp of the newest drive state
        self._drive_cycle = 0
        self._missed = 0  # drive cycles that never arrived while recording
        self._close_at: int | None = None  # ns of drive time
        self._watched_time = -1  # drive time when the steady timer looked last
        self._phase: int | None = None
        self._safety: int | None = None
        self._latched: dict[str, tuple[BagTopic, bytes]] = {}
        self.summary = ""  # of the recording that was closed last, for people
        self._events = publisher(self, "events")
        handlers = {
            "drive/state": self._on_drive_state,
            "events": self._on_event,
            "safety/state": self._on_safety,
            "session/state": self._on_session,
        }
        for name, topic in TOPICS.items():
            if name in self._topics or name in handlers:
                self._subscribe(name, topic.type, topic.qos, handlers.get(name))
        self._steady = self.create_timer(
            STILL_CLOCK, self._on_steady, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

        always = declare(self, "folder", "", "record all the time into this folder, if given")
        self._always = bool(always)
        if always:
            self._open(("", str(Path(always).resolve())), 0)

    def _declare_about(self, profile: str) -> dict[str, str]:
        """Return what every bag of this recorder is about."""
        about = {"software": __version__, "profile": profile}
        mat = declare(self, "mat_config", "", "path of the mat's description; kept in every bag")
        if mat:
            layout = load_layout(Path(mat))
            about["mat"] = json.dumps(
                {
                    "name": layout.name,
                    "checksum": layout.checksum,
                    "fingers": layout.names,
                    "file": Path(mat).read_text(encoding="utf-8"),
                }
            )
        given = declare(self, "about", "", "JSON object with texts, kept in every bag")
        try:
            about |= {str(k): str(v) for k, v in json.loads(given or "{}").items()}
        except (ValueError, AttributeError) as error:
            raise InvalidInput("about", given, "a JSON object") from error
        return about

    @property
    def heard(self) -> bool:
        """Whether the mat's supervisor was heard since this node began."""
        return self._safety is not None

    def close(self) -> None:
        """Close what is open and say so; harmless when nothing is being recorded."""
        if self._folder is not None:
            self._close("the recorder was told to end")

    def _subscribe(self, name: str, kind: Any, qos: QoSProfile, handler: Any) -> None:
        depth = max(qos.depth, self._depth)
        profile = QoSProfile(
            history=qos.history,
            depth=depth,
            reliability=qos.reliability,
            durability=qos.durability,
        )
        topic = bag_topic(name, self.resolve_topic_name(name))
        stamped = next(iter(kind.get_fields_and_field_types().items()), None) == (
            "header",
            "std_msgs/Header",
        )
        callback = partial(handler or self._on_message, topic, stamped)
        self.create_subscription(kind, name, callback, profile, raw=True)

    # ---- messages ------------------------------------------------------------------------

    def _on_message(self, topic: BagTopic, stamped: bool, data: bytes) -> None:
        if self._folder is not None and self._wanted(topic):
            self._folder.write(topic, self._time_of(data) if stamped else self._drive_time, data)
        if topic.latched:
            self._latched[topic.name] = (topic, data)

    def _on_drive_state(self, topic: BagTopic, stamped: bool, data: bytes) -> None:
        sec, nanosec = _STAMP.unpack_from(data, 4)
        time = sec * SECOND + nanosec
        (length,) = _LENGTH.unpack_from(data, 12)
        (cycle,) = _CYCLE.unpack_from(data, 4 + (12 + length + 7) // 8 * 8)
        if time < self._drive_time and self._close_at is not None:
            self._close_at = time + AFTER_ABORT  # the drive stage started anew
        elif self._folder is not None and self._drive_cycle:
            self._missed += max(0, cycle - self._drive_cycle - 1)
        self._drive_time, self._drive_cycle = time, cycle
        if self._folder is not None:
            if self._wanted(topic):
                self._folder.write(topic, time, data)
            for text in self._folder.news():
                self._warn(text)
            if self._close_at is not None and time >= self._close_at:
                self._close()

    def _on_event(self, topic: BagTopic, stamped: bool, data: bytes) -> None:
        if self._folder is None:
            return
        self._folder.write(topic, self._time_of(data), data)
        event = deserialize_message(data, Event)
        try:
            values = json.loads(event.data or "{}")
        except ValueError:
            values = {"text": event.data}
        self._line(
            event.source,
            event.severity,
            event.kind,
            event.text,
            values,
            time=nanoseconds(event.header.stamp),
        )

    def _on_safety(self, topic: BagTopic, stamped: bool, data: bytes) -> None:
        self._on_message(topic, stamped, data)
        message = deserialize_message(data, SafetyState)
        before, self._safety = self._safety, message.state
        if self._folder is None or before == message.state:
            return
        stopped = message.state == SafetyState.STOPPED
        self._line(
            "safety_supervisor",
            Event.STOP if stopped else Event.INFO,
            "safety_state",
            f"safety: {_name(SAFETY, message.state)}"
            + (f", {message.cause}: {message.detail}" if stopped else ""),
            {
                "from": _name(SAFETY, before),
                "to": _name(SAFETY, message.state),
                "cause": message.cause,
            },
            time=nanoseconds(message.header.stamp),
        )

    def _on_session(self, topic: BagTopic, stamped: bool, data: bytes) -> None:
        message = deserialize_message(data, SessionState)
        session = (message.session_id, message.folder)
        running = message.phase != SessionState.IDLE and message.folder != ""
        anew = running and session != self._session and not self._always
        if self._folder is not None and anew:
            self._close("another session has begun")
        before, self._phase = self._phase, message.phase
        if self._folder is None and anew:
            self._open(session, self._time_of(data))
            before = None
        self._on_message(topic, stamped, data)
        if self._folder is None or before == message.phase:
            return
        if self._always and "person" not in self._kept:
            self._kept.update(_person(Path(message.folder)))
        aborted = message.phase == SessionState.ABORTED
        self._line(
            "session_orchestrator",
            Event.WARNING if aborted else Event.INFO,
            "session_phase",
            f"session: {_name(PHASES, message.phase)}"
            + (f", {message.detail}" if message.detail else ""),
            {
                "from": _name(PHASES, before),
                "to": _name(PHASES, message.phase),
                "session_id": message.session_id,
                "programme": message.programme,
            },
            time=nanoseconds(message.header.stamp),
        )
        if self._close_at is None and not self._always:
            # drive states that still wait to be read belong to the session
            ended = max(self._drive_time, self._time_of(data, BACKLOG))
            if aborted:
                self._close_at = ended + AFTER_ABORT
            elif message.phase == SessionState.IDLE:
                self._close_at = ended + AFTER_IDLE

    def _on_steady(self) -> None:
        """End a finished session although the drive's clock stands still."""
        for text in self._folder.news() if self._folder is not None else ():
            self._warn(text)
        still = self._drive_time == self._watched_time
        self._watched_time = self._drive_time
        if still and self._folder is not None and self._close_at is not None:
            self._close("the drive's clock stands still")

    def _time_of(self, data: bytes, ahead: int = STAMP_TOLERANCE) -> int:
        """Return the header's stamp in ns, or drive time where the stamp does not fit it."""
        sec, nanosec = _STAMP.unpack_from(data, 4)
        time: int = sec * SECOND + nanosec
        if not self._drive_time:
            return time
        lead = time - self._drive_time
        return time if -STAMP_TOLERANCE <= lead <= ahead else self._drive_time

    # ---- sessions ------------------------------------------------------------------------

    def _open(self, session: tuple[str, str], time: int) -> None:
        self._session = session
        self._close_at = None
        self._missed = 0
        about = self._about | {"recorded": datetime.now().astimezone().isoformat("T", "seconds")}
        self._kept = about | _person(Path(session[1]))
        self._folder = Background(
            lambda say: SessionFolder(
                session[1],
                self._definitions,
                about=self._kept,
                compress=self._compress,
                split_bytes=self._split[0],
                split_seconds=self._split[1],
                on_failure=say,
            )
        )
        for name in ("session/state", "events"):  # those belong to what was before
            self._latched.pop(self.resolve_topic_name(name), None)
        for topic, data in self._latched.values():
            if self._wanted(topic):
                self._folder.write(topic, time, data)

    def _close(self, why: str = "") -> None:
        writing = self._folder
        self._close_at = None
        if writing is None:
            return
        folder = writing.close()  # where a signal cuts this off, `close` is called once more
        self._folder = None
        for text in writing.news():
            self._warn(text)
        if folder is None:
            return
        values = {
            "folder": str(folder.folder),
            "messages": folder.messages,
            "dropped": folder.dropped + sum(writing.dropped.values()),
            "no_room_for": writing.dropped,
            "missed_cycles": self._missed,
            "bag_bytes": folder.size,
        }
        complete = not values["dropped"] and not self._missed
        text = f"{folder.messages} messages recorded in {folder.bag_path}"
        if not complete:
            text += f"; {values['dropped']} not written, {self._missed} drive cycles not received"
        self.summary = text
        if why:
            text += f" ({why})"
        severity = Event.INFO if complete else Event.WARNING
        folder.line(self._entry("recorder", severity, "recorded", text, values, self._drive_time))
        folder.close_lines()
        self._publish(severity, "recorded", text, values)

    def _warn(self, text: str) -> None:
        self.get_logger().error(text)
        words = f"the session goes on, not all of it is recorded: {text}"
        self._publish(Event.WARNING, "recording_failed", words, {})

    def _publish(self, severity: int, kind: str, text: str, values: dict[str, Any]) -> None:
        self._events.publish(
            Event(
                header=header(self, self._drive_time),
                source=self.get_name(),
                severity=severity,
                kind=kind,
                text=text,
                data=json.dumps(values, ensure_ascii=False),
            )
        )

    def _line(
        self, source: str, severity: int, kind: str, text: str, values: Any, *, time: int
    ) -> None:
        if self._folder is not None:
            self._folder.line(self._entry(source, severity, kind, text, values, time))

    def _wanted(self, topic: BagTopic) -> bool:
        return topic.relative in self._topics

    @staticmethod
    def _entry(
        source: str, severity: int, kind: str, text: str, values: Any, time: int
    ) -> dict[str, Any]:
        return {
            "t": round(time * 1e-9, 6),
            "source": source,
            "severity": _name(SEVERITIES, severity),
            "kind": kind,
            "text": text,
            "data": values,
        }


def bag_topic(name: str, resolved: str) -> BagTopic:
    """Return how the topic `name` of the table is written into a bag, under its resolved name."""
    topic = TOPICS[name]
    return BagTopic(
        name=resolved,
        relative=name,
        type=f"{topic.type.__module__.split('.')[0]}/msg/{topic.type.__name__}",
        depth=topic.qos.depth,
        latched=topic.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        best_effort=topic.qos.reliability == ReliabilityPolicy.BEST_EFFORT,
    )


def _person(folder: Path) -> dict[str, str]:
    """Return who a session is about, as far as its folder tells."""
    try:
        kept = json.loads((folder / "session.json").read_text(encoding="utf-8"))
        return {"person": json.dumps(kept["person"]), "session_id": str(kept["session_id"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def message_texts() -> dict[str, str]:
    """Return the text of every `.msg` file of spinemat_interfaces, by type name."""
    share = Path(get_package_share_directory("spinemat_interfaces"))
    return {
        f"spinemat_interfaces/msg/{path.stem}": path.read_text(encoding="utf-8")
        for path in sorted((share / "msg").glob("*.msg"))
    }


def _name(names: tuple[str, ...], value: int | None) -> str:
    if value is None:
        return ""
    return names[value] if 0 <= value < len(names) else str(value)


def map_large_blocks() -> None:
    """Have glibc map every large block by itself, whatever it has learnt.

    It would take a bag's chunks (1 MB each) from the heap once it has freed one; what the
    middleware keeps for good then comes to lie between them, and the heap grows.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # the C library is glibc
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, LARGE)  # the imports have raised it: no more free memory on top


def main(args: list[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM; an open bag is closed first."""
    map_large_blocks()
    run(Recorder, args)


if __name__ == "__main__":
    main()
