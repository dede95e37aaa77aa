"""The session orchestrator alone, in this process: nothing is spun, nobody else is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
import sqlalchemy as sa
import yaml
from rclpy.task import Future as RosFuture
from std_msgs.msg import Header

from command_line import spinemat
from graphs import lone, session_goal
from mats import MAT
from people import HEALTHY
from planning import ADULT, FOLDER, LAYOUT, felt
from spinemat.back_model import UP
from spinemat.conditions import DEMANDS
from spinemat.dosing import plan_session
from spinemat.errors import InvalidInput
from spinemat.plan import PlanStep
from spinemat_bringup import graph
from spinemat_bringup.cli_common import Cue
from spinemat_bringup.graph import GraphOptions, describe
from spinemat_interfaces.action import RunSession, ScanSpine
from spinemat_interfaces.msg import (
    BreathingCue,
    ComfortReport,
    FingerState,
    SafetyState,
    SessionState,
)
from spinemat_interfaces.srv import Adjust
from spinemat_ros.codec import stamp
from spinemat_ros.script import start
from spinemat_session.keeping import Keeping
from spinemat_session.node import SessionOrchestrator
from spinemat_session.record import Dose, Store
from spinemat_session.treating import SessionEnded

T = TypeVar("T")


class Scanner:
    """In place of the action `scan_spine`: tells of pain while it scans, and ends as wanted."""

    def __init__(self, node: SessionOrchestrator, *pain: int) -> None:
        self.node, self.pain = node, list(pain)
        self.goals: list[ScanSpine.Goal] = []

    async def call(self, goal: ScanSpine.Goal, unwanted: Callable[[], bool]) -> ScanSpine.Result:
        self.goals.append(goal)
        if self.pain:
            self.node._on_comfort(ComfortReport(pain=self.pain.pop(0), place="L4"))
        return ScanSpine.Result(success=not unwanted(), message="cancelled")

    def poll(self) -> None:
        """Nothing to cancel."""


def scan(node: SessionOrchestrator, *pain: int) -> list[np.ndarray]:
    """Scan a person who reports pain at L4; return the shares that the scans were asked for."""
    scanner = Scanner(node, *pain)
    node._scan = scanner  # type: ignore[assignment]
    person, _ = node._check(node._goal.request)  # type: ignore[union-attr]
    finish(node, node._scan_once(person, "before", 10))
    return [np.array(goal.share) for goal in scanner.goals]


def said(node: SessionOrchestrator) -> list[str]:
    """Texts of the events from now on."""
    texts: list[str] = []
    node._voice.say = lambda kind, text, *a, **k: texts.append(text)  # type: ignore[method-assign]
    return texts


@contextmanager
def orchestrator(folder: Path, **own: Any) -> Iterator[SessionOrchestrator]:
    """The node with parameters of its own; its sessions are kept in the folder."""
    given = {"mat_config": MAT, "programmes": FOLDER, "sessions_dir": folder / "sessions"} | own
    with lone(SessionOrchestrator, **given) as made:
        yield made


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SessionOrchestrator]:
    with orchestrator(tmp_path) as made:
        yield made


def begin(node: SessionOrchestrator, **fields: Any) -> list[SessionState]:
    """Begin a session; returns where all that it tells of itself from then on is found."""
    told: list[SessionState] = []

    def tell(feedback: Any) -> None:
        told.append(copy(feedback.state))

    goal = session_goal(**fields)
    node._goal = SimpleNamespace(request=goal, is_cancel_requested=False, publish_feedback=tell)
    person, programme = node._check(goal)
    advice = finish(node, node._decision.look_back(person, programme))
    node._begin(goal, person, programme, advice)
    return told


def finish(node: SessionOrchestrator, script: Coroutine[Any, None, T]) -> T:
    """Run what waits for drive cycles only, and return its result."""
    ended: Future[T] = Future()

    async def run() -> None:
        try:
            ended.set_result(await script)
        except Exception as error:
            ended.set_exception(error)

    start(run())
    end = time.monotonic() + 60.0
    while not ended.done():
        assert time.monotonic() < end, "nothing happened"
        node._cycles.seen(node._cycles.cycle + 1)
    return ended.result()


def treated(folder: Path, hours: float, *pain: int) -> None:
    """Let the person have had a session with a full dose at L4 some hours ago."""
    when = datetime.now().astimezone() - timedelta(hours=hours)
    with Store(folder / "sessions" / "spinemat.db") as store:
        name = f"before-{hours:g}"
        store.begin_session(name, "p1", {}, at=when, programme="demo")
        store.add_dose(name, [Dose("L4", 3.0, 20.0, 60.0, 30)], at=when)
        for value in pain:
            store.add_comfort(name, "T7", value, at=when)
        store.end_session(name, "completed", at=when)


def test_a_session_of_a_trial_tells_no_arm(node: SessionOrchestrator) -> None:
    for arm in ("active", "sham"):
        told = begin(node, programme="stable_spine", allocation=arm)
        assert told and told[-1].phase == SessionState.INTAKE
        assert {(s.programme, s.detail) for s in told} == {("(trial)", "(trial)")}
    told = begin(node, programme="sham")
    assert told[-1].programme == "sham" and told[-1].detail == "Contact without dose"


def test_both_arms_of_a_trial_hear_and_wait_for_the_same(
    node: SessionOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "spinemat_session.deciding.felt_by", lambda _scan: felt(ADULT, L4=1.5, T7=0.7)
    )
    monkeypatch.setattr(node, "_scan", Scanner(node))
    heard, forces = [], []

    async def nothing(_mass: float) -> None:
        """In place of the supervisor's answer."""

    async def run(step: PlanStep, start: int) -> int:
        forces.append(float(step.goal.amplitude.max()))  # type: ignore[union-attr]
        return start

    monkeypatch.setattr(node, "_lower_limits", nothing)
    monkeypatch.setattr(node._treatment, "run", run)
    for arm in ("active", "sham"):
        told = begin(node, programme="stable_spine", allocation=arm)
        goal = node._goal.request  # type: ignore[union-attr]
        finish(node, node._session(goal, *node._check(goal)))
        heard.append([(s.phase, s.detail, node._planned) for s in told])
        assert (max(forces) > 0.0) == (arm == "active")
        forces.clear()
    assert heard[0] == heard[1]


