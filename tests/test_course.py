"""A simulated course: sessions over days, what the record keeps, and the truth beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from planning import LAYOUT, PROGRAMMES
from spinemat.anatomy import TRUNK
from spinemat.back_model import UP
from spinemat.ledger import FIRST_WEEK, RESTING
from spinemat.session_programme import (
    Programme,
    parse_programme,
    programme_to_mapping,
)
from spinemat_bringup.evaluate import eligible
from spinemat_bringup.evaluate_course import broken_rules, draw, figures, judge, write
from spinemat_session.record import Store
from spinemat_session.record.trends import person_trend
from spinemat_sim import course as course_module
from spinemat_sim.course import Course, run_courses
from spinemat_sim.spot_check import press_plant
from spinemat_sim.volunteers import FIRST_DAY, Volunteer, volunteers, wishes

NAMES = ("course_8_weeks", "daily_5")


def short(name: str) -> Programme:
    """The shipped programme of that name with one short phase only, to save time."""
    press = {
        "kind": "mobilise", "region": "trunk", "pattern": "together", "grade": "III", "rate": 0.5,
        "duration": 20,
    }  # fmt: skip
    data = programme_to_mapping(PROGRAMMES[name]) | {"phases": [{"kind": "scan"}, press]}
    return parse_programme(data | {"minutes": 1.4})


SHORT = {name: short(name) for name in NAMES}


def people(responding: float) -> list[Volunteer]:
    return volunteers(eligible(2, 5), 5, responding)


def run(who: list[Volunteer], weeks: int = 1) -> list[Course]:
    return run_courses(LAYOUT, SHORT, NAMES, weeks, who)


@pytest.fixture(scope="module")
def courses() -> list[Course]:
    return run(people(responding=1.0))


def test_people_come_as_they_like_and_the_ledger_leads_the_course(courses: list[Course]) -> None:
    for one in courses:
        wanted = [begin for day in wishes(one.who, 1) for begin in day]
        assert len(one.sessions) == len(wanted) - one.refused
        assert one.days == 7 and one.missed == sum(not day for day in wishes(one.who, 1))
        assert {s.begin for s in one.sessions} <= set(wanted)
        assert not broken_rules(one, SHORT[NAMES[0]].weeks)
        for s in one.sessions:
            assert s.course == (FIRST_WEEK if s.programme[0] == NAMES[0] else 1.0)
            assert (s.advised <= s.course + 1e-9).all()
            assert s.over < 0.0
            assert s.dose.work.sum() == pytest.approx(s.expected.sum(), rel=0.25)
            assert np.isfinite(s.before[np.isin(UP, TRUNK)]).all()


def test_the_same_seed_gives_the_same_course_alone_or_with_others(courses: list[Course]) -> None:
    again = run(people(responding=1.0)[1:])
    for a, b in zip(courses[1].sessions, again[0].sessions, strict=True):
        assert (a.begin, a.comfort, a.pain) == (b.begin, b.comfort, b.pain)
        np.testing.assert_allclose(a.truth_after, b.truth_after, rtol=1e-6)
        np.testing.assert_allclose(a.before, b.before, rtol=1e-6)


def test_levels_soften_by_work_and_recover_only_in_who_responds(
    courses: list[Course], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in courses:
        for s in one.sessions:
            worked = s.dose.work > 0.01
            assert worked.any() and (s.truth_after[worked] < s.truth[worked]).all()
        for s, later in zip(one.sessions, one.sessions[1:], strict=False):
            assert (later.truth >= s.truth_after).all()
    one_session = [(FIRST_DAY + timedelta(hours=8),), *[()] * 6]
    monkeypatch.setattr(course_module, "wishes", lambda _who, _weeks: one_session)
    (s,) = run(people(responding=0.0)[:1])[0].sessions
    np.testing.assert_allclose(s.truth_after, s.truth)


def test_a_third_session_on_a_day_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    day = tuple(FIRST_DAY + timedelta(hours=h) for h in (8, 11, 14))
    monkeypatch.setattr(course_module, "wishes", lambda _who, _weeks: [day, *[()] * 6])
    (one,) = run(people(responding=1.0)[:1])
    assert [s.begin for s in one.sessions] == [*day[:2]] and one.refused == 1
    # what is judged apart from the ledger notices what the ledger would not allow
    first, second = one.sessions
    full = replace(first, dose=first.dose._replace(work=first.dose.work + 2.0))
    hurt = replace(first, comfort=(("L4", 7.0),))
    third = replace(second, begin=day[2], end=day[2] + timedelta(minutes=5))
    ahead = replace(second, programme=first.programme, course=FIRST_WEEK + 0.05)
    assert (second.advised > RESTING).any()
    for sessions, words in (
        ((first, second, third), "more than 2 sessions"),
        ((full, second), "a level that rests"),
        ((hurt, replace(second, advised=np.ones(24))), "a level that hurt"),
        ((first, ahead), "rose too fast"),
    ):
        found = broken_rules(replace(one, sessions=sessions), 8)
        assert len(found) == 1 and words in found[0]


def test_the_record_has_it_all_and_says_no_more_than_is_true(
    courses: list[Course], tmp_path: Path
) -> None:
    with Store(tmp_path / "record.db") as store:
        judged = []
        for one in courses:
            write(store, one, 5)
            name = one.who.record.id
            kept = store.past_doses(name, FIRST_DAY)
            assert [k.started for k in kept] == [s.begin for s in one.sessions]
            for k, s in zip(kept, one.sessions, strict=True):
                assert k.completed and k.programme == s.programme[0]
                np.testing.assert_allclose(k.work, s.dose.work)
                assert tuple((c.place, c.value) for c in k.comfort) == s.comfort
            judged.append(judge(one, person_trend(store, name, FIRST_DAY.date())))
    for j in judged:
        assert len(j.trend.stiffness) == len(TRUNK) and j.trend.measures["pain"]
        assert not j.softer.any() and not j.stiffer.any()  # one week: nothing to compare with
    assert figures(judged)["sessions"] == sum(len(one.sessions) for one in courses)
    draw(judged, tmp_path / "course.png")
    assert (tmp_path / "course.png").stat().st_size > 10_000


def test_the_plant_agrees_with_the_twin(courses: list[Course]) -> None:
    last = courses[0].last
    assert last is not None
    spot = press_plant(LAYOUT, last, breathing=False, seed=1)
    assert np.nanmax(np.abs(spot.work)) < 0.25 and abs(spot.peak) < 0.05 and spot.over < 0.0
