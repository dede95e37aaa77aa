"""Which shipped programmes a person's answers point to: suggestions; a clinician decides.

Every line of `POINTS` is an engineering choice; what a programme does to whom is decided by the
plan, from screening, comfort and the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from spinemat.questionnaire import PersonRecord
from spinemat.symptoms import mobility_share

MOST = 3  # programmes suggested
OLD = 70.0  # years
LONG_SITTING = 6.0  # h a day
CLEAR = 0.1  # from half and half, from which mobility or stability leads
_BENT = ("rounded", "head_forward")
_LOWER = ("low_back", "groin", "hip", "hamstring", "calf", "achilles", "foot", "knee")
_UPPER = ("neck", "shoulder", "headache", "between_shoulder_blades", "elbow", "hand")


class Fit(NamedTuple):
    """A programme that answers point to.

    Attributes:
        programme: name, as in `config/programmes`.
        points: how much points to it; only their order means something.
        why: what points to it, one line.
    """

    programme: str
    points: float
    why: str


def _complaint(places: tuple[str, ...]) -> Callable[[PersonRecord], float]:
    def worst(p: PersonRecord) -> float:
        return max((s.severity / 3.0 for s in p.symptoms if s.place in places), default=0.0)

    return worst


def _goal(name: str) -> Callable[[PersonRecord], float]:
    """One point for the goal that comes first, less for the next ones."""
    return lambda p: 1.0 / (1.0 + p.goals.index(name)) if name in p.goals else 0.0


def _lead(sign: float) -> Callable[[PersonRecord], float]:
    def leads(p: PersonRecord) -> float:
        return float(sign * (mobility_share(p.symptoms).mobility - 0.5) > CLEAR)

    return leads


def _well(p: PersonRecord) -> bool:
    return all(s.severity == 0.0 for s in p.symptoms)


POINTS: tuple[tuple[str, str, Callable[[PersonRecord], float]], ...] = (
    ("gentle_elder", f"from {OLD:g} years", lambda p: 3.0 * (p.measures.age >= OLD)),
    ("lower_back", "complaints of the lower back and legs", _complaint(_LOWER)),
    ("neck_and_shoulders", "complaints of neck, shoulders and arms", _complaint(_UPPER)),
    ("mobile_spine", "stiffness leads", _lead(1.0)),
    ("mobile_spine", "goal: to move more easily", _goal("move_more_easily")),
    ("stable_spine", "pain in use leads", _lead(-1.0)),
    ("stable_spine", "goal: to stand and walk with ease", _goal("stand_and_walk_with_ease")),
    (
        "stable_spine",
        "heavy repetitive load",
        lambda p: 0.5 * (p.habits.repetitive_load == "heavy"),
    ),
    ("course_8_weeks", "goal: less pain", _goal("less_pain")),
    ("daily_10", "long sitting", lambda p: 0.5 * (p.habits.sitting >= LONG_SITTING)),
    ("daily_10", "goal: to sit with ease", _goal("sit_with_ease")),
    ("daily_10", "a rounded or forward posture", lambda p: 0.3 * (p.habits.posture in _BENT)),
    ("relaxation", "goal: to sleep better", _goal("sleep_better")),
    ("relaxation", "goal: to relax", _goal("relax")),
    ("pre_sport", "goal: sport, without complaints", lambda p: _goal("sport")(p) * _well(p)),
    ("daily_5", "for every day", lambda _: 0.1),
)


def suggest_programmes(person: PersonRecord) -> tuple[Fit, ...]:
    """Suggest up to `MOST` of the shipped programmes, the one that most points to first.

    Args:
        person: who has answered; whether a session is possible at all is the screening's matter.
    """
    points: dict[str, float] = {}
    why: dict[str, list[str]] = {}
    for programme, reason, much in POINTS:
        value = float(much(person))
        if value > 0.0:
            points[programme] = points.get(programme, 0.0) + value
            why.setdefault(programme, []).append(reason)
    best = sorted(points, key=lambda name: -points[name])[:MOST]
    return tuple(Fit(name, points[name], "; ".join(why[name])) for name in best)
