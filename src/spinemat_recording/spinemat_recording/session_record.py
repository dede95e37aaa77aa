"""A recorded session as arrays: `read_session(folder)`.

Everything is read from `<folder>/bag` with the message definitions that the bag carries, so a
record stays readable without ROS and after the messages have changed. Times are s of drive time.
Finger arrays have shape (m, n): m messages, n fingers in the order of the layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import ReaderError

Array = NDArray[Any]

PHASES = (
    "IDLE",
    "INTAKE",
    "ON_MAT",
    "SCAN",
    "PLAN",
    "TREAT",
    "PAUSED",
    "RESCAN",
    "REPORT",
    "ABORTED",
)
SAFETY = ("STARTING", "READY", "MOVING", "STOPPED")
SEVERITIES = ("info", "warning", "stop")
SIDES = ("BOTH", "LEFT", "RIGHT")
FORCE_MODE = 3  # FingerState.FORCE


class RecordError(ValueError):
    """A record cannot be read; the message is one line: which file, what is wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {' '.join(problem.split())}")
        self.path, self.problem = path, problem


@dataclass(frozen=True)
class DriveStates:
    """`drive/state`: t, cycle, stage (m,); the others (m, n)."""

    t: Array  # s
    cycle: Array
    stage: Array
    position: Array  # m
    velocity: Array  # m/s
    force: Array  # N
    current: Array  # A
    temperature: Array  # degC
    status: Array


@dataclass(frozen=True)
class DriveCommands:
    """`drive/command`: t, cycle (m,); the others (m, n)."""

    t: Array
    cycle: Array
    velocity: Array  # m/s
    force_ceiling: Array  # N


@dataclass(frozen=True)
class Permits:
    """`drive/permit`: all (m,)."""

    t: Array
    cycle: Array
    sequence: Array
    granted: Array
    category: Array


@dataclass(frozen=True)
class FingerStates:
    """`fingers/state`: t, cycle (m,); the others (m, n)."""

    t: Array
    cycle: Array
    position: Array  # m
    force: Array  # N
    set_point: Array  # N in FORCE mode, else m
    mode: Array
    contact: Array
    clamped: Array


@dataclass(frozen=True)
class Truth:
    """`truth/state`, known only in simulation: per message (m,), per finger (m, n)."""

    t: Array
    cycle: Array
    padding: Array  # N
    breath: Array  # [0, 1]
    hand_held: Array
    late_cycles: Array
    force: Array  # N
    position: Array  # m
    indentation: Array  # m
    peak_force: Array  # N


@dataclass(frozen=True)
class SafetyStates:
    """`safety/state`: t, state, stops (m,), force_limit (m, n), cause and detail per message."""

    t: Array
    state: Array
    stops: Array
    force_limit: Array  # N
    cause: tuple[str, ...]
    detail: tuple[str, ...]


@dataclass(frozen=True)
class SessionStates:
    """`session/state`: t, phase, progress (m,) and one text per message."""

    t: Array
    phase: Array
    progress: Array
    session_id: tuple[str, ...]
    folder: tuple[str, ...]
    programme: tuple[str, ...]
    detail: tuple[str, ...]


@dataclass(frozen=True)
class Breathing:
    """`breathing`: all (m,); rate in Hz, phase in rad, amplitude in N."""

    t: Array
    rate: Array
    phase: Array
    amplitude: Array
    quality: Array
    valid: Array


@dataclass(frozen=True)
class Contour:
    """One `contour`: x, z, z_std (k,), rows (r,); m, angles in rad."""

    t: float
    x: Array
    z: Array
    z_std: Array
    row_x: Array
    left: Array
    right: Array
    valid: Array
    kyphosis: float
    lordosis: float
    lateral_asymmetry: float
    method: str


@dataclass(frozen=True)
class Level:
    """Stiffness of one level on one side ("BOTH", "LEFT", "RIGHT"); N/m, x in m."""

    level: str
    side: str
    x: float
    value: float
    standard_error: float
    minimal_detectable_change: float
    valid: bool
    reason: str


@dataclass(frozen=True)
class StiffnessMap:
    """One `stiffness`; stiffness under each finger alone (n,) in N/m."""

    t: float
    levels: tuple[Level, ...]
    finger_stiffness: Array
    finger_toe_stiffness: Array
    method: str

    def get(self, level: str, side: str = "BOTH") -> Level | None:
        """Return the entry of a level and side, None when it was not reported."""
        for entry in self.levels:
            if entry.level == level and entry.side == side:
                return entry
        return None


@dataclass(frozen=True)
class Pressure:
    """One `pressure`: x (k,) in m, padding and fingers (k,) in N."""

    t: float
    x: Array
    padding: Array
    fingers: Array