def test_pain_in_a_scan_begins_it_again_with_less_force_there(node: SessionOrchestrator) -> None:
    begin(node)
    texts = said(node)
    first, second = scan(node, 5)
    assert texts == ["pain 5 of 10 at L4: less force at L4; the scan begins again"]
    at = np.array(UP) == "L4"
    assert (second[at] < first[at]).all() and (second[~at] == first[~at]).all()
    assert len(scan(node, 3)) == 1, "what is noted changes nothing"
    with pytest.raises(SessionEnded, match="pain was reported in each of 3 scans"):
        scan(node, 4, 4, 4)
    assert texts[-1].endswith("the session ends")


def test_a_report_without_a_session_says_so(node: SessionOrchestrator) -> None:
    texts = said(node)
    node._on_comfort(ComfortReport(pain=5, place="L4"))
    assert texts == ["comfort: session: 'none' is not allowed; allowed: one that runs"]


def test_a_scan_presses_less_where_levels_rest_or_hurt(
    node: SessionOrchestrator, tmp_path: Path
) -> None:
    treated(tmp_path, 30.0, 5)
    treated(tmp_path, 5.0, 5)
    begin(node)
    (share,) = scan(node)
    wanted = {v: 1.0 for v in UP} | {"L4": 0.5, "T7": 0.6}
    assert dict(zip(UP, share, strict=True)) == pytest.approx(wanted)
    again, sore = scan(node, 5)
    at = np.array(UP) == "L4"
    assert again[at] == 0.5 and sore[at] == pytest.approx(0.3)


def test_a_third_session_is_refused_before_anything_moves(
    node: SessionOrchestrator, tmp_path: Path
) -> None:
    treated(tmp_path, 10.0)
    treated(tmp_path, 5.0)
    with pytest.raises(InvalidInput, match="2 sessions within 20 h"):
        begin(node)
    begin(node, programme="sham")


