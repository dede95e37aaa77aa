"""Plans, edits, the ledger and the forecast, without ROS."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

import numpy as np
import pytest

from people import PERSONS
from planning import (
    ADULT,
    LAYOUT,
    PEOPLE,
    PROGRAMMES,
    ROOT,
    assert_within_limits,
    at,
    felt,
    needs,
    presses,
)
from spinemat.anatomy import LEVELS, check_intake, regional_sums
from spinemat.back_model import UP, means
from spinemat.dosing import plan_session
from spinemat.errors import InvalidInput
from spinemat.forecast import forecast, person_twin
from spinemat.ledger import FIRST_WEEK, Advice, PastSession, advise
from spinemat.level_dose import Felt, Needs
from spinemat.plan import SessionPlan, edit, without_dose
from spinemat.plan_record import plan_from_mapping, plan_to_mapping
from spinemat.press import PressRun
from spinemat.press_goal import Waveform, wave
from spinemat.questionnaire import load_person
from spinemat.screening import screen
from spinemat.session_programme import PRELOAD
from spinemat.stiffness import LevelEstimate
from spinemat.twin import TwinRun

NOW = datetime(2030, 5, 20, 9, 0, tzinfo=timezone.utc)
L4, L5, T7 = (UP.index(v) for v in ("L4", "L5", "T7"))


@cache
def planned(name: str, who: int) -> SessionPlan:
    return plan_session(PROGRAMMES[name], LAYOUT, PEOPLE[who], felt(PEOPLE[who], L4=1.4))


@pytest.mark.parametrize("name", sorted(PROGRAMMES))
def test_plans_of_all_programmes_keep_all_limits(name: str) -> None:
    for who in range(len(PEOPLE)):
        plan = planned(name, who)
        assert_within_limits(plan)
        assert plan.total <= 60.0 * 1.2 * PROGRAMMES[name].minutes + 60.0
        assert all(dose.why for dose in plan.levels)
        if name in ("sham", "contour"):
            assert plan.pressing == 0.0 and all(d.work == d.cycles == 0.0 for d in plan.levels)


@pytest.mark.parametrize("name", sorted(PROGRAMMES))
def test_a_sham_plan_takes_as_long_and_gives_nothing(name: str) -> None:
    plan = planned(name, 0)
    sham = without_dose(plan)
    assert_within_limits(sham)
    assert sham.pressing == 0.0 and all(d.work == d.cycles == 0.0 for d in sham.levels)
    for a, b in zip(plan.steps, sham.steps, strict=True):
        assert (a.kind, a.time, a.rest, a.breathing, a.breaths, a.detail) == (
            b.kind, b.time, b.rest, b.breathing, b.breaths, b.detail
        )  # fmt: skip
        if a.goal is not None and b.goal is not None:
            assert (a.goal.fingers == b.goal.fingers).all() and b.goal.preload.max() <= 2.0
            assert (a.goal.gated, a.goal.waveform) == (b.goal.gated, b.goal.waveform)


@pytest.mark.parametrize("name", sorted(PROGRAMMES))
def test_a_plan_survives_json(name: str) -> None:
    data = plan_to_mapping(planned(name, 0))
    again = plan_from_mapping(json.loads(json.dumps(data, allow_nan=False)), LAYOUT)
    assert plan_to_mapping(again) == data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("steps", 3, "goal", "amplitude", 0), 50.0, "amplitude"),
        (("steps", 3, "goal", "amplitude", 0), float("nan"), "amplitude"),
        (("steps", 3, "goal", "rate"), 9.0, "rate"),
        (("steps", 3, "goal", "fingers", 0), 77, "fingers"),
        (("steps", 3, "goal", "fingers"), "all", "fingers"),
        (("steps", 3, "goal", "expected", 0), {}, "expected"),
        (("steps", 3, "goal"), [], "goal"),
        (("steps", 3, "kind"), "dance", "kind"),
        (("levels", 0, "why"), 4, "why"),
        (("levels",), [], "levels"),
        (("mass",), 1e9, "mass"),
        (("x",), [0.0], "24 values"),
    ],
)
def test_a_plan_that_was_changed_by_hand_is_checked(
    path: tuple[Any, ...], value: Any, words: str
) -> None:
    data = plan_to_mapping(planned("lower_back", 0))
    target: Any = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(InvalidInput, match=words):
        plan_from_mapping(data, LAYOUT)


def test_two_people_with_the_same_complaint_get_different_plans_with_reasons() -> None:
    programme = PROGRAMMES["lower_back"]
    ache = at(0.6, "L3", "L4", "L5", other=0.0)
    worker, athlete = check_intake("male", 45, 1.78, 84.0), check_intake("male", 25, 1.85, 80.0)
    worn = needs(level_factors=at(0.7, "L4", "L5"), emphasis=ache, notes=("Disc, mild.",))
    plans = [
        plan_session(programme, LAYOUT, worker, felt(worker, L4=1.25, L5=1.25), worn),
        plan_session(programme, LAYOUT, athlete, felt(athlete), needs(emphasis=ache)),
    ]
    careful, free = (plan.levels[L4] for plan in plans)
    assert careful.peak < 0.9 * free.peak
    assert careful.work < 0.7 * free.work and careful.cycles < free.cycles
    assert any("Screening" in why and "0.70" in why for why in careful.why)
    assert any("surely stiffer" in why for why in careful.why)
    assert any("neither more force" in why for why in careful.why)
    assert any("One set more" in why for why in free.why)
    assert "Disc, mild." in plans[0].notes
    for plan, mass in zip(plans, (84.0, 80.0), strict=True):
        assert_within_limits(plan)
        seen = forecast(plan, LAYOUT)
        assert seen.step_force.max() <= 0.95 * 30.0
        assert plan.mass == mass and seen.held == 0.0 and not seen.lifting
    weaker, stronger = (forecast(plan, LAYOUT) for plan in plans)
    assert weaker.work[L4] < 0.8 * stronger.work[L4]


def dose(name: str = "lower_back", scan: Felt | None = None, **changes: Any) -> SessionPlan:
    who = changes.pop("who", ADULT)
    return plan_session(
        PROGRAMMES[name], LAYOUT, who, scan or felt(who), needs(**changes)
    )  # fmt: skip


def test_what_is_less_sure_gets_less() -> None:
    work = [
        dose(scan=scan).levels[L4].work
        for scan in (felt(ADULT, 0.05), felt(ADULT, 0.2), felt(ADULT, 0.4))
    ]
    assert work[0] > work[1] > work[2]
    scan = felt(ADULT)
    blind = replace(scan, valid=np.array([v != "L4" for v in UP]) & scan.valid)
    plan = dose(scan=blind)
    assert plan.levels[L4].work < work[0]
    assert any("not known here" in why for why in plan.levels[L4].why)
    neck = dose("neck_and_shoulders").levels[UP.index("C6")]  # over a row
    assert any("cannot be told apart" in why for why in neck.why)


def test_stiffer_levels_get_more_and_softer_ones_less() -> None:
    even, stiff, soft = (
        dose("mobile_spine", felt(ADULT, T7=r)).levels[T7] for r in (1.0, 1.4, 0.75)
    )
    assert stiff.cycles > even.cycles > soft.cycles
    assert stiff.peak >= even.peak > soft.peak
    assert any("One set more" in why for why in stiff.why)
    assert any("for stability" in why for why in soft.why)
    assert any("One set fewer" in why for why in soft.why)
    unsure = dose("mobile_spine", felt(ADULT, 0.35, T7=1.4)).levels[T7]
    assert unsure.cycles < stiff.cycles and unsure.peak < stiff.peak


def test_comfort_screening_age_and_stability_lower() -> None:
    free = dose()
    capped = dose(ceilings=at(0.2, "L4"))
    assert capped.levels[L4].peak <= 0.2 * 30.0 + 1e-9 < free.levels[L4].peak
    assert any("Comfort" in why for why in capped.levels[L4].why)
    left_out = dose(level_factors=at(0.0, "L4"))
    assert left_out.levels[L4].cycles == 0.0 < left_out.levels[UP.index("L1")].cycles
    old = dose(who=check_intake("male", 78, 1.78, 75.0))
    assert old.levels[L4].peak < free.levels[L4].peak
    assert any("Age 78" in why for why in old.levels[L4].why)
    unsteady, stiff = dose("stable_spine", mobility=0.0), dose("stable_spine", mobility=1.0)
    lasting = [
        sum(g.duration for s, g in presses(plan) if s.kind == "stability")
        for plan in (unsteady, stiff)
    ]
    assert lasting[0] > 1.5 * lasting[1]
    (step, goal) = next(found for found in presses(stiff) if found[0].kind == "stability")
    words = f"lasts {goal.duration:.0f} s in place of 90 s (× 0.50)"
    assert any(f"Phase {step.phase + 1} " in n and words in n for n in stiff.notes)
    assert any("100% stability" in note for note in unsteady.notes)
    assert not any("in place of" in note for note in dose("stable_spine", mobility=0.5).notes)
    assert dose(mobility=0.0).levels[L4].peak < free.levels[L4].peak


@pytest.mark.parametrize("name", ["lower_back", "course_8_weeks", "stable_spine"])
def test_every_level_tells_from_what_its_presses_and_work_are_reckoned(name: str) -> None:
    plan = dose(name, emphasis=at(0.6, "L4", other=0.0))
    told = re.compile(
        r"Presses, sets × s × Hz: (.*) = (at most )?(\d+)\. Work .*: ([\d.]+) N/mm as felt"
    )
    pressed = [(k, d) for k, d in enumerate(plan.levels) if d.cycles and not UP[k].startswith("C")]
    assert pressed
    for k, level in pressed:
        (found,) = filter(None, map(told.search, level.why))
        terms = [np.prod([float(v) for v in t.split(" × ")]) for t in found[1].split(" + ")]
        assert sum(terms) == pytest.approx(level.cycles)
        assert float(found[3]) == pytest.approx(level.cycles, abs=0.5)
        assert bool(found[2]) == (name == "course_8_weeks")
        assert float(found[4]) == pytest.approx(1e-3 * plan.stiffness[k], abs=0.05)


def test_one_set_more_goes_where_most_is_asked_and_only_while_there_is_time() -> None:
    plan = dose(emphasis=np.ones(len(UP)))
    sets = {s.phase: s.set for s, _ in presses(plan)}
    assert sets[3] == 4  # the strongest phase, which asks for three
    assert plan.total <= 1.2 * 60.0 * PROGRAMMES["lower_back"].minutes
    assert any("no time" in note for note in plan.notes)


@pytest.mark.parametrize("name", ["lower_back", "daily_10", "mobile_spine"])
@pytest.mark.parametrize("person", ["degeneration_45", "desk_worker", "athlete_25"])
def test_a_set_more_is_told_where_the_presses_grew_and_nowhere_else(
    person: str, name: str
) -> None:
    record = load_person(PERSONS / f"{person}.yaml")
    who, own = record.measures, Needs.of_answers(record, screen(record))
    for scan in (felt(who), felt(who, L2=1.4, T7=1.4)):
        plain = replace(scan, value=felt(who).value)
        given, without = (
            plan_session(PROGRAMMES[name], LAYOUT, who, s, n).levels
            for s, n in ((scan, own), (plain, replace(own, emphasis=np.zeros(len(UP)))))
        )
        for dose, less in zip(given, without, strict=True):
            if any("One set more" in why for why in dose.why):
                assert dose.cycles > less.cycles
            else:
                assert not any("one set more" in why for why in dose.why)


def test_a_level_that_is_not_pressed_says_which_of_the_three_reasons_it_has() -> None:
    who = check_intake("male", 41, 1.80, 100.0)  # T3 lies between two rows
    plan = plan_session(PROGRAMMES["daily_10"], LAYOUT, who, Felt.prior(LAYOUT, who))
    dose = {level.level: level for level in plan.levels}
    assert dose["T3"].cycles == 0 and dose["T3"].work > 0.1
    assert "between two rows" in dose["T3"].why[0] and "J from beside it" in dose["T3"].words
    assert dose["C1"].why == ("No row that may press reaches it.",)
    plan = plan_session(PROGRAMMES["lower_back"], LAYOUT, ADULT, felt(ADULT))
    assert plan.levels[UP.index("T2")].why == ("The programme does not press here.",)
    assert plan.levels[UP.index("T2")].words == "T2: not pressed."


def test_a_phase_that_leaves_little_but_contact_is_told() -> None:
    light = check_intake("female", 41, 1.6, 50.0)
    course = PROGRAMMES["course_8_weeks"]
    first = advise([], NOW, course.name, course.weeks)
    unknown = plan_session(course, LAYOUT, light, Felt.prior(LAYOUT, light), None, first)
    assert any("Phase 2 (lumbar) presses little: up to 0.0 N" in note for note in unknown.notes)
    known = plan_session(course, LAYOUT, light, felt(light))
    assert not any("presses little" in note for note in known.notes)


def test_what_a_scan_estimates_becomes_what_was_felt() -> None:
    scan = felt(ADULT)
    estimates = [
        LevelEstimate(
            v, side, scan.x[UP.index(v)], 1e4, 5e2, "" if v[0] != "C" else "not resolvable"
        )
        for v in LEVELS
        for side in ("both", "left")
    ]
    found = Felt.of_scan(scan.height, estimates)
    assert (found.valid == scan.valid).all() and (np.diff(found.x) > 0.0).all()
    with pytest.raises(InvalidInput, match="no C7"):
        Felt.of_scan(scan.height, [e for e in estimates if e.level != "C7"])
    with pytest.raises(InvalidInput, match=r"felt\.value"):
        replace(scan, value=-scan.value)
    with pytest.raises(InvalidInput, match=r"needs\.ceilings"):
        needs(ceilings=np.full(24, 1.5))


def test_rows_without_contact_are_not_pressed() -> None:
    scan = felt(ADULT)
    height = scan.height.copy()
    height[4] = np.nan  # left of the third row
    plan = dose(scan=replace(scan, height=height))
    assert not any(np.isin([4, 5], g.fingers).any() for _, g in presses(plan))
    nothing = dose(scan=replace(scan, height=np.full(LAYOUT.n, np.nan)))
    assert not presses(nothing) and len(nothing.notes) >= 5


# --- a clinician's edits ----------------------------------------------------------------------


def test_an_edit_lowers_freely_and_raises_only_within_limits() -> None:
    plan = planned("lower_back", 0)
    lower = edit(plan, LAYOUT, "L4", 0.5, "clin-1", "sore today")
    assert lower.levels[L4].peak < plan.levels[L4].peak
    assert lower.levels[L4].work < 0.6 * plan.levels[L4].work
    assert lower.edits[0].reason == "sore today" and "sore today" in lower.levels[L4].why[-1]
    assert_within_limits(lower)
    with pytest.raises(InvalidInput, match=r"factor: 1\.4 .*regional sums"):
        edit(plan, LAYOUT, "L4", 1.4, "clin-1", "more")
    raised = edit(lower, LAYOUT, "L4", 1.2, "clin-1", "better now")
    assert lower.levels[L4].peak < raised.levels[L4].peak < plan.levels[L4].peak
    assert_within_limits(raised)
    with pytest.raises(InvalidInput, match="factor"):
        edit(plan, LAYOUT, "L4", 3.0, "clin-1", "much more")
    with pytest.raises(InvalidInput, match="reason"):
        edit(plan, LAYOUT, "L4", 0.5, "clin-1", "")
    capped = dose(ceilings=at(0.2, "L4"))
    with pytest.raises(InvalidInput, match="factor"):
        edit(capped, LAYOUT, "L4", 1.3, "clin-1", "past what the person wants")
    again = plan_from_mapping(plan_to_mapping(raised), LAYOUT)
    assert again.edits == raised.edits


# --- ledger -----------------------------------------------------------------------------------


def past(days: float, peak: float = 20.0, work: float = 3.0, **changes: Any) -> PastSession:
    session = PastSession(
        NOW - timedelta(days=days), at(work, "L4", other=0.0), at(peak, "L4", other=0.0), (), True
    )
    return replace(session, **changes)


def test_a_level_rests_after_a_full_dose() -> None:
    soon, later = advise([past(0.5)], NOW), advise([past(1.0)], NOW)
    assert soon.share[L4] == 0.5 and soon.share[T7] == 1.0 and later.share[L4] == 1.0
    assert "12 h ago" in soon.why[L4][0]
    assert advise([past(0.5, peak=8.0, work=0.5)], NOW).share[L4] == 1.0
    rested, tired = (
        plan_session(PROGRAMMES["lower_back"], LAYOUT, ADULT, felt(ADULT), advice=a).levels[L4]
        for a in (later, soon)
    )
    assert tired.peak < rested.peak and any("Rest:" in why for why in tired.why)
    # what a resting level then gets is no full dose
    assert tired.peak < 0.5 * 30.0


def test_where_the_past_cannot_be_read_every_level_rests() -> None:
    known, unknown = (
        plan_session(PROGRAMMES["lower_back"], LAYOUT, ADULT, felt(ADULT), advice=a)
        for a in (Advice.none(), Advice.unknown())
    )
    for with_past, without in zip(known.levels, unknown.levels, strict=True):
        assert without.peak <= with_past.peak
    assert unknown.levels[L4].peak < 0.75 * known.levels[L4].peak
    assert any("not known" in text for text in unknown.levels[L4].why)
    assert any("not known" in text for text in unknown.notes)


def test_at_most_two_sessions_in_a_day() -> None:
    one, two = [past(0.3, 5.0, 0.5)], [past(0.3, 5.0, 0.5), past(0.6, 5.0, 0.5)]
    assert advise(one, NOW).wait is None
    third = advise(two, NOW)
    assert third.wait == two[1].when + timedelta(hours=20)
    with pytest.raises(InvalidInput, match="ledger"):
        plan_session(PROGRAMMES["demo"], LAYOUT, ADULT, felt(ADULT), advice=third)
    plan_session(PROGRAMMES["contour"], LAYOUT, ADULT, felt(ADULT), advice=third)
    assert advise([past(0.1, 0.0, 0.0)] * 3, NOW).wait is None  # scans only


def course(weeks: list[int], **changes: Any) -> Advice:
    """Sessions per week, oldest first; now is at the end of the last one."""
    days = [7.0 * (len(weeks) - w) - 1.5 * s for w, n in enumerate(weeks) for s in range(n)]
    sessions = [past(d, 5.0, 0.5, programme="c", **changes) for d in days]
    return advise(sessions, NOW, "c", 8)


def test_a_course_begins_gently_and_rises_week_by_week() -> None:
    shares = [course([4] * n).share[T7] for n in range(10)]
    assert shares[0] == pytest.approx(FIRST_WEEK)
    assert (np.diff(shares[:8]) > 0.05).all() and shares[7] == 1.0
    assert course([4, 4, 0, 4]).share[T7] < course([4, 4, 4, 4]).share[T7]
    assert course([4, 4, 0, 4]).share[T7] == pytest.approx(course([4, 4]).share[T7])
    assert course([4, 1]).share[T7] == pytest.approx(course([4]).share[T7])
    assert course([4, 4], completed=False).share[T7] == pytest.approx(FIRST_WEEK)
    hurt = course([4, 4], comfort=(("T7", 5.0),))
    assert hurt.share[L5] == pytest.approx(FIRST_WEEK)
    assert hurt.probe[L5] == 1.0 and hurt.probe[T7] < 1.0, "scans of all weeks compare"
    assert "week 3 of 8" in course([4, 4]).notes[0]
    assert advise([], NOW, "daily_5", 0).share.min() == 1.0


def test_a_new_course_begins_gently_after_the_weeks_of_one_or_a_long_gap() -> None:
    for weeks, week in (([4] * 8, 1), ([4] * 10, 3), ([4] * 6 + [0] * 4, 1), ([4] * 29, 6)):
        advice = course(weeks)
        assert f": week {week} of 8" in advice.notes[0] and advice.notes[0].startswith("Course ")
        assert advice.share[T7] == pytest.approx(FIRST_WEEK + (week - 1) * (1.0 - FIRST_WEEK) / 7)
    assert "Course: week 7 of 8" in course([4] * 3 + [0] * 3).notes[0], "three weeks are no end"


@pytest.mark.parametrize("stiff", ["L4", "T7", "T2"])
def test_no_stiffness_raises_what_the_course_allows(stiff: str) -> None:
    first = course([])
    for name in ("lower_back", "mobile_spine", "course_8_weeks"):
        plan = plan_session(
            PROGRAMMES[name], LAYOUT, ADULT, felt(ADULT, **{stiff: 1.8}), advice=first
        )
        assert_within_limits(plan)
        assert (plan.allowed <= FIRST_WEEK * 0.95 * LAYOUT.press_limit + 1e-9).all()


def test_bad_reports_make_it_gentler_and_good_sessions_give_it_back() -> None:
    hurt = past(3.0, comfort=(("L4", 5.0),))
    worse = replace(hurt, comfort=(("L4", 8.0), ("L4", 2.0)))
    assert advise([past(3.0, comfort=(("L4", 3.0),))], NOW).share[L4] == 1.0
    assert advise([hurt], NOW).share[L4] == pytest.approx(0.8)
    assert advise([worse], NOW).share[L4] == pytest.approx(0.6)
    assert advise([hurt], NOW).share[L5] == 1.0
    assert "pain 5 of 10" in advise([hurt], NOW).why[L4][0]
    assert advise([hurt, past(1.0)], NOW).share[L4] == pytest.approx(0.9)
    assert advise([past(1.0), past(2.0), hurt], NOW).share[L4] == 1.0
    assert advise([worse] * 5, NOW).share[L4] == pytest.approx(0.2)
    with pytest.raises(InvalidInput, match="L9"):
        past(1.0, comfort=(("L9", 1.0),))
    with pytest.raises(InvalidInput, match="zone"):
        past(1.0, when=datetime(2030, 1, 1))
    with pytest.raises(InvalidInput, match="not after"):
        advise([past(-1.0)], NOW)


# --- forecast ---------------------------------------------------------------------------------


def test_a_forecast_says_force_depth_work_and_time_before_anything_moves() -> None:
    plan = planned("mobile_spine", 0)
    begin = time.process_time()
    seen = forecast(plan, LAYOUT)
    spent = time.process_time() - begin
    assert spent < 10.0  # of 20 minutes
    planned_peak = np.array([d.peak for d in plan.levels])
    planned_work = np.array([d.work for d in plan.levels])
    assert seen.force == pytest.approx(planned_peak, rel=0.01)
    some = planned_work > 1.0
    assert seen.work[some] == pytest.approx(planned_work[some], rel=0.4)
    assert 0.001 < seen.indentation[L4] < 0.02
    assert seen.time == plan.total and seen.pressing == plan.pressing
    assert seen.held == 0.0 and not seen.lifting
    assert any(line.startswith("L4: up to") for line in seen.sentences())
    still = forecast(planned("sham", 0), LAYOUT)
    assert still.force.max() == still.work.max() == 0.0


def test_a_forecast_before_the_scan_reckons_with_published_means() -> None:
    plan = plan_session(PROGRAMMES["daily_5"], LAYOUT, ADULT, Felt.prior(LAYOUT, ADULT))
    assert "the published profile × own trend 1.00" in plan.levels[L4].why[-1]
    assert plan.stiffness == pytest.approx(means())
    assert forecast(plan, LAYOUT).work.sum() > 1.0


@pytest.mark.parametrize("name", ["desk_worker_45", "athlete_25"])
def test_the_forecast_moves_like_the_twin_of_the_plant(name: str) -> None:
    pytest.importorskip("spinemat_sim", reason="needs the package spinemat_sim on the path")
    from mats import closed_loop
    from spinemat_sim.identify import identify
    from spinemat_sim.population import find_patient

    patient = find_patient(name)
    intake = check_intake(patient.sex, patient.age, patient.stature, patient.mass)
    value = np.array(patient.stiffness)
    scan = replace(felt(intake), value=value, error=0.05 * value)
    plan = plan_session(PROGRAMMES["lower_back"], LAYOUT, intake, scan)
    goal = next(g for s, g in presses(plan) if s.phase == 3)
    force = np.zeros((1, LAYOUT.n))
    twins = [identify(closed_loop(name).plant), person_twin(plan.on_mat(LAYOUT), plan.stiffness)]
    runs = [TwinRun(twin, 0.01) for twin in twins]
    depth = np.zeros(2)
    for i in range(1000):
        turns = np.array(goal.rate * 0.01 * i) - goal.phase / (2.0 * np.pi)
        force[0, goal.fingers] = goal.preload + goal.amplitude * wave(Waveform.SINUSOID, turns)
        for k, run in enumerate(runs):
            run.advance(force)
            depth[k] = max(depth[k], run.travel[0, goal.fingers].mean())
    assert depth[1] == pytest.approx(depth[0], rel=0.15)
    assert runs[1].work.sum() == pytest.approx(runs[0].work.sum(), rel=0.25)


def test_what_is_pressed_keeps_the_limits_of_both_people_in_truth() -> None:
    pytest.importorskip("spinemat_sim", reason="needs the package spinemat_sim on the path")
    from spinemat_sim.closed_loop import ClosedLoop
    from spinemat_sim.control_trials import retract
    from spinemat_sim.patient_file import presets
    from spinemat_sim.person import lie_down
    from spinemat_sim.plant import Plant
    from spinemat_sim.urdf import plain_urdf

    felt_most, work = [], []
    for who, patient in (("degeneration_45", "desk_worker_45"), ("athlete_25", "athlete_25")):
        record, preset = load_person(ROOT / f"config/persons/{who}.yaml"), presets()[patient]
        # both with a row under the sacrum: how many rows share a force does not tell them apart
        lying = replace(preset, position=replace(preset.position, along=0.010))
        loop = ClosedLoop(Plant(LAYOUT, lie_down(lying), plain_urdf(LAYOUT), 0))
        body, person = loop.plant.body, loop.plant.person
        value, x = np.array(person.patient.stiffness), np.array([person.x_of(v) for v in UP])
        scan = Felt(body.skin.copy(), x, value, 0.1 * value, np.ones(len(UP), dtype=bool))
        needed = Needs.of_answers(record, screen(record))
        plan = plan_session(PROGRAMMES["lower_back"], LAYOUT, record.measures, scan, needed)
        loop.peak[:] = 0.0
        allowed, regions = regional_sums(plan.mass), np.array(LAYOUT.regions)
        first_sets = {s.phase: goal for s, goal in presses(plan) if s.pressing and s.set == 1}
        first_sets |= {s.phase: goal for s, goal in presses(plan) if s.kind == "flow"}
        assert len(first_sets) == 5  # every phase of the programme that presses
        for goal in first_sets.values():
            run = PressRun(replace(goal, duration=4.0 / goal.rate), LAYOUT)  # four presses
            while not run.done:
                loop.step(run)
                force = loop.plant.truth().peak_force
                for region, most in allowed.items():
                    assert force[regions == region].sum() <= most
            retract(loop)
            loop.samples.clear()
        assert (loop.peak <= np.maximum(plan.allowed, PRELOAD)).all()
        felt_most.append(loop.peak.max())
        work.append(sum(dose.work for dose in plan.levels))
    assert felt_most[0] < 0.8 * felt_most[1]
    assert work[0] < 0.8 * work[1]
