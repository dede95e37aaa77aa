"""Screening and what symptoms suggest: who may be treated, how strongly, and where to look."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from people import PEOPLE, PERSONS, answering, record_with
from spinemat.anatomy import Intake, check_intake
from spinemat.back_model import UP
from spinemat.conditions import CAUTION, CLINICIAN, CONDITIONS, EXCLUDE
from spinemat.errors import InvalidInput
from spinemat.programme_choice import POINTS, suggest_programmes
from spinemat.questionnaire import PersonRecord, load_person, person_from
from spinemat.screening import Override, Screening, Verdict, screen
from spinemat.session_programme import load_programmes
from spinemat.symptoms import PLACES, Symptom, levels_of, mobility_share, suggest

FILES = sorted(PERSONS.glob("*.yaml"))
REASON = Override("clinician-7", "seen and examined; gentle programme agreed")


def at(screening: Screening, level: str) -> float:
    return float(screening.factor[UP.index(level)])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_example_people_may_be_treated(path: Path) -> None:
    record = load_person(path)
    assert screen(record).verdict == Verdict.ALLOWED
    assert suggest(record.symptoms).weight.max() > 0.0


def test_the_same_symptoms_get_other_limits_where_a_disc_has_worn() -> None:
    older = load_person(PERSONS / "degeneration_45.yaml")
    athlete = load_person(PERSONS / "athlete_25.yaml")
    assert older.symptoms == athlete.symptoms
    a, b = screen(older), screen(athlete)
    assert (b.factor == 1.0).all()
    assert at(a, "L4") == at(a, "L5") == pytest.approx(0.7)
    assert at(a, "L3") == pytest.approx(0.85)
    assert (a.factor[UP.index("L2") :] == 1.0).all()
    assert any("disc" in reason and "L5, L4" in reason for reason in a.reasons)
    assert b.reasons == ()


def test_every_exclusion_refuses_and_no_override_helps() -> None:
    names = [c.name for c in CONDITIONS.values() if c.kind == EXCLUDE]
    assert len(names) >= 18
    for name in names:
        for override in (None, REASON):
            found = screen(answering(name), override)
            assert found.verdict == Verdict.EXCLUDED
            assert not found.pressed.any()
            assert found.overridden == ()
            assert name.replace("_", " ").capitalize() in found.reasons[0]
        assert any("no effect" in reason for reason in found.reasons)


def test_a_clinician_may_override_what_the_table_says_and_limits_stay_lowered() -> None:
    names = [c.name for c in CONDITIONS.values() if c.kind == CLINICIAN]
    assert len(names) >= 5
    for name in names:
        record = answering(name, age=60.0)
        alone, agreed = screen(record), screen(record, REASON)
        assert alone.verdict == Verdict.NEEDS_CLINICIAN
        assert not alone.pressed.any()
        assert agreed.verdict == Verdict.ALLOWED
        assert agreed.pressed.all()
        assert agreed.overridden == (name,)
        assert any(REASON.reason in reason for reason in agreed.reasons)
        assert (agreed.factor == alone.factor).all()
        assert agreed.factor.max() < 1.0
    both = screen(answering("steroids", "pregnancy"), REASON)
    assert both.verdict == Verdict.EXCLUDED
    assert both.overridden == ()


def test_a_caution_refuses_nobody() -> None:
    for c in CONDITIONS.values():
        if c.kind == CAUTION:
            found = screen(answering(c.name))
            assert found.verdict == Verdict.ALLOWED
            assert found.factor.max() == pytest.approx(c.share)


def test_an_override_that_nothing_needs_is_logged_without_effect() -> None:
    found = screen(record_with(), REASON)
    assert found.verdict == Verdict.ALLOWED
    assert found.overridden == ()
    assert "no effect" in found.reasons[0]
    assert found.log()["override"] == {"clinician": "clinician-7", "reason": REASON.reason}


@pytest.mark.parametrize(
    ("clinician", "reason"),
    [
        ("c-1", ""),
        ("c-1", "  \t"),
        ("c-1", "two\nlines"),
        ("c-1", "x" * 501),
        ("c-1", None),
        ("", "seen"),
        ("Dr. Who", "seen"),
        (7, "seen"),
    ],
)
def test_an_override_needs_a_clinician_and_a_reason(clinician: Any, reason: Any) -> None:
    with pytest.raises(InvalidInput, match="override"):
        Override(clinician, reason)


def test_a_first_episode_matters_only_above_55() -> None:
    assert screen(answering("first_episode", age=55.0)).verdict == Verdict.ALLOWED
    assert screen(answering("first_episode", age=55.0)).factor.min() == 1.0
    assert screen(answering("first_episode", age=56.0)).verdict == Verdict.NEEDS_CLINICIAN


def test_conditions_multiply_age_lowers_and_comfort_is_a_ceiling() -> None:
    assert at(screen(answering(age=70.0)), "C3") == pytest.approx(0.85)
    assert at(screen(answering(age=90.0)), "C3") == pytest.approx(0.5)
    both = screen(answering("hypermobility", "steroids"), REASON)
    assert at(both, "T6") == pytest.approx(0.36)
    slipped = screen(answering("spondylolisthesis", levels=("L5",)), REASON)
    assert [at(slipped, v) for v in ("L5", "L4", "L3")] == pytest.approx([0.4, 0.7, 1.0])
    nowhere = screen(answering("spondylolisthesis"), REASON)
    assert (nowhere.factor == 0.4).all()
    comfort = {"neck": 0.2, "thoracic": 1.0, "lumbar": 0.8, "leave_out": ["T7"]}
    gentle = screen(record_with(comfort=comfort))
    assert [at(gentle, v) for v in ("C1", "T1", "L1")] == [0.2, 1.0, 0.8]
    assert [UP[i] for i in np.flatnonzero(~gentle.pressed)] == ["T7"]
    worn = [{"name": "mild_disc_degeneration", "levels": ["L4"]}]
    lower = screen(record_with(comfort=comfort, conditions=worn))
    assert [at(lower, v) for v in ("L4", "L3")] == pytest.approx([0.7, 0.8])


def test_a_person_the_device_is_not_made_for_is_excluded_even_if_nobody_checked() -> None:
    for sizes in ((17.0, 1.7, 70.0), (30.0, 1.4, 70.0), (30.0, 2.0, 70.0), (30.0, 1.7, 170.0)):
        record = PersonRecord(**(vars(record_with()) | {"measures": Intake("male", *sizes)}))
        found = screen(record, REASON)
        assert found.verdict == Verdict.EXCLUDED
        assert "bounds of the device" in found.reasons[0]


@pytest.mark.fuzz
@given(PEOPLE, st.booleans())
def test_limits_are_shares_reasons_are_sentences_and_the_log_is_json(
    data: Any, agreed: bool
) -> None:
    record = person_from(data)
    found = screen(record, REASON if agreed else None)
    assert found.factor.shape == found.pressed.shape == (24,)
    assert ((found.factor > 0.0) & (found.factor <= 1.0)).all()
    assert not found.pressed[[UP.index(v) for v in record.comfort.leave_out]].any()
    assert found.verdict == Verdict.ALLOWED or not found.pressed.any()
    assert found.verdict == Verdict.ALLOWED or found.reasons
    assert all(reason.endswith(".") for reason in found.reasons)
    assert (found.factor < 1.0).any() <= bool(found.reasons)
    log = json.loads(json.dumps(found.log()))
    assert list(log["factor"]) == list(UP)
    assert log["verdict"] == found.verdict.name.lower()
    with pytest.raises(ValueError, match="read-only"):
        found.factor[0] = 1.0


def test_every_condition_asks_and_has_a_source() -> None:
    for c in CONDITIONS.values():
        assert c.question.endswith("?")
        assert c.source
        assert c.kind in (EXCLUDE, CLINICIAN, CAUTION)
        assert 0.0 < c.share <= 1.0
        assert c.kind == EXCLUDE or c.share < 1.0


def test_every_symptom_has_levels_and_is_a_suggestion() -> None:
    for place in PLACES:
        found = suggest([Symptom(place, 4.0, ("always",))])
        assert {UP[i] for i in np.flatnonzero(found.weight)} == set(levels_of(place))
        assert levels_of(place)
        assert found.weight.max() == 1.0
        assert found.why[0].startswith("Suggestion: ")
        assert found.source


def test_levels_without_fingers_go_to_the_nearest_and_that_is_said() -> None:
    assert levels_of("headache") == ("C3", "C2", "C1")
    assert levels_of("low_back") == ("L5", "L4", "L3")
    assert levels_of("shoulder") == ("T4", "T3", "T2", "T1", "C6", "C5", "C4")
    said = suggest([Symptom("headache", 4.0, ("always",)), Symptom("calf", 1.0, ("walking",))]).why
    assert "C1, the nearest level of the mat, stands for C0" in said[0]
    assert "L5, the nearest level of the mat, stands for S2" in said[1]


def test_levels_are_weighted_by_severity() -> None:
    low, knee = Symptom("low_back", 6.0, ("standing",)), Symptom("knee", 2.0, ("walking",))
    weight = dict(zip(UP, suggest([low, knee]).weight, strict=True))
    assert [weight[v] for v in ("L5", "L3", "L2", "L1")] == pytest.approx([0.75, 1.0, 0.25, 0.0])
    for nothing in ([], [Symptom("hip", 0.0, ("always",))]):
        assert not suggest(nothing).weight.any()
        assert mobility_share(nothing).mobility == 0.5


def test_answers_point_to_programmes_that_are_shipped_and_say_why() -> None:
    def first(**changes: Any) -> tuple[str, str]:
        fit = suggest_programmes(replace(load_person(PERSONS / "athlete_25.yaml"), **changes))[0]
        return fit.programme, fit.why

    assert first()[0] == "lower_back"
    assert first(symptoms=())[0] == "pre_sport"
    assert first(symptoms=(), goals=())[0] == "stable_spine"  # heavy repetitive load
    assert first(symptoms=(), goals=("relax",)) == ("relaxation", "goal: to relax")
    old = check_intake("female", 78, 1.60, 60.0)
    assert first(measures=old) == ("gentle_elder", "from 70 years")
    desk = suggest_programmes(load_person(PERSONS / "desk_worker.yaml"))
    assert [f.programme for f in desk] == ["mobile_spine", "neck_and_shoulders", "daily_10"]
    assert "long sitting" in desk[2].why and "forward posture" in desk[2].why
    shipped = load_programmes(PERSONS.parent / "programmes")
    assert {programme for programme, _, _ in POINTS} <= shipped.keys()


def test_stiffness_points_to_mobility_and_pain_in_use_to_stability() -> None:
    for when in ("morning", "after_sitting"):
        assert mobility_share([Symptom("low_back", 3.0, (when,))]).mobility == 1.0
    for when in ("walking", "standing", "reaching"):
        assert mobility_share([Symptom("low_back", 3.0, (when,))]).mobility == 0.0
    mixed = mobility_share(
        [Symptom("low_back", 6.0, ("morning",)), Symptom("shoulder", 2.0, ("reaching",))]
    )
    assert mixed.mobility == pytest.approx(0.75)
    for words in ("Suggestion", "75%", "morning → mobility", "reaching → stability"):
        assert words in mixed.why


@pytest.mark.fuzz
@given(PEOPLE)
def test_weights_and_shares_stay_between_0_and_1(data: Any) -> None:
    symptoms = person_from(data).symptoms
    weight = suggest(symptoms).weight
    assert ((weight >= 0.0) & (weight <= 1.0)).all()
    assert 0.0 <= mobility_share(symptoms).mobility <= 1.0
