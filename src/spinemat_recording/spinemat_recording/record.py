"""What a recorded session holds, as arrays.

Times are s of drive time. Finger arrays have shape (m, n): m messages, n fingers in the order of
the layout. `spinemat_recording.session_record.read_session` fills these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinemat.findings import SideDifference, TensionPoint
from spinemat.plan import LevelDose
from spinemat.units import WORDS

Array = NDArray[Any]

PHASES = WORDS["SessionState", "phase"]
SAFETY = WORDS["SafetyState", "state"]
SEVERITIES = ("info", "warning", "stop")
SIDES = WORDS["LevelStiffness", "side"]
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
    """`breathing`: all (m,); rate in Hz, phase in rad, amplitude in m."""

    t: Array
    rate: Array
    phase: Array
    amplitude: Array
    quality: Array
    valid: Array


@dataclass(frozen=True)
class Contour:
    """One `contour`: x, z, z_std (k,), rows (r,), levels (v,); m, angles in rad."""

    t: float
    x: Array
    z: Array
    z_std: Array
    row_x: Array
    left: Array
    right: Array
    valid: Array
    kyphosis: tuple[float, float]  # and its standard error, as below; NaN where it is not known
    lordosis: tuple[float, float]
    lateral_asymmetry: tuple[float, float]
    method: str
    levels: tuple[str, ...] = ()  # S1, L5 … C1
    level_x: Array = field(default_factory=lambda: np.zeros(0))


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
    evenness: float = float("nan")  # of movement, 0 to 1
    evenness_error: float = float("nan")
    tension: tuple[TensionPoint, ...] = ()  # stiffest first
    sides: tuple[SideDifference, ...] = ()  # most uneven first

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
class Guarding:
    """`guarding`: t, active (m,), stiffening (m, n), felt over expected force."""

    t: Array
    active: Array
    stiffening: Array


@dataclass(frozen=True)
class Plan:
    """One `plan`, as it stood last: times in s, doses from L5 to C1, sentences for people."""

    t: float
    programme: str
    title: str
    total: float
    pressing: float
    levels: tuple[LevelDose, ...]
    steps: tuple[str, ...]
    notes: tuple[str, ...]


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
    guarding: Guarding | None = None
    plan: Plan | None = None  # the last one of this session

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
        """Phases in order as (name, from s, to s); from the events where no state was recorded."""
        if self.session is None:
            told = [
                (str(e.data["phase"]), e.t)
                for e in self.events
                if e.kind == "phase" and isinstance(e.data, dict) and "phase" in e.data
            ]
            ends = [*(t for _, t in told[1:]), self.end]
            return tuple((name, t, end) for (name, t), end in zip(told, ends, strict=True))
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
