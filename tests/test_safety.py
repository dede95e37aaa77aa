"""The supervisor without ROS: every rule, every state and event, and no false stop."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mats import MAT, ROOT
from spinemat.drive import Category, Stage
from spinemat.drive_track import Sample
from spinemat.errors import InvalidInput
from spinemat.layout import load_layout
from spinemat.rules import HOLD_TIME, RULES, Rule, region_limits
from spinemat.safety import START_STATES, State, Supervisor
from spinemat_safety.evidence import AROUND, Evidence
from spinemat_sim.calm import FalseStop, SupervisedLoop, spend_time
from spinemat_sim.patient_file import presets
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.urdf import plain_urdf

LAYOUT = load_layout(MAT)
N, LOW = LAYOUT.n, LAYOUT.finger.stroke[0]
K = 10  # r06_left


def sample(at: int, **fields: Any) -> Sample:
    """A drive state; the motor carries spring and load of every finger that is not down."""
    values: dict[str, Any] = {
        "cycle": at,
        "stamp": at * 4_000_000,
        "boot_id": "a",
        "position": np.full(N, LOW),
        "velocity": np.zeros(N),
        "force": np.zeros(N),
        "temperature": np.full(N, 25.0),
        "status": np.zeros(N, dtype=np.int64),
        "stage": int(Stage.RUNNING),
    } | fields
    position, force = values["position"], values["force"]
    if position.shape == force.shape == (N,):
        f, height = LAYOUT.finger, position - LOW
        motor = (force + f.return_preload + f.return_stiffness * height) / f.force_constant
        values.setdefault("current", np.where(height > 0.0, motor, 0.0))
    values.setdefault("current", np.zeros(N))
    return Sample(**values)


def only(value: float, rest: float = 0.0, finger: int = K) -> np.ndarray:
    array = np.full(N, rest)
    array[finger] = value
    return array


def by_region(neck: float, thoracic: float, lumbar: float) -> np.ndarray:
    force = {"neck": neck, "thoracic": thoracic, "lumbar": lumbar}
    return np.array([force[r] for r in LAYOUT.regions])


class Drive:
    """A supervisor, and drive states with whatever is wrong with them."""

    def __init__(self, rules: tuple[Rule, ...] = RULES) -> None:
        self.supervisor = Supervisor(LAYOUT, required=("finger_actuation",), rules=rules)
        self.cycle = 0
        self.held, self.beating = True, True
        self.run(START_STATES + 2)
        assert self.supervisor.state is State.READY

    def run(self, cycles: int = 1, changing: Callable[[int], dict[str, Any]] | None = None,
            **fields: Any) -> None:  # fmt: skip
        s = self.supervisor
        for i in range(cycles):
            self.cycle += 1
            s.hand(self.held, self.cycle)
            if self.beating:
                s.heartbeat("finger_actuation", self.cycle, 0.0, True, "", LAYOUT.checksum)
            before = s.state
            self.last = sample(self.cycle, **(fields | (changing(i) if changing else {})))
            decision = s.on_state(self.last, self.cycle * LAYOUT.cycle)
            assert decision.granted is (s.state in (State.READY, State.MOVING))
            if before is State.STOPPED:
                assert s.state is State.STOPPED, "a stop latches"


def press(d: Drive, force: np.ndarray, cycles: int = 1, height: float = 0.005) -> None:
    """Carry a force on the fingers that have one, having gone there slowly."""
    up = np.where(force > 0.0, height, LOW)
    d.run(30, lambda i: {"position": LOW + (up - LOW) * (i + 1) / 30})
    load = np.linspace(0.01, 1.0, 100)
    d.run(100, lambda i: {"position": up + 5e-5 * force * load[i], "force": force * load[i]})
    d.run(20 + cycles, position=up + 5e-5 * force, force=force)


def excluded(d: Drive) -> None:
    d.supervisor.excluded[K] = True
    d.run(60, lambda i: {"position": only(LOW + 0.0001 * i, LOW)})


def left(d: Drive) -> None:
    four = only(0.0)
    four[8:12] = 5.0
    press(d, four)
    d.supervisor.commanded[8:12] = 0.005
    d.run(20, position=np.where(four > 0.0, 0.005, LOW))


def commanded(d: Drive, velocity: float, height: float) -> None:
    press(d, only(1e-6), height=height)
    d.supervisor.commanded[K] = velocity
    d.run(100, position=only(height, LOW))


def silent(d: Drive) -> None:
    d.beating = False
    d.run(300)


def let_go(d: Drive) -> None:
    d.held = False
    d.run(1)


def called(name: str, *values: Any) -> Callable[[Drive], None]:
    def scenario(d: Drive) -> None:
        getattr(d.supervisor, name)(*values)
        d.run(300)

    return scenario


def changed(**fields: Any) -> Callable[[Drive], None]:
    return lambda d: d.run(1, **fields)


def set_to(name: str, value: Any) -> Callable[[Drive], None]:
    def scenario(d: Drive) -> None:
        setattr(d.supervisor, name, value)
        d.run(1)

    return scenario


def pressed_long(d: Drive) -> None:
    d.supervisor._track.pressing = 1801.0
    d.run(1)


def tilted(d: Drive) -> None:
    force = only(3.0)
    force[K + 1] = 3.0
    press(d, force)
    up = np.where(force > 0.0, 0.005, LOW)
    d.run(60, lambda i: {"position": up + only(0.0005 * i), "force": force})


def frozen_encoder(d: Drive) -> None:
    press(d, only(2.0))
    d.run(300, lambda i: {"position": only(0.005, LOW), "force": only(7.0 - 5 * np.cos(i / 50))})


def load_cell(change: Callable[[float], float]) -> Callable[[Drive], None]:
    """The load cell says something else than the motor, which carries 15 N."""

    def scenario(d: Drive) -> None:
        press(d, only(15.0))
        up = only(0.005, LOW)
        right = sample(1, position=up, force=only(15.0)).current
        d.run(100, position=up, force=only(change(15.0)), current=right)

    return scenario


def stuck_cell(d: Drive) -> None:
    press(d, only(3.0))
    d.run(300, lambda i: {"position": only(0.005 + 0.00001 * i, LOW), "force": only(3.0)})


SCENARIOS: list[tuple[str, Callable[[Drive], None]]] = [
    ("drive data", changed(force=only(np.nan))),
    ("drive data", changed(force=np.zeros(N - 1))),
    ("drive data", changed(position=only(np.inf, LOW))),
    ("drive order", changed(boot_id="b")),
    ("drive order", changed(stamp=10**12)),
    ("drive order", changed(cycle=3)),
    ("finger force", lambda d: press(d, only(31.0))),
    ("region force", lambda d: press(d, by_region(0.0, 23.0, 0.0))),
    ("total force", lambda d: press(d, by_region(14.9, 22.0, 17.0))),
    ("force rate", changed(force=only(12.0), position=only(LOW + 0.002, LOW))),
    ("pressure", lambda d: press(d, only(39.0, finger=0))),
    ("dwell", lambda d: press(d, only(12.0), round((HOLD_TIME + 0.1) / LAYOUT.cycle))),
    ("stroke", lambda d: d.run(100, lambda i: {"position": only(LOW + 0.001 * i, LOW)})),
    ("finger speed", changed(velocity=only(0.5))),
    ("temperature", changed(temperature=only(90.0, 25.0))),
    ("current", changed(current=only(3.0))),
    ("drive fault", changed(status=only(2.0).astype(np.int64))),
    ("load cell", load_cell(lambda force: force - 7.0)),
    ("load cell", load_cell(lambda force: force + 7.0)),
    ("load cell", lambda d: d.run(100, lambda i: {"force": only(0.1 * i)})),
    ("load cell", stuck_cell),
    ("encoder", lambda d: d.run(1, position=only(LOW + 0.004, LOW))),
    ("encoder", frozen_encoder),
    ("left-right", tilted),
    ("person left", left),
    ("following", lambda d: commanded(d, 0.03, 0.005)),
    ("following", lambda d: commanded(d, -0.08, 0.03)),
    ("excluded finger", excluded),
    ("hand control", let_go),
    ("heartbeat", silent),
    ("drive watchdog", changed(stage=int(Stage.RELEASING), stage_reason="no fresh command")),
    ("publishers", set_to("publishers", {"drive/command": 2})),
    ("configuration", called("heartbeat", "spine_contour", 60, 0.0, True, "", "other")),
    ("guarding", called("guarding", True, START_STATES)),
    ("session time", called("session", True, -1_000_000)),
    ("pressing time", pressed_long),
    ("overrun", set_to("took", (0.2, 0.2))),
]


@pytest.mark.parametrize(("rule", "scenario"), SCENARIOS, ids=[r for r, _ in SCENARIOS])
def test_every_rule_is_the_first_cause_of_its_own_case(
    rule: str, scenario: Callable[[Drive], None]
) -> None:
    d = Drive()
    scenario(d)
    s = d.supervisor
    assert (s.state, s.cause) == (State.STOPPED, rule)
    assert "allowed" in s.detail or rule in ("hand control", "drive order", "drive watchdog")
    assert s.category is next(r.category for r in RULES if r.name == rule)
    mutant = Drive(tuple(r for r in RULES if r.name != rule))
    scenario(mutant)
    assert mutant.supervisor.cause != rule, "the case has to need its rule"


def test_no_rule_is_without_a_case() -> None:
    assert {r.name for r in RULES} == {name for name, _ in SCENARIOS}
    assert len({r.name for r in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.limit and rule.source and rule.hazard


def test_a_rule_that_cannot_judge_is_a_stop() -> None:
    def broken(_view: Any) -> str | None:
        raise ZeroDivisionError

    d = Drive()
    d.supervisor.rules = (Rule("broken", "none", "test", "none", broken),)
    d.run(1)
    assert d.supervisor.cause == "broken" and "the rule itself failed" in d.supervisor.detail


def test_later_causes_are_kept_and_the_first_stays() -> None:
    d = Drive()
    d.run(1, temperature=only(90.0, 25.0))
    d.run(1, current=only(3.0))
    d.held = False
    d.run(1)
    s = d.supervisor
    assert s.cause == "temperature"
    assert [text.split(":")[0] for text in s.later] == ["current", "hand control"]
    done, message = s.reset("test", "too early")
    assert not done and "hand control" in message
    assert s.category is Category.RELEASE_AND_POWER_OFF


def test_a_silent_hand_control_stops() -> None:
    d = Drive()
    for cycle in range(d.cycle + 1, d.cycle + 40):
        d.supervisor.heartbeat("finger_actuation", cycle, 0.0, True, "", "")
        d.supervisor.on_state(sample(cycle), 0.0)
    assert (d.supervisor.state, d.supervisor.cause) == (State.STOPPED, "hand control")


@pytest.mark.parametrize(("force", "longest"), [(0.0, 1.0), (5.0, 0.25)])
def test_a_node_may_be_silent_for_longer_while_nothing_moves(force: float, longest: float) -> None:
    d = Drive()
    if force > 0.0:
        press(d, only(force))
    d.beating = False
    silent = round(longest / LAYOUT.cycle)
    last = d.last
    d.run(silent - 1, position=last.position, force=last.force)
    assert d.supervisor.state is not State.STOPPED
    d.run(3, position=last.position, force=last.force)
    assert (d.supervisor.state, d.supervisor.cause) == (State.STOPPED, "heartbeat")
    d.run(1)
    done, message = d.supervisor.reset("test", "all fingers are down")
    assert not done and "finger_actuation silent" in message


def test_a_repeated_heartbeat_is_none() -> None:
    d = Drive()
    d.beating = False
    for _ in range(260):
        d.supervisor.heartbeat("finger_actuation", START_STATES, 0.0, True, "", LAYOUT.checksum)
        d.run()
    assert (d.supervisor.state, d.supervisor.cause) == (State.STOPPED, "heartbeat")


def test_what_was_heard_before_the_drive_counted_anew_is_stale() -> None:
    s = Supervisor(LAYOUT, required=("finger_actuation",))
    for cycle in range(1000, 1100):
        s.hand(True, cycle)
        s.heartbeat("finger_actuation", cycle, 0.0, True, "")
        s.on_state(sample(cycle), 0.0)
    assert s.state is State.READY
    s.on_state(sample(1, boot_id="b"), 5.0)
    for cycle in range(2, 20):
        s.on_state(sample(cycle, boot_id="b"), 5.0)
    done, message = s.reset("test", "the drive is back")
    assert not done
    assert "hand control: silent" in message
    assert "finger_actuation silent" in message


def test_an_earlier_stop_outlives_a_restart() -> None:
    s = Supervisor(LAYOUT, latched="stopped before the restart")
    for cycle in range(1, 200):
        s.hand(True, cycle)
        assert not s.on_state(sample(cycle), 0.0).granted
    assert s.reset("test", "looked at")[0]


def test_a_hand_that_lets_go_is_not_overruled_before_the_drive_is_judged() -> None:
    d = Drive()
    d.supervisor.hand(False, d.cycle)
    d.run()  # somebody says "held" once more
    assert (d.supervisor.state, d.supervisor.cause) == (State.STOPPED, "hand control")


def test_no_reset_while_the_drive_is_silent() -> None:
    d = Drive()
    d.supervisor.stalled(3.0)
    done, message = d.supervisor.reset("test", "test", silent=3.0)
    assert not done and "no drive state for 3.0 s" in message
    assert d.supervisor.state is State.STOPPED
    d.run()
    assert d.supervisor.reset("test", "test", silent=0.01)[0]


def test_no_permission_while_a_command_would_lift_a_tip_at_once() -> None:
    d = Drive()
    s = d.supervisor
    s.stop("test")
    d.run()
    s.commanded[K], s.ceiling[K] = 0.002, 5.0
    assert s.reset("test", "test")[0]
    d.run(4 * START_STATES)
    assert s.state is State.STARTING
    assert any("r06_left is commanded upward" in text for text in s.waiting)
    s.ceiling[K] = 0.0  # unpowered
    d.run(START_STATES + 1)
    assert s.state is State.READY


@pytest.mark.parametrize("in_session", [True, False])
def test_after_too_much_pressing_and_a_rest_the_mat_can_be_reset(in_session: bool) -> None:
    d = Drive()
    s = d.supervisor
    s.longest = 3600.0, 0.2
    if in_session:
        s.session(True, d.cycle)
    press(d, only(5.0))
    assert (s.state, s.cause) == (State.STOPPED, "pressing time")
    d.run()
    if in_session:
        assert not s.reset("test", "test")[0], "the session goes on"
        s.session(False, d.cycle)
    d.run(2)
    assert s.reset("test", "test")[0]
    d.run(START_STATES + 1)
    assert s.state is State.READY


def test_limits_lowered_after_a_session_hold_for_the_next() -> None:
    d = Drive()
    s = d.supervisor
    s.session(True, d.cycle)
    s.lower(mass=50.0)
    d.run(1, position=only(LOW + 0.0025, LOW))  # moves
    s.session(False, d.cycle)
    d.run(1)
    assert s.state is State.READY
    s.lower(mass=90.0)
    assert s.region_limit == region_limits(90.0), "those of the session before are over"
    s.session(False, d.cycle)  # an old word of the session that is over
    assert s.region_limit == region_limits(90.0)


def test_a_complaint_of_a_node_that_is_not_needed_ends_with_it() -> None:
    d = Drive()
    d.supervisor.heartbeat("somebody", d.cycle, 0.0, False, "ill", "another mat")
    d.run()
    assert d.supervisor.state is State.STOPPED
    assert not d.supervisor.reset("test", "test")[0]
    d.run(300)
    assert d.supervisor.reset("test", "test")[0]


def test_limits_only_go_down_until_the_next_session() -> None:
    d = Drive()
    s = d.supervisor
    s.session(True, d.cycle)
    s.lower(np.full(N, 12.0), 60.0)
    s.lower(np.full(N, 100.0), 120.0)
    assert s.trip_limit.max() == 12.0
    assert s.region_limit == region_limits(60.0)
    s.session(True, d.cycle)
    assert s.trip_limit.max() == 12.0, "the same session"
    bad: list[tuple[Any, Any, str]] = [
        (np.full(N, -1.0), None, "force"),
        (np.ones(3), None, "force"),
        (None, np.nan, "mass"),
        (np.full(N, 5.0), 500.0, "mass"),
    ]
    for limit, mass, field in bad:
        with pytest.raises(InvalidInput, match=field):
            s.lower(limit, mass)
    assert s.trip_limit.max() == 12.0, "nothing of a refused call is taken"
    press(d, only(11.0))
    s.session(False, d.cycle)
    assert s.trip_limit.max() == 12.0, "never while fingers move"
    top = d.last.position
    d.run(60, lambda i: {"position": LOW + (top - LOW) * (59 - i) / 60})
    s.session(False, d.cycle)
    assert s.trip_limit.max() == LAYOUT.trip_limit.max()


# --- every state, every event --------------------------------------------------------------------


def _reach(state: State) -> Drive:
    d = Drive()
    if state is State.MOVING:
        press(d, only(5.0))
    elif state is not State.READY:
        d.supervisor.stop("test")
        d.run(1)
        if state is State.STARTING:
            assert d.supervisor.reset("test", "test")[0]
    d.run(1, position=d.last.position, force=d.last.force)
    assert d.supervisor.state is state
    return d


EVENTS: dict[str, Callable[[Drive], object]] = {
    **{f"{name} #{i}": scenario for i, (name, scenario) in enumerate(SCENARIOS)},
    "a healthy state": lambda d: d.run(1, position=d.last.position, force=d.last.force),
    "stop": lambda d: (d.supervisor.stop("test"), d.run(1)),
    "drive silent": lambda d: (d.supervisor.stalled(3.0), d.run(1)),
    "reset": lambda d: d.supervisor.reset("test", "test"),
    "reset by nobody": lambda d: d.supervisor.reset("", "test"),
    "limits lowered": lambda d: d.supervisor.lower(np.full(N, 5.0), 50.0),
    "session begins": lambda d: d.supervisor.session(True, d.cycle),
    "session ends": lambda d: d.supervisor.session(False, d.cycle),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, EVENTS)))
def test_every_state_with_every_event(state: State, event: str) -> None:
    d = _reach(state)
    s, limit = d.supervisor, d.supervisor.trip_limit.copy()
    fault = "#" in event
    EVENTS[event](d)
    if state is State.STOPPED:
        allowed = {State.STARTING} if event == "reset" else {State.STOPPED}
    elif state is State.STARTING:
        allowed = {State.STARTING, State.STOPPED} if fault else {State.STARTING}
        allowed = {State.STOPPED} if event == "stop" else allowed
    elif fault or event in ("stop", "drive silent"):
        allowed = {State.STOPPED}
    else:
        allowed = {State.READY, State.MOVING}
    assert s.state in allowed
    if s.state is State.STOPPED:
        assert s.cause
        d.run(1)
        assert s.state is State.STOPPED
    assert (s.trip_limit <= limit).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_sequence_of_events_moves_without_permission(seed: int) -> None:
    """2000 random events each: 100 000 steps in a run of the tests."""
    rng = np.random.default_rng(seed)
    s = Supervisor(LAYOUT)
    cycle, reset, session = 0, True, False
    odds = {"healthy": 0.86, "up": 0.03, "force": 0.01, "nan": 0.01, "hand": 0.01, "gap": 0.01,
            "stop": 0.01, "reset": 0.03, "stalled": 0.01, "lower": 0.01, "session": 0.005,
            "guarding": 0.005}  # fmt: skip
    up = False
    for event in rng.choice(list(odds), 2000, p=list(odds.values())):
        before, limit = s.state, s.trip_limit.copy()
        cycle += 2 if event == "gap" else 1
        s.hand(event != "hand", cycle)
        force = np.zeros(N)
        if event == "force":
            force[int(rng.integers(N))] = rng.uniform(0.0, 60.0)
        elif event == "nan":
            force[int(rng.integers(N))] = np.nan
        elif event == "lower":
            s.lower(rng.uniform(1.0, 60.0, N))
            session = True  # what was lowered outside of one holds until one has ended
        elif event == "up":
            up = not up
        elif event == "session":
            session = not session
            s.session(session, cycle)
        elif event == "guarding":
            s.guarding(bool(rng.integers(2)), cycle)
        elif event == "stop":
            s.stop("test")
        elif event == "stalled":
            s.stalled(3.0)
        elif event == "reset":
            done, _ = s.reset("test", "test")
            assert not done or before is State.STOPPED
            reset = reset or done
        height = np.full(N, LOW + 0.0025 * (up and s.state is not State.STOPPED))
        decision = s.on_state(sample(cycle, force=force, position=height), 0.0)
        if session:
            assert (s.trip_limit <= limit).all()
        assert decision.granted is (s.state in (State.READY, State.MOVING))
        if decision.granted:
            assert reset, "only a reset leads out of STOPPED"
        if s.state is State.STOPPED:
            reset = False
            assert s.cause
        elif before is State.STOPPED:
            assert s.state is State.STARTING and event == "reset"
        if event in ("nan", "gap", "hand", "stop") and before in (State.READY, State.MOVING):
            assert s.state is State.STOPPED


# --- the plant ----------------------------------------------------------------------------------


def test_no_false_stop_in_scan_and_treatment() -> None:
    found = spend_time(LAYOUT, presets()["small_elder"], seed=3, seconds=30.0)
    assert found.stop == ""
    assert found.seconds >= 30.0 and found.presses > 0


def test_a_stop_in_the_closed_loop_is_noticed() -> None:
    person = lie_down(presets()["desk_worker_45"])
    loop = SupervisedLoop(Plant(LAYOUT, person, plain_urdf(LAYOUT), 0))
    loop.held = False
    with pytest.raises(FalseStop, match="hand control"):
        for _ in range(START_STATES):
            loop.step()


# --- evidence -----------------------------------------------------------------------------------


def test_the_log_keeps_every_cause_and_the_drive_around_a_stop(tmp_path: Path) -> None:
    complaints: list[str] = []
    log = Evidence(tmp_path / "state", LAYOUT.cycle, complaints.append)
    for cycle in range(1, 2001):
        log.keep(sample(cycle, force=only(cycle / 100)))
    log.note("stop", sample(2000), State.MOVING, State.STOPPED, cause="dwell", detail="too long")
    log.keep(sample(2001, force=np.zeros(3)))  # what cannot be stacked is left out
    for cycle in range(2002, 4000):
        log.keep(sample(cycle))
    log.note("reset", None, State.STOPPED, State.STARTING, detail="by me")
    log.close()
    lines = (tmp_path / "state/safety_events.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["kind"], first["cause"], first["limit"]) == ("stop", "dwell", "10 N for 6 s")
    assert (first["before"], first["after"], first["stamp"]) == ("MOVING", "STOPPED", 8.0)
    assert second["kind"] == "reset"
    kept = np.load(tmp_path / "state" / first["drive_states"])
    around = round(AROUND / LAYOUT.cycle)
    assert kept["cycle"][0] == 2001 - around and kept["cycle"][-1] == 2000 + around
    assert kept["force"].shape == (len(kept["cycle"]), N)
    assert kept["force"][kept["cycle"] == 2000, K] == 20.0
    assert not complaints


def test_a_state_that_cannot_be_stacked_does_not_hide_those_before_it(tmp_path: Path) -> None:
    log = Evidence(tmp_path, LAYOUT.cycle, pytest.fail)
    for cycle in range(1, 11):
        log.keep(sample(cycle))
    log.keep(sample(11, force=np.zeros(N - 1)))
    log.note("stop", sample(11), State.MOVING, State.STOPPED, cause="drive data", detail="short")
    log.close()
    (path,) = tmp_path.glob("stop-*.npz")
    assert np.load(path)["cycle"].tolist() == list(range(1, 11))


def test_what_came_before_a_stop_is_written_at_once(tmp_path: Path) -> None:
    log = Evidence(tmp_path, LAYOUT.cycle, pytest.fail)
    for cycle in range(1, 11):
        log.keep(sample(cycle))
    log.note("stop", sample(10), State.MOVING, State.STOPPED, cause="dwell", detail="too long")
    log._writer.shutdown()  # as if the supervisor died after its stop
    (path,) = tmp_path.glob("stop-*.npz")
    assert np.load(path)["cycle"].tolist() == list(range(1, 11))


def test_a_log_that_cannot_be_written_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    complaints: list[str] = []
    log = Evidence(tmp_path / "state", LAYOUT.cycle, complaints.append)
    log.keep(sample(1))
    log.note("stop", sample(1), State.MOVING, State.STOPPED, cause="dwell", detail="too long")
    log.close()
    assert "the safety log cannot be written" in complaints[0]
    assert all("cannot be written" in text for text in complaints)
    assert len(complaints) == 3, "the line, what came before the stop, and all of it"


# --- the document -------------------------------------------------------------------------------


def test_the_safety_document_tells_of_every_rule_and_of_tests_that_exist() -> None:
    text = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and "`test_" in line
    ]
    told = [tuple(row[:4]) for row in rows]
    assert told == [(r.name, r.hazard, r.limit, r.source) for r in RULES]
    for row, rule in zip(rows, RULES, strict=True):
        assert row[4].replace(" ", "_").upper() == rule.category.name
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").glob("test_*.py"))
    for name in set(re.findall(r"`(test_\w+)`", text)):
        assert f"def {name}(" in code
