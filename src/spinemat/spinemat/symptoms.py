"""What a person complains of, and what that suggests: levels, and mobility or stability.

Suggestions for a clinician to look at, never a diagnosis; that working on a level helps the place
is not claimed. Per-level arrays are in ascending x as in `back_model.UP`: L5 first, C1 last. The
mat has no fingers for C0, S1 and S2: C1 stands for C0, L5 for S1 and S2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import LEVELS
from spinemat.back_model import UP

Array = NDArray[np.float64]

SOURCE = (
    "segments that supply or refer to the place, by the convention of manual treatment; people"
    " differ, and none of it shows that pressing there helps"
)

# from and to, head to foot; `SOURCE` says what they are worth
PLACES: dict[str, tuple[tuple[str, str], ...]] = {
    "headache": (("C0", "C3"),),
    "neck": (("C2", "C6"),),
    "shoulder": (("C4", "C6"), ("T1", "T4")),
    "between_shoulder_blades": (("C6", "T1"),),
    "elbow": (("C5", "C7"),),
    "hand": (("C6", "T1"),),
    "chest_wall": (("T1", "T8"),),
    "low_back": (("L3", "S1"),),
    "groin": (("L1", "L3"),),
    "hip": (("L1", "L3"),),
    "knee": (("L2", "L4"),),
    "hamstring": (("L4", "S2"),),
    "calf": (("L4", "S2"),),
    "achilles": (("L4", "S2"),),
    "foot": (("L5", "S1"),),
}
WHEN = {
    "morning": 1.0,
    "after_sitting": 1.0,
    "walking": 0.0,
    "standing": 0.0,
    "reaching": 0.0,
    "always": 0.5,
}
"""When a complaint is felt, and how much of it points to mobility (engineering choice)."""

_ALONG = ("C0", *LEVELS, "S1", "S2")
_STANDS_FOR = {"C0": "C1", "S1": "L5", "S2": "L5"}


@dataclass(frozen=True)
class Symptom:
    """One complaint.

    Attributes:
        place: one of `PLACES`.
        severity: 0 to 10, as the person rates it.
        when: one or more of `WHEN`.
    """

    place: str
    severity: float
    when: tuple[str, ...]


class Suggestion(NamedTuple):
    """Levels that complaints point to; a suggestion.

    Attributes:
        weight: share of the complaints, by severity, that points to each level: 0 to 1, L5 first,
            shape (24,).
        why: one sentence for each complaint.
        source: what the suggestion rests on.
    """

    weight: Array
    why: tuple[str, ...]
    source: str = SOURCE


class Split(NamedTuple):
    """How a session is shared between mobility and stability; a suggestion.

    Attributes:
        mobility: share 0 to 1; the rest is for stability.
        why: one sentence.
    """

    mobility: float
    why: str


def levels_of(place: str) -> tuple[str, ...]:
    """Levels on the mat that a place points to, L5 first, with C1 for C0 and L5 for S1 and S2.

    Args:
        place: one of `PLACES`.
    """
    named = {
        _STANDS_FOR.get(level, level)
        for first, last in PLACES[place]
        for level in _ALONG[_ALONG.index(first) : _ALONG.index(last) + 1]
    }
    return tuple(level for level in UP if level in named)


def suggest(symptoms: Sequence[Symptom]) -> Suggestion:
    """Suggest levels for all complaints together.

    Every complaint counts at each of its levels with its share of the sum of severities
    (engineering choice). Without complaints, or with none above 0, all weights are 0.
    """
    total = sum(s.severity for s in symptoms)
    weight = np.zeros(len(UP))
    for s in symptoms:
        if s.severity > 0.0:
            weight[[UP.index(level) for level in levels_of(s.place)]] += s.severity / total
    return Suggestion(np.minimum(weight, 1.0), tuple(_sentence(s) for s in symptoms))


def _sentence(s: Symptom) -> str:
    spans = " and ".join(f"{first}–{last}" for first, last in PLACES[s.place])
    used = "".join(
        f"; {_STANDS_FOR[end]}, the nearest level of the mat, stands for {end}"
        for span in PLACES[s.place]
        for end in span
        if end in _STANDS_FOR
    )
    return f"Suggestion: {_words(s.place)} ({s.severity:g} of 10) points to {spans}{used}."


def mobility_share(symptoms: Sequence[Symptom]) -> Split:
    """Suggest how much of a session is for mobility, the rest being for stability.

    Stiff in the morning or after sitting points to mobility; pain when walking, standing or
    reaching points to stability. Complaints count by severity, each divided evenly over when it
    is felt; `always` counts half for each, and so does having no complaint (engineering choices).
    """
    total = sum(s.severity for s in symptoms)
    if total <= 0.0:
        return Split(0.5, "Suggestion: half mobility, half stability, as there is no complaint.")
    share = sum(s.severity / total * float(np.mean([WHEN[w] for w in s.when])) for s in symptoms)
    share = min(share, 1.0)  # rounding
    felt = {when for s in symptoms if s.severity > 0.0 for when in s.when}
    sides = (
        ("mobility", [_words(w) for w in WHEN if w in felt and WHEN[w] > 0.5]),
        ("stability", [_words(w) for w in WHEN if w in felt and WHEN[w] < 0.5]),
        ("both alike", [_words(w) for w in WHEN if w in felt and WHEN[w] == 0.5]),
    )
    why = "; ".join(f"{', '.join(whens)} → {side}" for side, whens in sides if whens)
    return Split(share, f"Suggestion: {share:.0%} mobility, {1.0 - share:.0%} stability: {why}.")


def _words(name: str) -> str:
    return name.replace("_", " ")
