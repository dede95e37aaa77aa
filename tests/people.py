"""Made-up people for tests of the intake: one by hand, and any that hypothesis can think of."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from spinemat.anatomy import LEVELS
from spinemat.conditions import CONDITIONS, TABLE_VERSION
from spinemat.questionnaire import (
    ACTIVITIES,
    GOALS,
    POSTURES,
    REPETITIVE_LOAD,
    PersonRecord,
    person_from,
)
from spinemat.symptoms import PLACES, WHEN

PERSONS = Path(__file__).parents[1] / "config" / "persons"
HEALTHY: dict[str, Any] = yaml.safe_load((PERSONS / "athlete_25.yaml").read_text())


def record_with(**changes: Any) -> PersonRecord:
    return person_from(copy.deepcopy(HEALTHY) | changes)


def answering(*names: str, levels: tuple[str, ...] = (), age: float = 40.0) -> PersonRecord:
    return record_with(
        conditions=[{"name": name, "levels": list(levels)} for name in names],
        measures=HEALTHY["measures"] | {"age": age},
    )


def chosen(options: Any, least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(list(options)), min_size=least, max_size=5, unique=True)


def reals(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high)


PEOPLE = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "asked": st.just(TABLE_VERSION),
        "id": st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True),
        "measures": st.fixed_dictionaries(
            {
                "sex": st.sampled_from(["female", "male"]),
                "age": reals(18, 100),
                "stature": reals(1.5, 1.98),
                "mass": reals(35, 165),
            }
        ),
        "conditions": st.lists(
            st.sampled_from(list(CONDITIONS)).flatmap(
                lambda name: st.fixed_dictionaries(
                    {
                        "name": st.just(name),
                        "levels": chosen(LEVELS) if CONDITIONS[name].placed else st.just([]),
                    }
                )
            ),
            max_size=6,
            unique_by=lambda answer: answer["name"],
        ),
        "symptoms": st.lists(
            st.fixed_dictionaries(
                {
                    "place": st.sampled_from(list(PLACES)),
                    "severity": reals(0, 10),
                    "when": chosen(WHEN, 1),
                }
            ),
            max_size=6,
            unique_by=lambda symptom: symptom["place"],
        ),
        "comfort": st.fixed_dictionaries(
            {r: reals(0.1, 1.0) for r in ("neck", "thoracic", "lumbar")}
            | {"leave_out": chosen(LEVELS)}
        ),
        "habits": st.fixed_dictionaries(
            {
                "sitting": reals(0, 24),
                "repetitive_load": st.sampled_from(REPETITIVE_LOAD),
                "posture": st.sampled_from(POSTURES),
            }
        ),
        "activity": st.sampled_from(ACTIVITIES),
        "goals": chosen(GOALS),
    }
)
