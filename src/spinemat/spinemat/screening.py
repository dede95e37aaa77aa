"""May this person be treated, and how gently? From a record to a verdict and limits per level.

Exclusions refuse and nobody can override them. Some answers need a clinician, who may override
them with a reason; their limits stay lowered then. Cautions and age lower limits and refuse
nobody. What the person set for comfort holds on top. `conditions.py` is the table.

Per-level arrays are in ascending x as in `back_model.UP`: L5 first, C1 last. A screening is a
careful filter, not a diagnosis and not a certificate that a session is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import check_intake
from spinemat.back_model import UP
from spinemat.conditions import (
    AGE_SHARES,
    CLINICIAN,
    CONDITIONS,
    EXCLUDE,
    TABLE_VERSION,
    Condition,
)
from spinemat.errors import InvalidInput
from spinemat.questionnaire import PersonRecord, check_id

Array = NDArray[np.float64]

REASON = 500  # letters, the longest reason of an override


class Verdict(IntEnum):
    """Whether a session may be planned; the higher, the stricter."""

    ALLOWED = 0
    NEEDS_CLINICIAN = 1
    EXCLUDED = 2


@dataclass(frozen=True)
class Override:
    """A clinician answers for what the table lets a clinician answer for.

    Attributes:
        clinician: synthetic id, as of a person.
        reason: one line, not empty, up to 500 letters.

    Raises:
        InvalidInput: one of the two is not acceptable.
    """

    clinician: str
    reason: str

    def __post_init__(self) -> None:
        check_id("override.clinician", self.clinician)
        text = self.reason
        if not isinstance(text, str) or not text.strip() or len(text) > REASON:
            shown = text[:REASON] if isinstance(text, str) else type(text).__name__
            raise InvalidInput("override.reason", shown, f"a reason of 1 to {REASON} letters")
        if not text.isprintable():
            raise InvalidInput("override.reason", text, "one line of printable text")


@dataclass(frozen=True)
class Screening:
    """Verdict, reasons and limits; all of it belongs into the log (`log`).

    Attributes:
        person: synthetic id.
        verdict: after the override, if there is one.
        reasons: sentences for people: for the verdict and for every limit that is lowered.
        factor: greatest share of the press limit at each level, over 0 to 1, shape (24,).
        pressed: levels that may be pressed, shape (24,): none unless the verdict is ALLOWED, and
            never those that the person wants left out.
        override: as it was given.
        overridden: names of the conditions that it stands for; empty if it was not needed or not
            possible.
    """

    person: str
    verdict: Verdict
    reasons: tuple[str, ...]
    factor: Array
    pressed: NDArray[np.bool_]
    override: Override | None
    overridden: tuple[str, ...]

    def log(self) -> dict[str, Any]:
        """What must be logged, as plain values for JSON; the version is that of the table."""
        return {
            "person": self.person,
            "table_version": TABLE_VERSION,
            "verdict": self.verdict.name.lower(),
            "reasons": list(self.reasons),
            "factor": dict(zip(UP, self.factor.tolist(), strict=True)),
            "pressed": [level for level, on in zip(UP, self.pressed, strict=True) if on],
            "override": asdict(self.override) if self.override else None,
            "overridden": list(self.overridden),
        }


def screen(record: PersonRecord, override: Override | None = None) -> Screening:
    """Decide whether a person may be treated and how strongly at most, level by level.

    Shares of several conditions multiply; the comfort limit is a ceiling on the product. Beside a
    level that is named, a neighbour keeps half of the difference to 1, as nobody's levels are
    known to better than about one level before the scan (engineering choices).

    Args:
        record: of the person.
        override: covers every answer in the record that a clinician may override; it never
            covers an exclusion and raises no limit.
    """
    given = [(CONDITIONS[a.name], a.levels) for a in record.conditions]
    answers = [(c, levels) for c, levels in given if record.measures.age > c.above_age]
    excluded = exclusions(record.measures.age, (a.name for a in record.conditions))
    doubts = [c for c, _ in answers if c.kind == CLINICIAN]
    bounds = _out_of_bounds(record)

    if excluded or bounds:
        verdict = Verdict.EXCLUDED
    elif doubts and override is None:
        verdict = Verdict.NEEDS_CLINICIAN
    else:
        verdict = Verdict.ALLOWED
    overridden = doubts if override and verdict == Verdict.ALLOWED else []

    reasons = [*bounds, *excluded]
    for c in doubts:
        state = "open"
        if override and overridden:
            state = f"overridden by {override.clinician}: “{override.reason}”"
        reasons.append(f"{_start(c)}: a clinician must decide ({c.source}); {state}.")
    if override and not overridden:
        why = (
            "an exclusion cannot be overridden" if verdict > Verdict.ALLOWED else "none is needed"
        )
        reasons.append(f"The override by {override.clinician} has no effect: {why}.")

    factor, lowered = _limits(record, answers)
    pressed = np.full(len(UP), verdict == Verdict.ALLOWED)
    pressed &= ~np.isin(UP, record.comfort.leave_out)
    for array in (factor, pressed):
        array.setflags(write=False)  # limits may not be raised afterwards
    return Screening(
        person=record.id,
        verdict=verdict,
        reasons=(*reasons, *lowered),
        factor=factor,
        pressed=pressed,
        override=override,
        overridden=tuple(c.name for c in overridden),
    )


def exclusions(age: float, names: Iterable[str]) -> list[str]:
    """Say in sentences which of the questions answered with yes allow no session at an age."""
    said = (CONDITIONS[name] for name in names)
    return [_refusal(c) for c in said if c.kind == EXCLUDE and age > c.above_age]


def _out_of_bounds(record: PersonRecord) -> list[str]:
    """Why the mat is not made for this person; a record built in code was not checked."""
    m = record.measures
    try:
        check_intake(m.sex, m.age, m.stature, m.mass)
    except InvalidInput as error:
        return [f"Outside the bounds of the device (adults, 150 to 198 cm, to 165 kg): {error}."]
    return []


def _limits(
    record: PersonRecord, answers: Sequence[tuple[Condition, tuple[str, ...]]]
) -> tuple[Array, list[str]]:
    """Factor of each level, shape (24,), and a sentence for everything that lowers one."""
    factor, why = np.ones(len(UP)), []
    for c, levels in answers:
        if c.share < 1.0:
            factor *= _shares(c.share, levels)
            why.append(_lowering(c, levels))
    age = record.measures.age
    reached = [step for step in AGE_SHARES if age >= step[0]]
    if reached:
        years, share = reached[-1]
        factor *= share
        why.append(
            f"Age {age:g}, from {years:g} years: at most {share:.0%} of the press limit everywhere"
            " (engineering choice)."
        )
    comfort = record.comfort
    for region, share in (
        ("lumbar", comfort.lumbar),
        ("thoracic", comfort.thoracic),
        ("neck", comfort.neck),
    ):
        if share < 1.0:
            why.append(
                f"Comfort: the person wants at most {share:.0%} of the press limit in the"
                f" {region} region."
            )
    if comfort.leave_out:
        why.append(f"Comfort: the person wants {_names(comfort.leave_out)} left out.")
    return np.minimum(factor, [comfort.share(level) for level in UP]), why


def _shares(share: float, levels: Sequence[str]) -> Array:
    """Share at each level, shape (24,), for a condition at `levels`; none named means all."""
    if not levels:
        return np.full(len(UP), share)
    at = np.isin(UP, levels)
    near = np.convolve(at, np.ones(3), "same") > 0.0
    return np.where(at, share, np.where(near, 0.5 * (1.0 + share), 1.0))


def _refusal(c: Condition) -> str:
    urgent = " Please seek medical help today." if c.urgent else ""
    return f"{_start(c)}: no session is possible ({c.source}).{urgent}"


def _lowering(c: Condition, levels: Sequence[str]) -> str:
    where = "everywhere"
    if levels:
        where = f"at {_names(levels)}, {0.5 * (1.0 + c.share):.0%} beside"
    elif c.placed:
        where = "everywhere, as no level is named"
    return f"{_start(c)}: at most {c.share:.0%} of the press limit {where} (engineering choice)."


def _start(c: Condition) -> str:
    return c.words.capitalize()


def _names(levels: Sequence[str]) -> str:
    return ", ".join(level for level in UP if level in levels)
