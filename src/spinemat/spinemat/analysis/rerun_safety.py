"""The safety rules over a recording; see `rerun`.

The supervisor's own inputs from outside of topics are taken from what it said of them: stops and
resets that somebody asked for, limits that were lowered. Two of its inputs are not recorded: the
wall clock (a drive that falls silent) and the processor time of a judgement.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from spinemat.analysis.bags import Bag, BagError, about_json
from spinemat.analysis.comparing import Comparison
from spinemat.analysis.tables import gather
from spinemat.drive_track import Sample
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat.rules import HAND_TIMEOUT, PRESSING_TIME, SESSION_TIME
from spinemat.safety import PERMIT_CYCLES, STATE_CYCLES, State, Supervisor

REQUIRED = ("finger_actuation", "spine_contour", "session_orchestrator")
NOT_RECORDED = ("overrun", "drive silent", "publishers")
_EXCLUDED = 4  # FingerState.EXCLUDED
_INACTIVE = (0, 9)  # SessionState.IDLE, ABORTED
_FIELDS = {
    "drive/state": (
        "header.stamp.sec",
        "header.stamp.nanosec",
        "cycle",
        "boot_id",
        "position",
        "velocity",
        "force",
        "current",
        "temperature",
        "status",
        "stage",
        "stage_reason",
    ),
    "drive/command": ("cycle", "velocity", "force_ceiling"),
    "drive/permit": ("cycle", "granted", "category"),
    "fingers/state": ("header.stamp.sec", "header.stamp.nanosec", "mode"),
}

Act = Callable[[Supervisor, int], object]  # what an input does, at a drive cycle
Input = tuple[int, Act]  # ns of drive time


def run(bag: Bag, layout: MatLayout, comparisons: dict[str, Comparison], notes: list[str]) -> None:
    """Judge every recorded drive state again, and compare permits and states."""
    optional = [name for name in _FIELDS if name != "drive/state"]
    there = [name for name in optional if bag.counts.get(bag.full(name))]
    try:
        found, messages = gather(
            bag,
            {name: _FIELDS[name] for name in ("drive/state", *there)},
            ("safety/state", *_ACTS),
        )
    except BagError as error:
        raise BagError(bag.path, f"safety rules need drive/state: {error.problem}") from error
    samples, commands = _samples(bag, layout, found)
    told = {m.cycle: m for m in messages["safety/state"]}  # the last of each cycle
    heard: list[tuple[int, Act | None]] = [
        *sorted(_inputs(messages, found), key=lambda entry: entry[0])
    ]
    inputs = iter([*heard, (2**62, None)])
    supervisor = _begin(bag, layout, samples[0], next(iter(told.values()), None))
    granted = np.zeros(len(samples), dtype=bool)
    category = np.zeros(len(samples), dtype=np.int64)
    due, act = next(inputs)
    zeros = np.zeros(layout.n)
    shown = np.zeros(len(samples), dtype=bool)
    states = comparisons.setdefault("safety/state", Comparison())
    for i, sample in enumerate(samples):
        if i and due < sample.stamp:
            cycle = samples[i - 1].cycle
            while due < sample.stamp and act is not None:
                act(supervisor, cycle)
                due, act = next(inputs)
        supervisor.commanded, supervisor.ceiling = commands[i] or (zeros, zeros)
        decision = supervisor.on_state(sample, np.inf)
        granted[i], category[i] = decision.granted, decision.category
        message = told.pop(sample.cycle, None)
        if message is not None:
            shown[i] = True
            states.add(1e-9 * sample.stamp, _state(supervisor, message))
    cycles = np.array([s.cycle for s in samples])
    states.unmatched = _untold(cycles % STATE_CYCLES == 0, shown)
    inside = range(samples[0].cycle, samples[-1].cycle + 1)
    states.missing = sum(cycle in inside for cycle in told)
    if "drive/permit" in found:
        _compare_permits(found["drive/permit"], samples, granted, category, comparisons)
    for message in messages["safety/state"]:
        if message.cause in NOT_RECORDED:
            note = f"the cause {message.cause!r} depends on what is not recorded"
            if note not in notes:
                notes.append(note)


def _untold(due: Any, told: Any) -> int:
    """Count what was due and not told from the first told to the last: the supervisor ran."""
    ran = np.flatnonzero(told)
    return int((due & ~told)[ran[0] : ran[-1]].sum()) if ran.size else 0


def _state(s: Supervisor, message: Any) -> dict[str, tuple[Any, Any]]:
    return {
        "state": (message.state, int(s.shown)),
        "cause": (message.cause, s.cause),
        "detail": (message.detail, s.detail),
        "force_limit": (message.force_limit, s.trip_limit),
    }


def _samples(
    bag: Bag, layout: MatLayout, found: dict[str, dict[str, Any]]
) -> tuple[list[Sample], list[Any]]:
    """Return the drive's states, and the velocities and ceilings commanded before each."""
    a = found["drive/state"]
    if a["position"].ndim != 2 or a["position"].shape[1] != layout.n:
        raise BagError(
            bag.path, f"{a['position'].shape[-1]} fingers were recorded, the mat has {layout.n}"
        )
    stamps = _stamps(a)
    status = a["status"].astype(np.int64)
    cycles, stages = a["cycle"].tolist(), a["stage"].tolist()
    samples = [
        Sample(
            cycle=cycles[i],
            stamp=stamp,
            boot_id=a["boot_id"][i],
            position=a["position"][i],
            velocity=a["velocity"][i],
            force=a["force"][i],
            current=a["current"][i],
            temperature=a["temperature"][i],
            status=status[i],
            stage=stages[i],
            stage_reason=a["stage_reason"][i],
        )
        for i, stamp in enumerate(stamps)
    ]
    commands: list[Any] = [None] * len(samples)
    c = found.get("drive/command")
    if c is not None and c["velocity"].ndim == 2 and c["velocity"].shape[1] == layout.n:
        good = np.isfinite(c["velocity"] + c["force_ceiling"]).all(axis=1)
        known, velocity, ceiling = (c[f][good] for f in ("cycle", "velocity", "force_ceiling"))
        at = np.searchsorted(known, a["cycle"], side="left") - 1
        commands = [(velocity[k], ceiling[k]) if k >= 0 else None for k in at]
    return samples, commands


