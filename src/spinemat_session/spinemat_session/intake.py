"""From what a session's goal says of a person to what the plan needs to know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from spinemat.anatomy import Intake, check_intake
from spinemat.errors import InvalidInput
from spinemat.level_dose import Needs
from spinemat.questionnaire import check_id, parse_person, to_mapping
from spinemat.screening import Override, Screening, Verdict, screen
from spinemat_interfaces.action import RunSession

NOT_SCREENED = "No screening: only measures of the body were given."


class NotAllowed(InvalidInput):
    """Screening does not allow a session; the message has the reasons.

    Attributes:
        screening: what it found.
        answers: the person's record as plain data, for the database.
    """

    def __init__(self, screening: Screening, answers: dict[str, Any]) -> None:
        words = screening.verdict.name.lower().replace("_", " ")
        super().__init__("screening", f"{words}: {' '.join(screening.reasons)}", "allowed")
        self.screening, self.answers = screening, answers


@dataclass(frozen=True)
class Prepared:
    """A person who may be treated.

    Attributes:
        person_id: synthetic.
        intake: measures of the body.
        needs: what screening and complaints ask of the plan.
        screening: None: only measures were given.
        answers: the record as plain data, for the database.
    """

    person_id: str
    intake: Intake
    needs: Needs
    screening: Screening | None
    answers: dict[str, Any]


def prepare(request: RunSession.Goal, must_screen: bool) -> Prepared:
    """Check a session's goal and screen the person, who must be screened or may be.

    Raises:
        InvalidInput: a field is not acceptable.
        NotAllowed: screening does not allow a session.
    """
    if not request.person:
        if must_screen:
            raise InvalidInput("person", "", "a person record: screening is required here")
        if request.override_by or request.override_reason:
            raise InvalidInput(
                "override_by", request.override_by, "nobody without a person record"
            )
        person_id = check_id("person_id", request.person_id)
        intake = check_intake(request.sex, request.age, request.stature, request.mass)
        answers = {name: getattr(request, name) for name in ("sex", "age", "stature", "mass")}
        needs = replace(Needs.none(), notes=(NOT_SCREENED,))
        return Prepared(person_id, intake, needs, None, answers)
    record = parse_person(request.person, "person")
    if request.person_id not in ("", record.id):
        raise InvalidInput("person_id", request.person_id, f"{record.id}, as in the record")
    override = None
    if request.override_by or request.override_reason:
        override = Override(request.override_by, request.override_reason)
    found = screen(record, override)
    answers = to_mapping(record)
    if found.verdict is not Verdict.ALLOWED:
        raise NotAllowed(found, answers)
    return Prepared(record.id, record.measures, Needs.of_answers(record, found), found, answers)
