"""Control, drive stage, rules, layout and scan without ROS."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import yaml

from mats import MAT, closed_loop
from spinemat.anatomy import LEVELS, TRUNK, level_positions, regions_at
from spinemat.breathing import estimate_breathing
from spinemat.drive import SLOW_SPEED, Category, DriveStage, Stage
from spinemat.errors import InvalidInput
from spinemat.layout import load_layout, parse_layout
from spinemat.press_goal import PressGoal, Waveform, wave
from spinemat_sim.control_trials import scan as scan_spine

LAYOUT = load_layout(MAT)


def mat_with(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    data = copy.deepcopy(yaml.safe_load(MAT.read_text()))
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("rows", 12, "x"), 2.0, ("rows[12].x", "2.0", "-0.55 to 0.85 m")),
        (("rows", 3, "x"), 0.1, ("rows[3].x", "0.1", "must not touch")),
        (("rows", 0, "offset"), 0.005, ("rows[0].offset", "0.005", "0.015")),
        (("rows", 0, "region"), "tail", ("rows[0].region", "tail", "neck, thoracic, lumbar")),
        (("finger", "tip_area"), 0.0001, ("finger.tip_area", "0.0001", "0.0007")),
        (("limits", "neck", "press"), 50.0, ("limits.neck.press", "50.0", "1 to 10 N")),
        (("limits", "neck", "trip"), float("nan"), ("limits.neck.trip", "nan")),
        (("cycle",), "fast", ("cycle", "fast", "0.001 to 0.01 s")),
        (("rows",), [], ("rows", "1 to 128")),
        (("colour",), "red", ("mat.colour", "red")),
    ],
)
def test_a_bad_mat_is_refused_with_field_value_and_range(
    path: tuple[Any, ...], value: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_layout(mat_with(path, value))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_mat_file_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml"):
        load_layout("nowhere.yaml")


def test_levels_lie_in_order_and_borders_are_careful() -> None:
    x = level_positions(0.01, 0.44)
    positions = [x[level] for level in (*LEVELS, "S1")]
    assert positions == sorted(positions, reverse=True)
    border = 0.5 * (x["C7"] + x["T1"])
    assert regions_at(np.array([border - 0.005, border - 0.02]), x) == ["neck", "thoracic"]


def test_waves_stay_in_range_and_start_at_zero() -> None:
    turns = np.linspace(-1.0, 3.0, 1000)
    for shape in Waveform:
        w = wave(shape, turns)
        assert w.min() >= 0.0
        assert w.max() <= 1.0
        assert np.all(w[turns < 0.0] == 0.0)


def test_breathing_is_found_with_its_phase() -> None:
    t = np.arange(0.0, 12.0, 0.02)
    rate = 0.23
    noise = np.random.default_rng(1).normal(0.0, 2e-5, t.size)
    found = estimate_breathing(t, 0.0005 * np.cos(2 * np.pi * rate * t + 1.0) + 2e-5 * t + noise)
    assert found is not None
    assert found.valid
    assert found.rate == pytest.approx(rate, abs=0.01)
    expected = np.mod(2 * np.pi * rate * t[-1] + 1.0, 2 * np.pi)
    assert np.cos(found.phase - expected) > 0.95


# ---- the drive stage -----------------------------------------------------------------------


def running_stage() -> tuple[DriveStage, int]:
    stage = DriveStage(LAYOUT)
    low = np.full(LAYOUT.n, LAYOUT.finger.stroke[0])
    for cycle in range(1, 11):
        stage.hand(True)
        stage.step(cycle, low)
        assert stage.command(cycle, np.full(LAYOUT.n, 0.01), np.full(LAYOUT.n, 5.0)) is None
        if cycle % 2 == 0:
            assert stage.permit(cycle, True, 0, "a") is None
    assert stage.stage is Stage.RUNNING
    return stage, 10


@pytest.mark.parametrize(
    "missing", ["command", "permit", "hand", "silent hand", "granted", "boot"]
)
def test_the_drive_lets_go_by_itself(missing: str) -> None:
    stage, cycle = running_stage()
    up = np.full(LAYOUT.n, 0.02)
    released = None
    for step in range(1, 120):
        cycle += 1
        if missing != "silent hand":
            stage.hand(missing != "hand")
        order = stage.step(cycle, up)
        if stage.stage is not Stage.RUNNING and released is None:
            released = step
            assert np.all(order.high <= 0.0), "a released motor must not press"
        if missing != "command":
            stage.command(cycle, np.full(LAYOUT.n, 0.01), np.full(LAYOUT.n, 5.0))
        if missing != "permit":
            boot = "b" if missing == "boot" else "a"
            stage.permit(cycle, missing != "granted", Category.RELEASE_AND_RETRACT, boot)
    assert released is not None
    assert released <= 27
    assert stage.stage is Stage.RETRACTING


def test_a_hand_that_lets_go_is_not_overruled_within_a_cycle() -> None:
    stage, cycle = running_stage()
    stage.hand(False)
    stage.hand(True)
    stage.step(cycle + 1, np.zeros(LAYOUT.n))
    assert (stage.stage, stage.reason) == (Stage.RELEASING, "hand control released")


@pytest.mark.parametrize("age", [0.2, -0.2, np.nan])
def test_an_old_or_foreign_word_of_the_hand_holds_nothing(age: float) -> None:
    stage, cycle = running_stage()
    for step in range(1, 40):
        assert "hand control" in (stage.hand(True, age) or "")
        stage.step(cycle + step, np.zeros(LAYOUT.n))
        stage.command(cycle + step, np.zeros(LAYOUT.n), np.zeros(LAYOUT.n))
        stage.permit(cycle + step, True, 0, "a")
    assert (stage.stage, stage.reason) == (Stage.RELEASING, "hand control silent")


def test_a_refusal_for_an_unknown_reason_is_a_refusal() -> None:
    stage, cycle = running_stage()
    stage.hand(True)
    assert "category 99" in (stage.permit(cycle, False, 99, "a") or "")
    order = stage.step(cycle + 1, np.full(LAYOUT.n, 0.02))
    assert stage.stage is Stage.RELEASING and (order.high == 0.0).all()


def test_a_forged_permission_does_not_undo_a_refusal() -> None:
    stage, cycle = running_stage()
    up = np.full(LAYOUT.n, 0.02)
    for _ in range(300):
        cycle += 1
        stage.hand(True)
        stage.step(cycle, up)
        stage.command(cycle, np.full(LAYOUT.n, 0.01), np.full(LAYOUT.n, 5.0))
        stage.permit(cycle, True, 0, "a")  # forged, and first
        if cycle > 12 and cycle % 10 == 0:  # late, and only now and then
            stage.permit(cycle - 3, False, 0, "a")
        if cycle > 21:
            assert stage.stage is not Stage.RUNNING
            assert not stage.objection() or stage.reason == "permit withdrawn"
    for _ in range(26):
        cycle += 1
        stage.hand(True)
        stage.command(cycle - 1, np.zeros(LAYOUT.n), np.zeros(LAYOUT.n))
        stage.permit(cycle - 1, True, 0, "a")
        stage.step(cycle, np.full(LAYOUT.n, LAYOUT.finger.stroke[0]))
    assert stage.stage is Stage.RUNNING, "the refusal has ended"


def test_a_slow_retraction_ends_once_something_worse_comes() -> None:
    up = np.full(LAYOUT.n, 0.02)
    for worse in ("release", "power off", "hand"):
        stage, cycle = running_stage()
        for i in range(60):
            cycle += 1
            stage.hand(worse != "hand" or i < 20)
            order = stage.step(cycle, up)
            if 2 <= i < 18:
                assert (order.velocity == -SLOW_SPEED).all()
                assert (order.high > 0.0).all()
            category = Category.RETRACT_SLOWLY
            if i >= 18 and worse == "release":
                category = Category.RELEASE_AND_RETRACT
            if i >= 18 and worse == "power off":
                category = Category.RELEASE_AND_POWER_OFF
            stage.permit(cycle, False, category, "a")
            if i == 22:
                assert (order.high == 0.0).all(), worse
        assert stage.stage is (Stage.RELEASED if worse == "power off" else Stage.RETRACTING)


def test_no_command_raises_a_ceiling_over_the_press_limit() -> None:
    stage, cycle = running_stage()
    stage.hand(True)
    stage.command(cycle, np.full(LAYOUT.n, 0.1), np.full(LAYOUT.n, 1000.0))
    low = LAYOUT.finger.stroke[0]
    high = stage.step(cycle + 1, np.full(LAYOUT.n, low)).high
    passive = LAYOUT.finger.return_preload + LAYOUT.finger.friction
    assert (high <= LAYOUT.press_limit + passive + 1e-9).all()


@pytest.mark.parametrize(
    ("cycle", "velocity", "ceiling", "word"),
    [
        (11, 0.0, 5.0, "future"),
        (10, 0.0, 5.0, "repeated"),
        (10, np.nan, 5.0, "finite"),
        (10, 0.0, np.inf, "finite"),
        (10, 0.0, -1.0, "negative"),
    ],
)
def test_the_drive_refuses_bad_commands(
    cycle: int, velocity: float, ceiling: float, word: str
) -> None:
    stage, _ = running_stage()
    n = LAYOUT.n
    words = stage.command(cycle, np.full(n, velocity), np.full(n, ceiling))
    assert words is not None
    assert word in words
    assert "entries" in (stage.command(10, np.zeros(n - 1), np.zeros(n)) or "")


def test_the_drive_refuses_a_permit_of_unknown_category() -> None:
    stage, cycle = running_stage()
    stage.step(cycle + 1, np.zeros(LAYOUT.n))
    assert "category 7" in (stage.permit(cycle + 1, True, 7, "a") or "")
    assert stage.answered[1] == cycle, "it counts as none"


# ---- in the plant --------------------------------------------------------------------------


def rhythm(rate: float) -> PressGoal:
    k = np.array([10, 11])
    return PressGoal(
        Waveform.RAISED_COSINE,
        k,
        np.full(2, 2.0),
        np.full(2, 10.0),
        np.zeros(2),
        rate,
        6.0,
        0.005,
        np.full(2, np.nan),
        False,
        0,
    )


def test_force_follows_the_rhythm_within_the_limits() -> None:
    loop = closed_loop()
    run, outcome = loop.press(rhythm(0.5))
    assert outcome.contact.all()
    assert run.tracking_error < 1.0
    assert (loop.peak <= loop.layout.press_limit).all()


def test_a_withdrawn_permit_releases_within_the_plant() -> None:
    loop = closed_loop()
    from spinemat.press import PressRun

    run = PressRun(rhythm(0.5), loop.layout)
    while loop.plant.truth().force[10] < 8.0:
        loop.step(run)
    loop.granted = False
    withdrawn = loop.cycle
    while loop.plant.truth().force.max() > 1.0:
        loop.step(run)
    assert (loop.cycle - withdrawn) * loop.layout.cycle < 0.25
    for _ in range(400):
        loop.step(run)
    assert loop.plant.truth().force.max() < 0.1


def test_a_scan_finds_contour_and_stiffness() -> None:
    loop = closed_loop(seed=3)
    p = loop.plant.person.patient
    scan = scan_spine(loop)
    assert scan.contour is not None
    error = scan.contour.z - loop.plant.contour(scan.contour.x)
    assert np.sqrt(np.mean(error**2)) < 0.003
    truth = dict(zip(LEVELS[::-1], p.stiffness, strict=True))
    pairs = [e for e in scan.levels() if e.side == "both" and e.level in TRUNK]
    off = [abs(e.value - truth[e.level]) / truth[e.level] if e.valid else 1.0 for e in pairs]
    assert np.median(off) < 0.20
    assert (loop.peak <= loop.layout.press_limit).all(), "no probe above the press limit"


def test_an_error_travels_between_processes() -> None:
    there = pickle.loads(pickle.dumps(InvalidInput("mass", 500.0, "35 to 165 kg")))
    assert str(there) == "mass: 500.0 is not allowed; allowed: 35 to 165 kg"