def _stamps(a: dict[str, Any]) -> list[int]:
    whole = a["header.stamp.sec"].astype(np.int64) * 1_000_000_000
    stamps: list[int] = (whole + a["header.stamp.nanosec"]).tolist()
    return stamps


def _begin(bag: Bag, layout: MatLayout, first: Sample, told: Any) -> Supervisor:
    """Return a supervisor in the state that was told at the beginning of the recording."""
    parameters = about_json(bag, "parameters") or {}
    mine = parameters.get("safety_supervisor", {})
    required = tuple(mine.get("required_nodes", REQUIRED))
    longest = (
        float(mine.get("max_session_time", SESSION_TIME)),
        float(mine.get("max_pressing_time", PRESSING_TIME)),
    )
    supervisor = Supervisor(layout, required, longest=longest)
    cycle = first.cycle - 1
    for node in required:
        supervisor.heartbeat(node, cycle, -np.inf, True, "", layout.checksum)
    if told is not None:
        supervisor.state, supervisor.stops = State(told.state), told.stops
        supervisor.cause, supervisor.detail = told.cause, told.detail
        if len(told.force_limit) == layout.n:
            supervisor.trip_limit = np.array(told.force_limit)
        if supervisor.state in (State.READY, State.MOVING):
            supervisor.hand(True, cycle)
    return supervisor


