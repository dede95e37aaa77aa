"""The supervisor's rules and state machine, without ROS.

A rule is data: a name, a limit in words, where the limit comes from, the hazard it controls, and a
pure function that looks at one `View` and returns what is wrong, or None. `Supervisor` applies
every rule to every drive state; the most restrictive wins; the first cause latches. It starts
without permission, and only a deliberate reset ends STOPPED, never straight into motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinemat.drive import Category, Stage
from spinemat.layout import MatLayout

Array = NDArray[np.float64]

HAND_TIMEOUT = 0.100  # s: five messages at 50 Hz (engineering choice)
HEARTBEAT_TIMEOUT = 1.0  # s (engineering choice)
STEADY_TIMEOUT = 2.0  # s of wall time without a drive state (engineering choice)
START_STATES = 50  # healthy drive states before permission (engineering choice)
TOTAL_SHARE = 0.6  # of the body weight over the mat (section "dose" of the numbers; our choice)
TRUNK_WEIGHT = 425.0  # N, trunk and head of a 75 kg adult lying on the mat
TEMPERATURE = 80.0  # degC, motor winding (engineering choice)
MOVING_FORCE, MOVING_HEIGHT = 1.0, 0.002  # N, m over the retracted position


class State(IntEnum):
    """State of the supervisor; values as in SafetyState.msg."""

    STARTING = 0
    READY = 1
    MOVING = 2
    STOPPED = 3


@dataclass(frozen=True)
class Sample:
    """One drive state as it came in; arrays of shape (n,), SI units."""

    cycle: int
    stamp: int  # ns
    boot_id: str
    position: Array
    velocity: Array
    force: Array
    current: Array
    temperature: Array
    status: NDArray[np.int64]
    stage: int
    stage_reason: str = ""


@dataclass(frozen=True)
class View:
    """All that a rule may look at."""

    layout: MatLayout
    trip_limit: Array  # N, shape (n,)
    now: Sample
    before: Sample | None
    hand_held: bool
    hand_age: float  # s of drive time; inf: never heard
    heartbeat_age: dict[str, float]  # s, the smaller of drive and wall time; inf: never heard
    unhealthy: dict[str, str]  # node -> its own complaint
    granted: bool  # permission given with the state before
    was_running: bool  # the drive stage obeyed commands with the state before


@dataclass(frozen=True)
class Rule:
    """One reason to stop."""

    name: str
    limit: str
    source: str
    hazard: str
    check: Callable[[View], str | None]
    category: Category = Category.RELEASE_AND_RETRACT


@dataclass(frozen=True)
class Decision:
    """Answer to one drive state."""

    state: State
    granted: bool
    category: Category
    changed: bool


def _bad_data(v: View) -> str | None:
    s = v.now
    for name in ("position", "velocity", "force", "current", "temperature"):
        values = getattr(s, name)
        if values.shape != (v.layout.n,):
            return f"{name}: {values.size} values; allowed: {v.layout.n}"
        if not np.isfinite(values).all():
            i = int(np.argmin(np.isfinite(values)))
            return f"{name} of {v.layout.names[i]} is {values[i]}; allowed: finite"
    if s.status.shape != (v.layout.n,):
        return f"status: {s.status.size} values; allowed: {v.layout.n}"
    return None


def _order(v: View) -> str | None:
    if v.before is None:
        return None
    if v.now.boot_id != v.before.boot_id:
        return "the drive stage restarted"
    gap = v.now.cycle - v.before.cycle
    if gap != 1:
        return f"drive cycle went from {v.before.cycle} to {v.now.cycle}; allowed: one more"
    elapsed = (v.now.stamp - v.before.stamp) * 1e-9
    if not 0.0 < elapsed <= 0.1:
        return f"drive stamp moved by {elapsed:.4f} s in one cycle; allowed: 0 to 0.1 s"
    return None


def _force(v: View) -> str | None:
    over = v.now.force > v.trip_limit
    if over.any():
        i = int(np.argmax(v.now.force - v.trip_limit))
        return (
            f"{v.layout.names[i]}: {v.now.force[i]:.1f} N; allowed: up to {v.trip_limit[i]:.1f} N"
        )
    return None


def _total(v: View) -> str | None:
    total, limit = float(v.now.force.sum()), TOTAL_SHARE * TRUNK_WEIGHT
    return f"all fingers: {total:.0f} N; allowed: up to {limit:.0f} N" if total > limit else None


def _stroke(v: View) -> str | None:
    low, high = v.layout.finger.stroke
    out = (v.now.position < low - 0.005) | (v.now.position > high + 0.005)
    if out.any():
        i = int(np.argmax(out))
        return (
            f"{v.layout.names[i]}: {1e3 * v.now.position[i]:.1f} mm;"
            f" allowed: {1e3 * low:.0f} to {1e3 * high:.0f} mm"
        )
    return None


def _speed(v: View) -> str | None:
    limit = (
        2.5 * v.layout.finger.max_speed
    )  # a released finger falls back faster than it is driven
    fast = v.now.velocity > limit
    if fast.any():
        i = int(np.argmax(v.now.velocity))
        return f"{v.layout.names[i]}: {v.now.velocity[i]:.3f} m/s; allowed: up to {limit:.3f} m/s"
    return None


def _temperature(v: View) -> str | None:
    i = int(np.argmax(v.now.temperature))
    if v.now.temperature[i] > TEMPERATURE:
        return (
            f"{v.layout.names[i]}: {v.now.temperature[i]:.0f} degC;"
            f" allowed: up to {TEMPERATURE:.0f} degC"
        )
    return None


def _status(v: View) -> str | None:
    if v.now.status.any():
        i = int(np.argmax(v.now.status != 0))
        return f"{v.layout.names[i]} reports fault {int(v.now.status[i])}; allowed: 0"
    return None


def _hand(v: View) -> str | None:
    if v.hand_age > HAND_TIMEOUT:
        return f"silent for {v.hand_age:.2f} s; allowed: up to {HAND_TIMEOUT:.2f} s"
    return None if v.hand_held else "the person let go of the hand control"


def _heartbeat(v: View) -> str | None:
    for node, age in v.heartbeat_age.items():
        if age > HEARTBEAT_TIMEOUT:
            return f"{node} silent for {age:.1f} s; allowed: up to {HEARTBEAT_TIMEOUT:.1f} s"
    for node, complaint in v.unhealthy.items():
        return f"{node}: {complaint}"
    return None


def _drive_released(v: View) -> str | None:
    if v.granted and v.was_running and v.now.stage != Stage.RUNNING:
        return f"the drive stage released the fingers by itself: {v.now.stage_reason}"
    return None


RULES: tuple[Rule, ...] = (
    Rule(
        "drive data",
        "finite, one value per finger",
        "engineering choice",
        "control on false data",
        _bad_data,
    ),
    Rule(
        "drive order",
        "cycle + 1, stamp forward by up to 0.1 s",
        "engineering choice",
        "control on old data",
        _order,
    ),
    Rule(
        "finger force",
        "trip limit of the region",
        "config/mat.yaml limits.*.trip",
        "crush, pain",
        _force,
    ),
    Rule(
        "total force",
        "0.6 of the weight over the mat",
        "engineering choice",
        "the person is lifted",
        _total,
    ),
    Rule(
        "stroke",
        "stroke of the fingers ± 5 mm",
        "config/mat.yaml finger.stroke",
        "loss of position",
        _stroke,
    ),
    Rule(
        "finger speed",
        "2.5 x the largest driven speed, upward",
        "config/mat.yaml max_speed",
        "impact",
        _speed,
    ),
    Rule(
        "temperature",
        "80 degC",
        "engineering choice",
        "burn, motor failure",
        _temperature,
        Category.RELEASE_AND_POWER_OFF,
    ),
    Rule(
        "drive fault",
        "no fault bit",
        "engineering choice",
        "drive failure",
        _status,
        Category.RELEASE_AND_POWER_OFF,
    ),
    Rule(
        "hand control",
        "held, heard within 0.1 s",
        "hold to run; engineering choice",
        "the person cannot stop the mat",
        _hand,
    ),
    Rule(
        "heartbeat", "heard within 1 s, healthy", "engineering choice", "a node died", _heartbeat
    ),
    Rule(
        "drive watchdog",
        "the drive runs while permitted",
        "drive stage, 0.1 s",
        "commands lost",
        _drive_released,
    ),
)


@dataclass
class Supervisor:
    """State machine over the rules; feed it drive states and act on its decisions.

    Args:
        layout: the mat.
        required: nodes whose heartbeat is needed.
        latched: cause of a stop that outlived an earlier run; starts in STOPPED then.
    """

    layout: MatLayout
    required: tuple[str, ...] = ()
    latched: str = ""
    rules: tuple[Rule, ...] = RULES
    state: State = State.STARTING
    cause: str = ""
    detail: str = ""
    category: Category = Category.RELEASE_AND_RETRACT
    later: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    stops: int = 0
    trip_limit: Array = field(init=False)
    _before: Sample | None = field(init=False, default=None)
    _healthy: int = field(init=False, default=0)
    _hand: tuple[bool, int] | None = field(init=False, default=None)
    _beats: dict[str, tuple[int, float]] = field(init=False, default_factory=dict)
    _unhealthy: dict[str, str] = field(init=False, default_factory=dict)
    _granted: bool = field(init=False, default=False)
    _ran: bool = field(init=False, default=False)
    _broken: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Start without permission, or stopped when an earlier stop is still latched."""
        self.trip_limit = self.layout.trip_limit.copy()
        self.waiting = ["drive data: no drive state seen"]
        if self.latched:
            self._latch("restart", self.latched, Category.RELEASE_AND_RETRACT)

    def hand(self, held: bool, cycle: int) -> None:
        """Take the hand control's state, heard at drive cycle `cycle`."""
        self._hand = (held, cycle)

    def heartbeat(self, node: str, cycle: int, steady: float, healthy: bool, text: str) -> None:
        """Take a heartbeat, heard at drive cycle `cycle` and steady time `steady` (s)."""
        self._beats[node] = (cycle, steady)
        if healthy:
            self._unhealthy.pop(node, None)
        else:
            self._unhealthy[node] = text or "not healthy"

    def stop(self, who: str) -> None:
        """Stop now because somebody asked."""
        self._latch("stop requested", f"by {who}", Category.RELEASE_AND_RETRACT)

    def stalled(self, seconds: float) -> None:
        """No drive state has come for `seconds` of wall time: stop (from any permission)."""
        if self.state in (State.READY, State.MOVING):
            self._latch(
                "drive silent", f"no drive state for {seconds:.1f} s", Category.RELEASE_AND_RETRACT
            )

    def lower(self, limit: Array) -> None:
        """Lower the trip limits; values above the present ones change nothing."""
        self.trip_limit = np.minimum(self.trip_limit, limit)

    def reset(self, who: str, reason: str) -> tuple[bool, str]:
        """End STOPPED by a deliberate act; return (done, what happened)."""
        if self.state is not State.STOPPED:
            return False, f"nothing to reset: the supervisor is {self.state.name}"
        if not who.strip() or not reason.strip():
            field_name = "reason" if who.strip() else "who"
            return False, f"{field_name}: '' is not allowed; allowed: a non-empty text"
        if self._broken or self._before is None:
            causes = "; ".join(self._broken) or "no drive state seen"
            return False, f"refused, still there: {causes}"
        moving = self._is_moving(self._before)
        if moving:
            return False, "refused: the fingers are not retracted yet"
        self.state, self._healthy = State.STARTING, 0
        self.cause = self.detail = ""
        self.later.clear()
        return True, f"reset by {who}: {reason}"

    def on_state(self, sample: Sample, steady: float) -> Decision:
        """Judge one drive state, at steady time `steady` (s)."""
        before = self.state
        view = self._view(sample, steady)
        broken = [(rule, text) for rule in self.rules if (text := _judge(rule, view))]
        self._broken = [f"{rule.name}: {text}" for rule, text in broken]
        if self.state is State.STARTING:
            self._healthy = 0 if broken else self._healthy + 1
            if self._healthy >= START_STATES:
                self.state = State.READY
        elif self.state in (State.READY, State.MOVING):
            for rule, text in broken:
                self._latch(rule.name, text, rule.category)
        else:
            for rule, text in broken:
                self._also(f"{rule.name}: {text}", rule.name)
        if self.state in (State.READY, State.MOVING):
            self.state = State.MOVING if self._is_moving(sample) else State.READY
        self.waiting = list(self._broken) if self.state is State.STARTING else []
        self._granted = self.state in (State.READY, State.MOVING)
        if not broken or broken[0][0].check is not _bad_data:
            self._before = sample
        self._ran = sample.stage == Stage.RUNNING
        return Decision(self.state, self._granted, self.category, self.state is not before)

    def _view(self, sample: Sample, steady: float) -> View:
        held, heard = self._hand if self._hand else (False, None)
        ages = {}
        for node in self.required:
            beat = self._beats.get(node)
            ages[node] = (
                min(self._age(beat[0], sample), steady - beat[1]) if beat else float("inf")
            )
        return View(
            layout=self.layout,
            trip_limit=self.trip_limit,
            now=sample,
            before=self._before,
            hand_held=held,
            hand_age=self._age(heard, sample),
            heartbeat_age=ages,
            unhealthy=self._unhealthy,
            granted=self._granted,
            was_running=self._ran,
        )

    def _age(self, heard: int | None, sample: Sample) -> float:
        """Drive time since something was heard, s; what is from another count is stale."""
        if heard is None or heard > sample.cycle:
            return float("inf")
        return (sample.cycle - heard) * self.layout.cycle

    def _is_moving(self, sample: Sample) -> bool:
        if sample.position.shape != (self.layout.n,) or sample.force.shape != (self.layout.n,):
            return True
        low = self.layout.finger.stroke[0]
        return bool(
            (sample.position > low + MOVING_HEIGHT).any() or (sample.force > MOVING_FORCE).any()
        )

    def _latch(self, name: str, text: str, category: Category) -> None:
        if self.state is State.STOPPED:
            self._also(f"{name}: {text}", name)
            return
        self.state, self.cause, self.detail, self.category = State.STOPPED, name, text, category
        self.later.clear()
        self.stops += 1
        self._granted = False

    def _also(self, text: str, name: str) -> None:
        known = [self.cause, *(item.split(":")[0] for item in self.later)]
        if name not in known:
            self.later.append(text)


def _judge(rule: Rule, view: View) -> str | None:
    try:
        return rule.check(view)
    except Exception as error:  # a rule that cannot judge is a stop, never a pass
        return f"the rule itself failed: {error}"