@dataclass(frozen=True)
class Event:
    """One event, in the words of `events.jsonl`."""

    t: float  # s
    source: str
    severity: str  # "info", "warning" or "stop"
    kind: str
    text: str
    data: Any = field(default_factory=dict)


@dataclass(frozen=True)
class SessionRecord:
    """A whole session. What was never published is None or empty."""

    folder: Path
    start: float  # s, drive time of the first message
    end: float  # s
    counts: dict[str, int]  # messages per topic, relative names
    drive: DriveStates | None
    commands: DriveCommands | None
    permits: Permits | None
    fingers: FingerStates | None
    truth: Truth | None
    safety: SafetyStates | None
    session: SessionStates | None
    breathing: Breathing | None
    contours: tuple[Contour, ...]  # of this session, in order: before, after
    stiffness: tuple[StiffnessMap, ...]  # of this session, in order: before, after
    pressures: tuple[Pressure, ...]
    truth_contour: Contour | None
    truth_stiffness: StiffnessMap | None
    truth_pressure: Pressure | None
    events: tuple[Event, ...]

    @property
    def session_id(self) -> str:
        """Name of the session; empty when no session state was recorded."""
        return next((s for s in self.session.session_id if s), "") if self.session else ""

    @property
    def programme(self) -> str:
        """Programme of the session; empty when it is not known."""
        return next((s for s in self.session.programme if s), "") if self.session else ""

    @property
    def phases(self) -> tuple[tuple[str, float, float], ...]:
        """Phases in order as (name, from s, to s)."""
        if self.session is None:
            return ()
        changes = np.flatnonzero(np.diff(self.session.phase)) + 1
        starts = np.concatenate([[0], changes]).astype(int)
        times = [*self.session.t[starts].tolist(), self.end]
        return tuple(
            (name_of(PHASES, int(self.session.phase[i])), times[k], times[k + 1])
            for k, i in enumerate(starts)
        )


def name_of(names: tuple[str, ...], value: int) -> str:
    """Return the name of an enumerated value, or the number itself when it has none."""
    return names[value] if 0 <= value < len(names) else str(value)


def read_session(folder: str | Path) -> SessionRecord:
    """Read the record of one session.

    Args:
        folder: the session's folder, with `bag/` and, usually, `events.jsonl`.

    Raises:
        RecordError: something is missing, cut short or not what it should be; one line that
            names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(folder, "there is no such folder")
    bag = folder / "bag"
    if not bag.is_dir():
        raise RecordError(bag, "there is no recording in this folder")
    if not (bag / "metadata.yaml").is_file():
        raise RecordError(
            bag / "metadata.yaml", "missing: the recording was cut short before it was closed"
        )
    data = bag / "bag.mcap"
    messages: dict[str, list[tuple[float, Any]]] = {}
    try:
        with AnyReader([bag]) as reader:
            prefix = _prefix([c.topic for c in reader.connections], bag)
            wanted = [c for c in reader.connections if c.topic.removeprefix(prefix) in _READ]
            counts = {c.topic.removeprefix(prefix): c.msgcount for c in reader.connections}
            span = reader.start_time * 1e-9, max(reader.start_time, reader.end_time - 1) * 1e-9
            for connection, time, raw in reader.messages(connections=wanted):
                message = reader.deserialize(raw, connection.msgtype)
                messages.setdefault(connection.topic.removeprefix(prefix), []).append(
                    (time * 1e-9, message)
                )
    except RecordError:
        raise
    except (ReaderError, AnyReaderError) as error:
        raise RecordError(data, f"not a complete recording: {error}") from error
    except OSError as error:
        raise RecordError(data, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes surface as any error of the decoders
        raise RecordError(data, f"damaged: {type(error).__name__}: {error}") from error
    return _assemble(folder, data, counts, span, messages)


def _assemble(
    folder: Path,
    data: Path,
    counts: dict[str, int],
    span: tuple[float, float],
    messages: dict[str, list[tuple[float, Any]]],
) -> SessionRecord:
    def series(topic: str, kind: Any, texts: tuple[str, ...] = ()) -> Any:
        found = [m for _, m in messages.get(topic, ())]
        return _series(data, topic, kind, found, texts) if found else None

    def results(topic: str, build: Callable[[Any], Any]) -> tuple[Any, ...]:
        return tuple(build(m) for _, m in messages.get(topic, ()))

    # results that were latched before this session belong to an earlier one
    contours = tuple(c for c in results("contour", _contour) if c.t >= span[0] - 1e-6)
    maps = tuple(m for m in results("stiffness", _stiffness) if m.t >= span[0] - 1e-6)
    before = contours[0].t if contours else span[1]
    return SessionRecord(
        folder=folder,
        start=span[0],
        end=span[1],
        counts=counts,
        drive=series("drive/state", DriveStates),
        commands=series("drive/command", DriveCommands),
        permits=series("drive/permit", Permits),
        fingers=series("fingers/state", FingerStates),
        truth=series("truth/state", Truth),
        safety=series("safety/state", SafetyStates, ("cause", "detail")),
        session=series(
            "session/state", SessionStates, ("session_id", "folder", "programme", "detail")
        ),
        breathing=series("breathing", Breathing),
        contours=contours,
        stiffness=maps,
        pressures=results("pressure", _pressure),
        truth_contour=_at(messages, "truth/contour", before, _contour),
        truth_stiffness=_at(messages, "truth/stiffness", before, _stiffness),
        truth_pressure=_at(messages, "truth/pressure", before, _pressure),
        events=_events(folder, messages),
    )


def _prefix(topics: list[str], bag: Path) -> str:
    """Return the namespace, with its last slash, that the mat's topics share."""
    for known in ("drive/state", "session/state"):
        for topic in topics:
            if topic.endswith(f"/{known}"):
                return topic.removesuffix(known)
    raise RecordError(bag, "holds neither drive/state nor session/state: not a recorded session")


