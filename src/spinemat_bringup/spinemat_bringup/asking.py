"""Ask a person, one question after the other, what a person file holds.

Every answer is checked as it comes, by what reads person files, and asked again until it is
acceptable. Questions of the screening have no default: each is answered with y or n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from spinemat.anatomy import LEVELS, check_intake
from spinemat.conditions import CONDITIONS, TABLE_VERSION
from spinemat.errors import InvalidInput, choice, number
from spinemat.questionnaire import (
    ACTIVITIES,
    GOALS,
    POSTURES,
    REPETITIVE_LOAD,
    VERSION,
    check_id,
)
from spinemat.screening import exclusions
from spinemat.symptoms import PLACES, WHEN

REGIONS = {"neck": "neck", "thoracic": "chest", "lumbar": "low back"}


class Excluded(Exception):
    """An answer allows no session.

    Attributes:
        reasons: sentences for people.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


def ask() -> dict[str, Any]:
    """Ask everything and return what `questionnaire.person_from` reads.

    Raises:
        Excluded: after the questions of the screening, if they allow no session.
        click.Abort: the person broke off, or there is nobody to ask.
    """
    name = _ask("Synthetic id, never a name", lambda text: check_id("id", text))
    measures = _measures()
    click.echo("Answer with y or n; y means that it is so.")
    conditions: list[dict[str, Any]] = [
        {"name": c.name, "levels": _several("Where? Levels such as L4 L5", LEVELS)
         if c.placed else []}
        for c in CONDITIONS.values()
        if click.confirm(c.question, default=None)
    ]  # fmt: skip
    reasons = exclusions(measures["age"], (c["name"] for c in conditions))
    if reasons:
        raise Excluded(reasons)
    return {
        "version": VERSION,
        "asked": TABLE_VERSION,
        "id": name,
        "measures": measures,
        "conditions": conditions,
        "symptoms": _symptoms(),
        "comfort": {
            **{
                region: _ask(
                    f"Strongest press that is wanted in the {words}, % of what is allowed",
                    _number(region, 10.0, 100.0, "%", 0.01),
                    "100",
                )
                for region, words in REGIONS.items()
            },
            "leave_out": _several("Levels to leave out, such as C5 C6", LEVELS),
        },
        "habits": {
            "sitting": _ask("Hours of sitting a day", _number("sitting", 0.0, 24.0, "hours")),
            "repetitive_load": _one("Repeated loads at work or in sport", REPETITIVE_LOAD),
            "posture": _one("Posture", POSTURES),
        },
        "activity": _one("Activity", ACTIVITIES),
        "goals": _several("Goals, the most important first", GOALS, shown=True),
    }


def _measures() -> dict[str, Any]:
    found: dict[str, Any] = {"sex": _one("Sex", ("female", "male"))}
    usual = {"age": 40.0, "stature": 1.7, "mass": 70.0}  # while one of them is checked
    for key, text in (("age", "Age, years"), ("stature", "Stature, m"), ("mass", "Mass, kg")):

        def check(answer: str, key: str = key) -> float:
            value = _float(key, answer)
            check_intake(**{"sex": found["sex"], **usual, key: value})
            return value

        found[key] = _ask(text, check)
    return found


def _symptoms() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    left = list(PLACES)
    while left:
        click.echo(f"Places of complaints: {', '.join(left)}")
        place = _ask("One of them; empty: no other", lambda text: _known(text, left), "")
        if not place:
            break
        left.remove(place)
        severity = _ask("How bad, 0 to 10", _number("severity", 0.0, 10.0, ""))
        when: list[str] = []
        while not when:
            when = _several("When", WHEN, shown=True)
        found.append({"place": place, "severity": severity, "when": when})
    return found


def _known(text: str, options: list[str]) -> str:
    return choice("place", text, options) if text else ""


def _one(text: str, options: Iterable[str]) -> str:
    options = tuple(options)
    return _ask(f"{text} ({', '.join(options)})", lambda said: choice("answer", said, options))


def _several(text: str, options: Iterable[str], shown: bool = False) -> list[str]:
    options = tuple(options)

    def check(said: str) -> list[str]:
        words = said.replace(",", " ").split()
        if len(set(words)) != len(words):
            raise InvalidInput("answer", words, "each one once")
        return [choice("answer", word, options) for word in words]

    what = f"{text} ({', '.join(options)})" if shown else text
    return _ask(f"{what}; empty: none", check, "")


def _number(field: str, low: float, high: float, unit: str, scale: float = 1.0) -> Any:
    return lambda text: round(scale * number(field, _float(field, text), low, high, unit), 6)


def _float(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(field, text, "a number") from None


def _ask(text: str, check: Callable[[str], Any], default: str | None = None) -> Any:
    """Ask until `check` accepts the answer; return what it makes of it."""

    def value(said: str) -> Any:
        try:
            return check(said.strip())
        except InvalidInput as error:
            raise click.UsageError(str(error)) from error

    return click.prompt(text, default=default, value_proc=value, show_default=bool(default))
