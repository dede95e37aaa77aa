"""What a person tells before the first session: a record under a synthetic id, without names.

There is no free text: every answer is a number or comes from a closed list, so that nothing in a
record can tell who the person is, and anything malformed is refused at this edge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from spinemat.anatomy import LEVELS, Intake, check_intake, region_of
from spinemat.conditions import CONDITIONS, TABLE_VERSION
from spinemat.errors import InvalidInput, choice, keys, number
from spinemat.plain_yaml import PlainLoader
from spinemat.symptoms import PLACES, WHEN, Symptom

VERSION = 1  # of the format of person files
REPETITIVE_LOAD = ("none", "light", "heavy")
POSTURES = ("neutral", "rounded", "hollow", "head_forward", "not_known")
ACTIVITIES = ("sedentary", "light", "moderate", "active", "athlete")
GOALS = (
    "less_pain",
    "move_more_easily",
    "sit_with_ease",
    "stand_and_walk_with_ease",
    "sleep_better",
    "sport",
    "relax",
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
# Bounds of anything from outside, far beyond what a record needs: checked first, so that no check
# after them, and no message, meets something that is endless or cannot be printed.
_VALUES, _DEPTH, _LETTERS, _LARGEST = 1000, 8, 64, 1e9
_FILE = 16384  # bytes


@dataclass(frozen=True)
class Answer:
    """A yes to one of the questions in `conditions.CONDITIONS`.

    Attributes:
        name: of the condition.
        levels: that it concerns, as far as known; empty means all.
    """

    name: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Comfort:
    """What the person wants at most.

    Attributes:
        neck, thoracic, lumbar: greatest share of the region's press limit, 0.1 to 1.
        leave_out: levels that are not pressed.
    """

    neck: float
    thoracic: float
    lumbar: float
    leave_out: tuple[str, ...]

    def share(self, level: str) -> float:
        """Greatest share of the press limit at a level, 0.1 to 1."""
        shares = {"neck": self.neck, "thoracic": self.thoracic, "lumbar": self.lumbar}
        return shares[region_of(level)]


@dataclass(frozen=True)
class Habits:
    """What the back does all day.

    Attributes:
        sitting: hours a day.
        repetitive_load: one of `REPETITIVE_LOAD`.
        posture: one of `POSTURES`, as the person describes it.
    """

    sitting: float
    repetitive_load: str
    posture: str


@dataclass(frozen=True)
class PersonRecord:
    """What is known of a person before the mat measures. Build it with `person_from`.

    Attributes:
        asked: version of the questions that were asked, of `conditions.TABLE_VERSION`.
        id: synthetic: letters, digits, - and _.
        measures: sex, age, stature, mass.
        conditions: every question that was answered with yes; all others were answered with no.
        symptoms: at most one for each place.
        comfort: limits that the person sets.
        habits: of the day.
        activity: one of `ACTIVITIES`.
        goals: from `GOALS`, the most important first.
    """

    asked: int
    id: str
    measures: Intake
    conditions: tuple[Answer, ...]
    symptoms: tuple[Symptom, ...]
    comfort: Comfort
    habits: Habits
    activity: str
    goals: tuple[str, ...]


def load_person(path: str | Path) -> PersonRecord:
    """Read a person file; `config/persons/` has examples.

    Raises:
        InvalidInput: the file cannot be read, is longer than 16 KiB, is not plain YAML (a key
            twice could hide an answer; aliases can grow without bound), or a field is not
            acceptable.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a path that no system can have
        raise InvalidInput("person file", str(path), f"a readable file ({error})") from error
    return parse_person(content, str(path))


def parse_person(content: str | bytes, source: str = "given") -> PersonRecord:
    """Check a person record that is written as YAML, and build it.

    Args:
        content: of a person file.
        source: where it comes from, for messages.

    Raises:
        InvalidInput: as `load_person`.
    """
    try:
        content = content.encode("utf-8") if isinstance(content, str) else content
        if len(content) > _FILE:
            raise InvalidInput("person file", source, f"at most {_FILE} bytes")
        data = yaml.load(content.decode("utf-8"), Loader=PlainLoader)
    except InvalidInput:
        raise
    except Exception as error:  # PyYAML lets KeyError, IndexError, RecursionError and more through
        raise InvalidInput(
            "person file", source, "valid YAML in UTF-8, no key twice, no aliases"
        ) from error
    return person_from(data)