def _series(path: Path, topic: str, kind: Any, found: list[Any], texts: tuple[str, ...]) -> Any:
    """Stack one field of all messages after the other into arrays."""
    values: dict[str, Any] = {"t": np.array([_time(m) for m in found])}
    for name in kind.__dataclass_fields__:
        if name == "t":
            continue
        column = [getattr(m, name) for m in found]
        if name in texts:
            values[name] = tuple(column)
            continue
        try:
            values[name] = np.array(column)
        except ValueError:
            values[name] = np.empty(0, dtype=object)
        if values[name].dtype == object:
            sizes = sorted({np.size(c) for c in column})
            raise RecordError(path, f"{topic}.{name} changes its length: {sizes}")
    return kind(**values)


def _time(message: Any) -> float:
    stamp = message.header.stamp
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def _contour(m: Any) -> Contour:
    return Contour(
        t=_time(m),
        x=m.x,
        z=m.z,
        z_std=m.z_std,
        row_x=m.row_x,
        left=m.left,
        right=m.right,
        valid=np.asarray(m.valid, dtype=bool),
        kyphosis=m.kyphosis,
        lordosis=m.lordosis,
        lateral_asymmetry=m.lateral_asymmetry,
        method=m.method,
    )


def _stiffness(m: Any) -> StiffnessMap:
    levels = tuple(
        Level(
            level=e.level,
            side=name_of(SIDES, e.side),
            x=e.x,
            value=e.value,
            standard_error=e.standard_error,
            minimal_detectable_change=e.minimal_detectable_change,
            valid=bool(e.valid),
            reason=e.reason,
        )
        for e in m.levels
    )
    return StiffnessMap(_time(m), levels, m.finger_stiffness, m.finger_toe_stiffness, m.method)


def _pressure(m: Any) -> Pressure:
    return Pressure(_time(m), m.x, m.padding, m.fingers)


def _at(
    messages: dict[str, list[tuple[float, Any]]],
    topic: str,
    time: float,
    build: Callable[[Any], Any],
) -> Any:
    """Return the last message not later than `time`, else the first one, else None."""
    found = messages.get(topic)
    if not found:
        return None
    earlier = [m for t, m in found if t <= time]
    return build(earlier[-1] if earlier else found[0][1])


def _events(folder: Path, messages: dict[str, list[tuple[float, Any]]]) -> tuple[Event, ...]:
    """Return the lines of events.jsonl, or the bag's events where there is no such file."""
    path = folder / "events.jsonl"
    if not path.is_file():
        return tuple(
            Event(
                _time(m), m.source, name_of(SEVERITIES, m.severity), m.kind, m.text, _json(m.data)
            )
            for _, m in messages.get("events", ())
        )
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(path, f"cannot be read: {error}") from error
    events = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            events.append(
                Event(
                    t=float(entry["t"]),
                    source=str(entry["source"]),
                    severity=str(entry["severity"]),
                    kind=str(entry["kind"]),
                    text=str(entry["text"]),
                    data=entry.get("data", {}),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # no line end: cut off in the middle of the last line
                continue
            raise RecordError(path, f"line {number} is not an event") from error
    return tuple(events)


def _json(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {"text": text}


_READ = frozenset(
    {
        "drive/state",
        "drive/command",
        "drive/permit",
        "fingers/state",
        "truth/state",
        "safety/state",
        "session/state",
        "breathing",
        "contour",
        "stiffness",
        "pressure",
        "truth/contour",
        "truth/stiffness",
        "truth/pressure",
        "events",
    }
)
