"""The people of a simulated course: what they complain of, bear, and do from day to day.

All of it is drawn from the seed and made up: plausible, not an epidemiology. Bodies come from the
survey (`population.py`). **How levels answer to work is an assumption of this project**
(`patient.Mobilisation`): people answer by different amounts and some not at all, so that what the
record says can be judged against the truth. Pain before a session does not depend on any dose: no
effect on pain is assumed. All numbers are engineering choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import NECK
from spinemat.back_model import UP
from spinemat.conditions import TABLE_VERSION
from spinemat.questionnaire import ACTIVITIES, POSTURES, PersonRecord, person_from
from spinemat.symptoms import WHEN, suggest
from spinemat_sim.patient import Mobilisation, Patient

Array = NDArray[np.float64]

FIRST_DAY = datetime(2030, 1, 7, tzinfo=timezone.utc)
COMPLAINTS = {  # and how common they are among the volunteers
    "low_back": 0.35, "neck": 0.2, "shoulder": 0.15, "between_shoulder_blades": 0.1,
    "headache": 0.1, "hip": 0.1,
}  # fmt: skip
HOW_MANY = (0.1, 0.45, 0.3, 0.15)  # chances of 0 to 3 complaints
RESPONDING = 0.75  # share of people whose levels soften at all
SOFTENING, WORK = (0.03, 0.08), 0.5  # largest share per session, drawn; J that bring 63 % of it
BEARS, BEARS_CV = 14.0, 0.3  # N of a finger in the trunk from which it may hurt, and its spread
BEARS_NECK, BEARS_LESS = 0.5, 0.3  # of that in the neck; less where all complaints point
SPEAKS = 0.35  # chance that somebody who is hurt says so
HURTS, STEEP = 3.0, 5.0  # of 10 at that force, and per multiple of it above
DAILY = 1.2  # standard deviation of pain from day to day, of 10
WISHES = (0.14, 0.74, 0.08, 0.04)  # chances of 0 to 3 sessions that a person wants on a day
SLOTS = (7, 10, 13, 16, 19)  # hours at which they may begin


@dataclass(frozen=True)
class Volunteer:
    """One person of a course.

    Attributes:
        patient: the body, with its answer to mobilisation.
        record: what the person told.
        bears: force of a finger at each level from which it may hurt, L5 first, shape (24,), N.
        pain: usual pain, 0 to 10.
        seed: of all that happens to this person.
    """

    patient: Patient
    record: PersonRecord
    bears: Array
    pain: float
    seed: tuple[int, ...]


def volunteers(
    patients: Sequence[Patient], seed: int, responding: float = RESPONDING
) -> list[Volunteer]:
    """Make volunteers of patients.

    Args:
        patients: within the bounds of the device.
        seed: 0 or larger; what is drawn for a person follows from it and the person's number.
        responding: share of people whose levels soften; 0: nobody's.

    Raises:
        InvalidInput: a patient is outside the bounds of the device.
    """
    return [_volunteer(patient, (seed, i), responding) for i, patient in enumerate(patients)]


def _volunteer(patient: Patient, seed: tuple[int, int], responding: float) -> Volunteer:
    rng = np.random.default_rng([*seed, 1])
    answers, softening = rng.random() < responding, float(rng.uniform(*SOFTENING))
    record = _record(patient, f"simulated-{seed[1]:03d}", rng)
    pointed = suggest(record.symptoms).weight
    sigma = np.sqrt(np.log1p(BEARS_CV**2))
    bears = BEARS * np.exp(sigma * rng.standard_normal()) * (1.0 - BEARS_LESS * pointed)
    return Volunteer(
        patient=replace(
            patient, mobilisation=Mobilisation(softening if answers else 0.0, work=WORK)
        ),
        record=record,
        bears=bears * np.where(np.isin(UP, NECK), BEARS_NECK, 1.0),
        pain=max((s.severity for s in record.symptoms), default=0.0),
        seed=seed,
    )


def _record(patient: Patient, name: str, rng: np.random.Generator) -> PersonRecord:
    count = rng.choice(len(HOW_MANY), p=HOW_MANY)
    places = rng.choice(list(COMPLAINTS), count, replace=False, p=list(COMPLAINTS.values()))
    return person_from(
        {
            "version": 1,
            "asked": TABLE_VERSION,
            "id": name,
            "measures": {key: getattr(patient, key) for key in ("sex", "age", "stature", "mass")},
            "conditions": [],
            "symptoms": [
                {
                    "place": str(place),
                    "severity": int(rng.integers(2, 8)),
                    "when": [str(when) for when in rng.choice(list(WHEN), 2, replace=False)],
                }
                for place in places
            ],
            "comfort": {"neck": 1.0, "thoracic": 1.0, "lumbar": 1.0, "leave_out": []},
            "habits": {
                "sitting": float(rng.integers(2, 11)),
                "repetitive_load": "light",
                "posture": str(rng.choice(POSTURES)),
            },
            "activity": str(rng.choice(ACTIVITIES)),
            "goals": ["less_pain", "move_more_easily"],
        }
    )


def wishes(who: Volunteer, weeks: int) -> list[tuple[datetime, ...]]:
    """When a person wants a session: for every day of the weeks, in order; () on a missed day."""
    rng = np.random.default_rng([*who.seed, 2])
    days = []
    for day in range(7 * weeks):
        count = int(rng.choice(len(WISHES), p=WISHES))
        hours = np.sort(rng.choice(SLOTS, count, replace=False)) + rng.random(count)
        begin = FIRST_DAY + timedelta(days=day)
        days.append(tuple(begin + timedelta(minutes=round(60.0 * h)) for h in hours))
    return days


def pain_now(who: Volunteer, rng: np.random.Generator) -> float:
    """Pain that a person reports before a session, 0 to 10; no dose changes it."""
    return float(np.clip(np.rint(who.pain + DAILY * rng.standard_normal()), 0.0, 10.0))


def comfort(
    who: Volunteer, peak: Array, rng: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    """What a person says of a session that was strong for them: at most one level and pain.

    Args:
        who: that person.
        peak: greatest force of a finger at each level, shape (24,), N.
        rng: of this person.
    """
    speaks, noise = rng.random() < SPEAKS, float(rng.standard_normal())
    over = peak / who.bears
    worst = int(over.argmax())
    if over[worst] <= 1.0 or not speaks:
        return ()
    pain = HURTS + STEEP * (over[worst] - 1.0) + noise
    return ((UP[worst], float(np.clip(np.rint(pain), 0.0, 10.0))),)
