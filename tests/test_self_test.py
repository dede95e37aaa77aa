"""The fingers' self-test on the noisy plant, and what a failed finger means for a press."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mats import MAT, closed_loop
from spinemat import force_loop
from spinemat.errors import InvalidInput
from spinemat.layout import load_layout
from spinemat.modes import Mode
from spinemat.press_goal import Waveform, check_goal
from spinemat.self_test import Calibration, dump_calibration, parse_calibration
from spinemat_sim.faults import parse_faults
from spinemat_sim.plant import kernel
from test_press import asked

LAYOUT = load_layout(MAT)


def test_sound_fingers_pass_are_measured_and_touch_nobody() -> None:
    loop = closed_loop("", 3)
    found = loop.self_test()
    assert not found.excluded
    assert loop.peak.max() == 0.0
    fingers = loop.plant._fingers
    np.testing.assert_allclose(found.measured.friction, fingers[kernel.FRICTION], atol=0.15)
    np.testing.assert_allclose(found.measured.zero, fingers[kernel.OFFSET], atol=0.05)
    np.testing.assert_allclose(found.measured.spring, LAYOUT.finger.return_preload, atol=0.2)
    for _ in range(100):
        loop.step()
    assert (loop.control.mode == Mode.OFF).all()
    assert (loop.plant.position < -0.0095).all()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("load_cell_offset 5.0", "without load"),
        ("load_cell_drift 2.0", "meets"),
        ("encoder_stuck", "does not move"),
        ("encoder_reversed", "wrong way"),
        ("encoder_scale 0.5", "times what was asked"),
        ("encoder_offset 0.005", "when retracted"),
        ("jammed 30.0", "does not move"),
        ("jammed 3.5", "friction 3"),
        ("dead_motor", "does not move"),
    ],
)
def test_a_broken_finger_is_named_and_the_rest_go_on(fault: str, words: str) -> None:
    loop = closed_loop()
    loop.plant.break_fingers(parse_faults(LAYOUT, [f"r06_left {fault}"]))
    found = loop.self_test()
    assert list(found.excluded) == [10]
    assert words in found.excluded[10]
    assert "r06_left" in found.words(LAYOUT) and "25 of 26" in found.words(LAYOUT)
    assert loop.control.mode[10] == Mode.EXCLUDED
    fields = asked(waveform=Waveform.CONTACT, fingers=[8, 9, 10, 11], preload=[2.0] * 4,
                   amplitude=[0.0] * 4, duration=1.0)  # fmt: skip
    run, _ = loop.press(check_goal(LAYOUT, **fields, excluded=found.excluded))
    assert run.contact.tolist() == [True, True, False, True]
    assert run.peak[2] == 0.0
    assert loop.plant.position[10] < -0.0095
    loop.plant.break_fingers([])
    loop.control.retract(slice(None))
    assert not loop.self_test().excluded, "a mended finger comes back"


def test_a_finger_that_changed_since_its_calibration_is_excluded() -> None:
    loop = closed_loop()
    first = loop.self_test().measured
    text = dump_calibration(LAYOUT, first)
    kept = parse_calibration(LAYOUT, text)
    np.testing.assert_allclose(kept.zero, first.zero, atol=1e-4)
    assert kept.when == first.when
    loop.plant.break_fingers(parse_faults(LAYOUT, ["r01_left load_cell_offset 1.5",
                                                   "r13_right jammed 2.8"]))  # fmt: skip
    assert not loop.self_test().excluded, "within what any finger may have"
    found = loop.self_test(kept).excluded
    assert list(found) == [0, 25]
    assert "zero moved by 1.5 N" in found[0] and "friction grew" in found[25]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("mat: mat13", "mat: other"), ("calibration.mat", "other", "mat13")),
        (("  r06_left:", "  r06_links:"), ("r06_left",)),
        (("zero: 0.25", "zero: nonsense"), ("zero", "nonsense", "-1000 to 1000 N")),
        (("fingers:", "fingers: ["), ("valid YAML",)),
    ],
)
def test_a_bad_calibration_file_is_refused(
    change: tuple[str, str], words: tuple[str, ...]
) -> None:
    n = LAYOUT.n
    good = Calibration(LAYOUT.name, "then", np.full(n, 0.25), np.ones(n), np.full(n, np.nan))
    text = dump_calibration(LAYOUT, good)
    assert np.isnan(parse_calibration(LAYOUT, text).spring).all()
    assert change[0] in text
    with pytest.raises(InvalidInput) as refused:
        parse_calibration(LAYOUT, text.replace(*change))
    for word in words:
        assert word in str(refused.value)


# --- the load of a missing finger --------------------------------------------------------------

OUT = {10: "encoder does not move"}


def test_neighbours_in_the_goal_share_the_load_of_a_missing_finger() -> None:
    fields = asked(fingers=[8, 9, 10, 11, 12, 13], preload=[2.0] * 6, amplitude=[6.0] * 6,
                   mass=90.0)  # fmt: skip
    goal = check_goal(LAYOUT, **fields, excluded=OUT)
    assert goal.preload.tolist() == [3.0, 2.0, 0.0, 2.0, 3.0, 2.0]
    assert goal.amplitude.tolist() == [9.0, 6.0, 0.0, 6.0, 9.0, 6.0]
    end = check_goal(LAYOUT, **asked(fingers=[10, 11, 12, 13], preload=[2.0] * 4,
                                     amplitude=[6.0] * 4), excluded=OUT)  # fmt: skip
    assert (end.preload + end.amplitude).tolist() == [0.0, 8.0, 16.0, 8.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingers": [10, 11]}, ("r06_left", "encoder does not move", "neighbour")),
        ({"fingers": [10], "preload": [2.0], "amplitude": [2.0]}, ("passed the self-test",)),
        (
            {"fingers": [10, 12], "preload": [2.0] * 2, "amplitude": [12.0] * 2},
            ("r06_left", "20 N on r07_left", "28.0 N"),
        ),
        (
            {"fingers": [8, 10], "amplitude": [11.0] * 2, "rate": 1.5, "preload": [2.0] * 2},
            ("rate", "22 N", "100 N/s"),
        ),
    ],
)
def test_a_load_that_nobody_can_take_is_refused(
    changes: dict[str, object], words: tuple[str, ...]
) -> None:
    check_goal(LAYOUT, **asked(**changes))
    with pytest.raises(InvalidInput) as refused:
        check_goal(LAYOUT, **asked(**changes), excluded=OUT)
    for word in words:
        assert word in str(refused.value)


def test_a_shared_load_reaches_the_back() -> None:
    loop = closed_loop(ideal=True)
    loop.plant.breathing = False
    loop.plant.break_fingers(parse_faults(LAYOUT, ["r06_left dead_motor"]))
    out = loop.self_test().excluded
    fields = asked(fingers=[8, 9, 10, 11, 12, 13], preload=[2.0] * 6, amplitude=[5.0] * 6)
    run, _ = loop.press(check_goal(LAYOUT, **fields, excluded=out))
    np.testing.assert_allclose(run.peak, [10.5, 7.0, 0.0, 7.0, 10.5, 7.0], atol=0.5)


# --- moves without load --------------------------------------------------------------------------


def test_moves_go_to_a_height_at_a_speed_and_never_press() -> None:
    loop = closed_loop(ideal=True)
    k, fastest = np.array([4, 5]), 0.0
    heights, before = np.array([-0.006, -0.004]), loop.plant.position[4]
    loop.control.move(k, heights, 0.004)
    for _ in range(round(4.0 / LAYOUT.cycle)):
        loop.step()
        fastest = max(fastest, (loop.plant.position[4] - before) / LAYOUT.cycle)
        before = loop.plant.position[4]
    np.testing.assert_allclose(loop.plant.position[k], heights, atol=1e-4)
    assert fastest == pytest.approx(0.004, rel=0.05)
    loop.control.move(k, np.full(2, 0.08), 0.02)  # far into the back
    for _ in range(round(6.0 / LAYOUT.cycle)):
        loop.step()
    assert 1.0 < loop.plant.force[k].max() < 4.1, "a move has the force of a touch"
    with pytest.raises(InvalidInput, match="without contact"):
        loop.control.move(k, heights, 0.02)
    loop.control.retract(k)
    for _ in range(round(3.0 / LAYOUT.cycle)):
        loop.step()
    with pytest.raises(InvalidInput, match="height"):
        loop.control.move(k, np.array([np.nan, 0.0]), 0.02)
    with pytest.raises(InvalidInput, match="speed"):
        loop.control.move(k, heights, 1.0)
    assert (loop.control.mode == Mode.OFF).all()


def test_gains_change_while_nothing_is_lost() -> None:
    loop = closed_loop(ideal=True)
    n = LAYOUT.n
    loop.control.believe(np.where(np.arange(n) < 4, 9000.0, np.nan), np.full(n, 3000.0))
    loop.control.tune(replace(loop.control.gains, stiffness=7000.0, omega_known=25.0))
    state = loop.control._state
    assert state[force_loop.BELIEVED_LINEAR, [0, 4]].tolist() == [9000.0, 7000.0]
    assert state[force_loop.OMEGA, [0, 4]].tolist() == [25.0, 10.0]
    for name, value, allowed in (
        ("omega_known", 1e3, "2 to 40 rad/s"),
        ("slew", 101.0, "10 to 100 N/s"),
        ("lead", float("nan"), "0 to 0.02 s"),
        ("contact_cycles", 1.5, "whole number"),
        ("contact_off", 0.9, "below gains.contact_on"),
    ):
        with pytest.raises(InvalidInput, match=f"gains.{name}.*{allowed}"):
            replace(loop.control.gains, **{name: value})
