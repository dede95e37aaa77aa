"""The format of programmes, the shipped ones, their static check, and what patterns mean."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planning import ADULT, FOLDER, LAYOUT, PROGRAMMES, ROOT, assert_within_limits, felt, presses
from spinemat.dosing import plan_session
from spinemat.errors import InvalidInput
from spinemat.forecast import forecast
from spinemat.press_goal import PressGoal
from spinemat.session_programme import (
    MOST_PRESSING,
    check,
    load_programme,
    load_programmes,
    parse_programme,
    programme_to_mapping,
    schema,
)

SHIPPED = {
    "daily_5", "daily_10", "mobile_spine", "stable_spine", "lower_back", "neck_and_shoulders",
    "relaxation", "pre_sport", "gentle_elder", "course_8_weeks", "demo", "contour", "sham",
}  # fmt: skip


def test_shipped_programmes_are_all_there_and_possible() -> None:
    assert set(PROGRAMMES) == SHIPPED
    for programme in PROGRAMMES.values():
        timing = check(programme, LAYOUT)
        assert timing.pressing <= MOST_PRESSING
        assert timing.total == pytest.approx(60.0 * programme.minutes, rel=0.15, abs=30.0)
        assert parse_programme(programme_to_mapping(programme)) == programme
        gated = [p for p in programme.phases if getattr(p, "breathing", "") == "gated"]
        assert all(p.rate <= 0.5 for p in gated)
    assert PROGRAMMES["course_8_weeks"].weeks == 8
    assert check(PROGRAMMES["sham"], LAYOUT).pressing == 0.0
    assert check(PROGRAMMES["contour"], LAYOUT).pressing == 0.0


def test_the_schema_file_is_the_one_that_the_checks_write() -> None:
    written = json.loads((ROOT / "config/programme.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(schema()))


BASE = programme_to_mapping(PROGRAMMES["lower_back"])


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("version",), 2, ("version", "2", "1 to 1")),
        (("name",), "Lower Back", ("name", "small letters")),
        (("minutes",), 45, ("minutes", "45", "about 12.9")),
        (("colour",), "red", ("colour", "red", "only version, name")),
        (("phases",), [], ("phases", "a list of 1 to 60")),
        (("phases", 0, "kind"), "dance", ("phases[0].kind", "dance", "scan, mobilise")),
        (("phases", 1, "rate"), 3.0, ("phases[1].rate", "3.0", "0.2 to 1.5 Hz")),
        (("phases", 1, "rate"), True, ("phases[1].rate", "True", "0.2 to 1.5 Hz")),
        (("phases", 1, "rate"), float("nan"), ("phases[1].rate", "nan")),
        (("phases", 1, "grade"), "V", ("phases[1].grade", "V", "I, II, III, IV")),
        (("phases", 1, "region"), None, ("phases[1].region", "None", "neck, thoracic")),
        (("phases", 1, "intensity"), 0.5, ("phases[1].grade and intensity", "exactly one")),
        (("phases", 3, "levels"), ["C4"], ("phases[3].levels[0]", "C4", "T1, T2")),
        (("phases", 3, "levels"), ["L4", "L4"], ("phases[3].levels", "each name once")),
        (("phases", 3, "sets"), 2.5, ("phases[3].sets", "2.5", "a whole number, 1 to 6")),
        (("phases", 3, "sets"), 10**500, ("phases[3].sets", "a number beyond all bounds")),
        (("phases", 3, "rate"), 1.4, ("phases[3].rate (lumbar)", "1.4", "100 N/s")),
        (("phases", 2, "region"), "trunk", ("phases[2].region", "lumbar with the pattern")),
        (("phases", 2, "breathing"), "led", ("phases[2].rate", "0.4")),
    ],
)  # fmt: skip
def test_a_bad_programme_is_refused_with_field_value_and_what_is_allowed(
    path: tuple[Any, ...], value: Any, words: tuple[str, ...]
) -> None:
    data = copy.deepcopy(BASE)
    target: Any = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    if path == ("phases", 2, "breathing"):
        target["breaths"] = 7
    with pytest.raises(InvalidInput) as error:
        check(parse_programme(data), LAYOUT)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    "how", ["gated too fast", "gated wave", "gated neck", "too long", "slew", "no scan"]
)
def test_the_static_check_finds(how: str) -> None:
    fast = {"kind": "flow", "region": "spine", "direction": "up", "rate": 0.6, "duration": 60}
    gated = fast | {"intensity": 0.3, "breathing": "gated"}
    del gated["direction"]
    gated |= {"kind": "mobilise", "pattern": "together"}
    wave = gated | {"rate": 0.25, "pattern": "wave_up"}
    long = [fast | {"intensity": 0.3, "duration": 120}] * 11
    steep = fast | {"grade": "III", "rate": 1.5}
    phases, word = {
        "gated too fast": ([{"kind": "scan"}, gated], "0.5 Hz when gated"),
        "gated wave": ([{"kind": "scan"}, wave], "breathe out"),
        "gated neck": (
            [{"kind": "scan"}, gated | {"region": "neck", "rate": 0.3}],
            "under the neck",
        ),
        "too long": ([{"kind": "scan"}, *long], "1200 s"),
        "slew": ([{"kind": "scan"}, steep], "100 N/s"),
        "no scan": ([gated | {"rate": 0.3}], "scan"),
    }[how]
    minutes = 24 if how == "too long" else 2
    programme = parse_programme(BASE | {"phases": phases, "minutes": minutes})
    with pytest.raises(InvalidInput, match=word):
        check(programme, LAYOUT)


# each line doubles what the last one unfolds to
BOMB = b"a0: &a0 {x: 1}\n" + b"".join(
    b"a%d: &a%d\n  <<: [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB, b"", b"\xff\xfe\x00", b"a: [", b"[" * 5000, b"when: 2024-99-99", b"a: !!timestamp x",
        b"a: !!int x", b"a: !!bool x", b"!!python/object:os.system {}", b"a: &a [*a]",
        b"phases: " + b"9" * 6000, b"version: 1\nversion: 2\n",
    ],
)  # fmt: skip
def test_a_file_that_is_no_programme_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(text)
    for what in (path, tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(InvalidInput):
            load_programme(what)
    with pytest.raises(InvalidInput, match=r"odd\.yaml"):
        load_programmes(tmp_path)


def test_a_file_is_called_like_its_programme(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text((FOLDER / "demo.yaml").read_text())
    with pytest.raises(InvalidInput, match="other, as the file is called"):
        load_programme(path)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 130),
    st.sampled_from([10**400, -(10**30), float("nan"), float("inf"), 0.0, 1e-320, b"x", {1, 2}]),
    st.floats(-2.0, 200.0).map(lambda v: round(v, 2)),
    st.text(max_size=100),
    st.sampled_from(
        ["I", "IV", "spine", "neck", "gated", "led", "cat_cow", "left", "flow", "scan"]
    ),
    st.lists(st.sampled_from(["L4", "T1", "C1", 7]), max_size=4),
    st.dictionaries(
        st.sampled_from(["kind", "rate", 3]), st.sampled_from(["flow", 1]), max_size=2
    ),
)


@st.composite
def bent(draw: st.DrawFn) -> Any:
    """A shipped programme with up to four things changed, removed or added."""
    data: Any = programme_to_mapping(PROGRAMMES[draw(st.sampled_from(sorted(SHIPPED)))])
    for _ in range(draw(st.integers(1, 4))):
        target: Any = data
        while isinstance(target, (dict, list)) and target:
            keys = sorted(target, key=str) if isinstance(target, dict) else range(len(target))
            key = draw(st.sampled_from(list(keys)))
            if isinstance(target[key], (dict, list)) and draw(st.integers(0, 3)):
                target = target[key]
                continue
            what = draw(st.sampled_from(["change", "change", "remove", "add"]))
            if what == "change":
                target[key] = draw(JUNK)
            elif what == "remove":
                del target[key]
            elif isinstance(target, dict):
                target[draw(st.sampled_from(["levels", "grade", "intensity", "x", 5, None]))] = (
                    draw(JUNK)
                )
            break
    return data


@pytest.mark.fuzz
@settings(suppress_health_check=list(HealthCheck))
@given(st.one_of(bent(), JUNK))
def test_every_malformed_programme_is_refused_or_safe(data: Any) -> None:
    try:
        programme = parse_programme(data)
        check(programme, LAYOUT)
    except InvalidInput as error:
        assert "\n" not in str(error) and error.field and error.allowed
        return
    plan = plan_session(programme, LAYOUT, ADULT, felt(ADULT))
    assert_within_limits(plan)


@pytest.mark.fuzz
@settings(suppress_health_check=list(HealthCheck))
@given(bent())
def test_the_schema_accepts_what_the_parser_accepts(data: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs the Python package jsonschema")
    try:
        data = json.loads(json.dumps(data, allow_nan=False))  # what JSON cannot say, no schema can
    except (TypeError, ValueError):
        return
    try:
        parse_programme(data)
        accepted = True
    except InvalidInput:
        accepted = False
    assert jsonschema.Draft202012Validator(schema()).is_valid(data) == accepted


def test_a_programme_survives_yaml() -> None:
    for programme in PROGRAMMES.values():
        assert parse_programme(
            yaml.safe_load(yaml.safe_dump(programme_to_mapping(programme)))
        ) == (programme)


# --- what patterns and grades mean ---


def test_patterns_mean_what_they_say() -> None:
    def goal(pattern: str, region: str) -> PressGoal:
        phase = {
            "kind": "mobilise", "region": region, "pattern": pattern, "grade": "I", "rate": 0.5,
            "duration": 30,
        }  # fmt: skip
        data = BASE | {"minutes": 1.5, "phases": [{"kind": "scan"}, phase]}
        plan = plan_session(parse_programme(data), LAYOUT, ADULT, felt(ADULT))
        return presses(plan)[0][1]

    assert np.ptp(goal("together", "lumbar").phase) == 0.0
    up, down = (goal(p, "thoracic").phase[::2] for p in ("wave_up", "wave_down"))
    assert (np.diff(up) > 0.0).all() and (np.diff(down[1:]) < 0.0).all()
    turning = goal("alternating", "lumbar")
    assert turning.phase[::2] == pytest.approx(0.0) and turning.phase[1::2] == pytest.approx(np.pi)
    assert (goal("left", "lumbar").fingers % 2 == 0).all()
    assert (goal("right", "lumbar").fingers % 2 == 1).all()
    rocking = goal("pelvic_rocking", "lumbar").phase
    assert rocking[0] == 0.0 and rocking[-1] == pytest.approx(np.pi)
    cat = goal("cat_cow", "trunk")
    loins = LAYOUT.x[cat.fingers] < 0.15
    assert cat.phase[loins].max() < np.pi <= cat.phase[~loins].max()


def test_grade_four_presses_from_a_raised_base_without_holding() -> None:
    phase = {
        "kind": "mobilise", "levels": ["L4"], "pattern": "together", "grade": "IV", "rate": 0.5,
        "duration": 60,
    }  # fmt: skip
    data = BASE | {"minutes": 2, "phases": [{"kind": "scan"}, phase]}
    plan = plan_session(parse_programme(data), LAYOUT, ADULT, felt(ADULT))
    goal = presses(plan)[0][1]
    assert goal.preload.min() > 4.0
    assert forecast(plan, LAYOUT).held == 0.0