def _inputs(messages: dict[str, list[Any]], found: dict[str, dict[str, Any]]) -> Iterator[Input]:
    """Yield what else the supervisor hears, with its drive time."""
    if "fingers/state" in found:
        yield from _fingers(found["fingers/state"])
    for name, make in _ACTS.items():
        for message in messages[name]:
            stamp = message.header.stamp
            at = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
            act = make(message, at)
            if act is not None:
                yield at, act


def _hand(message: Any, at: int) -> Act:
    held = bool(message.held)

    def act(s: Supervisor, cycle: int) -> None:
        now = s.now
        if not held or now is None or now - at <= HAND_TIMEOUT * 1e9:
            s.hand(held, cycle)

    return act


def _heartbeat(message: Any, _at: int) -> Act | None:
    if message.node == "safety_supervisor":
        return None
    return lambda s, _: s.heartbeat(
        message.node, message.cycle, -np.inf, bool(message.healthy), message.detail, message.mat
    )


def _fingers(a: dict[str, Any]) -> Iterator[Input]:
    """Excluded fingers, where they are others than before: told at 50 Hz, hardly ever news."""
    excluded = a["mode"] == _EXCLUDED
    news = np.ones(len(excluded), dtype=bool)
    news[1:] = (excluded[1:] != excluded[:-1]).any(axis=1)
    stamps = _stamps(a)
    for i in np.flatnonzero(news):
        yield stamps[i], partial(_exclude, excluded[i])


def _exclude(excluded: Any, s: Supervisor, _cycle: int) -> None:
    if excluded.shape == (s.layout.n,):
        s.excluded = excluded


def _event(message: Any, _at: int) -> Act | None:
    """What somebody asked of the supervisor, from what it said of it."""
    if message.source != "safety_supervisor":
        return None
    try:
        data = json.loads(message.data or "{}")
    except ValueError:
        return None
    if message.kind == "stop" and data.get("cause") == "stop requested":
        return lambda s, _: s.stop(str(data.get("detail", "")).removeprefix("by "))
    if message.kind == "reset":
        who, _, reason = message.text.removeprefix("reset by ").partition(": ")
        return lambda s, _: s.reset(who or "somebody", reason or "not told")
    if message.kind == "limits":
        force, mass = data.get("force") or None, data.get("mass")

        def lower(s: Supervisor, _cycle: int) -> None:
            try:
                s.lower(np.array(force) if force else None, mass)
            except InvalidInput:
                return

        return lower
    return None


def _guarding(message: Any, _at: int) -> Act:
    return lambda s, cycle: s.guarding(bool(message.active), cycle)


def _session(message: Any, _at: int) -> Act:
    return lambda s, cycle: s.session(message.phase not in _INACTIVE, cycle)


_ACTS: dict[str, Callable[[Any, int], Act | None]] = {
    "hand_control": _hand,
    "heartbeat": _heartbeat,
    "guarding": _guarding,
    "session/state": _session,
    "events": _event,
}


def _compare_permits(
    p: dict[str, Any],
    samples: list[Sample],
    granted: Any,
    category: Any,
    comparisons: dict[str, Comparison],
) -> None:
    place = {s.cycle: i for i, s in enumerate(samples)}
    comparison = comparisons.setdefault("drive/permit", Comparison())
    cycles = np.array([s.cycle for s in samples])
    due = (cycles % PERMIT_CYCLES == 0) | ~granted
    comparison.unmatched = _untold(due, np.isin(cycles, p["cycle"]))
    for k, cycle in enumerate(p["cycle"].tolist()):
        i = place.get(cycle)
        if i is None:
            comparison.missing += samples[0].cycle <= cycle <= samples[-1].cycle
            continue
        given = bool(p["granted"][k])
        values: dict[str, tuple[Any, Any]] = {"granted": (given, bool(granted[i]))}
        if not given and not granted[i]:
            values["category"] = (int(p["category"][k]), int(category[i]))
        comparison.add(1e-9 * samples[i].stamp, values)
