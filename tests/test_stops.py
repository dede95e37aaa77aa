"""What is lost in a press or a session: every loss releases, latches, and nothing resumes."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from std_srvs.srv import SetBool

from graphs import DOWN, LAYOUT, PAIR, RELEASED, Mat, running, session_goal
from mats import MAT
from spinemat.drive import Stage
from spinemat_bringup.client import MatClient
from spinemat_bringup.graph import GraphOptions, describe
from spinemat_interfaces.action import Retract, RunSession, ScanSpine
from spinemat_interfaces.msg import (
    ComfortReport,
    Contour,
    Event,
    FingerState,
    SafetyState,
    SessionPlan,
    SessionState,
)
from spinemat_interfaces.srv import Adjust, ConfirmPlan, LowerLimits
from spinemat_ros.codec import doubles, floats, seconds, uint16s
from spinemat_ros.node import publisher

pytestmark = pytest.mark.graph

LUMBAR = [4, 5]  # r03_left, r03_right


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mat]:
    with running(tmp_path_factory.mktemp("stops")) as mat:
        yield mat


@pytest.fixture
def mat(shared: Mat) -> Mat:
    shared.safe()
    shared.retracted()
    shared.truth[:-1] = []
    return shared


@pytest.fixture(scope="module")
def heard(shared: Mat) -> list[FingerState]:
    """Every state of the fingers."""
    states: list[FingerState] = []
    shared.client.listen("fingers/state", states.append)
    return states


# --- goals side by side, and changed while they run --------------------------------------------


def test_two_presses_side_by_side_reach_their_forces(mat: Mat) -> None:
    thorax = mat.begin(rate=1.0, duration=8.0, mass=75.0)
    loins = mat.begin(
        fingers=uint16s(LUMBAR), preload=doubles([3.0, 3.0]), amplitude=doubles([10.0, 10.0]),
        rate=1.0, duration=4.0, mass=75.0,
    )  # fmt: skip
    mat.client.wait(lambda: mat.force[LUMBAR].min() > 2.0, 30.0, "contact")
    refused = mat.press(fingers=uint16s([12, 5]))
    assert not refused.success
    assert "r03_right, pressed by another goal" in refused.message
    mat.client.wait(lambda: thorax.done and loins.done, 60.0, "both presses")
    for goal, force in ((thorax, 10.0), (loins, 13.0)):
        assert goal.result.success, goal.result.message
        assert goal.result.peak_force == pytest.approx([force, force], abs=1.0)
    force = np.array([m.force for m in mat.truth])
    assert force[:, PAIR].max(axis=0) == pytest.approx([10.0, 10.0], abs=1.0)
    assert force[:, LUMBAR].max(axis=0) == pytest.approx([13.0, 13.0], abs=1.0)
    both = (force[:, PAIR + LUMBAR] > 5.0).all(axis=1)
    assert both.sum() * LAYOUT.cycle > 0.5, "they have to press at the same time"
    assert np.delete(force, PAIR + LUMBAR, axis=1).max() < 0.1


def test_fingers_are_adjusted_by_region_while_they_press(mat: Mat) -> None:
    turns = [0.0]
    press = mat.begin(
        lambda f: turns.append(f.turn), fingers=uint16s(PAIR + LUMBAR),
        preload=doubles([2.0] * 4), amplitude=doubles([8.0] * 4), rate=1.0, mass=75.0,
    )  # fmt: skip

    def adjust(*regions: str) -> Any:
        request = Adjust.Request(strength=math.nan, rate=math.nan, regions=list(regions))
        return mat.client.call(Adjust, "fingers/adjust", request)

    def turn() -> np.ndarray:
        """Let changes fade in, then return the true forces of one turn, (m, 4)."""
        for pause in (0.8, 1.1):
            mat.truth[:-1] = []
            end = turns[-1] + pause
            mat.client.wait(lambda end=end: turns[-1] > end, 60.0, "rhythm")  # type: ignore[misc]
        return np.array([m.force for m in mat.truth])[:, PAIR + LUMBAR]

    mat.client.wait(lambda: turns[-1] > 0.0, 60.0, "rhythm")
    refused = adjust("elbow")
    assert not refused.success and "elbow" in refused.message
    for region, pressing, resting in (("thoracic", [0, 1], [2, 3]), ("lumbar", [2, 3], [0, 1])):
        assert adjust(region).success
        force = turn()
        assert force[:, pressing].max(axis=0) == pytest.approx([10.0, 10.0], abs=1.0)
        assert force[:, resting] == pytest.approx(2.0, abs=0.8)
    assert adjust("thoracic", "lumbar").success
    assert turn().max(axis=0) == pytest.approx([10.0] * 4, abs=1.0)
    down = mat.client.act(Retract, "fingers/retract", Retract.Goal(), lambda f: None, lambda: True)
    assert down.success
    mat.client.wait(lambda: press.done, 30.0, "result")
    assert press.result.message == "a retraction took its fingers"


# --- what the supervisor notices ---------------------------------------------------------------


def test_a_second_controller_is_a_stop(mat: Mat) -> None:
    press = mat.begin()
    mat.client.wait(lambda: press.done or mat.loaded(), 60.0, "press")
    assert not press.done, f"{press.result.message}: {mat.client.safety}"
    with MatClient("/mat") as other:
        publisher(other._node, "drive/command")
        mat.stopped()
        assert mat.client.safety.cause == "publishers"
        assert "drive/command has 2 publishers" in mat.client.safety.detail
        mat.retracted()
        refused, message = mat.client.reset("test", "the other is still there")
        assert not refused and "publishers" in message
    mat.client.wait(lambda: press.done, 30.0, "result")
    assert not press.result.success


# --- losses -------------------------------------------------------------------------------------


class Loss(NamedTuple):
    """Something that is lost in a press, how it comes back, and the rules that may latch."""

    begin: Callable[[Mat], object]
    end: Callable[[Mat], object]
    rules: tuple[str, ...]
    words: str  # of the first rule
    latches_at_once: bool = True  # not if the supervisor itself is lost
    reason: str = "the drive stage released the fingers"  # of the goal; "": nobody can say


def _lose_drive_state(mat: Mat, lost: bool) -> None:
    mat.client.call(SetBool, "mat_simulator/lose_drive_state", SetBool.Request(data=lost))


def _restart(mat: Mat, name: str) -> None:
    mat.processes.restart(name)
    mat.client.bring_up([spec for spec in describe(GraphOptions(MAT)) if spec.name == name])


# a busy machine may keep the supervisor from hearing every state while the drive lets go
DRIVE = ("drive watchdog", "drive order", "drive silent")
LOSSES = {
    "drive state": Loss(
        lambda mat: _lose_drive_state(mat, True),
        lambda mat: _lose_drive_state(mat, False),
        ("drive silent",),
        "no drive state for",
    ),
    "controller frozen": Loss(
        lambda mat: mat.processes.freeze("finger_actuation"),
        lambda mat: mat.processes.thaw("finger_actuation"),
        DRIVE,
        "no fresh command",
    ),
    "supervisor killed": Loss(
        lambda mat: mat.processes.kill("safety_supervisor"),
        lambda mat: mat.processes.restart("safety_supervisor"),
        ("restart",),
        "ended without shutting down",
        latches_at_once=False,
        reason="the drive stage released the fingers: no fresh permit",
    ),
    "supervisor ended properly": Loss(
        lambda mat: mat.processes.kill("safety_supervisor", signal.SIGTERM),
        lambda mat: mat.processes.restart("safety_supervisor"),
        ("restart",),
        "or while fingers moved",
        latches_at_once=False,
        reason="the drive stage released the fingers: no fresh permit",
    ),
    "controller killed": Loss(
        lambda mat: mat.processes.kill("finger_actuation"),
        lambda mat: _restart(mat, "finger_actuation"),
        DRIVE,
        "no fresh command",
        reason="",
    ),
}


def _cycle(message: FingerState | Event) -> int:
    return round(seconds(message.header.stamp) / LAYOUT.cycle)


def _touched(heard: list[FingerState]) -> bool:
    return bool(heard) and all(np.array(heard[-1].contact)[PAIR])


def _nothing_moves(mat: Mat, since: int) -> None:
    """From `since` on, and 100 cycles under power after a reset, every finger stays down."""
    mat.safe()
    mat.client.wait(lambda: mat.truth[-1].stage == int(Stage.RUNNING), 30.0, "drive stage")
    mat.cycles(100)
    after = [m for m in mat.truth if m.cycle > since]
    assert max(max(m.position) for m in after) < DOWN
    assert max(max(m.force) for m in after) < RELEASED


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_in_a_press_releases_every_finger_and_nothing_resumes(
    mat: Mat, heard: list[FingerState], name: str
) -> None:
    c, loss = mat.client, LOSSES[name]
    press = mat.begin()
    c.wait(lambda: press.done or mat.loaded(), 60.0, "press")
    assert not press.done, press.result.message
    late = mat.truth[-1].late_cycles
    loss.begin(mat)
    mat.retracted()
    down = mat.truth[-1].cycle
    silent = next(m.cycle for m in mat.truth if m.late_cycles > late)
    free = 1 + max(m.cycle for m in mat.truth if max(m.force) > RELEASED)
    acts = next(m.cycle for m in mat.truth if m.cycle >= silent and m.stage != Stage.RUNNING)
    # the drive's own watchdog is 25 cycles; then the springs pull the tips back
    assert (free - silent) * LAYOUT.cycle < 0.4
    assert (free - acts) * LAYOUT.cycle < 0.1
    if loss.latches_at_once:
        mat.stopped()
    del heard[:]
    loss.end(mat)
    mat.stopped()
    # a thawed node first says what it was about to say when it froze
    c.wait(lambda: bool(heard) and _cycle(heard[-1]) > down, 30.0, "fingers/state")
    assert c.safety.cause in loss.rules
    assert loss.words in c.safety.detail or c.safety.cause != loss.rules[0]
    if loss.reason:
        c.wait(lambda: press.done, 30.0, "result")
        assert not press.result.success
        assert loss.reason in press.result.message
    assert not any(heard[-1].mode) and not any(heard[-1].set_point), "set-points are dropped"
    _nothing_moves(mat, down)
    mat.safe()
    del heard[:]
    again = mat.begin()  # a new goal begins at what is felt, not where the old one was
    c.wait(lambda: again.done or _touched(heard), 60.0, "contact")
    assert not again.done, again.result.message
    first = next(m for m in heard if np.array(m.contact)[PAIR].any())
    assert floats(first.set_point)[PAIR].max() < 2.0
    again.cancel()
    c.wait(lambda: again.done, 30.0, "cancel")


def test_a_scan_ends_when_the_controller_was_started_anew(mat: Mat) -> None:
    c = mat.client
    goal = ScanSpine.Goal(sex="male", age=41.0, stature=1.756, mass=81.9)
    scan = c.send(ScanSpine, "scan_spine", goal)
    c.wait(lambda: scan.done or mat.force.max() > 1.0, 60.0, "contact")
    assert not scan.done, scan.result.message
    mat.processes.kill("finger_actuation")
    _restart(mat, "finger_actuation")
    c.wait(lambda: scan.done, 60.0, "result")
    assert not scan.result.success
    assert "fingers/press: the server" in scan.result.message  # is gone, or was started anew
    mat.retracted()
    mat.stopped()
    mat.safe()


@pytest.fixture(scope="module")
def planned(shared: Mat) -> tuple[Mat, list[SessionPlan]]:
    """A mat on which a session waits for its plan to be confirmed, and the plans it said."""
    c = shared.client
    plans: list[SessionPlan] = []
    c.listen("plan", plans.append)
    shared.safe()
    shared.retracted()
    record = yaml.safe_load((MAT.parent / "persons/degeneration_45.yaml").read_text())
    goal = session_goal()
    record["measures"] = {n: getattr(goal, n) for n in ("sex", "age", "stature", "mass")}
    asked = RunSession.Goal(person=yaml.safe_dump(record), programme="demo", confirm=True)
    c.send(RunSession, "run_session", asked)
    c.wait(lambda: bool(plans), 120.0, "plan")
    return shared, plans


@pytest.fixture(scope="module")
def treated(planned: tuple[Mat, list[SessionPlan]]) -> Mat:
    """A mat on which a session treats somebody."""
    c = planned[0].client
    if planned[1][-1].waiting:
        assert c.call(
            ConfirmPlan, "confirm_plan", ConfirmPlan.Request(accept=True, by="c1")
        ).success
    c.wait(lambda: c.session.phase == SessionState.TREAT, 120.0, "TREAT")
    return planned[0]


def test_a_plan_says_why_and_waits_for_a_clinician(planned: tuple[Mat, list[SessionPlan]]) -> None:
    (mat, plans), c = planned, planned[0].client
    first = {dose.level: dose for dose in plans[0].levels}
    assert plans[0].waiting and len(first) == 24
    assert any("0.70" in why for why in first["L4"].why), "screening lowers a worn disc's level"
    assert any("low back" in note for note in plans[0].notes)
    c.wait(lambda: "confirm_plan" in c.session.detail, 20.0, "waiting")
    ask = ConfirmPlan.Request(accept=True, by="c1", reason="felt tender", levels=["L3"])
    ask.factors = doubles([9.0])
    refused = c.call(ConfirmPlan, "confirm_plan", ask)
    assert not refused.success and "factor" in refused.message and "9" in refused.message
    assert c.session.phase == SessionState.PLAN and mat.force.max() < RELEASED
    ask.factors = doubles([0.8])
    assert c.call(ConfirmPlan, "confirm_plan", ask).success
    c.wait(lambda: len(plans) > 1, 20.0, "the changed plan")
    after = {dose.level: dose for dose in plans[-1].levels}
    assert not plans[-1].waiting
    assert after["L3"].peak < first["L3"].peak
    assert any("felt tender" in why for why in after["L3"].why)


def test_what_hurt_before_the_treatment_is_not_pressed_in_it(
    planned: tuple[Mat, list[SessionPlan]],
) -> None:
    (mat, plans), c = planned, planned[0].client
    report = publisher(c._node, "comfort")
    c.wait(lambda: report.get_subscription_count() > 0, 20.0, "session_orchestrator")
    known = len(c.events)
    report.publish(ComfortReport(pain=7, place="L5"))
    c.wait(lambda: any(e.kind == "comfort" for e in c.events[known:]), 20.0, "comfort")
    if plans[-1].waiting:
        ask = ConfirmPlan.Request(accept=True, by="c1")
        assert c.call(ConfirmPlan, "confirm_plan", ask).success
    contours: list[Contour] = []
    c.listen("contour", contours.append)
    c.wait(lambda: bool(contours), 20.0, "contour")
    at = dict(zip(contours[-1].levels, contours[-1].level_x, strict=True))["L5"]
    row = int(np.abs(LAYOUT.row_x - at).argmin())
    states: list[FingerState] = []
    c.listen("fingers/state", states.append)
    c.wait(lambda: any(floats(m.set_point).max() > 4.0 for m in states[-1:]), 120.0, "a press")
    del states[:]
    mat.cycles(round(2.5 / LAYOUT.cycle))  # a whole wave
    pressed = np.max([floats(m.set_point) for m in states], axis=0)
    assert pressed[2 * row : 2 * row + 2].max() < 2.5 < 4.0 < pressed.max()


def test_a_report_of_pain_lowers_the_force_at_once_and_the_session_goes_on(treated: Mat) -> None:
    mat, c = treated, treated.client
    c.wait(lambda: mat.force.max() > 4.0, 60.0, "press")
    report = publisher(c._node, "comfort")
    c.wait(lambda: report.get_subscription_count() > 0, 20.0, "session_orchestrator")
    known = len(c.events)
    report.publish(ComfortReport(pain=11, place="L3"))
    c.wait(lambda: any(e.kind == "refused" for e in c.events[known:]), 20.0, "refusal")
    report.publish(ComfortReport(pain=5, place="lumbar"))
    c.wait(lambda: any(e.kind == "comfort" for e in c.events[known:]), 20.0, "comfort")
    said = next(e for e in c.events[known:] if e.kind == "comfort")
    assert json.loads(said.data)["action"].startswith("less force at")
    c.wait(lambda: mat.force.max() < 2.5, 30.0, "the press ends softly")
    c.wait(lambda: mat.force.max() > 3.0, 30.0, "and goes on")
    assert c.session.phase == SessionState.TREAT


def test_a_session_pauses_unloaded_and_goes_on(treated: Mat) -> None:
    mat, c = treated, treated.client
    c.wait(lambda: mat.force.max() > 4.0, 60.0, "press")
    assert c.adjust(0.5, math.nan)[0]
    assert not c.adjust(2.0, math.nan)[0], "never above the start"
    done, message = c.adjust(math.nan, math.nan, ["elbow"])
    assert not done and "regions: 'elbow'" in message and "lumbar" in message
    c.wait(lambda: mat.force.max() > 4.0, 30.0, "press")
    assert c.trigger("pause")[0]
    start = mat.truth[-1].cycle
    c.wait(lambda: mat.force.max() <= 2.0, 20.0, "unloading")
    # 0.5 s of drive time, and the way of the answer while time runs on
    assert (mat.truth[-1].cycle - start) * LAYOUT.cycle < 1.0
    c.wait(lambda: c.session.phase == SessionState.PAUSED, 20.0, "PAUSED")
    assert c.trigger("resume")[0]
    c.wait(lambda: c.session.phase == SessionState.TREAT, 20.0, "TREAT")
    c.wait(lambda: mat.force.max() > 4.0, 30.0, "pressing again")


def test_a_region_is_left_out_while_it_is_pressed_and_taken_back(treated: Mat) -> None:
    mat, c = treated, treated.client
    c.wait(lambda: mat.force.max() > 3.0, 60.0, "press")
    done, message = c.adjust(1.0, math.nan, ["neck"])
    assert done and message == "strength 100%, neck"
    # a wave stands still at its contact force, and later sets elsewhere are not begun at all
    neck = np.array([region == "neck" for region in LAYOUT.regions])
    c.wait(lambda: mat.force[~neck].max() < 3.0, 30.0, "the trunk rests")
    mat.truth[:-1] = []
    mat.cycles(round(2.5 / LAYOUT.cycle))
    assert max(np.array(m.force)[~neck].max() for m in mat.truth) < 3.5
    assert c.session.phase == SessionState.TREAT
    assert c.adjust(math.nan, math.nan, ["thoracic", "lumbar"])[0]
    c.wait(lambda: mat.force[~neck].max() > 4.0, 60.0, "the trunk is pressed again")


def test_the_session_node_killed_in_a_treatment_releases_every_finger(treated: Mat) -> None:
    mat, c = treated, treated.client
    c.wait(lambda: mat.force.max() > 4.0, 60.0, "press")
    mat.truth[:-1] = []
    known = len(c.events)
    mat.processes.kill("session_orchestrator")
    mat.stopped()
    mat.retracted()
    down = mat.truth[-1].cycle
    assert c.safety.cause == "heartbeat"
    assert "session_orchestrator" in c.safety.detail
    stop = next(e for e in c.events[known:] if e.severity == Event.STOP)
    latched = _cycle(stop)
    free = 1 + max(m.cycle for m in mat.truth if max(m.force) > RELEASED)
    assert (free - latched) * LAYOUT.cycle < 0.2
    said = [e.text for e in c.events[known:] if e.kind == "aborted"]
    assert said and "permit withdrawn" in said[0]
    refused, message = c.reset("test", "the session is still missing")
    assert not refused and "session_orchestrator silent" in message
    mat.processes.restart("session_orchestrator")
    _nothing_moves(mat, down)
    assert c.safety.state == SafetyState.READY
    c.wait(lambda: c.session.phase == SessionState.IDLE, 30.0, "IDLE")
    broken = [e for e in c.events[known:] if e.kind == "broken_off"]
    assert broken and "degeneration-45 was broken off in TREAT" in broken[0].text


# --- limits stay low until a session ends: nothing strong can be pressed after this --------------


def test_limits_are_lowered_and_every_stop_is_on_disk(mat: Mat) -> None:
    ask = LowerLimits.Request(mass=math.nan)
    ask.force = doubles(np.full(LAYOUT.n, 6.0))
    answer = mat.client.call(LowerLimits, "limits", ask)
    assert answer.success and "up to 6 N" in answer.message
    bad = LowerLimits.Request(mass=500.0)
    answer = mat.client.call(LowerLimits, "limits", bad)
    assert not answer.success and "mass" in answer.message and "35 to 165 kg" in answer.message
    press = mat.begin()
    mat.stopped()
    assert mat.client.safety.cause == "finger force"
    assert "allowed: up to 6.0 N" in mat.client.safety.detail
    mat.retracted()
    mat.client.wait(lambda: press.done, 30.0, "result")
    folder = mat.processes.log_dir.parent

    def log() -> list[dict[str, Any]]:
        text = (folder / "safety_events.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    stop = [e for e in log() if e["kind"] == "stop"][-1]
    assert (stop["cause"], stop["after"]) == ("finger force", "STOPPED")
    assert stop["limit"] == "trip limit of the region"
    mat.cycles(round(5.5 / LAYOUT.cycle))
    with np.load(folder / stop["drive_states"]) as kept:
        at = int(np.searchsorted(kept["cycle"], stop["cycle"]))
        assert kept["force"][at].max() > 6.0
        assert kept["stamp"][-1] - kept["stamp"][0] > 6.0
    mat.safe()
    assert "reset" in [
        json.loads(line)["kind"] for line in (folder / "safety_events.jsonl").open()
    ]
