"""A plan as a mapping that is JSON, and back: to show, to confirm, to keep.

What comes back is checked like a goal from any client, so that a file that was changed by hand
cannot ask for more than the mat allows. What screening and comfort allow is not in it to be
believed: to change a plan, keep it and apply `plan.edit`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import HEAVIEST, LIGHTEST
from spinemat.back_model import UP
from spinemat.errors import InvalidInput, choice, keys
from spinemat.layout import MatLayout
from spinemat.plan import Edit, LevelDose, PlanStep, SessionPlan
from spinemat.press_goal import PressGoal, check_goal
from spinemat.programme_fields import Number, Text, refuse
from spinemat.session_programme import KINDS

Array = NDArray[np.float64]

_LINE = Text(r"[^\n\r]*", 1000, "one line of text")
_ARRAYS = ("preload", "amplitude", "phase", "expected")
_PLAIN = ("rate", "duration", "approach_speed", "mass")
_PLAN = (
    "programme", "revision", "title", "mass", "x", "stiffness", "allowed", "steps", "levels",
    "notes", "edits", "total", "pressing",
)  # fmt: skip
_STEP = ("kind", "phase", "set", "goal", "rest", "breathing", "breaths", "detail", "words")


def plan_to_mapping(plan: SessionPlan) -> dict[str, Any]:
    """Return the plan as a mapping of lists, texts and finite numbers; SI units."""
    return {
        "programme": plan.programme,
        "revision": plan.revision,
        "title": plan.title,
        "mass": plan.mass,
        "x": plan.x.tolist(),
        "stiffness": plan.stiffness.tolist(),
        "allowed": plan.allowed.tolist(),
        "steps": [_step_to_mapping(step) for step in plan.steps],
        "levels": [dose._asdict() | {"why": list(dose.why)} for dose in plan.levels],
        "notes": list(plan.notes),
        "edits": [e._asdict() for e in plan.edits],
        "total": plan.total,
        "pressing": plan.pressing,
    }


def _step_to_mapping(step: PlanStep) -> dict[str, Any]:
    values = {name: getattr(step, name) for name in _STEP}
    if step.goal is not None:
        goal: dict[str, Any] = {"waveform": int(step.goal.waveform)}
        goal["fingers"] = step.goal.fingers.tolist()
        for name in _ARRAYS:
            numbers = getattr(step.goal, name).tolist()
            goal[name] = [v if math.isfinite(v) else None for v in numbers]
        goal |= {name: getattr(step.goal, name) for name in (*_PLAIN, "hold_after", "gated")}
        values["goal"] = goal
    return values


def plan_from_mapping(data: Any, layout: MatLayout) -> SessionPlan:
    """Build a plan from what `plan_to_mapping` made, and check every goal against the mat.

    Raises:
        InvalidInput: a field is missing, unknown or not acceptable.
    """
    top = keys("plan", data, _PLAN)
    steps = [_step(f"plan.steps[{i}]", v, layout) for i, v in _items("plan.steps", top["steps"])]
    levels = [_dose(f"plan.levels[{i}]", v) for i, v in _items("plan.levels", top["levels"])]
    if [dose.level for dose in levels] != list(UP):
        raise refuse("plan.levels", "names", "L5 … C1, each once")
    allowed = _numbers("plan.allowed", top["allowed"], 0.0, 1000.0, layout.n)
    return SessionPlan(
        programme=_LINE.take("plan.programme", top["programme"]),
        revision=int(Number(1, 9999, whole=True).take("plan.revision", top["revision"])),
        title=_LINE.take("plan.title", top["title"]),
        mass=Number(LIGHTEST, HEAVIEST, "kg").take("plan.mass", top["mass"]),
        x=_numbers("plan.x", top["x"], -2.0, 2.0, len(UP)),
        stiffness=_numbers("plan.stiffness", top["stiffness"], 1.0, 1e6, len(UP)),
        allowed=np.minimum(allowed, layout.press_limit),
        steps=tuple(steps),
        levels=tuple(levels),
        notes=_lines("plan.notes", top["notes"]),
        edits=tuple(_edit(f"plan.edits[{i}]", v) for i, v in _items("plan.edits", top["edits"])),
    )


def _step(place: str, data: Any, layout: MatLayout) -> PlanStep:
    step = keys(place, data, _STEP)
    return PlanStep(
        kind=choice(f"{place}.kind", step["kind"], KINDS),
        phase=int(Number(0, 99, whole=True).take(f"{place}.phase", step["phase"])),
        set=int(Number(0, 99, whole=True).take(f"{place}.set", step["set"])),
        goal=None if step["goal"] is None else _goal(f"{place}.goal", step["goal"], layout),
        rest=Number(0.0, 300.0, "s").take(f"{place}.rest", step["rest"]),
        breathing=choice(f"{place}.breathing", step["breathing"], ("gated", "led", "free")),
        breaths=Number(0.0, 20.0).take(f"{place}.breaths", step["breaths"]),
        detail=_LINE.take(f"{place}.detail", step["detail"]),
        words=_LINE.take(f"{place}.words", step["words"]),
    )


def _goal(place: str, data: Any, layout: MatLayout) -> PressGoal:
    names = ("waveform", "fingers", *_ARRAYS, *_PLAIN, "hold_after", "gated")
    goal = dict(keys(place, data, names))
    fingers = _numbers(f"{place}.fingers", goal["fingers"], 0.0, layout.n - 1.0)
    for name in _ARRAYS:
        given = goal[name]
        if name == "expected" and isinstance(given, list):
            given = [0.0 if v is None else v for v in given]
        goal[name] = _numbers(f"{place}.{name}", given, -1e3, 1e3, fingers.size)
        if name == "expected":
            goal[name][[v is None for v in data[name]]] = np.nan
    for name in _PLAIN:
        goal[name] = Number(0.0, 1e3).take(f"{place}.{name}", goal[name])
    for name in ("hold_after", "gated"):
        if not isinstance(goal[name], bool):
            raise refuse(f"{place}.{name}", goal[name], "true, false")
    goal["waveform"] = Number(0, 99, whole=True).take(f"{place}.waveform", goal["waveform"])
    goal["fingers"] = fingers.astype(np.int64).tolist()
    lists = {name: goal[name].tolist() for name in _ARRAYS}
    try:
        return check_goal(layout, **(goal | lists), start_cycle=0)
    except InvalidInput as error:
        raise InvalidInput(f"{place}.{error.field}", error.value, error.allowed) from error


def _dose(place: str, data: Any) -> LevelDose:
    dose = keys(place, data, LevelDose._fields)
    level = choice(f"{place}.level", dose["level"], UP)
    some = Number(0.0, 1e6)
    peak, cycles, work = (
        some.take(f"{place}.{name}", dose[name]) for name in ("peak", "cycles", "work")
    )
    return LevelDose(level, peak, cycles, work, _lines(f"{place}.why", dose["why"]))


def _edit(place: str, data: Any) -> Edit:
    entry: Mapping[str, Any] = keys(place, data, Edit._fields)
    return Edit(
        choice(f"{place}.level", entry["level"], UP),
        Number(0.0, 10.0).take(f"{place}.factor", entry["factor"]),
        _LINE.take(f"{place}.by", entry["by"]),
        _LINE.take(f"{place}.reason", entry["reason"]),
    )


def _items(place: str, data: Any) -> enumerate[Any]:
    if not isinstance(data, list):
        raise refuse(place, data, "a list")
    return enumerate(data)


def _lines(place: str, data: Any) -> tuple[str, ...]:
    return tuple(_LINE.take(f"{place}[{i}]", line) for i, line in _items(place, data))


def _numbers(place: str, data: Any, low: float, high: float, count: int | None = None) -> Array:
    values = [Number(low, high).take(f"{place}[{i}]", v) for i, v in _items(place, data)]
    if count is not None and len(values) != count:
        raise refuse(place, f"{len(values)} values", f"{count} values")
    return np.array(values, dtype=float)