def test_sessions_that_the_database_lost_leave_half_of_the_force(
    node: SessionOrchestrator, tmp_path: Path
) -> None:
    begin(node)
    lost = node._state.session_id
    node._keeping.end("", 0)
    node._keeping.close()
    for path in (tmp_path / "sessions").glob("spinemat.db*"):
        path.unlink()
    treated(tmp_path, 30.0, 8)
    texts = said(node)
    begin(node)
    assert lost in texts[0] and "force at most × 0.5" in texts[0]
    advice = node._decision.advice
    wanted = {v: 0.5 for v in UP}
    assert dict(zip(UP, advice.share, strict=True)) == wanted and texts[0] in advice.why[0]
    assert np.unique(scan(node)[0]) == 0.5
    old = datetime.now().timestamp() - 3600.0 * 60.0
    os.utime(tmp_path / "sessions" / lost / "session.json", (old, old))
    os.utime(Path(node._state.folder) / "session.json", (old, old))
    begin(node)
    share = dict(zip(UP, node._decision.advice.share, strict=True))
    assert share == {v: 1.0 for v in UP} | {"T7": 0.6}, "a completed session came after them"


def test_without_a_database_folders_tell_that_a_session_is_the_first(tmp_path: Path) -> None:
    with orchestrator(tmp_path, database="none") as node:
        for share, why in ((1.0, "it counts as the first"), (0.5, "are not known")):
            begin(node)
            assert (node._decision.advice.share == share).all()
            assert why in node._decision.advice.notes[0]
        begin(node, person_id="p2")
        assert (node._decision.advice.share == 1.0).all()


def test_the_terminal_leads_the_breath_only_while_somebody_says_so() -> None:
    cue = Cue()

    def at(seconds: float) -> SessionState:
        return SessionState(header=Header(stamp=stamp(round(1e9 * seconds))))

    assert cue(at(1.0)) == ""
    cue.heard(BreathingCue(header=at(2.0).header, text="breathe in", phase=0.25, next=1.4))
    assert cue(at(2.2)) == "breathe in  ██░░░░░░░░ 2 s" and cue(at(3.0)) == ""


