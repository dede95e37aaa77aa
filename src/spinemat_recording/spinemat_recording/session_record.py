"""A recorded session as arrays: `read_session(folder)`.

Everything is read from `<folder>/bag` with the message definitions that the bag carries, so a
record stays readable without ROS and after the messages have changed. Times are s of drive time.
Finger arrays have shape (m, n): m messages, n fingers in the order of the layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import ReaderError

from spinemat.analysis.bags import Bag
from spinemat.analysis.columns import Columns, decode
from spinemat.findings import SideDifference, TensionPoint
from spinemat.plan import LevelDose
from spinemat_recording.record import (
    PHASES,
    SEVERITIES,
    SIDES,
    Breathing,
    Contour,
    DriveCommands,
    DriveStates,
    Event,
    FingerStates,
    Guarding,
    Level,
    Permits,
    Plan,
    Pressure,
    RecordError,
    SafetyStates,
    SessionRecord,
    SessionStates,
    StiffnessMap,
    Truth,
    name_of,
)

__all__ = ["RecordError", "SessionRecord", "read_remains", "read_session"]


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
    try:
        with AnyReader([bag]) as reader:
            prefix = _prefix([c.topic for c in reader.connections], bag)
            wanted = [c for c in reader.connections if c.topic.removeprefix(prefix) in _READ]
            counts = {c.topic.removeprefix(prefix): c.msgcount for c in reader.connections}
            span = reader.start_time * 1e-9, max(reader.start_time, reader.end_time - 1) * 1e-9
            arrays, messages = _gather(
                data,
                reader.typestore,
                (
                    (c.topic.removeprefix(prefix), c.msgtype, time, raw)
                    for c, time, raw in reader.messages(connections=wanted)
                ),
            )
    except RecordError:
        raise
    except (ReaderError, AnyReaderError) as error:
        raise RecordError(data, f"not a complete recording: {error}") from error
    except OSError as error:
        raise RecordError(data, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes surface as any error of the decoders
        raise RecordError(data, f"damaged: {type(error).__name__}: {error}") from error
    return _assemble(folder, data, counts, span, arrays, messages)


def read_remains(folder: str | Path, why: RecordError) -> tuple[SessionRecord, str]:
    """Read what is left of a session whose bag is cut short or damaged.

    Args:
        folder: the session's folder.
        why: what `read_session` said.

    Returns:
        What the complete parts of the bag hold, or the events alone where it has none, and what
        is wrong, for people.

    Raises:
        RecordError: `why`, where nothing is left.
    """
    folder = Path(folder)
    try:
        bag = Bag(folder)
        wanted = {bag.full(name) for name in _READ}
        found = (
            (bag.relative(topic.name), topic.type, time, raw)
            for topic, time, raw in bag.messages(wanted)
        )
        arrays, messages = _gather(bag.path, bag.types, found)
        counts = {bag.relative(name): n for name, n in bag.counts.items()}
        span = bag.span[0] * 1e-9, bag.span[1] * 1e-9
        record = _assemble(folder, bag.path, counts, span, arrays, messages)
        return record, "; ".join(bag.problems) or why.problem
    except Exception:  # damaged bytes surface as any error
        if not (folder / "events.jsonl").is_file():
            raise why from None
    events = _events(folder, {})
    times = [e.t for e in events] or [0.0]
    nothing = SessionRecord(
        folder=folder,
        start=min(times),
        end=max(times),
        counts={},
        contours=(),
        stiffness=(),
        pressures=(),
        events=events,
        **dict.fromkeys(_UNKNOWN),
    )
    return nothing, f"{why.problem}; only what the events say is reported"


def _gather(
    path: Path, store: Any, found: Iterable[tuple[str, str, int, bytes]]
) -> tuple[dict[str, Any], dict[str, list[tuple[float, Any]]]]:
    """Sort (topic, type, time in ns, message) into arrays of streams and lists of messages."""
    messages: dict[str, list[tuple[float, Any]]] = {}
    streams: dict[str, Columns] = {}
    for topic, kind, time, raw in found:
        stream = _STREAMS.get(topic)
        if stream is not None and topic not in streams:
            streams[topic] = Columns(store, kind, list(stream.__dataclass_fields__))
        try:
            if stream is None:
                messages.setdefault(topic, []).append((time * 1e-9, decode(store, raw, kind)))
            else:
                streams[topic].add(raw)
        except ValueError as error:
            raise RecordError(path, f"{topic}: {error}") from error
    return {topic: _stack(path, topic, streams[topic]) for topic in streams}, messages


def _assemble(
    folder: Path,
    data: Path,
    counts: dict[str, int],
    span: tuple[float, float],
    arrays: dict[str, Any],
    messages: dict[str, list[tuple[float, Any]]],
) -> SessionRecord:
    def series(topic: str, kind: Any, texts: tuple[str, ...] = ()) -> Any:
        found = [m for _, m in messages.get(topic, ())]
        return _series(data, topic, kind, found, texts) if found else None

    def results(topic: str, build: Callable[[Any], Any]) -> tuple[Any, ...]:
        return tuple(build(m) for _, m in messages.get(topic, ()))

    session: SessionStates | None = series(
        "session/state", SessionStates, ("session_id", "folder", "programme", "detail")
    )
    contours = _before_and_after(results("contour", _contour), session, span[0])
    maps = _before_and_after(results("stiffness", _stiffness), session, span[0])
    before = contours[0].t if contours else span[1]
    return SessionRecord(
        folder=folder,
        start=span[0],
        end=span[1],
        counts=counts,
        drive=arrays.get("drive/state"),
        commands=arrays.get("drive/command"),
        permits=arrays.get("drive/permit"),
        fingers=arrays.get("fingers/state"),
        truth=arrays.get("truth/state"),
        safety=series("safety/state", SafetyStates, ("cause", "detail")),
        session=session,
        breathing=arrays.get("breathing"),
        contours=contours,
        stiffness=maps,
        pressures=results("pressure", _pressure),
        truth_contour=_at(messages, "truth/contour", before, _contour),
        truth_stiffness=_at(messages, "truth/stiffness", before, _stiffness),
        truth_pressure=_at(messages, "truth/pressure", before, _pressure),
        events=_events(folder, messages),
        guarding=arrays.get("guarding"),
        plan=next((p for p in reversed(results("plan", _plan)) if p.t >= span[0] - 1e-6), None),
    )


def _before_and_after(
    found: tuple[Any, ...], session: SessionStates | None, start: float
) -> tuple[Any, ...]:
    """Return the last result before treatment and the last one of the second scan.

    Results older than the session belong to an earlier one. Without phases to tell them apart
    every result is returned, in order.
    """
    found = tuple(f for f in found if f.t >= start - 1e-6)
    if session is None or len(found) < 2:
        return found
    treating = session.t[session.phase == PHASES.index("TREAT")]
    again = session.t[session.phase == PHASES.index("RESCAN")]
    if not treating.size:
        return found[-1:]
    first = [f for f in found if f.t <= treating[0]]
    second = [f for f in found if again.size and f.t > again[0]]
    return tuple(first[-1:] + second[-1:])


def _prefix(topics: list[str], bag: Path) -> str:
    """Return the namespace, with its last slash, that the mat's topics share."""
    for known in ("drive/state", "session/state"):
        for topic in topics:
            if topic.endswith(f"/{known}"):
                return topic.removesuffix(known)
    raise RecordError(bag, "holds neither drive/state nor session/state: not a recorded session")


