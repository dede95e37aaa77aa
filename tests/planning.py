"""People, scans and limits that the tests of programmes and of plans share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spinemat.anatomy import Intake, check_intake, regional_sums
from spinemat.back_model import UP, means
from spinemat.layout import load_layout
from spinemat.level_dose import Felt, Needs
from spinemat.plan import PlanStep, SessionPlan
from spinemat.press_goal import PressGoal, check_goal, wave
from spinemat.session_programme import MOST_PRESSING, PRELOAD, load_programmes

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = load_layout(ROOT / "config/mat.yaml")
FOLDER = ROOT / "config/programmes"
PROGRAMMES = load_programmes(FOLDER)
ADULT = check_intake("male", 40, 1.78, 75.0)
PEOPLE = [ADULT, check_intake("female", 82, 1.52, 42.0), check_intake("male", 30, 1.95, 160.0)]


def felt(intake: Intake, error: float = 0.05, **ratio: float) -> Felt:
    """A scan that found the published means, but at the levels that are named."""
    prior = Felt.prior(LAYOUT, intake)
    value = means() * np.array([ratio.get(v, 1.0) for v in UP])
    known = np.array([not v.startswith("C") for v in UP])
    return Felt(np.full(LAYOUT.n, 0.02), prior.x, value, error * value, known)


def needs(**changes: Any) -> Needs:
    return replace(Needs.none(), **changes)


def at(value: float, *levels: str, other: float = 1.0) -> np.ndarray:
    return np.array([value if v in levels else other for v in UP])


def presses(plan: SessionPlan) -> list[tuple[PlanStep, PressGoal]]:
    return [(s, s.goal) for s in plan.steps if s.goal is not None]


def assert_within_limits(plan: SessionPlan) -> None:
    """Everything that a mat and a person allow, checked here once more from the numbers."""
    for _, goal in presses(plan):
        top = goal.preload + goal.amplitude
        assert (top <= 0.95 * LAYOUT.press_limit[goal.fingers] + 1e-9).all()
        assert (top <= np.maximum(plan.allowed[goal.fingers], PRELOAD) + 1e-9).all()
        assert (goal.amplitude * np.pi * goal.rate <= 100.0).all()
        turns = np.linspace(1.0, 2.0, 60, endpoint=False)[:, None] - goal.phase / (2.0 * np.pi)
        force = goal.preload + goal.amplitude * wave(goal.waveform, turns)
        regions = np.array(LAYOUT.regions)[goal.fingers]
        for region, allowed in regional_sums(plan.mass).items():
            assert force[:, regions == region].sum(axis=1).max(initial=0.0) <= allowed
        check_goal(
            LAYOUT,
            waveform=goal.waveform,
            fingers=goal.fingers.tolist(),
            preload=goal.preload.tolist(),
            amplitude=goal.amplitude.tolist(),
            phase=goal.phase.tolist(),
            rate=goal.rate,
            duration=goal.duration,
            approach_speed=goal.approach_speed,
            expected=goal.expected.tolist(),
            hold_after=goal.hold_after,
            start_cycle=0,
            mass=goal.mass,
            gated=goal.gated,
        )
    assert plan.pressing <= MOST_PRESSING