class Fingers:
    """In place of the service `fingers/adjust`: answers as wanted, None for not at all."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)
        self.asked: list[Adjust.Request] = []

    def service_is_ready(self) -> bool:
        return True

    def remove_pending_request(self, _answer: RosFuture) -> None:
        """Nothing is kept of it."""

    def call_async(self, request: Adjust.Request) -> RosFuture:
        self.asked.append(request)
        answer, taken = RosFuture(), self.answers.pop(0)
        if taken is not None:
            answer.set_result(Adjust.Response(success=taken, message="0 press(es) adjusted"))
        return answer


def press(node: SessionOrchestrator, fingers: Fingers) -> Callable[[int], None]:
    """Let a treatment press; returns what makes a number of drive cycles pass."""
    plan = plan_session(node._programmes["lower_back"], LAYOUT, ADULT, felt(ADULT))
    node._treatment._adjust = fingers  # type: ignore[assignment]
    node._treatment.begin(plan.on_mat(LAYOUT))
    node._treatment.pressing = next(s.goal for s in plan.steps if s.pressing)
    node._treatment._taken = True
    node._enter(SessionState.TREAT)

    def pass_by(cycles: int) -> None:
        zero = [0.0] * LAYOUT.n
        for _ in range(cycles):
            cycle = node._cycles.cycle + 1
            node._cycles.seen(cycle)
            node._treatment.on_fingers(FingerState(cycle=cycle, position=zero, force=zero))

    return pass_by


def test_a_lower_strength_is_told_until_the_fingers_take_it(node: SessionOrchestrator) -> None:
    begin(node)
    fingers = Fingers(None, False, True)
    pass_by = press(node, fingers)
    texts = said(node)
    node._treatment.on_guarding(True)
    pass_by(round(0.8 / LAYOUT.cycle))
    assert [request.strength for request in fingers.asked] == [0.6, 0.6, 0.6]
    assert sum("it is repeated: no answer" in text for text in texts) == 1


def test_what_happens_in_a_session_is_in_the_database(
    node: SessionOrchestrator, tmp_path: Path
) -> None:
    begin(node)
    pass_by = press(node, Fingers(True))
    node._treatment.on_guarding(True)
    pass_by(1)
    for _ in range(2):
        node._on_safety(SafetyState(state=SafetyState.STOPPED, cause="hand", detail="let go"))
    node._keeping.end("safety stop", 1)
    node._keeping.close()
    with Store(tmp_path / "sessions" / "spinemat.db") as store:
        events = store.session(node._state.session_id)["events"]
    assert [event["kind"] for event in events] == ["phase", "phase", "back_off", "stop"]
    assert events[-1]["text"] == "hand: let go"


def test_strength_and_area_may_be_lowered_between_presses(node: SessionOrchestrator) -> None:
    begin(node)
    request = Adjust.Request(strength=0.5, rate=np.nan, regions=["lumbar"])
    answer = node._on_adjust(request, Adjust.Response())
    assert not answer.success and "in TREAT and PAUSED" in answer.message
    fingers = Fingers(True)
    pass_by = press(node, fingers)
    goal, node._treatment.pressing = node._treatment.pressing, None
    assert node._on_adjust(request, Adjust.Response()).success and not fingers.asked
    fast = Adjust.Request(strength=np.nan, rate=2.0)
    assert "0.2 to 1.5 Hz" in node._on_adjust(fast, Adjust.Response()).message
    node._treatment.pressing = goal
    pass_by(1)
    (told,) = fingers.asked
    assert told.strength == 0.5 and list(told.regions) == ["lumbar"]


def test_waiting_and_pauses_leave_the_time_left_as_it_is(node: SessionOrchestrator) -> None:
    told = begin(node)
    cycle = round(1.0 / node._layout.cycle)

    def left(seconds: float) -> float:
        node._on_fingers(FingerState(cycle=round(seconds * cycle)))
        return told[-1].time_left

    first = left(10.0)
    assert left(20.0) == pytest.approx(first - 10.0)
    node._decision.waiting = True
    assert left(300.0) == pytest.approx(first - 10.0)
    node._decision.waiting = False
    node._enter(SessionState.PAUSED)
    assert left(400.0) == pytest.approx(first - 10.0)
    node._enter(SessionState.TREAT)
    assert left(405.0) == pytest.approx(first - 15.0)


def test_what_a_person_says_in_words_is_kept(node: SessionOrchestrator, tmp_path: Path) -> None:
    begin(node)
    node._on_comfort(ComfortReport(pain=2, place="L4", words="it burns\n"))
    node._keeping.close()
    with Store(tmp_path / "sessions" / "spinemat.db") as store:
        phase, event = store.session(node._state.session_id)["events"]
    assert phase["kind"] == "phase" and phase["text"].startswith("INTAKE")
    assert event["text"] == "pain 2 of 10 at L4: noted (in their words: it burns)"


@pytest.mark.parametrize("command", ["demo", "up"])
def test_an_own_database_and_own_programmes_are_checked_before_anything_starts(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    status, said = spinemat(command, "--programmes", "own", cwd=tmp_path)
    assert status == 1 and "own" in said and "a folder with *.yaml files" in said
    (tmp_path / "own" / "mine.yaml").write_text("version: 1\n")
    status, said = spinemat(command, "--programmes", "own", cwd=tmp_path)
    assert status == 1 and "mine.yaml" in said
    status, said = spinemat(command, "--database", "mysql://me:secret@host/x", cwd=tmp_path)
    assert status == 2 and "postgresql://" in said and "secret" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_an_own_database_and_own_programmes_reach_the_nodes_and_no_bag(tmp_path: Path) -> None:
    url = "postgresql://me@host/x"
    specs = {s.name: s for s in describe(GraphOptions(MAT, database=url, programmes=tmp_path))}
    given = specs["session_orchestrator"].parameters
    assert given["database"] == url and given["programmes"] == str(tmp_path)
    assert "host" not in str(specs["recorder"].parameters)
    assert str(tmp_path) in str(specs["recorder"].parameters)


@pytest.mark.parametrize("demand", DEMANDS)
def test_a_mat_may_demand_that_every_plan_is_confirmed(
    tmp_path: Path, demand: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Planned(Exception):
        """The session has come to its plan."""

    async def nothing(_mass: float) -> None:
        """In place of the supervisor's answer."""

    async def make(_session: str, confirm: bool, *_: Any) -> None:
        waits.append(confirm)
        raise Planned

    assert graph.DEMANDS == DEMANDS
    with orchestrator(tmp_path, confirm=demand) as node:
        waits: list[bool] = []
        monkeypatch.setattr(node, "_lower_limits", nothing)
        monkeypatch.setattr(node._decision, "make", make)
        monkeypatch.setattr(node, "_scan", Scanner(node))
        for asked in (True, False):
            begin(node, programme="lower_back", confirm=asked)
            goal = node._goal.request  # type: ignore[union-attr]
            with pytest.raises(Planned):
                finish(node, node._session(goal, *node._check(goal)))
        assert waits == [True, demand == "required"]