def person_from(data: Any) -> PersonRecord:
    """Check a mapping, such as a person file's content, and build the record.

    Every key must be there and no other may. `to_mapping` is the exact reverse.

    Raises:
        InvalidInput: a field is missing, unknown, of the wrong type or out of range. No other
            error, whatever `data` is made of.
    """
    _check_plain(data)
    top = keys(
        "person",
        data,
        ("version", "asked", "id", "measures", "conditions", "symptoms", "comfort", "habits",
         "activity", "goals"),
    )  # fmt: skip
    if type(top["version"]) is not int or top["version"] != VERSION:
        raise InvalidInput("version", top["version"], str(VERSION))
    if type(top["asked"]) is not int or top["asked"] != TABLE_VERSION:
        allowed = f"{TABLE_VERSION}: other questions are asked now, ask the person again"
        raise InvalidInput("asked", top["asked"], allowed)
    habits = keys("habits", top["habits"], ("sitting", "repetitive_load", "posture"))
    return PersonRecord(
        asked=TABLE_VERSION,
        id=check_id("id", top["id"]),
        measures=check_intake(
            **keys("measures", top["measures"], ("sex", "age", "stature", "mass"))
        ),
        conditions=_answers(top["conditions"]),
        symptoms=_symptoms(top["symptoms"]),
        comfort=_comfort(top["comfort"]),
        habits=Habits(
            number("habits.sitting", habits["sitting"], 0.0, 24.0, "hours a day"),
            choice("habits.repetitive_load", habits["repetitive_load"], REPETITIVE_LOAD),
            choice("habits.posture", habits["posture"], POSTURES),
        ),
        activity=choice("activity", top["activity"], ACTIVITIES),
        goals=_choices("goals", top["goals"], GOALS),
    )


def to_mapping(record: PersonRecord) -> dict[str, Any]:
    """Return a record as the mapping that `person_from` reads: for YAML, JSON or a database."""
    return {"version": VERSION, **_lists(asdict(record))}


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def check_id(field: str, value: Any) -> str:
    """Return `value` if it is a synthetic id.

    Raises:
        InvalidInput: it is not a text of 1 to 40 letters, digits, - and _.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidInput(field, value, "1 to 40 of the letters a to z, A to Z, digits, - and _")
    return value


def _answers(data: Any) -> tuple[Answer, ...]:
    answers = []
    for i, item in enumerate(_list("conditions", data)):
        field = f"conditions[{i}]"
        entry = keys(field, item, ("name", "levels"))
        name = choice(f"{field}.name", entry["name"], CONDITIONS)
        levels = _choices(f"{field}.levels", entry["levels"], LEVELS)
        if levels and not CONDITIONS[name].placed:
            raise InvalidInput(f"{field}.levels", list(levels), f"none: {name} has no place")
        answers.append(Answer(name, levels))
    _once("conditions", [answer.name for answer in answers])
    return tuple(answers)


def _symptoms(data: Any) -> tuple[Symptom, ...]:
    symptoms = []
    for i, item in enumerate(_list("symptoms", data)):
        field = f"symptoms[{i}]"
        entry = keys(field, item, ("place", "severity", "when"))
        symptoms.append(
            Symptom(
                choice(f"{field}.place", entry["place"], PLACES),
                number(f"{field}.severity", entry["severity"], 0.0, 10.0),
                _choices(f"{field}.when", entry["when"], WHEN),
            )
        )
        if not symptoms[-1].when:
            raise InvalidInput(f"{field}.when", [], f"at least one of {', '.join(WHEN)}")
    _once("symptoms", [symptom.place for symptom in symptoms])
    return tuple(symptoms)


def _comfort(data: Any) -> Comfort:
    regions = ("neck", "thoracic", "lumbar")
    entry = keys("comfort", data, (*regions, "leave_out"))
    shares = {r: number(f"comfort.{r}", entry[r], 0.1, 1.0, "of the press limit") for r in regions}
    return Comfort(**shares, leave_out=_choices("comfort.leave_out", entry["leave_out"], LEVELS))


def _choices(field: str, value: Any, options: Iterable[str]) -> tuple[str, ...]:
    options = tuple(options)
    names = tuple(
        choice(f"{field}[{i}]", item, options) for i, item in enumerate(_list(field, value))
    )
    _once(field, names)
    return names


def _once(field: str, names: Iterable[str]) -> None:
    names = list(names)
    if len(set(names)) != len(names):
        raise InvalidInput(field, names, "each one once")


def _list(field: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(field, value, "a list")
    return value


def _check_plain(data: Any) -> None:
    """Refuse what is not made of a few mappings, lists, short texts and ordinary numbers."""
    stack, seen = [("person", data, 0)], 0
    while stack:
        field, value, depth = stack.pop()
        seen += 1
        if seen > _VALUES or depth > _DEPTH:
            raise InvalidInput(field, "…", f"at most {_VALUES} values, in at most {_DEPTH} layers")
        if isinstance(value, Mapping):
            for key, item in value.items():
                if not isinstance(key, str) or len(key) > _LETTERS or not key.isprintable():
                    raise InvalidInput(field, "a key", f"names of up to {_LETTERS} letters")
                stack.append((f"{field}.{key}", item, depth + 1))
        elif isinstance(value, list):
            stack.extend((f"{field}[{i}]", item, depth + 1) for i, item in enumerate(value))
        elif isinstance(value, str):
            if len(value) > _LETTERS:
                raise InvalidInput(field, f"{value[:_LETTERS]}…", f"up to {_LETTERS} letters")
        elif isinstance(value, int):
            if abs(value) > _LARGEST:  # one of a thousand digits cannot even be printed
                raise InvalidInput(field, "a huge number", f"at most {_LARGEST:g}")
        elif value is not None and not isinstance(value, float):
            raise InvalidInput(field, type(value).__name__, "mappings, lists, texts, numbers")
