"""The supervisor's state machine over the rules of `rules.py`, without ROS.

Every rule is applied to every drive state; the most restrictive wins; the first cause latches. It
starts without permission, and only a deliberate reset ends STOPPED, never straight into motion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import HEAVIEST, LIGHTEST
from spinemat.drive import RESTRICTS, Category, Stage
from spinemat.drive_track import Sample, Track
from spinemat.errors import InvalidInput, number
from spinemat.layout import MatLayout
from spinemat.rules import (
    PRESSING_TIME,
    RESTING_TIMEOUT,
    RULES,
    SESSION_TIME,
    Rule,
    View,
    bad_data,
    region_limits,
)

Array = NDArray[np.float64]

STEADY_TIMEOUT = 2.0  # s of wall time without a drive state (engineering choice)
RESET_SILENCE = 0.5  # s of wall time since the last drive state in which a reset is taken (choice)
UPWARD = 0.001  # m/s: a command that would lift a tip as soon as it may (engineering choice)
STATE_CYCLES = 25  # drive cycles between states that are told: 10 Hz
PERMIT_CYCLES = 2  # drive cycles between permits; a refusal is told in every cycle
START_STATES = 50  # healthy drive states before permission (engineering choice)
MOVING_FORCE, MOVING_HEIGHT = 1.0, 0.002  # N, m over the retracted position


class State(IntEnum):
    """State of the supervisor; values as in SafetyState.msg."""

    STARTING = 0
    READY = 1
    MOVING = 2
    STOPPED = 3


@dataclass(frozen=True)
class Decision:
    """Answer to one drive state."""

    state: State
    granted: bool
    category: Category
    changed: bool


@dataclass
class Supervisor:
    """State machine over the rules; feed it drive states and act on its decisions.

    Args:
        layout: the mat.
        required: nodes whose heartbeat is needed.
        latched: cause of a stop that outlived an earlier run; starts in STOPPED then.
        longest: s that a session, and pressing in it, may last.
    """

    layout: MatLayout
    required: tuple[str, ...] = ()
    latched: str = ""
    longest: tuple[float, float] = (SESSION_TIME, PRESSING_TIME)
    rules: tuple[Rule, ...] = RULES
    state: State = State.STARTING
    cause: str = ""
    detail: str = ""
    category: Category = Category.RELEASE_AND_RETRACT
    later: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    stops: int = 0
    took: tuple[float, float] = (0.0, 0.0)  # s of processor time of the last two; set by its owner
    commanded: Array = field(init=False)  # m/s, velocities commanded last …
    ceiling: Array = field(init=False)  # N, … with these force ceilings; 0: unpowered
    excluded: NDArray[np.bool_] = field(init=False)
    publishers: Mapping[str, int] = field(default_factory=dict)
    trip_limit: Array = field(init=False)
    region_limit: dict[str, float] = field(init=False)
    _sorted: tuple[tuple[Rule, ...], ...] = field(init=False, default=((), (), ()))
    _track: Track = field(init=False)
    _before: Sample | None = field(init=False, default=None)
    _healthy: int = field(init=False, default=0)
    _hand: tuple[bool, int] | None = field(init=False, default=None)
    _let_go: bool = field(init=False, default=False)  # since the last drive state
    _beats: dict[str, tuple[int, float]] = field(init=False, default_factory=dict)
    _unhealthy: dict[str, str] = field(init=False, default_factory=dict)
    _checksums: dict[str, str] = field(init=False, default_factory=dict)
    _guarding: int | None = field(init=False, default=None)  # drive cycle at which it began
    _session: int | None = field(init=False, default=None)  # drive cycle at which it began
    _over: bool = field(init=False, default=False)  # a session is, and limits are still lowered
    _granted: bool = field(init=False, default=False)
    _ran: bool = field(init=False, default=False)
    _broken: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Start without permission, or stopped when an earlier stop is still latched."""
        n = self.layout.n
        self.commanded, self.ceiling = np.zeros((2, n))
        self.excluded = np.zeros(n, dtype=bool)
        self.trip_limit = self.layout.trip_limit.copy()
        self.region_limit = region_limits()
        self._track = Track(self.layout)
        self.waiting = ["drive data: no drive state seen"]
        if self.latched:
            self._latch("restart", self.latched, Category.RELEASE_AND_RETRACT)

    def hand(self, held: bool, cycle: int) -> None:
        """Take the hand control's state, heard at drive cycle `cycle`.

        Letting go counts until the next drive state is judged, whatever is heard before it.
        """
        self._let_go = self._let_go or not held
        self._hand = (held, cycle)

    def heartbeat(
        self, node: str, cycle: int, steady: float, healthy: bool, text: str, mat: str = ""
    ) -> None:
        """Take a heartbeat, heard at drive cycle `cycle` and steady time `steady` (s).

        `mat` is the checksum of the mat's description that the node was started with; empty: it
        needs none. A beat that is not newer than the last one is a repetition: a complaint in it
        counts, nothing else does.
        """
        known = self._beats.get(node)
        now = self._before.cycle if self._before is not None else 0
        repeated = known is not None and cycle <= known[0] <= now
        if not healthy:
            self._unhealthy[node] = text or "not healthy"
        elif not repeated:
            self._unhealthy.pop(node, None)
        if not repeated:
            self._beats[node] = (cycle, steady)
            self._checksums[node] = mat

    def guarding(self, active: bool, cycle: int) -> None:
        """Take whether muscles protect themselves, heard at drive cycle `cycle`."""
        if not active:
            self._guarding = None
        elif self._guarding is None:
            self._guarding = cycle

    def session(self, active: bool, cycle: int) -> None:
        """Take whether a session goes on; after one, limits are those of the mat's file again."""
        if active and self._session is None:
            self._session, self._over = cycle, False
            self._track.pressing = 0.0
        elif not active and self._session is not None:
            self._session, self._over = None, True
            self._track.pressing = 0.0
        self._restore()

    def _restore(self) -> None:
        """After a session, limits are those of the mat's file again, once nothing moves."""
        if self._over and self.state is State.READY:
            self._over = False
            self.trip_limit = self.layout.trip_limit.copy()
            self.region_limit = region_limits()

    def stop(self, who: str) -> None:
        """Stop now because somebody asked."""
        self._latch("stop requested", f"by {who}", Category.RELEASE_AND_RETRACT)

    def stalled(self, seconds: float) -> None:
        """No drive state has come for `seconds` of wall time: stop (from any permission)."""
        if self.state in (State.READY, State.MOVING):
            self._latch(
                "drive silent", f"no drive state for {seconds:.1f} s", Category.RELEASE_AND_RETRACT
            )
        self._healthy = 0

    def lower(self, limit: Array | None = None, mass: float | None = None) -> None:
        """Lower the limits; values above the present ones change nothing.

        Args:
            limit: of each finger, shape (n,), N.
            mass: of the person, kg; limits the sums by region.

        Raises:
            InvalidInput: wrong shape, not finite, not positive, or no mass of a person.
        """
        n = self.layout.n
        if limit is not None:
            limit = np.asarray(limit, dtype=float)
            if limit.shape != (n,) or not (np.isfinite(limit) & (limit > 0.0)).all():
                raise InvalidInput("force", limit.tolist(), f"{n} finite values above 0 N")
        if mass is not None:
            number("mass", mass, LIGHTEST, HEAVIEST, "kg")
        self._restore()
        self._over = False  # what is lowered now belongs to what comes
        if limit is not None:
            self.trip_limit = np.minimum(self.trip_limit, limit)
        if mass is not None:
            for region, most in region_limits(mass).items():
                self.region_limit[region] = min(self.region_limit[region], most)

    def reset(self, who: str, reason: str, silent: float = 0.0) -> tuple[bool, str]:
        """End STOPPED by a deliberate act; return (done, what happened).

        Args:
            who: asks for it.
            reason: why.
            silent: s of wall time since the last drive state.
        """
        if self.state is not State.STOPPED:
            return False, f"nothing to reset: the supervisor is {self.state.name}"
        if not who.strip() or not reason.strip():
            field_name = "reason" if who.strip() else "who"
            return False, f"{field_name}: '' is not allowed; allowed: a non-empty text"
        if self._broken or self._before is None:
            causes = "; ".join(self._broken) or "no drive state seen"
            return False, f"refused, still there: {causes}"
        if silent > RESET_SILENCE:
            return False, f"refused: no drive state for {silent:.1f} s"
        moving = self._is_moving(self._before)
        if moving:
            return False, "refused: the fingers are not retracted yet"
        self.state, self._healthy = State.STARTING, 0
        self.cause = self.detail = ""
        self.later.clear()
        return True, f"reset by {who}: {reason}"

    @property
    def drive_runs(self) -> bool:
        """Whether the drive stage ran in the last state: only then can fingers move."""
        return self._ran

    @property
    def now(self) -> int | None:
        """Stamp of the last good drive state, ns; None before the first."""
        return self._before.stamp if self._before is not None else None

    @property
    def shown(self) -> State:
        """The state as told: READY only once the drive stage runs and a press may come."""
        waits = self.state is State.READY and not self.drive_runs
        return State.STARTING if waits else self.state

    def on_state(self, sample: Sample, steady: float) -> Decision:
        """Judge one drive state, at steady time `steady` (s)."""
        before, waits = self.state, list[str]()
        if self._before is not None and sample.boot_id != self._before.boot_id:
            self._track.clear()
        view = self._view(sample, steady)
        good = bad_data(view) is None
        if good:
            self._track.add(sample, self.commanded)
        # good data is judged by all other rules, bad data by its own alone
        if self._sorted[0] is not self.rules:
            alone = tuple(rule for rule in self.rules if rule.check is bad_data)
            others = tuple(rule for rule in self.rules if rule.check is not bad_data)
            self._sorted = self.rules, others, alone
        broken = []
        for rule in self._sorted[1 if good else 2]:
            text = _judge(rule, view)
            if text:
                broken.append((rule, text))
        self._broken = [f"{rule.name}: {text}" for rule, text in broken]
        if self.state is State.STARTING:
            waits = [*self._broken, *self._about_to_move()]
            self._healthy = 0 if waits else self._healthy + 1
            if self._healthy >= START_STATES:
                self.state = State.READY
        elif self.state in (State.READY, State.MOVING):
            for rule, text in broken:
                self._latch(rule.name, text, rule.category)
        else:
            for rule, text in broken:
                self._also(f"{rule.name}: {text}", rule.name, rule.category)
        if self.state in (State.READY, State.MOVING):
            self.state = State.MOVING if self._is_moving(sample) else State.READY
        self.waiting = waits if self.state is State.STARTING else []
        self._granted = self.state in (State.READY, State.MOVING)
        resting = self.state is State.STOPPED and self._session is None
        if resting and not self._is_moving(sample):
            self._track.pressing = 0.0
        if good:
            self._before = sample
        self._ran = sample.stage == Stage.RUNNING
        return Decision(self.state, self._granted, self.category, self.state is not before)

    def _about_to_move(self) -> list[str]:
        """What would move at once if permission were given."""
        up = (self.commanded > UPWARD) & (self.ceiling > 0.0)
        if not np.count_nonzero(up):
            return []
        name = self.layout.names[int(np.argmax(up))]
        return [
            f"drive command: {name} is commanded upward; allowed: nothing is before permission"
        ]

    def _gone(self, node: str, sample: Sample) -> bool:
        """Whether a node that is not needed has not been heard for long."""
        ago = (sample.cycle - self._beats[node][0]) * self.layout.cycle
        return node not in self.required and ago > RESTING_TIMEOUT

    def _view(self, sample: Sample, steady: float) -> View:
        held, heard = self._hand if self._hand else (False, None)
        held, self._let_go = held and not self._let_go, False
        for node in [node for node in self._beats if self._gone(node, sample)]:
            for about in (self._beats, self._checksums, self._unhealthy):
                about.pop(node, None)
        ages = {}
        for node in self.required:
            beat = self._beats.get(node)
            ages[node] = (
                min(self._age(beat[0], sample), steady - beat[1]) if beat else float("inf")
            )
        return View(
            layout=self.layout,
            trip_limit=self.trip_limit,
            region_limit=self.region_limit,
            now=sample,
            before=self._before,
            track=self._track,
            hand_held=held,
            hand_age=self._age(heard, sample),
            heartbeat_age=ages,
            unhealthy=self._unhealthy,
            resting=self.state is State.READY,
            granted=self._granted,
            was_running=self._ran,
            excluded=self.excluded,
            publishers=self.publishers,
            checksum=self.layout.checksum,
            checksums=self._checksums,
            guarding_time=0.0 if self._guarding is None else self._age(self._guarding, sample),
            session_time=0.0 if self._session is None else self._age(self._session, sample),
            longest=self.longest,
            took=self.took,
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
            np.count_nonzero(sample.position > low + MOVING_HEIGHT)
            or np.count_nonzero(sample.force > MOVING_FORCE)
        )

    def _latch(self, name: str, text: str, category: Category) -> None:
        if self.state is State.STOPPED:
            self._also(f"{name}: {text}", name, category)
            return
        self.state, self.cause, self.detail, self.category = State.STOPPED, name, text, category
        self.later.clear()
        self.stops += 1
        self._granted = False

    def _also(self, text: str, name: str, category: Category) -> None:
        """Keep a later cause; the most restrictive category wins."""
        self.category = max(self.category, category, key=RESTRICTS.__getitem__)
        known = [self.cause, *(item.split(":")[0] for item in self.later)]
        if name not in known:
            self.later.append(text)


def _judge(rule: Rule, view: View) -> str | None:
    try:
        return rule.check(view)
    except Exception as error:  # a rule that cannot judge is a stop, never a pass
        return f"the rule itself failed: {error}"