def test_a_mat_may_demand_that_everybody_is_screened(tmp_path: Path) -> None:
    answers = yaml.safe_dump(HEALTHY)
    with orchestrator(tmp_path, screening="required") as node:
        with pytest.raises(InvalidInput, match=r"person.*a person record: screening is required"):
            node._check(session_goal())
        asked = RunSession.Goal(person=answers, programme="lower_back")
        assert node._check(asked)[0].screening is not None


def test_whom_screening_refuses_is_kept(node: SessionOrchestrator, tmp_path: Path) -> None:
    answers = HEALTHY | {"conditions": [{"name": "pregnancy", "levels": []}]}
    handle = SimpleNamespace(request=RunSession.Goal(person=yaml.safe_dump(answers)))
    _, result = finish(node, node._run(handle))  # type: ignore[arg-type]
    assert "Pregnancy" in result.message and not result.session_id
    node._keeping.close()
    with Store(tmp_path / "sessions" / "spinemat.db") as store, store.reading() as connection:
        (row,) = connection.execute(sa.text("SELECT * FROM screenings")).mappings()
    assert row["verdict"] == "excluded" and row["person_id"] == HEALTHY["id"]


def test_hosts_whose_mats_have_the_same_namespace_share_a_database(tmp_path: Path) -> None:
    url = str(tmp_path / "shared.db")
    with orchestrator(tmp_path / "one", database=url) as one:
        begin(one)
        assert one._keeping._writer is not None and one._keeping._writer.flush(60.0)
        for folder, state in (("two", "running"), ("one/sessions", "broken_off")):
            Keeping(str(tmp_path / folder), url, one._voice, "mat").close()  # it starts
            with Store(url) as store:
                (row,) = store.sessions("p1")
            assert row["state"] == state, folder


@pytest.mark.parametrize("name", ["confirm", "screening"])
def test_a_demand_that_is_none_starts_no_node(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(InvalidInput, match=rf"{name}: 'always' is not allowed.*optional, required"),
        orchestrator(tmp_path, **{name: "always"}),
    ):
        pass


def test_pain_in_the_scan_is_in_the_plan(
    node: SessionOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinemat_session.deciding.felt_by", lambda _scan: felt(ADULT))
    begin(node, programme="lower_back")
    scan(node, 7)
    person, programme = node._check(node._goal.request)  # type: ignore[union-attr]
    share = node._treatment.share
    made = node._decision.make("s", False, person, programme, ScanSpine.Result(), share, False)
    dose = {level.level: level for level in finish(node, made).levels}
    assert dose["L4"].cycles == 0.0 < dose["L1"].cycles
    assert "Comfort reports: at most 0% of the press limit." in dose["L4"].why