def _stack(path: Path, topic: str, columns: Columns) -> Any:
    try:
        return _STREAMS[topic](**columns.get())
    except ValueError as error:
        raise RecordError(path, f"{topic}: {error}") from error


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
            raise RecordError(path, f"{topic}: {name} changes its length: {sizes}")
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
        kyphosis=_with_error(m, "kyphosis"),
        lordosis=_with_error(m, "lordosis"),
        lateral_asymmetry=_with_error(m, "lateral_asymmetry"),
        method=m.method,
        levels=tuple(_given(m, "levels")),
        level_x=np.asarray(_given(m, "level_x"), dtype=float),
    )


def _with_error(message: Any, name: str) -> tuple[float, float]:
    """A number and its standard error, which messages of older records do not have."""
    return getattr(message, name), getattr(message, f"{name}_std", float("nan"))


def _given(message: Any, name: str) -> Any:
    """A sequence that messages of older records do not have."""
    return getattr(message, name, ())


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
    tension = map(_given, [m] * 3, ("tension_points", "tension_ratio", "tension_probability"))
    sides = map(_given, [m] * 3, ("uneven_levels", "side_difference", "side_probability"))
    return StiffnessMap(
        _time(m),
        levels,
        m.finger_stiffness,
        m.finger_toe_stiffness,
        m.method,
        evenness=getattr(m, "evenness", float("nan")),
        evenness_error=getattr(m, "evenness_error", float("nan")),
        tension=tuple(map(TensionPoint, *tension)),
        sides=tuple(map(SideDifference, *sides)),
    )


def _plan(m: Any) -> Plan:
    doses = (LevelDose(d.level, d.peak, d.cycles, d.work, tuple(d.why)) for d in m.levels)
    return Plan(
        t=_time(m),
        programme=m.programme,
        title=m.title,
        total=m.total,
        pressing=m.pressing,
        levels=tuple(doses),
        steps=tuple(m.steps),
        notes=tuple(m.notes),
    )


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


_UNKNOWN = (
    "drive", "commands", "permits", "fingers", "truth", "safety", "session", "breathing",
    "truth_contour", "truth_stiffness", "truth_pressure",
)  # fmt: skip
_STREAMS: dict[str, Any] = {
    "drive/state": DriveStates,
    "drive/command": DriveCommands,
    "drive/permit": Permits,
    "fingers/state": FingerStates,
    "truth/state": Truth,
    "breathing": Breathing,
    "guarding": Guarding,
}
_READ = frozenset(
    {
        *_STREAMS,
        "safety/state",
        "session/state",
        "contour",
        "stiffness",
        "plan",
        "pressure",
        "truth/contour",
        "truth/stiffness",
        "truth/pressure",
        "events",
    }
)
