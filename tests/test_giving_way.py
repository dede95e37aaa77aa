"""A treatment gives way to protective tension and to what is reported, and counts its dose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mats import MAT
from spinemat.anatomy import check_intake
from spinemat.back_model import UP
from spinemat.backing_off import GuardedStrength, after_report, levels_at, lowered
from spinemat.contour import expected_place
from spinemat.delivered import Delivered
from spinemat.errors import InvalidInput
from spinemat.layout import load_layout
from spinemat.mobilisation import OnMat, rhythm
from spinemat.press_goal import PressGoal

LAYOUT = load_layout(MAT)
INTAKE = check_intake("male", 40.0, 1.756, 82.0)
LEVELS = expected_place(INTAKE).levels
ON_MAT = OnMat(LAYOUT, 82.0, np.array([LEVELS[v] for v in UP]), np.full(LAYOUT.n, 0.01))


def a_press(base: float = 2.0, peak: float = 9.0, most: int | None = None) -> PressGoal:
    rows = ON_MAT.rows("lumbar", None)[:most]
    return rhythm(
        ON_MAT, "together", rows, base=np.full(rows.size, base), peak=np.full(rows.size, peak),
        rate=0.5, duration=20.0, gated=False,
    )  # fmt: skip


def test_guarding_lowers_the_strength_at_once_and_it_returns_slowly() -> None:
    s = GuardedStrength()
    assert s.update(0.0, False) == 1.0
    assert s.update(0.02, True) == pytest.approx(0.6), "at the first word of it"
    for i in range(20):
        assert s.update(0.04 + 0.02 * i, True) == pytest.approx(0.6), "one onset counts once"
    assert s.update(2.0, True) == pytest.approx(0.36), "tension that comes again lowers further"
    for i in range(10):
        s.update(4.0 + 2.0 * i, True)
    assert s.value == pytest.approx(0.3), "but something is left for the rhythm"
    last = s.value
    for t in np.arange(22.0, 26.0, 0.02):
        assert s.update(float(t), False) == last, "quiet first"
    for t in np.arange(26.02, 41.0, 0.02):
        now = s.update(float(t), False)
        assert 0.0 <= now - last <= 0.05 * 0.041
        last = now
    assert last == 1.0


def test_reports_lower_their_levels_and_never_raise() -> None:
    share = np.ones(24)
    assert (after_report(share, 3.0, levels_at("L3")) == 1.0).all()
    less = after_report(share, 5.0, levels_at("lumbar"))
    assert set(np.flatnonzero(less < 1.0)) == set(range(5))
    none = after_report(less, 8.0, levels_at("L3"))
    assert none[UP.index("L3")] == 0.0 and (none <= less).all()
    assert (after_report(none, 5.0, levels_at("neck"))[:5] == none[:5]).all()
    with pytest.raises(InvalidInput, match=r"place.*'tail'"):
        levels_at("tail")
    with pytest.raises(InvalidInput, match=r"pain.*11"):
        after_report(share, 11.0, ())


def test_a_lowered_goal_leaves_out_fingers_beside_a_level_that_hurts() -> None:
    goal = a_press()
    half = lowered(ON_MAT, goal, np.where(np.arange(24) < 5, 0.5, 1.0))
    assert half is not None
    assert (half.amplitude <= goal.amplitude + 1e-12).all()
    whole = goal.preload + goal.amplitude
    assert (half.preload + half.amplitude).min() == pytest.approx(0.5 * whole.min())
    share = np.ones(24)
    share[UP.index("L3")] = 0.0
    without = lowered(ON_MAT, goal, share)
    assert without is not None
    left = without.fingers // 2
    assert not ON_MAT.beside[left, UP.index("L3")].any() and left.size < goal.fingers.size
    assert lowered(ON_MAT, goal, np.zeros(24)) is None


def test_after_pain_the_whole_force_falls_also_from_a_raised_base() -> None:
    goal = a_press(base=8.0, peak=15.0, most=2)  # as grade IV presses
    top = goal.preload + goal.amplitude
    assert goal.preload.max() > 7.0
    for pain, times, share in ((5.0, 1, 0.6), (5.0, 2, 0.36), (6.0, 3, 0.216)):
        left = np.ones(24)
        for _ in range(times):
            left = after_report(left, pain, levels_at("lumbar"))
        less = lowered(ON_MAT, goal, left)
        assert less is not None
        assert less.preload + less.amplitude == pytest.approx(np.maximum(share * top, 2.0))
        assert less.preload == pytest.approx(np.maximum(share * goal.preload, 2.0))
    touch = replace(goal, preload=np.full(goal.fingers.size, 2.0), amplitude=0.0 * goal.amplitude)
    same = lowered(ON_MAT, touch, left)
    assert same is not None and (same.preload == 2.0).all() and not same.amplitude.any()


def test_the_dose_is_counted_from_what_the_fingers_feel() -> None:
    goal = a_press()
    given = Delivered(ON_MAT)
    moving = np.isin(np.arange(LAYOUT.n), goal.fingers)
    stiffness, rate = 5000.0, 0.5
    for t in np.arange(0.0, 20.001, 0.02):
        force = np.where(moving, 5.0 - 3.0 * np.cos(2.0 * np.pi * rate * t), 2.0)
        given.add(float(t), 0.01 + force / stiffness, force, moving, rate)
    found = given.levels()
    each = (8.0**2 - 2.0**2) / (2.0 * stiffness) * 10.0  # of a finger, ten turns
    inside = ON_MAT.shares[np.unique(goal.fingers // 2)].sum()
    assert found.work.sum() == pytest.approx(2.0 * each * inside, rel=0.01)
    at = UP.index("L3")
    assert found.peak[at] == pytest.approx(8.0) and found.time[at] == pytest.approx(20.0, abs=0.1)
    assert found.cycles[at] == pytest.approx(10.0, abs=0.1)
    assert found.peak[UP.index("C3")] == 0.0
    given.pause()
    given.add(90.0, np.full(LAYOUT.n, 0.03), np.full(LAYOUT.n, 9.0), moving, rate)
    assert given.levels().work.sum() == pytest.approx(found.work.sum()), "nothing across a gap"


def test_presses_that_reach_a_level_by_different_rows_add_up() -> None:
    level = int(np.argmax(ON_MAT.beside.sum(axis=0)))
    rows = np.flatnonzero(ON_MAT.beside[:, level])[:2]
    assert rows.size == 2
    given, rate = Delivered(ON_MAT), 0.5
    for k, row in enumerate(rows):
        moving = np.arange(LAYOUT.n) // 2 == row
        for t in np.arange(0.0, 10.001, 0.02):
            given.add(20.0 * k + t, np.full(LAYOUT.n, 0.01), np.full(LAYOUT.n, 5.0), moving, rate)
        given.pause()
    found = given.levels()
    assert found.cycles[level] == pytest.approx(10.0, abs=0.1)
    assert found.time[level] == pytest.approx(20.0, abs=0.1)
