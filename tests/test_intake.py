"""Person records: what is accepted comes back exactly, everything else is refused in words."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from people import HEALTHY, PEOPLE, PERSONS
from spinemat.conditions import TABLE_VERSION
from spinemat.errors import InvalidInput, number
from spinemat.layout import load_layout
from spinemat.questionnaire import load_person, person_from, to_mapping
from spinemat.screening import screen

LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), float("nan"), float("inf"), 1e308])
    | st.floats()
    | st.text(st.characters(), max_size=80)
    | st.binary(max_size=3)
    | st.dates()
    | st.sampled_from(["low_back", "L4", "male", "pregnancy", "x" * 100_000, "none"])
)
GARBAGE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A record with something replaced, removed or added, at up to three places of it."""
    data = draw(PEOPLE)
    for _ in range(draw(st.integers(1, 3))):
        target: Any = data
        while True:
            places = list(target) if isinstance(target, dict) else list(range(len(target)))
            key = draw(st.sampled_from(places)) if places else None
            inner = target[key] if places else None
            if not isinstance(inner, dict | list) or draw(st.booleans()):
                break
            target = inner
        change = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if change == "add" or not places:
            if isinstance(target, list):
                target.append(draw(GARBAGE))
            else:
                target[draw(st.text(max_size=5) | st.integers())] = draw(GARBAGE)
        elif change == "remove":
            del target[key]
        else:
            target[key] = draw(GARBAGE)
    return data


def refused_or_round_trips(data: Any) -> None:
    try:
        record = person_from(data)
    except InvalidInput as error:
        assert error.field
        assert error.allowed
        assert "\n" not in str(error)
        assert str(error).encode("utf-8")
        return
    assert to_mapping(record) == data
    assert person_from(to_mapping(record)) == record
    found = screen(record)
    assert ((found.factor > 0.0) & (found.factor <= 1.0)).all()


@settings(max_examples=100)
@given(PEOPLE)
def test_every_good_record_round_trips_also_through_yaml_and_json(data: Any) -> None:
    record = person_from(data)
    assert to_mapping(record) == data
    assert person_from(yaml.safe_load(yaml.safe_dump(to_mapping(record)))) == record
    assert person_from(json.loads(json.dumps(to_mapping(record)))) == record


@pytest.mark.fuzz
@settings(suppress_health_check=list(HealthCheck))
@given(damaged())
def test_a_damaged_record_is_refused_or_is_a_record(data: Any) -> None:
    refused_or_round_trips(data)


@pytest.mark.fuzz
@settings(suppress_health_check=list(HealthCheck))
@given(GARBAGE | st.dictionaries(st.sampled_from(list(HEALTHY)), GARBAGE))
def test_garbage_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInput):
        person_from(data)


def test_what_has_no_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    wide: Any = []
    for _ in range(8):
        wide = [wide] * 1000
    for value in (endless, deep, wide, 10**5000):
        with pytest.raises(InvalidInput, match="at most"):
            person_from(HEALTHY | {"goals": value})


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("version",), 2, ("version", "2", "1")),
        (("version",), True, ("version", "True")),
        (("asked",), TABLE_VERSION - 1, ("asked", "0", "ask the person again")),
        (("id",), "Jane Doe", ("id", "Jane Doe", "digits")),
        (("id",), "", ("id", "1 to 40")),
        (("measures", "age"), 17, ("age", "17", "18 to 100 years")),
        (("measures", "stature"), 1.49, ("stature", "1.49", "1.5 to 1.98 m")),
        (("measures", "stature"), 1.99, ("stature", "1.99", "1.5 to 1.98 m")),
        (("measures", "mass"), 166.0, ("mass", "166.0", "165 kg")),
        (("measures", "mass"), 10**400, ("measures.mass", "huge", "1e+09")),
        (("measures", "age"), float("nan"), ("age", "nan")),
        (("conditions",), ["pregnancy"], ("conditions[0]", "pregnancy", "name, levels")),
        (("conditions",), [{"name": "flu", "levels": []}], ("conditions[0].name", "flu")),
        (
            ("conditions",),
            [{"name": "pregnancy", "levels": ["L4"]}],
            ("conditions[0].levels", "L4", "no place"),
        ),
        (("symptoms", 0, "place"), "soul", ("symptoms[0].place", "soul", "low_back")),
        (("symptoms", 0, "severity"), 10.5, ("symptoms[0].severity", "10.5", "0 to 10")),
        (("symptoms", 0, "when"), [], ("symptoms[0].when", "after_sitting")),
        (("comfort", "neck"), 0.0, ("comfort.neck", "0.0", "0.1 to 1 of the press limit")),
        (("comfort", "leave_out"), ["S1"], ("comfort.leave_out[0]", "S1", "C1")),
        (("goals",), ["relax", "relax"], ("goals", "once")),
        (("habits", "sitting"), 25, ("habits.sitting", "25", "0 to 24 hours a day")),
        (("name",), "Jane", ("person.name", "Jane")),
    ],
)
def test_a_bad_answer_is_refused_with_field_value_and_range(
    path: tuple[Any, ...], value: Any, words: tuple[str, ...]
) -> None:
    data = copy.deepcopy(HEALTHY)
    target: Any = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(InvalidInput) as error:
        person_from(data)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


GOOD = (PERSONS / "athlete_25.yaml").read_text()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 16_000,
        b"- " * 8_000,
        b"a: !!int ''",
        b"a: !!bool maybe",
        b"a: 2020-99-99",
        b"a: " + b"9" * 5000,
        b"a: " + b"59:" * 300 + b"1.5",
        b"&a [*a]",
        b"a: !!python/object/apply:os.getcwd []",
        b"{[1, 2]: 3, ? {x: 1} : 2}",
        b"#" * 20_000,
        GOOD.encode() + b"\nconditions: []\n",
        GOOD.replace("age: 25", "age: 25, age: 26").encode(),
    ],
    ids=lambda content: repr(content[-20:]),
)
def test_a_bad_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "person.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidInput):
        load_person(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nobody.yaml", tmp_path, "a\0b"):
        with pytest.raises(InvalidInput, match="readable file"):
            load_person(path)


@pytest.mark.parametrize("value", [10**400, -(10**5000), float("nan"), True, "7", None], ids=type)
def test_a_number_that_is_none_is_refused_in_one_short_line(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"rate: .* is not allowed; allowed: 0 to 1 Hz") as e:
        number("rate", value, 0.0, 1.0, "Hz")
    assert len(str(e.value)) < 300


@pytest.mark.parametrize(
    "content", [b"a: 2020-13-45", b"? [a, {}]: 1", b"&a [*a]", b"\xff", b"a: [", b"[" * 5000]
)
def test_a_mat_file_that_is_no_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mat.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as error:
        load_layout(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.fuzz
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(GOOD)), cut=st.integers(0, 20), put=st.text(max_size=20))
def test_a_damaged_file_is_refused_or_is_a_record(
    tmp_path: Path, at: int, cut: int, put: str
) -> None:
    path = tmp_path / "person.yaml"
    content = GOOD[:at] + put + GOOD[at + cut :]
    path.write_bytes(content.encode("utf-8"))
    try:
        record = load_person(path)
    except InvalidInput:
        return
    assert person_from(to_mapping(record)) == record
